"""Merged labels taken back or corrected: the right ones, with history, whole after a kill at any moment."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import DataError
from pipeline.labelling import changes, inbox, journal
from pipeline.tables.label_changes import CHANGE_COLUMNS, read_changes
from pipeline.tables.mood_labels import read_annotations, write_labels

TIME = "2024-03-05T14:00:00Z"
HEADER = "track_id,mood,annotator,labelled_at,confidence"
LABELS = [
    f"blues.00000,Other,ann,{TIME},2",
    f"blues.00000,CalmButWarm,Bob,{TIME},",
    f"blues.00001,Other,Bob,{TIME},",
]


@pytest.fixture(autouse=True)
def project(workspace: Path) -> Path:
    Path("data").mkdir()
    write_labels(Path("data"), "\n".join([HEADER, *LABELS, ""]))
    return workspace


def moods() -> list[tuple[str, str, str]]:
    table = read_annotations(Path("data/mood_labels.csv"))
    return [tuple(row) for row in table[["track_id", "annotator", "mood"]].to_numpy().tolist()]


def test_a_label_is_taken_back_and_remembered() -> None:
    changed = changes.change("BLUES.00000.wav", annotator=" bob", reason="wrong  song")
    assert moods() == [("blues.00000", "ann", "Other"), ("blues.00001", "Bob", "Other")]
    (row,) = read_changes(Path("data")).to_dict("records")
    assert row == changed.rows[0]
    assert row | {"changed_at": ""} == dict(zip(CHANGE_COLUMNS, row, strict=True)) | {
        "changed_at": "",
        "track_id": "blues.00000",
        "annotator": "Bob",
        "mood_before": "CalmButWarm",
        "mood_after": "",
        "labelled_at_before": TIME,
        "confidence_before": "",
        "reason": "wrong song",
    }
    assert not Path("inbox/.intake").exists()


def test_a_label_is_corrected_and_the_history_goes_on() -> None:
    changes.change("blues.00001", mood="calm but epic")
    changes.change("blues.00001", mood="CalmButWarm")
    assert moods()[2] == ("blues.00001", "Bob", "CalmButWarm")
    assert read_annotations(Path("data/mood_labels.csv"))["labelled_at"].iloc[2] > TIME
    history = read_changes(Path("data"))
    assert history[["mood_before", "mood_after"]].to_numpy().tolist() == [
        ["Other", "CalmButEpic"],
        ["CalmButEpic", "CalmButWarm"],
    ]


def test_all_labels_of_a_track_or_of_an_annotator() -> None:
    changes.change("blues.00000", everyone=True, dry_run=True)
    assert len(moods()) == 3
    assert len(changes.change("blues.00000", everyone=True).rows) == 2
    assert len(changes.change(annotator="BOB").rows) == 1
    assert moods() == []
    assert len(read_changes(Path("data"))) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"track": "blues.00000"},
            r"received 2: ann \(Other\), Bob \(CalmButWarm\)\. Name one by --annotator",
        ),
        ({"track": "polka.1"}, "expected a label of polka.1, received none"),
        ({"track": "blues.00001", "annotator": "ann"}, r"received none\. The labels are by ann, Bob"),
        ({"track": "blues.00001", "mood": "CalmButWram"}, "Did you mean CalmButWarm"),
        ({}, "expected a track, or --annotator NAME"),
    ],
)
def test_what_could_be_meant_otherwise_changes_nothing(arguments: dict[str, str], said: str) -> None:
    before = Path("data/mood_labels.csv").read_bytes()
    with pytest.raises(DataError, match=said):
        changes.change(**arguments)
    assert Path("data/mood_labels.csv").read_bytes() == before
    assert not Path("data/label_changes.csv").exists()


def test_killed_at_every_change_of_a_file_it_is_undone_or_done_by_the_next_run(project: Path) -> None:
    """In a child each time, killed just before it changes the inbox or the data for the n-th time."""
    pd.read_csv("data/mood_labels.csv")  # what the children would import, once
    undone, done, number = ["Other", "CalmButWarm", "Other"], ["Other", "Other"], 0
    outcomes = set()
    while True:
        number += 1
        folder = project / str(number)
        shutil.copytree(project / "data", folder / "data")
        child = os.fork()
        if not child:
            try:
                _killed(folder, number)
            finally:
                os._exit(0)
        was_killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        with inbox.alone(folder / "inbox", data=folder / "data"):
            found = read_annotations(folder / "data/mood_labels.csv")["mood"].tolist()
            history = read_changes(folder / "data")
        assert (found, len(history)) in ((undone, 0), (done, 1)), number
        assert not (folder / "inbox/.intake").exists()
        outcomes.add(len(history))
        if not was_killed:
            break
    assert number > 10
    assert outcomes == {0, 1}


def _killed(folder: Path, nth: int) -> None:
    seen = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        writes = event == "open" and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if writes or event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod"):
            path = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | Path) else ""
            seen += path.startswith((f"{folder}/inbox", f"{folder}/data", f"{folder}/.data"))
            if seen == nth:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    changes.change(
        "blues.00000", annotator="Bob", data=folder / "data", inbox_folder=folder / "inbox", reason="x"
    )


def test_a_plan_that_names_a_file_beside_its_changes_is_refused(project: Path) -> None:
    folder = Path("inbox/.intake")
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(
        '{"file": "../x", "sha256": "", "store_before": "", "store_after": "", "moves_to": "../y",'
        ' "beside": "", "record": {}, "docs": [], "changes": [{}]}'
    )
    with pytest.raises(DataError, match="expected the plan of an intake"):
        journal.pending(Path("inbox"), data=Path("data"))
