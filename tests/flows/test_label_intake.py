"""The intake's flow without a server: who counts as new, what starts a retrain, what its page says."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from filelock import FileLock
from prefect.exceptions import ObjectNotFound

from flows import label_intake as flow
from pipeline import files, params
from pipeline.labelling.inbox import Intake, RejectedRow
from pipeline.tables.label_history import HISTORY_COLUMNS, write_history
from pipeline.tables.mood_labels import LABEL_COLUMNS
from pipeline.tables.predictions import predictions_path
from pipeline.tables.tracks import TRACK_COLUMNS, usable_tracks
from pipeline.tables.tracks import TRACKS as TRACKS_FILE

TRACKS = [f"blues.{number:05}" for number in range(6)]
TIME = "2024-03-05T14:00:00Z"


@pytest.fixture
def project(workspace: Path) -> Path:
    """Work in a project of six tracks, the last not usable and the first without a published split."""
    rows = [
        dict.fromkeys(TRACK_COLUMNS, "") | {"track_id": one, "usable": True, "filtered_split": "train"}
        for one in TRACKS
    ]
    rows[0]["filtered_split"] = ""
    rows[5]["usable"] = False
    files.write_csv(TRACKS_FILE, pd.DataFrame(rows))
    Path("data").mkdir()
    write_history(Path("data"))
    label(TRACKS)
    return workspace


def label(tracks: list[str], mood: str = "Other") -> None:
    rows = [(track, mood, "ann", TIME) for track in tracks]
    files.write_csv(Path("data/mood_labels.csv"), pd.DataFrame(rows, columns=list(LABEL_COLUMNS)))


def learn(model: str, tracks: list[str]) -> None:
    files.write_csv(predictions_path("mood", model), pd.DataFrame({"track_id": tracks}))


def test_before_any_model_every_usable_labelled_track_is_new(project: Path) -> None:
    assert flow.new_tracks() == 5


def test_only_what_every_model_was_evaluated_with_is_learned(project: Path) -> None:
    learn("lenet5", TRACKS[:4])
    assert flow.new_tracks() == 5
    learn("cnn64", TRACKS[:3])
    assert flow.new_tracks() == 2


def test_the_labels_stage_alone_teaches_nothing(project: Path) -> None:
    """A retrain that fails after ``labels`` must be asked for again."""
    files.write_csv(Path("artifacts/labels/mood.csv"), pd.DataFrame({"track_id": TRACKS, "label": "Other"}))
    assert flow.new_tracks() == 5


def test_what_is_left_out_for_good_is_never_new(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = params.read()
    split = settings.split.model_copy(update={"protocol": "fault_filtered"})
    monkeypatch.setattr(params, "read", lambda: settings.model_copy(update={"split": split}))
    assert flow.new_tracks() == 4
    monkeypatch.setattr(params, "read", lambda: settings.model_copy(update={"tasks": ["genre"]}))
    assert flow.new_tracks() == 0


def test_moods_that_nobody_knows_are_not_new(project: Path) -> None:
    label(TRACKS, mood="Sad")
    assert flow.new_tracks() == 0


def test_who_replaces_the_outputs_is_waited_for(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = []
    read = usable_tracks

    def usable() -> pd.DataFrame:
        held.append(not _is_free())
        return read()

    monkeypatch.setattr(flow, "usable_tracks", usable)
    flow.new_tracks()
    assert held == [True]


def _is_free() -> bool:
    lock = FileLock(".cache/workspace.lock", timeout=0)
    try:
        lock.acquire()
    except TimeoutError:
        return False
    lock.release()
    return True


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note which tasks the flow calls, instead of calling them."""
    done: list[str] = []
    monkeypatch.setattr(flow, "label_machine", lambda: None)
    monkeypatch.setattr(flow, "take", list)
    monkeypatch.setattr(flow, "publish", lambda taken: None)
    monkeypatch.setattr(flow, "version", lambda fresh: done.append(f"version {fresh}"))
    monkeypatch.setattr(flow, "start_retrain", lambda: done.append("retrain") or True)
    return done


@pytest.mark.parametrize(("wanted", "expected"), [(6, []), (5, ["version 5", "retrain"])])
def test_a_retrain_starts_at_n_new_tracks_and_not_before(
    project: Path, ran: list[str], wanted: int, expected: list[str]
) -> None:
    state: Any = flow.label_intake.fn(min_new_tracks=wanted)
    assert ran == expected
    assert state.message.startswith("0 files: 0 rows accepted, 0 rejected; 5 tracks are new to the models")
    assert state.message.endswith(": it was asked for.") == bool(expected)


def test_nobody_serves_retrains(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ObjectNotFound(Exception("404"))

    monkeypatch.setattr(flow, "get_run_logger", logging.getLogger)
    monkeypatch.setattr(flow, "run_deployment", refuse)
    assert flow.start_retrain.fn() is False
    assert "Nobody serves retrain/on-demand" in caplog.text
    monkeypatch.setattr(flow, "run_deployment", lambda *_, **__: SimpleNamespace(id="7"))
    assert flow.start_retrain.fn() is True


def record(file: str, received_at: str, accepted: int) -> dict[str, Any]:
    facts = {"file": file, "received_at": received_at, "rows": accepted + 1, "accepted": accepted}
    return dict.fromkeys(HISTORY_COLUMNS, "") | facts


SUNDAY = ("sunday.csv", "2024-03-03T14:00:00.000Z", 5)
MONDAY = ("monday.csv", "2024-03-04T14:00:00.000Z", 8)
TUESDAY = ("tuesday.csv", "2024-03-05T14:00:00.000Z", 4)
FAULT = ("fault.csv", "2024-03-05T15:00:00.000Z", 0)


def write_intakes(*intakes: tuple[str, str, int]) -> None:
    files.write_csv(Path("data/label_history.csv"), pd.DataFrame([record(*one) for one in intakes]))


def call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def test_the_commit_message_names_all_that_the_committed_data_lack(project: Path) -> None:
    """Tuesday's labels come before Sunday's and Monday's are committed, but are not in that version."""
    dvc = (sys.executable, "-m", "dvc")
    call("git", "init", "-q")
    call(*dvc, "init", "-q")
    write_intakes(SUNDAY)
    call(*dvc, "add", "-q", "data")
    write_intakes(SUNDAY, MONDAY, TUESDAY, FAULT)
    call("git", "add", "-A")
    call("git", "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-m", "x")
    assert flow.commit_message(12).splitlines() == [
        "Add 12 mood labels; 12 tracks are new to the models",
        "",
        "* monday.csv: 8 of 9 rows",
        "* tuesday.csv: 4 of 5 rows",
    ]


def test_without_git_the_commit_message_names_all(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_intakes(SUNDAY, MONDAY, TUESDAY, FAULT)
    monkeypatch.setenv("PATH", "")
    assert flow.commit_message(3).startswith("Add 17 mood labels; 3 tracks are new")


def test_the_page_names_the_checks_and_an_undefined_alpha() -> None:
    page = "intakes/label_intake_batch-x/y.html"
    (line,) = flow._table([Intake("a.csv", "", TIME, docs=(page,))]).splitlines()[2:3]
    assert "| not defined | [batch](" in line
    assert [flow._checked(f"intakes/label_intake{one}-x/y.html") for one in ("", "_repeats")] == [
        "rows",
        "repeats",
    ]


def test_the_page_tells_a_fault_and_breaks_at_no_cell() -> None:
    fault = Intake("a|b.csv", "", TIME, fault="expected <script>\nUTF-8")
    assert (
        flow._rejections(fault) == "**a&#124;b.csv** was rejected whole: expected &#60;script&#62; UTF-8\n\n"
    )
    row = RejectedRow("line 2", "<img>", "a|b", "ann", TIME, "", "known_mood")
    shown = flow._rejections(Intake("c.csv", "", TIME, rejected=1, rejected_rows=(row,)))
    assert "| line 2 | &#60;img&#62; | a&#124;b | ann | known&#95;mood |" in shown
    assert flow._rejections(Intake("d.csv", "", TIME)) == ""


def test_a_fault_makes_the_state_rejected() -> None:
    state = flow._summary([Intake("a.csv", "", TIME, fault="no UTF-8")], 0, 10, False)
    assert (state.name, "rejected whole: a.csv: no UTF-8" in str(state.message)) == ("Rejected", True)
