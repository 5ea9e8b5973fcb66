"""The tables on a run's page, from files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows import artifacts, links
from pipeline import files, params, tracking
from pipeline.stages.promote import OUTCOME
from pipeline.tables.metrics import metrics_path


def put_metrics(task: str, name: str, *, accuracy: float, macro_f1: float, leaky: bool = False) -> None:
    track = {"accuracy": accuracy, "accuracy_ci": [accuracy - 0.1, accuracy + 0.1], "macro_f1": macro_f1}
    values = {"protocol": "shuffled" if leaky else "artist", "leaky": leaky, "test": {"track": track}}
    files.write_json(metrics_path(task, name), values)


def version(number: str, macro_f1: float) -> dict[str, Any]:
    return {"version": number, "model": "cnn64", "protocol": "artist", "metrics": {"macro_f1": macro_f1}}


@pytest.fixture
def chosen(workspace: Path, settings: params.Params) -> params.Params:
    put_metrics("genre", "lenet5", accuracy=0.5, macro_f1=0.45)
    return settings.model_copy(update={"tasks": ["genre"], "models": ["lenet5"]})


def put_outcome(**values: Any) -> None:
    files.write_json(OUTCOME, {"genre": values})


def test_first_model_has_nothing_to_be_compared_with(chosen: params.Params) -> None:
    row = artifacts.metrics_table(chosen, {}).splitlines()[2]
    assert "no champion before" in row
    assert "| 0.500 | 0.400 to 0.600 | 0.450 |" in row


@pytest.mark.parametrize(("before", "shown"), [(0.40, "+0.050"), (0.50, "-0.050"), (0.45001, "+0.000")])
def test_change_is_against_the_champion_before_the_run(
    chosen: params.Params, before: float, shown: str
) -> None:
    row = artifacts.metrics_table(chosen, {"genre": version("3", before)}).splitlines()[2]
    assert f"{shown} macro-F1 (version 3, cnn64, artist)" in row


def test_leaky_protocol_is_marked(chosen: params.Params) -> None:
    put_metrics("genre", "lenet5", accuracy=0.9, macro_f1=0.9, leaky=True)
    assert "shuffled (leaky)" in artifacts.metrics_table(chosen, {})


def test_decision_is_told_with_its_reason(chosen: params.Params) -> None:
    assert artifacts.decisions(chosen) == {}
    put_outcome(promoted=True, reason="better", candidate=version("4", 0.5))
    assert artifacts.decisions(chosen) == {"genre": "promoted version 4: better"}
    put_outcome(promoted=False, reason="it is worse", candidate=version("5", 0.2), champion=version("4", 0.5))
    assert artifacts.decisions(chosen) == {"genre": "kept champion, because it is worse"}


def test_who_stands_is_what_the_registry_says_and_not_the_last_outcome(
    chosen: params.Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    put_outcome(promoted=True, reason="better", candidate=version("4", 0.5), champion=version("4", 0.5))
    assert artifacts.standing(chosen) == {"genre": "nothing to decide, no model serves"}
    client = tracking.configure().MlflowClient()
    client.create_registered_model("genre-classifier")
    client.create_model_version("genre-classifier", "somewhere", tags={"model": "lenet5"})
    client.set_registered_model_alias("genre-classifier", "champion", "1")
    assert artifacts.standing(chosen) == {"genre": "nothing to decide, version 1 (lenet5) serves"}


def test_links_follow_where_the_pages_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert links.run("1", "abc") == "http://127.0.0.1:5000/#/experiments/1/runs/abc"
    monkeypatch.setenv("CMG_MLFLOW_URL", "https://mlflow.example/")
    monkeypatch.setenv("CMG_PAGES_URL", "https://pages.example")
    assert links.picture("abc", "plots/a b.png") == (
        "https://mlflow.example/get-artifact?path=plots%2Fa+b.png&run_uuid=abc"
    )
    assert links.page("/report/") == "https://pages.example/report/"


def test_a_long_line_of_a_failure_is_broken_and_nothing_is_lost() -> None:
    said = f"labels: 1 check\n  known_mood: expected {'CalmButWarm, ' * 20}received line 37 (Gloomy)\n\nend"
    shown = artifacts._wrapped(said)
    assert max(map(len, shown.splitlines())) <= 100
    assert shown.split() == said.split()
    assert shown.splitlines()[-2:] == ["", "end"]
