"""Label files as people write them: any names, dates and formats, and never read wrongly in silence."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from pipeline import params
from pipeline.labelling import dates, formats, inbox
from pipeline.labelling.file_limits import FileFaultError, Limits
from pipeline.labelling.track_names import TrackNames
from pipeline.tables.mood_labels import read_annotations, write_labels

LIMITS = Limits(1000, 100, 3_000_000)
WRITTEN = datetime(2026, 11, 25, 14, tzinfo=UTC)
ISO = "2026-11-25T14:00:00+00:00"
COLUMNS = ["track_id", "mood", "annotator", "labelled_at"]


def read(content: str | bytes, name: str = "ann.csv", *, annotator: str = "") -> formats.Batch:
    data = content.encode() if isinstance(content, str) else content
    return formats.read(data, source=formats.Source(name, annotator, WRITTEN), limits=LIMITS)


def rows_of(batch: formats.Batch) -> list[list[str]]:
    return batch.rows[COLUMNS].to_numpy().tolist()


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["ann.csv", "ann.tsv", "ann.TXT"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_track_and_a_mood_are_enough(mark: str, name: str, encoding: str) -> None:
    batch = read(f"filename{mark}mood\nblues.00000.wav{mark}Other\n".encode(encoding), name)
    assert rows_of(batch) == [["blues.00000.wav", "Other", "ann", ISO]]
    assert batch.notes == (
        "columns: filename is track_id",
        "annotator: ann, from the file's name (--annotator or ANNOTATOR= says otherwise)",
        f"labelled_at: {ISO}, when the file was last written to",
    )


@pytest.mark.parametrize(
    "header", ["Label,Rater,Song,Date", "MOOD,user,File Name,timestamp", "tag,By,id,when"]
)
def test_columns_by_the_names_that_people_give_them_in_any_order(header: str) -> None:
    batch = read(f"{header}\nOther,bob,a.wav,2026-11-25T14:00:00Z\n", annotator="bob")
    assert rows_of(batch) == [["a.wav", "Other", "bob", "2026-11-25T14:00:00Z"]]
    assert "is track_id" in batch.notes[0]


def test_two_columns_that_may_be_the_track_are_named() -> None:
    with pytest.raises(
        FileFaultError, match=r"one column that is track_id, received id, filename\. Call the one"
    ):
        read("id,filename,mood\n1,a.wav,Other\n")
    batch = read("track_id,filename,mood,label\na,b.wav,Other,CalmButWarm\n")
    assert (rows_of(batch)[0][:2], batch.dropped) == (["a", "Other"], ("filename", "label"))


def test_what_a_row_says_stands_and_the_user_fills_in_the_rest() -> None:
    text = "track,mood,annotator\na,Other,bob\nb,Other,\n"
    assert [row[2] for row in rows_of(read(text, annotator="zoe"))] == ["bob", "zoe"]
    assert [row[2] for row in rows_of(read(text))] == ["bob", ""], "a check rejects the second: who was it?"


def test_the_filled_in_list_of_next_tracks_is_taken_as_it_is() -> None:
    header = "track_id,mood,annotator,labelled_at,labelled_by,genre,artist,title,score,clip,path\n"
    batch = read(
        header + "a,Other,,,,blues,,,0.5,clips/a.flac,data/a.au\nb,,,,,blues,,,0.4,x,y\n", "tracks.csv"
    )
    assert rows_of(batch) == [["a", "Other", "tracks", ISO]]


def test_json_rows_and_json_lines() -> None:
    rows = [{"file": "a.wav", "mood": "Other"}, {"file": "b.wav", "mood": "Other", "why": None}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    for content, name, where in (
        (json.dumps(rows), "ann.json", ["item 1", "item 2"]),
        (lines, "ann.jsonl", ["line 1", "line 2"]),
    ):
        batch = read(content, name)
        assert [row[0] for row in rows_of(batch)] == ["a.wav", "b.wav"]
        assert (batch.positions, batch.dropped) == (where, ("why",))
    with pytest.raises(FileFaultError, match="expected JSON, received"):
        read("{}\nnot json\n", "ann.jsonl")


def result_of(kind: str, value: object, control: str = "mood") -> dict[str, object]:
    return {"from_name": control, "to_name": "audio", "type": kind, "value": value}


@pytest.mark.parametrize(
    ("results", "mood"),
    [
        ([result_of("taxonomy", {"taxonomy": [["Calm", "CalmButWarm"]]})], "CalmButWarm"),
        ([result_of("labels", {"start": 0, "end": 10, "channel": 0, "labels": ["Other"]})], "Other"),
        ([result_of("labels", {"start": n, "end": n + 9, "labels": ["Other"]}) for n in (0, 10)], "Other"),
        (
            [result_of("labels", {"start": 0, "labels": [mood]}) for mood in ("Other", "CalmButWarm")],
            "Other | CalmButWarm",
        ),
        ([result_of("timeserieslabels", {"timeserieslabels": ["Other"]})], "Other"),
        ([result_of("textarea", {"text": ["Other"]})], "Other"),
        (
            [
                result_of("choices", {"choices": ["Other"]}, "x"),
                result_of("textarea", {"text": ["nice"]}, "y"),
            ],
            "Other",
        ),
        (
            [
                result_of("choices", {"choices": ["loud"]}, "x"),
                result_of("taxonomy", {"taxonomy": [["Other"]]}, "y"),
            ],
            "Other",
        ),
        (
            [result_of("number", {"number": 4})],
            "(an answer of the control number, which is not read)",
        ),
    ],
)
def test_the_controls_of_label_studio(results: list[dict[str, object]], mood: str) -> None:
    annotation = {"id": 1, "completed_by": 1, "created_at": "2024-03-05T14:00:00Z", "result": results}
    tasks = [{"id": 1, "data": {"audio": "/data/upload/1/1f3a5c7e-b.au"}, "annotations": [annotation]}]
    for content, name in ((json.dumps(tasks), "e.json"), (json.dumps(tasks[0]), "e.jsonl")):
        batch = read(content, name)
        assert rows_of(batch)[0][:2] == ["b", mood]
        assert any("parts of a track" in note for note in batch.notes) == ("abels" in str(results))


def test_the_json_min_export_of_label_studio() -> None:
    row = {
        "audio": "/data/upload/1/1f3a5c7e-b.au",
        "id": 1,
        "mood": {"taxonomy": [["Calm", "CalmButWarm"]]},
        "annotator": 1,
        "annotation_id": 1,
        "created_at": "2024-03-05T14:00:00Z",
        "updated_at": "2024-03-05T14:00:00Z",
        "lead_time": 2.5,
    }
    assert rows_of(read(json.dumps([row]), "e.json")) == [["b", "CalmButWarm", "1", "2024-03-05T14:00:00Z"]]


def book(rows: list[list[object]], **others: list[list[object]]) -> bytes:
    made = openpyxl.Workbook()
    for title, content in {"Sheet": rows, **others}.items():
        sheet = made[title] if title in made.sheetnames else made.create_sheet(title)
        for row in content:
            sheet.append(row)
    stream = io.BytesIO()
    made.save(stream)
    return stream.getvalue()


def test_a_workbook() -> None:
    rows = [["File", "Mood", "Who"], ["a.wav", "Other", None], [None, None, None], [7, "Other", 2.0]]
    batch = read(book([*rows, ['=HYPERLINK("x")', "=A1", "x"]], empty=[]), "ann.xlsx")
    assert [row[:2] for row in rows_of(batch)] == [
        ["a.wav", "Other"],
        ["7", "Other"],
        ['=HYPERLINK("x")', "=A1"],
    ]
    assert (batch.positions, batch.dropped) == (["row 2", "row 4", "row 5"], ("who",))
    dated = read(book([["id", "mood", "date"], ["a", "Other", datetime(2026, 11, 25, 14)]]), "ann.xlsx")
    assert rows_of(dated)[0][3] == datetime(2026, 11, 25, 14).astimezone().isoformat()


def test_a_workbook_with_two_sheets_is_asked_about() -> None:
    rows = [["id", "mood"], ["a", "Other"]]
    with pytest.raises(FileFaultError, match="expected one sheet with labels, received Sheet, old"):
        read(book(rows, old=rows), "ann.xlsx")


def changed(content: bytes, part: str, xml: bytes) -> bytes:
    """Return a workbook with another content of one part."""
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, xml if name == part else old.read(name))
    return stream.getvalue()


SHEET = "xl/worksheets/sheet1.xml"
NAMESPACE = b'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        (b" " * 50_000_000, "at most 32 MB unpacked"),
        (b"<c/>" * 600_000, "at most 3,000,000 cells"),
        ("<x/>".encode("utf-16"), "in UTF-8"),
        (b"<worksheet>", "received "),
        (
            b'<!DOCTYPE x [<!ENTITY a "b"><!ENTITY c "&a;&a;">]><worksheet '
            + NAMESPACE
            + b"><sheetData><row>"
            b'<c t="inlineStr"><is><t>&c;</t></is></c></row></sheetData></worksheet>',
            "could not read worksheets",
        ),
        (
            b"<worksheet " + NAMESPACE + b'><sheetData><row r="1"><c r="XFD1"><v>1</v></c></row>'
            b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData></worksheet>',
            "at most 100 columns",
        ),
    ],
)
def test_a_hostile_workbook_is_refused_briefly(xml: bytes, said: str) -> None:
    with pytest.raises(FileFaultError, match=said) as raised:
        read(changed(book([["id"]]), SHEET, xml), "b.xlsx")
    assert len(str(raised.value)) < 600


def test_an_encrypted_workbook_and_an_old_one_are_told_what_to_do() -> None:
    with pytest.raises(FileFaultError, match=r"or one with a password\. Save it as CSV"):
        read(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "b.xlsx")


ZONE = timezone(timedelta(hours=1))


@pytest.mark.parametrize(
    ("written", "iso"),
    [
        ("2026-11-25T14:00:00Z", "2026-11-25T14:00:00Z"),
        ("2026-11-25 14:00", "2026-11-25T14:00:00+01:00"),
        ("2026-11-25", "2026-11-25T00:00:00+01:00"),
        ("2026/11/25 14:00:05", "2026-11-25T14:00:05+01:00"),
        ("25/11/2026 14:00", "2026-11-25T14:00:00+01:00"),
        ("11/25/2026 2:00 PM", "2026-11-25T14:00:00+01:00"),
        ("11/25/2026, 12:30 a.m.", "2026-11-25T00:30:00+01:00"),
        ("25.11.2026 14:00", "2026-11-25T14:00:00+01:00"),
        ("03.04.2026", "2026-04-03T00:00:00+01:00"),
        ("04/04/2026", "2026-04-04T00:00:00+01:00"),
        ("25-11-2026", "2026-11-25T00:00:00+01:00"),
        ("25 Nov 2026 14:00", "2026-11-25T14:00:00+01:00"),
        ("November 25, 2026", "2026-11-25T00:00:00+01:00"),
        ("1st sept. 2026", "2026-09-01T00:00:00+01:00"),
        ("2026-11-25 14:00 +02:00", "2026-11-25T14:00:00+02:00"),
        ("2026-11-25 14:00:00.5 UTC", "2026-11-25T14:00:00.500000+00:00"),
    ],
)
def test_a_date_with_one_reading(written: str, iso: str) -> None:
    assert dates.read(pd.Series([written]), zone=ZONE).times.tolist() == [iso]


@pytest.mark.parametrize(
    "written",
    ["30/02/2026", "2026-02-30", "13/13/2026", "03/04/26", "yesterday", "14:00", "1764079200", "", "25.11"],
)
def test_what_is_no_date_stays_as_it_is(written: str) -> None:
    found = dates.read(pd.Series([written]), zone=ZONE)
    assert (found.times.tolist(), found.notes) == ([written], ())


def test_a_date_with_two_readings_is_not_read_and_both_are_named() -> None:
    found = dates.read(pd.Series(["03/04/2026", "04/04/2026"]), zone=ZONE)
    assert found.times.tolist() == ["03/04/2026", "2026-04-04T00:00:00+01:00"]
    assert found.hints == {"03/04/2026": "2026-04-03 or 2026-03-04?"}


def test_other_dates_of_the_file_show_the_order_unless_they_contradict_each_other() -> None:
    found = dates.read(pd.Series(["03/04/2026", "25/11/2026"]), zone=ZONE)
    assert found.times.tolist()[0] == "2026-04-03T00:00:00+01:00"
    assert found.notes == (
        "labelled_at: day/month/year, as in 25/11/2026",
        "labelled_at: times without an offset are in this computer's zone (UTC+01:00)",
    )
    found = dates.read(pd.Series(["03/04/2026", "11/25/2026"]), zone=ZONE)
    assert found.times.tolist()[0] == "2026-03-04T00:00:00+01:00"
    found = dates.read(pd.Series(["03/04/2026", "11/25/2026", "25/11/2026"]), zone=ZONE)
    assert found.times.tolist()[0] == "03/04/2026"
    assert set(found.hints) == {"03/04/2026"}


NAMES = TrackNames(
    {
        "blues.00000": "blues/blues.00000.au",
        "pop.00004": "pop/pop.00004.au",
        "rock-1": "Rock/1.mp3",
        "classical-1": "classical/1.mp3",
        "Zoë": "pop/Zoë.ogg",
    }
)


@pytest.mark.parametrize(
    ("written", "tracks"),
    [
        ("blues.00000", ["blues.00000"]),
        ("blues.00000.wav", ["blues.00000"]),
        ("BLUES.00000", ["blues.00000"]),
        ("Data/genres_original/blues/blues.00000.wav", ["blues.00000"]),
        (r"C:\music\blues.00000.au", ["blues.00000"]),
        (r"blues\Blues.00000.AU", ["blues.00000"]),
        ("pop/blues.00000.au", []),  # the library has a folder pop, and no such track in it
        ("rock/1.mp3", ["rock-1"]),
        ("/home/me/Music/classical/1.MP3", ["classical-1"]),
        ("1.mp3", ["rock-1", "classical-1"]),
        ("rock-1.flac", ["rock-1"]),
        ("data/gtzan/Rock/rock-1.mp3", ["rock-1"]),
        ("Zoe\u0308.ogg", ["Zoë"]),
        ("blues.00000.csv", []),
        ("blues.1", []),
        ("", []),
        ("/", []),
    ],
)
def test_the_tracks_that_a_name_can_mean(written: str, tracks: list[str]) -> None:
    assert NAMES.meant(written) == tracks


def test_names_that_differ_in_case_only_are_told_apart_by_it() -> None:
    names = TrackNames({"a": "pop/a.mp3", "A": "rock/A.mp3"})
    assert [names.meant(name) for name in ("A.wav", "a.wav", "rock/a.mp3")] == [["A"], ["a"], ["A"]]


@pytest.mark.parametrize(
    ("written", "track"),
    [("POP-4", "pop.00004"), ("blues_0", "blues.00000"), ("bleus.00000", "blues.00000"), ("polka.00000", "")],
)
def test_the_nearest_track_is_suggested_not_taken(written: str, track: str) -> None:
    assert NAMES.meant(written) == []
    assert NAMES.suggestion(written) == track


@pytest.fixture
def project(workspace: Path) -> Path:
    for track in ("jazz.00000", "jazz.00001", "pop.00004"):
        path = Path(f"data/gtzan/{track.split('.')[0]}/{track}.au")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    write_labels(Path("data"), None)
    return workspace


def test_a_file_as_people_write_it_is_merged_and_said(project: Path) -> None:
    lines = [
        r"C:\x\JAZZ.00000.wav;TotallyPositve;25/11/2024 14:00",
        "jazz/jazz.00001.wav;calm but warm;03/04/2024",
    ]
    Path("zoe.csv").write_text("\n".join(["File;Label;Date", *lines, "POP-4;Other;25/11/2024", ""]))
    settings = params.read().intake
    seen = inbox.check(Path("zoe.csv"), settings=settings)
    added = inbox.add(Path("zoe.csv"), settings=settings, annotator=" Zoë  B ")
    assert [row.reason for row in seen.rejected_rows] == [row.reason for row in added.rejected_rows]
    mood, track = (row.reason for row in added.rejected_rows)
    assert "received TotallyPositve (did you mean TotallyPositive?)" in mood
    assert "received POP-4 (did you mean pop.00004?)" in track
    kept = read_annotations(Path("data/mood_labels.csv"))[["track_id", "mood", "annotator"]]
    assert kept.to_numpy().tolist() == [["jazz.00001", "CalmButWarm", "Zoë B"]]
    assert (added.moved_to, added.notes[0]) == (
        "done/zoe.csv",
        "columns: file is track_id, label is mood, date is labelled_at",
    )
    spelled = next(one for one in added.findings if one.column == "row")
    assert spelled.rows[1] == ("line 3", "track_id jazz/jazz.00001.wav → jazz.00001")
    assert not list(Path("inbox/labels").iterdir())


def test_a_name_of_two_tracks_is_rejected_with_both(project: Path) -> None:
    for folder in ("jazz", "pop"):
        Path(f"data/gtzan/{folder}/{folder}-1.mp3").touch()
    index = pd.DataFrame({"track_id": ["jazz-1", "pop-1"], "source": ["jazz/1.mp3", "pop/1.mp3"]})
    index.to_csv("data/index.csv", index=False)
    Path("zoe.csv").write_text("file,mood,date\n1.mp3,Other,03/04/2024\npop/1.mp3,Other,2024-05-06\n")
    intake = inbox.check(Path("zoe.csv"), settings=params.read().intake)
    (row,) = intake.rejected_rows
    assert "received 1.mp3 (jazz-1 or pop-1?)" in row.reason
    assert "received 03/04/2024 (2024-04-03 or 2024-03-04?)" in row.reason
    assert intake.accepted == 1
