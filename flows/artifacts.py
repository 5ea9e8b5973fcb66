"""What a retrain leaves on its page: scores against the last champion, pictures, decisions, links."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from prefect import get_run_logger
from prefect.artifacts import create_image_artifact, create_markdown_artifact

from flows import links
from flows.markdown import code_block, inline
from flows.stages import Outcome, moved
from pipeline import params
from pipeline.errors import CmgError
from pipeline.files import read_json
from pipeline.messages import masked
from pipeline.stages.promote import OUTCOME, sentence, serving
from pipeline.stages.register import model_name
from pipeline.tables.metrics import metrics_path
from pipeline.tables.trained_models import card_path

_WIDTH: Final = 100  # characters
_HEADER = (
    "| task | model | test accuracy | 95 % interval | macro-F1 | against the last champion | protocol |\n"
    "| --- | --- | ---: | ---: | ---: | ---: | --- |\n"
)


def outcome_of(task: str) -> dict[str, Any]:
    """Return the last promotion decision on a task; empty if there was none."""
    return read_json(OUTCOME).get(task, {}) if OUTCOME.exists() else {}


def metrics_table(settings: params.Params, before: Mapping[str, dict[str, Any] | None]) -> str:
    """Return every model's scores on the test tracks as a Markdown table.

    Parameters
    ----------
    settings
        Which tasks and models.
    before
        By task, the champion to compare with, as `pipeline.stages.promote.version_summary` returns it.
    """
    # The order of params.yaml, so that two runs' tables can be laid side by side.
    rows = [_row(task, name, before.get(task)) for task in settings.tasks for name in settings.models]
    note = "Accuracy of whole tracks. Scores under different protocols or test tracks are not comparable."
    return f"{_HEADER}{''.join(rows)}\n{note}\n"


def _row(task: str, name: str, before: dict[str, Any] | None) -> str:
    metrics = read_json(metrics_path(task, name))
    # Whole tracks, which is what `promote` compares.
    track = metrics["test"]["track"]
    low, high = track["accuracy_ci"]
    protocol = metrics["protocol"] + (" (leaky)" if metrics["leaky"] else "")
    return (
        f"| {task} | {name} | {track['accuracy']:.3f} | {low:.3f} to {high:.3f} | {track['macro_f1']:.3f} "
        f"| {_change(track, before)} | {protocol} |\n"
    )


def _change(track: dict[str, Any], before: dict[str, Any] | None) -> str:
    """Return the change of macro-F1 against the champion that served before the run."""
    if not before or "macro_f1" not in before["metrics"]:
        return "no champion before"
    change = (
        round(track["macro_f1"] - before["metrics"]["macro_f1"], 3) + 0.0
    )  # the registry rounds, and no -0
    champion = f"version {before['version']}, {before['model']}, {before['protocol']}"
    return f"{change:+.3f} macro-F1 ({inline(champion)})"


def decisions(settings: params.Params) -> dict[str, str]:
    """Return, by task, what was decided and why."""
    outcomes = {task: outcome_of(task) for task in settings.tasks}
    return {task: sentence(outcome) for task, outcome in outcomes.items() if outcome}


def champions(settings: params.Params) -> dict[str, dict[str, Any] | None]:
    """Return, by task, the model that serves now; None where none does, or the registry is away."""
    try:
        return {task: serving(task) for task in settings.tasks}
    except CmgError as error:
        get_run_logger().warning("Who serves is not known: %s", error)
        return {}


def standing(settings: params.Params) -> dict[str, str]:
    """Return, by task, which version is champion where nothing was decided."""
    return {
        task: f"nothing to decide, version {champion['version']} ({champion['model']}) serves"
        if champion
        else "nothing to decide, no model serves"
        for task, champion in champions(settings).items()
    }


def publish_decisions(settings: params.Params) -> None:
    """Put the decisions on the run's page."""
    rows = "".join(
        f"| {inline(model_name(task))} | {inline(said)} |\n" for task, said in decisions(settings).items()
    )
    create_markdown_artifact(
        f"| model | decision |\n| --- | --- |\n{rows}", key="promotion", description="Who serves, and why"
    )


def publish(settings: params.Params, outcomes: Mapping[str, Outcome]) -> None:
    """Put scores, links and the pictures of the models that this run has evaluated on the run's page.

    Parameters
    ----------
    settings
        The run's parameters.
    outcomes
        What came of each stage.
    """
    before = champions(settings)
    # What served before the decision: by now the candidate may serve itself.
    if outcomes["promote"] == "ran":
        before = {task: outcome_of(task)["before"] for task in settings.tasks}
    create_markdown_artifact(
        metrics_table(settings, before), key="metrics", description="Scores of every model"
    )
    stages = [name.partition("@") for name in moved(outcomes)]
    pairs = [pair.partition("-") for kind, _, pair in stages if kind == "evaluate"]  # genre-cnn64
    evaluated = sorted((task, name) for task, _, name in pairs)
    # Of an evaluation that came from DVC's cache MLflow may have no run.
    runs = {f"{task}, {name}": _run_of(task, name) for task, name in evaluated}
    _publish_links({shown: links.run(*run) for shown, run in runs.items() if run})
    for (task, name), run in zip(evaluated, runs.values(), strict=True):
        # From MLflow, which keeps it: the workspace's file is another after the next retrain.
        if run:
            create_image_artifact(
                links.picture(run[1], "plots/confusion.png"),
                key=f"confusion-{task}-{name}",
                description=f"Confusion of {name} on the test tracks, {task}",
            )


def _run_of(task: str, name: str) -> tuple[str, str] | None:
    """Return the MLflow experiment and run of a model of the workspace; None if the store has none."""
    from pipeline import tracking

    run_id = tracking.find_run(task, read_json(card_path(task, name))["weights_sha256"])
    if run_id is None:
        return None
    return tracking.configure().get_run(run_id).info.experiment_id, run_id


def _publish_links(runs: dict[str, str]) -> None:
    """Put what belongs to the run, and lies elsewhere, on its page."""
    pages = {
        "report of all models": links.page("/report/"),
        "data checks in detail": links.page("/data_docs/"),
        "all models in MLflow": links.mlflow("/#/experiments"),
    }
    pages |= {f"{shown} in MLflow": url for shown, url in runs.items()}
    lines = "".join(f"* [{inline(shown)}]({url})\n" for shown, url in pages.items())
    create_markdown_artifact(lines, key="links", description="Report, data checks, MLflow runs")


def _wrapped(text: str) -> str:
    """Break lines that the page would cut off: a finding names its rows at the end."""
    # A path or an address that is broken at a dash cannot be copied.
    wrap = partial(textwrap.wrap, width=_WIDTH, subsequent_indent="    ", break_on_hyphens=False)
    return "\n".join("\n".join(wrap(line)) for line in text.splitlines())


def publish_failure(stage: str, message: str) -> None:
    """Put a failed stage's own words (of a failed check: the rows) on the run's page."""
    details = f"[Data checks in detail]({links.page('/data_docs/')})"
    text = f"**{inline(stage)}** stopped the run.\n\n{code_block(_wrapped(masked(message)))}\n\n{details}\n"
    create_markdown_artifact(text, key="failure", description=f"Why {stage} stopped the run")
