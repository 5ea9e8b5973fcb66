"""The inbox from the dropped file to the labels: what is merged, what is put aside, what is remembered."""

from __future__ import annotations

import csv
import json
import os
import threading
import time
import unicodedata
from dataclasses import FrozenInstanceError
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock

from pipeline import params
from pipeline.errors import DataError
from pipeline.files import sha256
from pipeline.labelling import inbox, merging
from pipeline.tables import text_csv
from pipeline.tables.label_history import HISTORY_COLUMNS, read_history, with_record
from pipeline.tables.mood_labels import write_labels
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
    write_labels(Path("data"), None)
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
        "fault": "",
    }
    assert not Path("inbox/.intake").exists()
    assert all((Path("data_docs") / page).exists() for page in intake.docs)
    assert len(intake.docs) == 3


LONG = "bob" * 99
# Check, a row that it finds, the column, and the value as the report shows it.
FAULTS = [
    ("columns", f"blues.00001,Other,bob,{TIME},,x", "row", "x"),
    ("schema", f",Other,bob,{TIME},", "track_id", "blank"),
    ("schema", f"blues.00001,,bob,{TIME},", "mood", "blank"),
    ("schema", f"blues.00001,Other,,{TIME},", "annotator", "blank"),
    ("schema", "blues.00001,Other,bob,,", "labelled_at", "blank"),
    ("cell_size", f"{LONG},Other,bob,{TIME},", "track_id", "bobbob"),
    ("cell_size", f"blues.00001,{LONG},bob,{TIME},", "mood", "bobbob"),
    ("cell_size", f"blues.00001,Other,{LONG},{TIME},", "annotator", "bobbob"),
    ("cell_size", f"blues.00001,Other,bob,{LONG},", "labelled_at", "bobbob"),
    ("characters", f"blues\x00.00001,Other,bob,{TIME},", "track_id", r"'blues\x00.00001'"),
    ("characters", f"blues.00001,O\x00ther,bob,{TIME},", "mood", r"'O\x00ther'"),
    ("characters", f"blues.00001,Other,b\x00b,{TIME},", "annotator", r"'b\x00b'"),
    ("known_track", f"polka.00001,Other,bob,{TIME},", "track_id", "polka.00001"),
    ("known_mood", f"blues.00001,Sad,bob,{TIME},", "mood", "Sad"),
    (
        "date_format",
        "blues.00001,Other,bob,03/05/2024,",
        "labelled_at",
        "03/05/2024 (2024-05-03 or 2024-03-05?)",
    ),
    ("date_format", "blues.00001,Other,bob,2024-02-30T14:00:00Z,", "labelled_at", "2024-02-30T14:00:00Z"),
    ("future_date", "blues.00001,Other,bob,2999-01-01T14:00:00Z,", "labelled_at", "2999-01-01T14:00:00Z"),
    ("past_date", "blues.00001,Other,bob,0001-01-01T00:00:00+14:00,", "labelled_at", "0001-01-01T00"),
    ("confidence", f"blues.00001,Other,bob,{TIME},7", "confidence", "7"),
    ("duplicate", f"blues.00000,Other,ann,{TIME},", "annotator", "blues.00000, ann, Other in line 2 of"),
    ("conflict", f"blues.00000,CalmButWarm,ann,{TIME},", "mood", "blues.00000, ann, CalmButWarm, Other in"),
]


def test_the_report_of_a_faulty_file_names_row_column_value_and_reason() -> None:
    good, faulty = f"blues.00002,Other,bob,{TIME},1", [line for _, line, _, _ in FAULTS]
    drop("bad.csv", good, *faulty, header=f"{HEADER},confidence")
    before = lines_of(STORE)
    (intake,) = run()
    report = Path("inbox/rejected/bad.csv").read_text(encoding="utf-8")
    for number, (row, fault) in enumerate(zip(intake.rejected_rows, FAULTS, strict=True), start=3):
        name, _, column, value = fault
        assert row.position == f"line {number}"
        assert row.reason.startswith(f"{column}: {name} expected ")
        assert f", received {value}" in row.reason
        assert row.reason in report
    assert lines_of(STORE)[1:] == [before[1] + ",", good]


def test_a_sound_file_passes_every_expectation() -> None:
    """Rows enough, here and there, that a shift of the moods would be found."""
    label_forty_tracks()
    moods = zip(TRACKS[:40], MOODS * 4, strict=True)
    rows = [f"{track},{mood},bob,{TIME},{1 + at % 3}" for at, (track, mood) in enumerate(moods)]
    drop("good.csv", *rows, header=f"{HEADER},confidence")
    (intake,) = run()
    assert (intake.findings, intake.accepted, intake.rejected_to) == ((), 40, "")
    assert not Path("inbox/rejected").exists()


def label_forty_tracks() -> None:
    with STORE.open("a") as stream:
        stream.writelines(
            f"{track},{mood},cy,{TIME}\n" for track, mood in zip(TRACKS[:40], MOODS * 4, strict=True)
        )


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
    label_forty_tracks()
    rows, header = WARNED[name]
    drop("odd.csv", *rows, header=header)
    (intake,) = run()
    assert (intake.accepted, intake.is_whole) == (len(rows), True)
    assert [(finding.check, finding.severity) for finding in intake.findings] == [(name, "warning")]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("b.doc", b"hello", "expected .csv, .tsv, .txt, .json, .jsonl, .xlsx, received .doc"),
        ("b.csv", b"\xff\xfe\x00", "expected UTF-8 text"),
        ("b.csv", b"", "received an empty file"),
        ("b.csv", f'{HEADER}\n"a,b\n'.encode(), "line 2: expected comma-separated values"),
        ("b.csv", b"title,mood\na,b\n", "track_id is missing"),
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
    (row,) = pd.read_csv(HISTORY, dtype=str, keep_default_na=False).to_dict("records")
    assert row["fault"] == intake.fault
    (page,) = intake.docs
    assert "a file that can be read row by row" in (Path("data_docs") / page).read_text(encoding="utf-8")


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
    assert run() == []
    assert len(list(Path("inbox/labels").iterdir())) == 4


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


def test_a_copy_that_a_killed_add_left_is_the_one_that_is_taken(tmp_path: Path) -> None:
    copy = drop("mine.csv", f"blues.00001,Other,bob,{TIME}")
    source = tmp_path / "mine.csv"
    source.write_bytes(copy.read_bytes())
    intake = inbox.add(source, settings=params.read().intake)
    assert (intake.accepted, intake.moved_to) == (1, "done/mine.csv")
    assert list(Path("inbox/labels").iterdir()) == []


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


HOSTILE = ["an\rn", "an\nn", "an\x00n", "a\x85n", "\x7fan"]


def test_cells_with_control_characters_are_rejected_and_nothing_breaks() -> None:
    path = drop("hostile.csv")
    rows = [f'blues.00001,Other,"{name}",{TIME}' for name in HOSTILE]
    path.write_bytes("\n".join([HEADER, *rows, f"blues.00002,Other,bob,{TIME}", ""]).encode())
    os.utime(path, (0, 0))
    (intake,) = run()
    assert (intake.accepted, [row.annotator for row in intake.rejected_rows]) == (1, HOSTILE)
    with Path("inbox/rejected/hostile.csv").open(encoding="utf-8", newline="") as stream:
        assert [row["annotator"] for row in csv.DictReader(stream, strict=True)] == HOSTILE
    drop("later.csv", f"blues.00003,Other,bob,{TIME}")
    assert run()[0].is_whole


SCRIPT = "<script>alert(7)</script>"


def test_no_page_runs_what_people_wrote() -> None:
    drop(
        f"a{SCRIPT[:-9]}.csv", *[f"{SCRIPT},{SCRIPT},{SCRIPT},{SCRIPT}"], f"blues.00001,Other,{SCRIPT},{TIME}"
    )
    drop(f"b{SCRIPT[:-9]}.csv", header=f"{SCRIPT},mood")
    first, second = run()
    assert first.rejected_rows[0].track_id == SCRIPT
    assert pd.read_csv("inbox/rejected/" + first.file)["mood"].tolist() == [SCRIPT]
    assert SCRIPT in second.fault
    pages = [path.read_text(encoding="utf-8") for path in Path("data_docs").rglob("*.html")]
    assert sum("alert(7)" in page for page in pages) >= 4
    assert not [page for page in pages if "<script>alert" in page]


def test_half_a_surrogate_pair_is_rejected() -> None:
    annotation = {"completed_by": {"email": "a\ud800b"}, "updated_at": TIME}
    annotation["result"] = [{"from_name": "mood", "value": {"choices": ["Other"]}}]
    path = drop("export.json")
    path.write_text(json.dumps([{"data": {"track_id": "blues.00001"}, "annotations": [annotation]}]))
    os.utime(path, (0, 0))
    (intake,) = run()
    assert [row.annotator for row in intake.rejected_rows] == ["a\ufffdb"]
    assert "annotator: characters expected no line break" in intake.rejected_rows[0].reason


def without_quotes(table: pd.DataFrame, _: int) -> str:
    return "".join(",".join(row) + "\n" for row in [list(table), *table.to_numpy().tolist()])


def test_a_store_that_would_not_read_back_is_never_written(monkeypatch: pytest.MonkeyPatch) -> None:
    drop("batch.csv", f"blues.00001,Other,bob,{TIME}")
    before = STORE.read_bytes()
    monkeypatch.setattr(merging, "utc", lambda times: times + ",x")
    monkeypatch.setattr(text_csv, "_written", without_quotes)
    with pytest.raises(DataError, match="expected"):
        run()
    assert STORE.read_bytes() == before
    assert not Path("inbox/.intake").exists()
    assert Path("inbox/labels/batch.csv").exists()


NAMES = {
    b"J\xfcrgen.csv": "J\ufffdrgen.csv",
    b"two\nlines\x1b.csv": "two_lines_.csv",
    b"n" * 250 + b".csv": "n" * 146 + ".csv",
    "日".encode() * 83 + b".csv": "日" * 48 + ".csv",
}


@pytest.mark.parametrize("raw", NAMES)
@pytest.mark.parametrize("is_good", [True, False])
@pytest.mark.parametrize("added", [True, False])
def test_a_name_that_cannot_be_written_down_is_changed(raw: bytes, is_good: bool, added: bool) -> None:
    path = Path(os.fsdecode(raw)) if added else Path("inbox/labels") / os.fsdecode(raw)
    path.write_text(f"{HEADER}\nblues.00001,Other,bob,{TIME}\n" if is_good else "x,y\n")
    os.utime(path, (0, 0))
    (intake,) = [inbox.add(path, settings=params.read().intake)] if added else run()
    place = "done" if is_good else "rejected"
    assert (intake.file, intake.moved_to, intake.is_whole) == (NAMES[raw], f"{place}/{NAMES[raw]}", is_good)
    assert Path("inbox", intake.moved_to).is_file()
    assert lines_of(HISTORY)[1].startswith(NAMES[raw] + ",")
    assert list(Path("inbox/labels").iterdir()) == []
    assert run() == []


def test_a_file_with_such_a_name_is_found_again_after_a_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    path = drop(os.fsdecode(b"J\xfcrgen.csv"), f"blues.00001,Other,bob,{TIME}")
    kill(monkeypatch)
    (intake,) = run()
    assert (intake.file, intake.recovered, path.exists()) == ("J\ufffdrgen.csv", True, False)


def kill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Die once between the plan and its end."""
    with monkeypatch.context() as patch:
        patch.setattr(inbox.journal, "carry_out", lambda *_, **__: exec("raise KeyboardInterrupt"))
        with pytest.raises(KeyboardInterrupt):
            run()


def test_a_file_that_cannot_be_read_stays_and_the_others_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    drop("a.csv", f"blues.00001,Other,bob,{TIME}")
    locked = drop("b.csv", f"blues.00002,Other,bob,{TIME}")
    drop("c.csv", f"blues.00003,Other,bob,{TIME}")
    open_ = os.open

    def refuse(path: str, *args: int, **kwargs: int) -> int:
        if path == locked.name:
            raise PermissionError(13, "Permission denied", path)
        return open_(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    first, second, third = run()
    assert (first.is_whole, second.is_whole, third.is_whole) == (True, False, True)
    assert "b.csv: expected a file that can be read, received Permission denied" in second.fault
    assert (second.moved_to, locked.exists(), len(lines_of(HISTORY))) == ("", True, 3)


POISON = [
    {"result": 5},
    {"result": [5]},
    {"result": [{"from_name": "mood", "value": 5}]},
    {"result": [{"from_name": "mood", "value": {"choices": 5}}]},
    {"result": [{"value": None}]},
    {"completed_by": [5]},
    {"updated_at": {"a": 1}},
]


def test_no_shape_of_json_stops_the_files_after_it() -> None:
    for number, changes in enumerate(POISON):
        task = {"data": {"audio": "http://[x/a.wav"}, "annotations": [{"completed_by": 1, **changes}]}
        path = drop(f"{number}.json")
        path.write_text(json.dumps([task]))
        os.utime(path, (0, 0))
    drop("b.csv", f"blues.00001,Other,bob,{TIME}")
    *poisoned, last = run()
    assert [(one.is_whole, one.accepted) for one in poisoned] == [(False, 0)] * len(POISON)
    assert last.is_whole


def test_a_recovered_fault_is_still_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    drop("bad.csv", header="annotator,mood")
    kill(monkeypatch)
    (intake,) = run()
    assert (intake.recovered, intake.is_whole, "track_id is" in intake.fault) == (True, False, True)


def test_recovered_rejections_come_with_their_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [f"polka.00001,Other,=bob,{TIME}", f"blues.00001,Other,bob,{TIME}"]
    path = drop("bad.csv", *rows)
    expected = inbox.check(path, settings=params.read().intake).rejected_rows
    kill(monkeypatch)
    (intake,) = run()
    assert (intake.recovered, intake.accepted, intake.rejected_rows) == (True, 1, expected)


def test_a_batch_rejected_by_a_check_counts_its_rows_as_rejected() -> None:
    drop("batch.csv", f"blues.00001,Other,bob,{TIME},x", header=f"{HEADER},why")
    settings = params.read().intake.model_copy(update={"severity": {"extra_columns": "critical"}})
    (intake,) = inbox.run(settings=settings)
    assert (intake.rows, intake.accepted, intake.rejected) == (1, 0, 1)
    (row,) = pd.read_csv(HISTORY, dtype=str, keep_default_na=False).to_dict("records")
    assert (row["rejected"], row["fault"].split()[0]) == ("1", "extra_columns")


def test_the_history_keeps_a_fault_in_one_short_line() -> None:
    path = drop("bad.csv")
    others = [f"{number} is a column with a name that is long enough to be cut" for number in range(200)]
    path.write_text('"two\nlines\x00",' + ",".join(others) + "\n\n")
    os.utime(path, (0, 0))
    (intake,) = run()
    (row,) = pd.read_csv(HISTORY, dtype=str, keep_default_na=False).to_dict("records")
    assert len(intake.fault) > len(row["fault"]) == 300
    assert row["fault"].isprintable()


def test_an_older_history_gets_the_column_of_faults() -> None:
    HISTORY.write_text(",".join(HISTORY_COLUMNS[:-1]) + "\n")
    drop("bad.csv", header="annotator,mood")
    run()
    (row,) = pd.read_csv(HISTORY, dtype=str, keep_default_na=False).to_dict("records")
    assert "track_id is missing" in row["fault"]


def test_the_history_holds_no_formula_and_reads_as_it_was() -> None:
    """A file is called what its owner likes, and people open the history in a spreadsheet."""
    drop("=1+1.csv", header="=x,mood")
    (intake,) = run()
    text = HISTORY.read_text()
    assert "\n'=1+1.csv," in text
    (row,) = read_history(Path("data")).to_dict("records")
    assert (row["file"], row["fault"]) == ("=1+1.csv", intake.fault)
    assert with_record(Path("data"), row) is None


def test_formulas_are_disarmed_among_the_rejected_and_only_there() -> None:
    drop("a.csv", f"polka,=1+1,@ann,{TIME}", f"blues.00001,Other,=bob,{TIME}", f"polka,-1.5,-,{TIME}")
    run()
    rejected = pd.read_csv("inbox/rejected/a.csv", dtype=str, keep_default_na=False)
    assert rejected["mood"].tolist() == ["'=1+1", "-1.5"]
    assert rejected["annotator"].tolist() == ["'@ann", "'-"]
    assert lines_of(STORE)[-1] == f"blues.00001,Other,=bob,{TIME}"
    text = Path("inbox/rejected/a.csv").read_text().replace("polka", "blues.00002").replace("'=1+1", "Other")
    path = drop("mended.csv")
    path.write_text(text)
    os.utime(path, (0, 0))
    run()
    assert f"blues.00002,Other,@ann,{TIME}" in lines_of(STORE)


def test_a_person_has_one_name_however_it_is_spelled() -> None:
    """`Bob`, `bob ` and a zero-width twin were three people, each with an answer of their own."""
    drop(
        "a.csv",
        f"blues.00001,Other,Bob,{TIME}",
        f"blues.00001,Other,bob,{TIME}",
        f"blues.00001,CalmButWarm,Bo\u200bb,{TIME}",
        f"blues.00002,Ot\u2060her,\u202e\uff22ob\u202c,{TIME}",
        f"blues\u200b.00003,Other,\u200b,{TIME}",
        f"blues\u200b.00004,Other,dora,{TIME}",
    )
    (intake,) = run()
    assert lines_of(STORE)[2:] == [
        f"blues.00001,Other,Bob,{TIME}",
        f"blues.00002,Other,Bob,{TIME}",
        f"blues.00004,Other,dora,{TIME}",
    ]
    reasons = [row.reason.split(" expected")[0] for row in intake.rejected_rows]
    assert reasons == ["annotator: duplicate", "mood: conflict", "annotator: schema"]
    assert intake.rejected_rows[1].annotator == "Bo\u200bb"
    (note,) = [one for one in intake.findings if one.check == "spelling"]
    assert (note.severity, intake.annotators, intake.mended) == ("warning", 2, 2)
    assert dict(note.rows)["line 5"] == ("mood Ot\\u2060her → Other, annotator \\u202e\uff22ob\\u202c → Bob")
    assert "\u202e" not in note.message()


def test_an_annotator_has_one_name(project: Path) -> None:
    names = [unicodedata.normalize(form, "José  B") for form in ("NFC", "NFD")]
    drop("a.csv", f"blues.00001,Other,{names[0]},{TIME}")
    drop("b.csv", f"blues.00001,Other,{names[1]},{TIME}", f"blues.00002,Other,{names[1]},{TIME}")
    first, second = run()
    assert (first.is_whole, second.rejected, "duplicate" in second.rejected_rows[0].reason) == (True, 1, True)
    assert lines_of(STORE)[-1] == f"blues.00002,Other,José B,{TIME}"


@pytest.mark.parametrize(("library_form", "file_form"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
def test_a_track_is_known_in_either_spelling_of_its_accents(library_form: str, file_form: str) -> None:
    here, given = (unicodedata.normalize(form, "chanson.Édith") for form in (library_form, file_form))
    Path(f"data/gtzan/blues/{here}.au").touch()
    drop("a.csv", f"{given},Other,bob,{TIME}", f"{given},Other,cy,{TIME}")
    (intake,) = run()
    assert (intake.accepted, intake.new_tracks) == (2, 1)
    assert lines_of(STORE)[-2:] == [f"{here},Other,bob,{TIME}", f"{here},Other,cy,{TIME}"]


def test_an_add_that_fails_leaves_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Path("given.csv")
    given.write_text(f"{HEADER}\nblues.00002,Other,bob,{TIME}\n")
    with monkeypatch.context() as patch:
        patch.setattr(inbox.journal, "commit", lambda *_, **__: exec("raise OSError(28, 'no space left')"))
        with pytest.raises(OSError, match="no space"):
            inbox.add(given, settings=params.read().intake)
    assert list(Path("inbox/labels").iterdir()) == []
    with monkeypatch.context() as patch:
        patch.setattr(inbox.journal, "carry_out", lambda *_, **__: exec("raise OSError(28, 'no space left')"))
        with pytest.raises(OSError, match="no space"):
            inbox.add(given, settings=params.read().intake)
    assert run()[0].accepted == 1
