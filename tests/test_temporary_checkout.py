"""An experiment in DVC's temporary checkout logs to the project's own store, and promotes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import tracking


@pytest.mark.parametrize("folder", [".dvc/tmp/exps/standalone/tmpabc", ".dvc/tmp/exps/tmp1"])
def test_runs_of_a_temporary_checkout_go_to_the_projects_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    temporary = tmp_path / folder
    temporary.mkdir(parents=True)
    monkeypatch.chdir(temporary)
    assert tracking.is_temporary_checkout()
    with tracking.run("genre", "aside", {}) as active:
        assert active.info.artifact_uri.startswith((tmp_path / "mlruns/artifacts").as_uri())
    assert not (temporary / "mlruns").exists()
    monkeypatch.chdir(tmp_path)
    runs = tracking.configure().search_runs(experiment_names=["genre"], output_format="list")
    assert [run.info.run_name for run in runs] == ["aside"]


def test_a_project_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (tmp_path, tmp_path / "exps/tmp", tmp_path / ".dvc/tmp"):
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(folder)
        assert not tracking.is_temporary_checkout()
        assert tracking.project_root() == folder
