"""Fixtures that many tests share: an empty working folder, and a small library in it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Set before TensorFlow is first imported: the suite runs beside others on few cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline import files, params
from tests import watchdog
from tests.flows import postgres

ROOT = Path(__file__).parents[1]
RATE = 22_050
GENRES = ("blues", "metal", "pop")
MOODS_USED = ("Other", "CalmButWarm", "TotallyPositive")
LONGEST = (
    "test_stack.py",
    "test_team.py",
    "test_graph.py",
    "test_intake_crash.py",
    "test_lease.py",
    "test_train.py",
    "test_faults.py",
)


@dataclass(frozen=True)
class Library:
    """Where the tiny library's parts are, and what it holds."""

    audio: Path
    index: Path
    dataset: Path
    labels: Path
    track_ids: tuple[str, ...]

    def path_of(self, track_id: str) -> Path:
        return self.audio / track_id.split(".")[0] / f"{track_id}.au"


def write_tone(path: Path, *, hertz: float, seconds: float = 1.5, seed: int = 0) -> None:
    """Write a 16-bit mono tone with a little noise of its own."""
    time = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).standard_normal(len(time))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * hertz * time) + 0.01 * noise, RATE, subtype="PCM_16")


def write_library(root: Path) -> Library:
    """Write twelve tracks of three genres, two artists a genre, and three annotators' moods."""
    library = Library(
        audio=root / "gtzan",
        index=root / "index.csv",
        dataset=root / "dataset.json",
        labels=root / "mood_labels.csv",
        track_ids=tuple(f"{genre}.{number:05}" for genre in GENRES for number in range(4)),
    )
    for number, track_id in enumerate(library.track_ids):
        write_tone(library.path_of(track_id), hertz=200 + 100 * number, seed=number)
    files.write_csv(library.index, index_of(library.track_ids))
    files.write_json(library.dataset, {"name": "tiny", "synthetic": True, "description": "twelve tones"})
    files.write_csv(library.labels, annotations_of(library.track_ids))
    return library


def index_of(track_ids: tuple[str, ...]) -> pd.DataFrame:
    """Return the index: tracks 0 and 1, 2 and 3 of a genre share an artist."""
    return pd.DataFrame(
        {
            "track_id": track_ids,
            "artist": [f"artist of {one[:-1]}{int(one[-1]) // 2}" for one in track_ids],
            "title": [f"title of {one}" for one in track_ids],
            "exact_duplicate_of": "",
            "filtered_split": [("train", "train", "valid", "test")[int(one[-1])] for one in track_ids],
        }
    )


def annotations_of(track_ids: tuple[str, ...]) -> pd.DataFrame:
    """Return three annotators' moods: the first two agree, the third differs."""
    rows = [
        (track_id, MOODS_USED[(number + (who == "cy")) % 3], who, "2024-03-05T14:00:00Z")
        for number, track_id in enumerate(track_ids)
        for who in ("ann", "bob", "cy")
    ]
    return pd.DataFrame(rows, columns=["track_id", "mood", "annotator", "labelled_at"])


@pytest.fixture(scope="module")
def database() -> Iterator[postgres.Server]:
    """Run a PostgreSQL for the tests of one file."""
    with postgres.server() as running:
        yield running


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder that holds the project's params.yaml only."""
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def library(workspace: Path) -> Library:
    """Work in a folder with a tiny library in ``data/``; its paths are relative, as the stages' are."""
    return write_library(Path("data"))


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a SQLite file with MLflow's tables: making them takes seconds."""
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
def settings() -> params.Params:
    """Return the committed parameters."""
    return params.read(ROOT / "params.yaml")


@pytest.fixture
def values(settings: params.Params) -> dict[str, Any]:
    """Return the committed parameters as a plain mapping, to be changed at will."""
    return settings.model_dump()


def pytest_configure() -> None:
    """Let nothing that tests start outlive them, although they are killed; give them a folder to work in.

    Its path has a blank, as people's folders do. Not an umlaut: DVC writes paths into its configuration in
    ASCII, and refuses `dvc exp run --temp` and `dvc remote add` in such a folder; the rest works in it.
    """
    watchdog.start()
    folder = Path(tempfile.gettempdir()) / f"cmg tests {os.getuid()}"
    folder.mkdir(exist_ok=True)
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(folder))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take minutes, the longest first, so that all test workers end together."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
