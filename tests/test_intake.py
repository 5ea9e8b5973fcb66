"""The inbox from the dropped file to the store: what is merged, what is put aside, what is remembered."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import FrozenInstanceError
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock

from pipeline import params
from pipeline.errors import DataError
from pipeline.files import sha256
from pipeline.intake import inbox
from pipeline.sources import library
from pipeline.taxonomy import MOODS

TIME = "2024-03-05T14:00:00Z"
TRACKS = [f"blues.{number:05}" for number in range(60)]
STORE = Path("data/mood_labels.csv")
HISTORY = Path("data/label_history.csv")
HEADER = "track_id,mood,annotator,labelled_at"


@pytest.fixture(autouse=True)
def project(workspace: Path) -> Path:
    """Work in a project of sixty (empty) tracks, one of them labelled."""
    Path("data/gtzan/blues").mkdir(parents=True)
    for track in TRACKS:
        Path(f"data/gtzan/blues/{track}.au").touch()
    library.write_labels(Path("data"), None)
    with STORE.open("a") as stream:
        stream.write(f"blues.00000,Other,ann,{TIME}\n")
    Path("inbox/labels").mkdir(parents=True)
    return workspace


def drop(name: str, *lines: str, header: str = HEADER, age: float = 60.0) -> Path:
    path = Path("inbox/labels") / name
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    os.utime(path, (time.time() - age,) * 2)
    return path


def run() -> list[inbox.Intake]:
    return inbox.run(settings=params.read().intake)


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def tree() -> dict[str, str]:
    """Return every file and its hash, but for the lock."""
    return {
        str(path): sha256(path) for path in Path().rglob("*") if path.is_file() and ".cache" not in path.parts
    }


def test_good_rows_are_merged_bad_rows_put_aside_and_all_is_remembered() -> None:
    path = drop(
        "batch.csv",
        "blues.00001,calm but warm,bob,2024-03-05T16:00:00+02:00",
        f"polka.00001,Other,bob,{TIME}",
        f"blues.00000,TotallyPositive,bob,{TIME}",
    )
    content = path.read_bytes()
    (intake,) = run()
    assert (intake.rows, intake.accepted, intake.rejected, intake.mended) == (3, 2, 1, 1)
    assert (intake.annotators, intake.new_tracks, intake.is_whole) == (1, 1, False)
    assert lines_of(STORE) == [
        HEADER,
        f"blues.00000,Other,ann,{TIME}",
        f"blues.00001,CalmButWarm,bob,{TIME}",
        f"blues.00000,TotallyPositive,bob,{TIME}",
    ]
    rejected = pd.read_csv("inbox/rejected/batch.csv", dtype=str, keep_default_na=False).to_dict("records")
    assert [row["position"] for row in rejected] == ["line 3"]
    assert rejected[0]["reason"] == (
        "track_id: known_track expected the id of a track in the library, received polka.00001. "
        "Correct the id, add the track, or delete the line"
    )
    assert Path("inbox/done/batch.csv").read_bytes() == content
    assert not path.exists()
    (row,) = pd.read_csv(HISTORY, dtype=str, keep_default_na=False).to_dict("records")
    assert row | {"received_at": ""} == {
        "file": "batch.csv",
        "sha256": intake.sha256,
        "received_at": "",
        "rows": "3",
        "accepted": "2",
        "rejected": "1",
        "mended": "1",
        "annotators": "1",
        "new_tracks": "1",
        "alpha": f"{intake.alpha:.6f}",
    }
    assert not Path("inbox/.intake").exists()
    assert all((Path("data_docs") / page).exists() for page in intake.docs)
    assert len(intake.docs) == 3


FAULTS = {
    "schema": f"blues.00001,Other,,{TIME},",
    "known_track": f"polka.00001,Other,bob,{TIME},",
    "known_mood": f"blues.00001,Sad,bob,{TIME},",
    "date_format": "blues.00001,Other,bob,2024-02-30T14:00:00Z,",
    "future_date": "blues.00001,Other,bob,2999-01-01T14:00:00Z,",
    "confidence": f"blues.00001,Other,bob,{TIME},7",
    "cell_size": f"blues.00001,Other,{'bob' * 99},{TIME},",
    "duplicate": f"blues.00000,Other,ann,{TIME},",
    "conflict": f"blues.00000,CalmButWarm,ann,{TIME},",
}
FAULTY_CELLS = {
    "schema": ("annotator", "blank"),
    "known_track": ("track_id", "polka.00001"),
    "known_mood": ("mood", "Sad"),
    "date_format": ("labelled_at", "2024-02-30T14:00:00Z"),
    "future_date": ("labelled_at", "2999-01-01T14:00:00Z"),
    "confidence": ("confidence", "7"),
    "cell_size": ("annotator", "bobbob"),
    "duplicate": ("annotator", "blues.00000, ann, Other in line 2 of mood_labels.csv"),
    "conflict": ("mood", "blues.00000, ann, CalmButWarm, Other in line 2 of mood_labels.csv"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_report_of_a_faulty_file_names_row_column_value_and_reason(name: str) -> None:
    drop("bad.csv", f"blues.00002,Other,bob,{TIME},1", FAULTS[name], header=f"{HEADER},confidence")
    before = lines_of(STORE)
    (intake,) = run()
    column, value = FAULTY_CELLS[name]
    (row,) = intake.rejected_rows
    assert row.position == "line 3"
    assert row.reason.startswith(f"{column}: {name} expected ")
    assert f", received {value}" in row.reason
    assert lines_of(STORE)[1:] == [before[1] + ",", f"blues.00002,Other,bob,{TIME},1"]


def test_a_sound_file_passes_every_expectation() -> None:
    rows = [
        f"{track},{mood},bob,{TIME},{1 + at % 3}"
        for at, (track, mood) in enumerate(zip(TRACKS, MOODS, strict=False))
    ]
    drop("good.csv", *rows, header=f"{HEADER},confidence")
    (intake,) = run()
    assert (intake.findings, intake.accepted, intake.rejected_to) == ((), len(MOODS), "")
    assert not Path("inbox/rejected").exists()


WARNED = {
    "spelling": ([f"blues.00001,calm-but-warm,bob,{TIME}"], HEADER),
    "same_answer": ([f"{track},Other,bob,{TIME}" for track in TRACKS[1:11]], HEADER),
    "class_shift": (
        [f"{track},{mood},dora,{TIME}" for track, mood in zip(TRACKS[20:], MOODS[:2] * 20, strict=True)],
        HEADER,
    ),
    "extra_columns": ([f"blues.00001,Other,bob,{TIME},x"], f"{HEADER},remark"),
}


@pytest.mark.parametrize("name", WARNED)
def test_what_is_odd_is_merged_and_said(name: str) -> None:
    with STORE.open("a") as stream:
        stream.writelines(
            f"{track},{mood},cy,{TIME}\n" for track, mood in zip(TRACKS[:40], MOODS * 4, strict=True)
        )
    rows, header = WARNED[name]
    drop("odd.csv", *rows, header=header)
    (intake,) = run()
    assert (intake.accepted, intake.is_whole) == (len(rows), True)
    assert [(finding.check, finding.severity) for finding in intake.findings] == [(name, "warning")]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("b.txt", b"hello", "expected a .csv or .json file"),
        ("b.csv", b"\xff\xfe\x00", "expected UTF-8 text"),
        ("b.csv", b"", "received an empty file"),
        ("b.csv", f"{HEADER}\na,b\n".encode(), "line 2: expected 4 columns"),
        ("b.csv", b"track_id,mood\na,b\n", "annotator, labelled_at is missing"),
        ("b.json", b"{}", "expected a list of tasks"),
    ],
)
def test_a_faulty_file_is_rejected_whole(name: str, content: bytes, said: str) -> None:
    path = drop(name)
    path.write_bytes(content)
    os.utime(path, (0, 0))
    before = STORE.read_bytes()
    (intake,) = run()
    assert said in intake.fault
    assert Path(f"inbox/rejected/{name}").read_bytes() == content
    assert said in Path(f"inbox/rejected/{name}.reason.txt").read_text()
    assert STORE.read_bytes() == before
    assert not path.exists()
    assert lines_of(HISTORY)[1].split(",")[3:9] == ["0"] * 6


def test_too_many_rows_and_too_large_a_file() -> None:
    settings = params.read().intake
    path = drop("b.csv", *[f"{track},Other,bob,{TIME}" for track in TRACKS[:3]])
    assert "at most 2 rows" in inbox.check(path, settings=settings.model_copy(update={"max_rows": 2})).fault
    path.write_bytes(b"x" * 1_000_001)
    assert (
        "at most 1 MB" in inbox.check(path, settings=settings.model_copy(update={"max_megabytes": 1})).fault
    )


def test_a_second_time_nothing_is_merged_twice() -> None:
    for _ in range(2):
        drop("batch.csv", f"blues.00001,Other,bob,{TIME}")
        (intake,) = run()
    assert (intake.accepted, intake.rejected) == (0, 1)
    assert len(lines_of(STORE)) == 3
    assert sorted(path.name for path in Path("inbox/done").iterdir()) == ["batch-2.csv", "batch.csv"]
    assert run() == []


def test_rejected_rows_can_be_mended_and_dropped_again() -> None:
    drop("batch.csv", f"blues.00001,Sad,bob,{TIME}")
    run()
    text = Path("inbox/rejected/batch.csv").read_text().replace(",Sad,", ",Other,")
    path = drop("mended.csv")
    path.write_text(text)
    os.utime(path, (0, 0))
    assert run()[0].is_whole


def test_files_are_taken_by_name_and_later_ones_know_the_earlier() -> None:
    drop("b.csv", f"blues.00001,Other,bob,{TIME}")
    drop("a.csv", f"blues.00001,CalmButWarm,bob,{TIME}")
    first, second = run()
    assert (first.file, second.file, second.rejected) == ("a.csv", "b.csv", 1)
    assert "conflict" in second.rejected_rows[0].reason


def test_unfinished_and_hidden_files_wait(capsys: pytest.CaptureFixture[str]) -> None:
    for name in (".hidden.csv", "x.csv.part", "~$x.csv", "x.csv.crdownload"):
        drop(name, f"blues.00001,Other,bob,{TIME}")
    Path("inbox/labels/folder.csv").mkdir()
    assert run() == []
    assert len(list(Path("inbox/labels").iterdir())) == 5


def test_a_growing_file_is_left_for_the_next_run(capsys: pytest.CaptureFixture[str]) -> None:
    path = drop("growing.csv", f"blues.00001,Other,bob,{TIME}", age=0)
    drop("settled.csv", f"blues.00002,Other,bob,{TIME}", age=0)
    timer = threading.Timer(1.0, lambda: path.write_text(path.read_text() + "blues"))
    timer.start()
    (intake,) = run()
    timer.join()
    assert intake.file == "settled.csv"
    assert path.exists()
    assert "growing.csv is still being written; it is left for the next run" in capsys.readouterr().out


def test_confidence_is_added_once_it_is_given() -> None:
    drop("a.csv", f"blues.00001,Other,bob,{TIME},", header=f"{HEADER},confidence")
    run()
    assert lines_of(STORE)[0] == HEADER
    drop("b.csv", f"blues.00002,Other,bob,{TIME},3.0", header=f"{HEADER},confidence")
    run()
    assert lines_of(STORE) == [
        f"{HEADER},confidence",
        f"blues.00000,Other,ann,{TIME},",
        f"blues.00001,Other,bob,{TIME},",
        f"blues.00002,Other,bob,{TIME},3",
    ]


def test_the_stores_own_columns_and_text_stay() -> None:
    STORE.write_text(f'annotator,mood,track_id,labelled_at,why\n"Ann, B",other,blues.00000,{TIME},NA\n')
    drop("a.csv", f"blues.00001,Other,bob,{TIME}")
    run()
    assert lines_of(STORE) == [
        "annotator,mood,track_id,labelled_at,why",
        f'"Ann, B",other,blues.00000,{TIME},NA',
        f"bob,Other,blues.00001,{TIME},",
    ]


def test_a_dry_run_finds_the_same_and_touches_nothing() -> None:
    path = drop("batch.csv", f"blues.00001,other,bob,{TIME}", f"polka,Other,bob,{TIME}")
    before = tree()
    said = inbox.check(path, settings=params.read().intake)
    assert tree() == before
    (done,) = run()
    for name in ("findings", "rejected_rows", "accepted", "rejected", "mended", "sha256", "new_tracks"):
        assert getattr(said, name) == getattr(done, name)
    assert (said.moved_to, said.rejected_to, said.docs) == ("", "", ())


def test_an_unreadable_store_is_one_error_and_nothing_is_touched() -> None:
    drop("batch.csv", f"blues.00001,Other,bob,{TIME}")
    STORE.write_text(HEADER + "\nx,y\n")
    before = tree()
    with pytest.raises(DataError, match=r"mood_labels\.csv, line 2: expected 4 columns"):
        run()
    assert tree() == before


def test_an_unreadable_history_is_one_error_and_nothing_is_touched() -> None:
    drop("batch.csv", f"blues.00001,Other,bob,{TIME}")
    HISTORY.write_text("file,rows\n")
    before = tree()
    with pytest.raises(DataError, match=r"label_history\.csv: expected columns"):
        run()
    assert tree() == before


def test_no_audio_is_an_error() -> None:
    for path in Path("data/gtzan/blues").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="expected audio files"):
        inbox.check(drop("a.csv"), settings=params.read().intake)


def test_add_copies_and_leaves_what_else_waits() -> None:
    drop("waiting.csv", f"blues.00001,Other,bob,{TIME}")
    given = Path("given.csv")
    given.write_text(f"{HEADER}\nblues.00002,Other,bob,{TIME}\n")
    intake = inbox.add(given, settings=params.read().intake)
    assert (intake.file, intake.is_whole, given.exists()) == ("given.csv", True, True)
    assert [path.name for path in Path("inbox/labels").iterdir()] == ["waiting.csv"]
    assert Path("inbox/done/given.csv").read_bytes() == given.read_bytes()


def test_add_of_no_file() -> None:
    with pytest.raises(DataError, match=r"expected a file of labels at none\.csv"):
        inbox.add(Path("none.csv"), settings=params.read().intake)


def test_an_intake_waits_for_who_replaces_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    drop("batch.csv", f"blues.00001,Other,bob,{TIME}")
    done = []
    Path(".cache").mkdir()
    with FileLock(".cache/workspace.lock"):
        second = threading.Thread(target=lambda: done.append(run()))
        second.start()
        second.join(timeout=1.0)
        assert second.is_alive()
        assert len(lines_of(STORE)) == 2
    second.join(timeout=60)
    assert done[0][0].accepted == 1
    assert "waiting for another process" in capsys.readouterr().out


def test_the_result_is_frozen_and_plain_json() -> None:
    drop("batch.csv", f"blues.00001,other,bob,{TIME}", f"polka,Other,bob,{TIME}")
    (intake,) = run()
    values = json.loads(json.dumps(intake.as_dict(), allow_nan=False))
    assert values["alpha"] is None
    assert values["findings"][0]["check"] == "known_track"
    assert values["rejected_rows"][0]["position"] == "line 3"
    with pytest.raises(FrozenInstanceError):
        intake.rows = 7  # type: ignore[misc]
