"""Stage ``promote``: the better of each task's best model and the present champion serves.

What comes out depends on the registry, so the decision is written where the registry is (tags of the version,
a run named "promotion", the alias ``champion``), and for who called the stage in ``mlruns/promotion.json``.
The stage's DVC out says only what was put to the vote, and by which rule. It lies beside the registry and not
in DVC's cache, so that the stage runs, and fills the registry, in a clone or where ``mlruns/`` is lost.
Running it again changes nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipeline import params, promotion_rule, tracking
from pipeline.errors import DataError
from pipeline.files import read_json, write_json
from pipeline.promotion_rule import Candidate, Champion, Comparison, Decision
from pipeline.stage_run import run_stage
from pipeline.stages import register
from pipeline.stages.register import model_name
from pipeline.tables.predictions import predictions_path
from pipeline.tables.tracks import read_tracks
from pipeline.training import scores

VOTE: Final = Path("mlruns/promotion_vote.json")
OUTCOME: Final = tracking.ROOT / "promotion.json"
_ALIAS: Final = tracking.PROMOTED
_NONE: Final = "none"  # what the tag champion_before says of a first champion


def champion_of(client: Any, task: str) -> tuple[Champion, dict[str, Any]] | None:
    """Return the champion and its card; None if there is none."""
    import mlflow
    from mlflow.exceptions import MlflowException

    version = _champion_version(client, task)
    if version is None:
        return None
    uri = f"models:/{model_name(task)}@{_ALIAS}"
    try:
        card = read_json(next(Path(mlflow.artifacts.download_artifacts(uri)).glob("artifacts/*.json")))
    except (MlflowException, OSError, StopIteration) as error:
        raise DataError(
            f"{uri}: expected the champion's files, received {type(error).__name__}: {error}. "
            "Bring them back, or move mlruns/ away: `make registry` fills a new one."
        ) from None
    champion = Champion(
        version=str(version.version),
        weights_sha256=card["weights_sha256"],
        synthetic=card["dataset"]["synthetic"],
        classes=tuple(card["classes"]),
    )
    return champion, card


def _champion_version(client: Any, task: str) -> Any:
    """Return the registry's entry of the champion; None if there is none."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(model_name(task), _ALIAS)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def compare(task: str, candidate: Candidate, champion_card: dict[str, Any]) -> Comparison:
    """Score both on the test tracks that the champion has not seen either."""
    import mlflow
    import pandas as pd

    text = dict.fromkeys(("track_id", "part", "label", "predicted"), str)
    predictions = predictions_path(task, candidate.model)
    table = pd.read_csv(predictions, dtype=text, keep_default_na=False)
    unseen = table[(table["part"] == "test") & ~table["track_id"].isin(champion_card["seen_tracks"])]
    if unseen.empty:
        return Comparison(0, float("nan"), float("nan"))
    paths = read_tracks().set_index("track_id")["path"]
    audio_of = pd.DataFrame({"audio": [Path(paths[track]).read_bytes() for track in unseen["track_id"]]})
    champion = mlflow.pyfunc.load_model(f"models:/{model_name(task)}@{_ALIAS}")
    truth = np.array([candidate.classes.index(name) for name in unseen["label"]])
    own = unseen[[f"p_{name}" for name in candidate.classes]].to_numpy(float)
    other = champion.predict(audio_of)[list(candidate.classes)].to_numpy(float)
    return Comparison(len(unseen), scores.macro_f1(truth, own), scores.macro_f1(truth, other))


def promote(task: str, candidate: Candidate | None, settings: params.PromoteParams) -> dict[str, Any]:
    """Decide on one task's candidate, move the alias, and log the decision.

    Returns
    -------
    dict
        ``promoted``, ``reason``, the ``candidate``'s version, the ``champion`` that now serves and the one
        ``before`` (version, model and test metrics each; None where there is none).
    """
    client = tracking.configure().MlflowClient()
    known = champion_of(client, task)
    champion, card = known if known else (None, {})
    before = facts_of(client, task, champion.version) if champion else None
    if champion and candidate and champion.weights_sha256 == candidate.weights_sha256:
        earlier = _decided_before(client, task, champion.version)
        if earlier:
            return earlier
    decision = decide(task, candidate, champion, card, settings)
    version = register.ensure_version(client, task, candidate) if candidate else None
    if version and not (champion and champion.version == version):
        _log_decision(client, task, version, decision, champion)  # first: a kill between must not lose it
    if version and decision.promote:
        client.set_registered_model_alias(model_name(task), _ALIAS, version)
    return {
        "promoted": decision.promote,
        "reason": decision.reason,
        "candidate": facts_of(client, task, version) if version else None,
        "champion": facts_of(client, task, version) if version and decision.promote else before,
        "before": before,
    }


def _decided_before(client: Any, task: str, version: str) -> dict[str, Any] | None:
    """Return the outcome of the same retrain's earlier try, which promoted the version and then failed."""
    tags = client.get_model_version(model_name(task), version).tags
    retrain = os.environ.get(tracking.RETRAIN)
    if retrain is None or tags.get("decided_by") != retrain:
        return None
    before, now = tags["champion_before"], facts_of(client, task, version)
    return {
        "promoted": True,
        "reason": tags["reason"],
        "candidate": now,
        "champion": now,
        "before": None if before == _NONE else facts_of(client, task, before),
    }


def serving(task: str) -> dict[str, Any] | None:
    """Return the facts of a task's present champion; None if there is none.

    Raises
    ------
    UnavailableError
        The registry's server does not answer.
    """
    client = tracking.configure().MlflowClient()
    with tracking.reachable():
        version = _champion_version(client, task)
        return None if version is None else facts_of(client, task, str(version.version))


def decide(
    task: str,
    candidate: Candidate | None,
    champion: Champion | None,
    card: dict[str, Any],
    settings: params.PromoteParams,
) -> Decision:
    """Compare where a comparison is needed, and apply the rule."""
    comparison = None
    if candidate and promotion_rule.needs_comparison(candidate, champion):
        comparison = compare(task, candidate, card)
    return promotion_rule.decide(
        candidate, champion, comparison, margin=settings.margin, min_tracks=settings.min_tracks
    )


def facts_of(client: Any, task: str, version: str) -> dict[str, Any]:
    """Return a version's number, model, protocol and test metrics at track level."""
    found = client.get_model_version(model_name(task), version)
    shown = {
        name.removeprefix("test.track."): float(value)
        for name, value in found.tags.items()
        if name.startswith("test.track.")
    }
    return {
        "version": str(found.version),
        "model": found.tags.get("model", ""),
        "protocol": found.tags.get("protocol", ""),
        "run_id": found.run_id,
        "metrics": shown,
    }


def sentence(outcome: dict[str, Any]) -> str:
    """Return the decision in words."""
    if outcome["promoted"]:
        return f"promoted version {outcome['candidate']['version']}: {outcome['reason']}"
    return f"kept champion, because {outcome['reason']}"


def _log_decision(
    client: Any, task: str, version: str, decision: Decision, champion: Champion | None
) -> None:
    tags = {
        "decision": "promoted" if decision.promote else "kept champion",
        "reason": decision.reason,
        "champion_before": champion.version if champion else _NONE,
        "decided_by": os.environ.get(tracking.RETRAIN, ""),
    }
    for key, value in tags.items():
        client.set_model_version_tag(model_name(task), version, key, value)
    with tracking.run(task, "promotion", tags | {"version": version}):
        pass


def main() -> None:
    """Decide on every task's champion."""
    settings = params.read()
    vote = {}
    for task in settings.tasks:
        candidate = register.best_of(task, list(settings.models))
        if tracking.is_temporary_checkout():
            print(
                f"{model_name(task)}: an experiment promotes nothing; `dvc exp apply`, then `dvc repro` does"
            )
        else:
            with tracking.reachable():
                outcome = promote(task, candidate, settings.promote)
            write_json(OUTCOME, (read_json(OUTCOME) if OUTCOME.exists() else {}) | {task: outcome})
            print(f"{model_name(task)}: {sentence(outcome)}")
        vote[task] = {"candidate": candidate and candidate.weights_sha256, **settings.promote.model_dump()}
    write_json(VOTE, vote)


if __name__ == "__main__":
    run_stage(main)
