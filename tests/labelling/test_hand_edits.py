"""An edit of the data by hand: what the last split held out is noted before the next; by a real DVC."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.labelling import hand_edits
from pipeline.tables.held_out import groups_path, read_held_out

HEADER = "task,protocol,seed,valid,test,key,part\n"


def dvc(root: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments, "--quiet"], cwd=root, check=True)


@pytest.fixture(scope="module")
def versioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project whose data are versioned and whose splits are made; to be copied, not changed."""
    root = tmp_path_factory.mktemp("versioned")
    (root / ".dvc").mkdir()
    (root / ".dvc/config").write_text("[core]\n    no_scm = True\n")
    (root / "data/gtzan/blues").mkdir(parents=True)
    for name, content in {
        "gtzan/blues/a.au": "a",
        "index.csv": "track_id\na\n",
        "mood_labels.csv": "m\n",
    }.items():
        (root / "data" / name).write_text(content)
    for task in ("genre", "mood"):
        groups_path(task, root).parent.mkdir(parents=True, exist_ok=True)
        groups_path(task, root).write_text(f"{HEADER}{task},artist,0,0.25,0.25,content a,test\n")
    dvc(root, "add", "data")
    return root


@pytest.fixture
def root(versioned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(versioned, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def tasks_noted(root: Path) -> list[str]:
    return read_held_out(root / "data/held_out.csv")["task"].tolist()


def test_data_that_are_as_they_were_versioned_are_left_alone(root: Path) -> None:
    assert hand_edits.note() == []
    assert tasks_noted(root) == []


EDITS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "a label": (lambda data: (data / "mood_labels.csv").write_text("m\nx\n"), ["mood"]),
    "an artist": (lambda data: (data / "index.csv").write_text("track_id\nb\n"), ["genre", "mood"]),
    "a new track": (lambda data: (data / "gtzan/blues/b.au").write_text("b"), ["genre", "mood"]),
    "a track's audio": (lambda data: (data / "gtzan/blues/a.au").write_text("c"), ["genre", "mood"]),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_noted_once_for_the_tasks_it_concerns(root: Path, name: str) -> None:
    edit, tasks = EDITS[name]
    edit(root / "data")
    assert hand_edits.note() == [
        "data was edited: what the last split held out is noted in data/held_out.csv."
    ]
    assert tasks_noted(root) == tasks
    assert hand_edits.note() == []
    assert not list(root.glob(".data-*"))


def test_data_of_another_version_keep_their_own_record(root: Path) -> None:
    pointer = (root / "data.dvc").read_text()
    (root / "data/mood_labels.csv").write_text("m\nx\n")
    hand_edits.note()
    dvc(root, "add", "data")
    (root / "data.dvc").write_text(pointer)
    dvc(root, "checkout", "data")
    assert hand_edits.note() == []
    assert tasks_noted(root) == []


def test_without_a_split_or_a_version_there_is_nothing_to_note(root: Path) -> None:
    (root / "data/mood_labels.csv").write_text("m\nx\n")
    (root / "data.dvc").rename(root / "away")
    assert hand_edits.note() == []
    (root / "away").rename(root / "data.dvc")
    shutil.rmtree(root / "artifacts")
    assert hand_edits.note() == []


def test_what_dvc_cannot_say_stops_nobody(root: Path) -> None:
    (root / "data/mood_labels.csv").write_text("m\nx\n")
    shutil.rmtree(root / ".dvc/cache")
    assert hand_edits.note() == []
    (root / "data.dvc").write_text("outs:\n- md5: ")
    assert hand_edits.note() == []


def test_a_record_that_cannot_be_read_is_an_error(root: Path) -> None:
    (root / "data/held_out.csv").write_text("part\n")
    with pytest.raises(DataError, match=r"held_out\.csv: expected columns"):
        hand_edits.note()
