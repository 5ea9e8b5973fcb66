"""An empty store: making its tables takes seconds, so that they are made once and copied."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.registry import tiny

LABELS = list(tiny.CLASSES) * 5  # 15 tracks


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a SQLite file with MLflow's tables."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def empty(workspace: Path, tables: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with an empty store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Path("mlruns").mkdir()
    shutil.copyfile(tables, "mlruns/mlflow.db")
    return workspace


@pytest.fixture
def tracks(empty: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Work in a folder with fifteen test tracks and an empty store."""
    tiny.no_keras(monkeypatch)
    return tiny.write_tracks(LABELS)
