"""Files as people send them: every dialect of the same rows reads the same, every other file is a fault."""

from __future__ import annotations

import csv
import io
import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import identity
from pipeline.labelling import dates, formats
from pipeline.labelling.file_limits import FileFaultError, Limits
from pipeline.tables.mood_labels import require_readable
from pipeline.tables.text_csv import csv_text
from pipeline.untrusted import without_mark

TIME = "2024-03-05T14:00:00Z"
HEADER = ["track_id", "mood", "annotator", "labelled_at"]
ROWS = [
    {"track_id": "blues.00042", "mood": "Other", "annotator": "ann", "labelled_at": TIME, "confidence": "2"},
    {
        "track_id": "jazz.00007",
        "mood": "calm but warm",
        "annotator": "bob",
        "labelled_at": TIME,
        "confidence": "",
    },
]


def read(content: str | bytes, *, name: str = "batch.csv", max_rows: int = 1000) -> formats.Batch:
    data = content.encode() if isinstance(content, str) else content
    limits = Limits(max_rows, 100, 3_000_000)
    return formats.read(data, source=formats.Source(name), limits=limits)


def csv_of(rows=ROWS, *, columns=(*HEADER, "confidence"), delimiter=",", newline="\n") -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(
        stream, columns, delimiter=delimiter, lineterminator=newline, extrasaction="ignore"
    )
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_every_dialect_reads_the_same(mark: str, delimiter: str, newline: str) -> None:
    batch = read(mark + csv_of(delimiter=delimiter, newline=newline))
    assert batch.rows.to_dict("records") == ROWS
    assert batch.positions == ["line 2", "line 3"]


def test_noise_of_spreadsheets_is_mended() -> None:
    text = (
        "\n Track ID ;MOOD; annotator;Labelled-At;confidence;;\r\n"
        f' blues.00042 ;Other;"ann";{TIME};2,0;;\r\n;;;;;;\r\njazz.00007;calm but warm; bob ;{TIME};;;\r\n'
    )
    batch = read(text)
    assert batch.rows.to_dict("records") == ROWS
    assert (batch.positions, batch.dropped) == (["line 3", "line 5"], ())


def test_a_line_break_in_a_cell_does_not_shift_the_lines() -> None:
    text = csv_of([ROWS[0] | {"annotator": "ann,\nof 3b"}, ROWS[1]])
    batch = read(text)
    assert batch.rows["annotator"].tolist() == ["ann,\nof 3b", "bob"]
    assert batch.positions == ["line 2", "line 4"]


def test_other_columns_are_named_and_dropped() -> None:
    batch = read(
        csv_of([row | {"why": "x", "ratings": "y"} for row in ROWS], columns=(*HEADER, "why", "ratings"))
    )
    assert batch.dropped == ("why", "ratings")
    assert list(batch.rows) == list(formats.COLUMNS)


cells = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)
cells = cells.map(str.strip).filter(lambda cell: without_mark(cell) == cell)
names = cells.map(identity.single_blanks).filter(lambda cell: without_mark(cell) == cell)
times = cells.filter(bool).filter(lambda cell: dates.read(pd.Series([cell])).times.tolist() == [cell])


@given(
    st.lists(st.tuples(cells, cells, names.filter(bool), times), min_size=1, max_size=5),
    st.sampled_from(",;"),
)
@settings(max_examples=60, deadline=None)
def test_text_survives(rows: list[tuple[str, ...]], delimiter: str) -> None:
    table = [dict(zip(HEADER, row, strict=True)) for row in rows]
    batch = read(csv_of(table, columns=HEADER, delimiter=delimiter))
    assert batch.rows[HEADER].to_dict("records") == table


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("b.xlsx", b"PK", r"b\.xlsx: expected a workbook \(\.xlsx\), received another format"),
        ("b.ods", b"PK", r"b\.ods: expected \.csv, \.tsv, .*, received \.ods"),
        ("b", b"", "received no suffix"),
        ("b.csv", csv_of().encode("utf-16-le"), "expected .* received"),
        ("b.csv", csv_of().encode("utf-32"), "expected UTF-8 text"),
        ("b.csv", csv_of().encode() + "Jürgen".encode("latin-1"), "expected UTF-8 text"),
        ("b.csv", b"", "expected a header .* received an empty file"),
        ("b.csv", b"\n \n;;\n", "expected a header"),
        ("b.csv", ",".join(HEADER).encode(), "expected labels, received none"),
        ("b.csv", f"a,Other,ann,{TIME}\n".encode(), "track_id, mood, labelled_at is missing. Line 1 holds"),
        ("b.csv", csv_of(columns=HEADER[:3]).encode(), "labelled_at is missing"),
        ("b.csv", b'track_id,"mood\na,b\n', "line 1: expected comma-separated values"),
        ("b.csv", b"mood,Mood,track_id,annotator,labelled_at\n", "expected each column once, received mood"),
        ("b.csv", csv_of(ROWS * 501).encode(), "expected at most 1000 rows"),
        ("b.json", b"{", "expected JSON"),
        ("b.json", b"[" * 100_000, "expected JSON"),
        ("b.json", b'{"a": 1}', "expected a list of tasks or of rows, received dict"),
        ("b.json", b"[1]", "task 1: expected `data` and `annotations`"),
        ("b.json", b'[{"annotations": [7]}]', "task 1: expected `data`"),
        ("b.json", b'[{"annotations": [{"result": 5}]}]', "task 1: expected `result` to be a list"),
        ("b.json", b'[{"annotations": [{"result": [{"value": 5}]}]}]', "task 1: expected `result`"),
        ("b.json", b"[]", "expected labels, received none"),
    ],
)
def test_a_file_that_cannot_be_taken_in_part(name: str, content: bytes, said: str) -> None:
    with pytest.raises(FileFaultError, match=said):
        read(content, name=name)


def test_what_a_spreadsheet_drops_or_adds_at_the_ends_is_no_fault() -> None:
    text = f"sep=;\r\ntrack_id;mood;annotator;labelled_at;confidence;why\r\na;Other;ann;{TIME}\r\n"
    text += f"  ; \r\n   \r\nb;Other;bob;{TIME};2;;;;\r\nc;Other\r\n"
    batch = read(text)
    assert batch.positions == ["line 3", "line 6", "line 7"]
    assert batch.rows["confidence"].tolist() == ["", "2", ""]
    assert batch.rows["labelled_at"].tolist() == [TIME, TIME, ""]
    assert batch.extra == {}


def test_what_lies_beyond_the_header_is_named_by_its_row() -> None:
    text = f"track_id,mood,annotator,labelled_at\na,Other,ann,{TIME}\nb,Other,Doe, John,{TIME}\n"
    batch = read(text)
    assert batch.extra == {"line 3": TIME}
    assert batch.rows["annotator"].tolist() == ["ann", "Doe"]


def test_tabs_separate_too() -> None:
    assert read(csv_of(delimiter="\t")).rows.to_dict("records") == ROWS


def test_as_many_rows_as_allowed_pass() -> None:
    assert len(read(csv_of(ROWS * 500)).rows) == 1000


@pytest.mark.parametrize("n_open", [3, 5])
def test_open_lines_count_towards_the_sane_size(n_open: int) -> None:
    """Three open lines, then five answers, at most four: the last answers must not get lost in silence."""
    rows = [dict.fromkeys(HEADER, "") | {"track_id": "a"}] * n_open + ROWS[:1] * 5
    with pytest.raises(FileFaultError, match="expected at most 4 rows"):
        read(csv_of(rows), max_rows=4)
    assert len(read(csv_of(rows), max_rows=n_open + 5).rows) == 5


def test_a_file_of_open_questions_is_told_so() -> None:
    rows = [dict.fromkeys(HEADER, "") | {"track_id": "a"}] * 3
    with pytest.raises(FileFaultError, match=r"expected labels, received 3 lines without one\. Fill in mood"):
        read(csv_of(rows))


@given(st.lists(st.lists(st.text().map(str.strip), min_size=2, max_size=2), max_size=4))
@settings(max_examples=200, deadline=None)
def test_what_is_written_is_read_back(rows: list[list[str]]) -> None:
    table = pd.DataFrame([["a", *row] for row in rows], columns=["x", "y", "z"], dtype="object")
    require_readable(csv_text(table), table)


def task(number: int = 17, *, data=None, **changes):
    """Return a task as Label Studio exports it."""
    annotation = {
        "id": 3,
        "completed_by": 10,
        "result": [
            {
                "id": "Dx_aB91ISN",
                "from_name": "mood",
                "to_name": "audio",
                "type": "choices",
                "value": {"choices": ["Other"]},
            }
        ],
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2024-03-05T13:00:00.728353Z",
        "updated_at": "2024-03-05T14:00:00.728378Z",
        "lead_time": 4.288,
    }
    return {
        "id": number,
        "data": data or {"audio": "/data/upload/7/1f3a5c7e-blues.00042.au"},
        "annotations": [annotation | changes],
        "predictions": [],
    }


def read_tasks(*tasks) -> formats.Batch:
    return read(json.dumps(list(tasks)), name="export.json")


def test_label_studio_json() -> None:
    batch = read_tasks(task())
    assert batch.rows.to_dict("records") == [
        {
            "track_id": "blues.00042",
            "mood": "Other",
            "annotator": "10",
            "labelled_at": "2024-03-05T14:00:00.728378Z",
            "confidence": "",
        }
    ]
    assert batch.positions == ["task 17, annotation 3"]


@pytest.mark.parametrize(
    ("data", "track"),
    [
        ({"track_id": "blues.00001", "audio": "x.wav"}, "blues.00001"),
        ({"audio": "/data/local-files/?d=gtzan/blues/blues.00042.au"}, "gtzan/blues/blues.00042"),
        ({"audio": "s3://bucket/music/a%20song.mp3"}, "music/a song"),
        ({"audio": "https://host/x/blues.00042"}, "x/blues.00042"),
        ({"song": "https://host/blues.00042.ogg", "title": "t"}, "blues.00042"),
        ({"title": "t"}, ""),
        ({"audio": "http://[x/a.wav"}, "http://[x/a.wav"),
    ],
)
def test_the_track_of_a_task(data, track: str) -> None:
    assert read_tasks(task(data=data)).rows["track_id"].tolist() == [track]


@pytest.mark.parametrize(
    ("changes", "cells"),
    [
        ({"completed_by": {"id": 10, "email": "ann@example.org"}}, {"annotator": "ann@example.org"}),
        ({"completed_by": {"id": 10}}, {"annotator": "10"}),
        ({"completed_by": None}, {"annotator": "export"}),
        ({"updated_at": None}, {"labelled_at": "2024-03-05T13:00:00.728353Z"}),
        ({"result": []}, {"mood": ""}),
        ({"result": [{"from_name": "x", "value": {"choices": ["Other"]}}]}, {"mood": "Other"}),
        ({"result": [{"from_name": "mood", "value": {"choices": ["A", "B"]}}]}, {"mood": "A | B"}),
        ({"result": [{"from_name": "confidence", "value": {"rating": 3}}]}, {"mood": "", "confidence": "3"}),
    ],
)
def test_the_cells_of_an_annotation(changes, cells) -> None:
    (row,) = read_tasks(task(**changes)).rows.to_dict("records")
    assert {name: row[name] for name in cells} == cells


def test_cancelled_annotations_are_skipped() -> None:
    batch = read_tasks(task(1, was_cancelled=True), task(2))
    assert batch.positions == ["task 2, annotation 3"]


def test_a_position_that_stands_twice_is_numbered() -> None:
    assert read_tasks(task(), task()).positions == [
        "task 17, annotation 3 (row 1)",
        "task 17, annotation 3 (row 2)",
    ]


EXPORT = {
    "annotation_id": "3",
    "annotator": "10",
    "audio": "/data/upload/7/1f3a5c7e-blues.00042.au",
    "created_at": "2024-03-05T13:00:00.728353Z",
    "id": "17",
    "lead_time": "4.288",
    "mood": "Other",
    "updated_at": "2024-03-05T14:00:00.728378Z",
    "was_cancelled": "False",
}


def read_export(*rows: dict[str, str]) -> formats.Batch:
    return read(csv_of(rows, columns=list(rows[0])))


def test_label_studio_csv() -> None:
    batch = read_export(EXPORT, EXPORT | {"annotation_id": "4", "was_cancelled": "True"})
    assert batch.rows.to_dict("records") == read_tasks(task()).rows.to_dict("records")
    assert (batch.positions, batch.dropped) == (["line 2"], ())


def test_label_studio_csv_with_a_choice_of_another_name() -> None:
    row = {("feeling" if name == "mood" else name): value for name, value in EXPORT.items()}
    batch = read_export(row | {"title": "a song"})
    assert (batch.rows["mood"].tolist(), batch.dropped) == (["Other"], ("title",))


def test_label_studio_csv_with_answers_as_json() -> None:
    """The converter unpacks a single choice only; a rating and several choices stay JSON."""
    batch = read_export(
        EXPORT | {"confidence": '[{"rating": 3}]'},
        EXPORT | {"confidence": "", "mood": '{"choices": ["Other", "CalmButWarm"]}'},
    )
    assert batch.rows["confidence"].tolist() == ["3", ""]
    assert batch.rows["mood"].tolist() == ["Other", "Other | CalmButWarm"]


@pytest.mark.parametrize("cell", ["[", "[1]", "{}", "[" * 100_000, '[{"rating": []}]', "[x]"])
def test_cells_that_only_look_like_json_stay(cell: str) -> None:
    assert read_export(EXPORT | {"mood": cell}).rows["mood"].tolist() == [cell]


def test_label_studio_csv_without_a_choice() -> None:
    row = {name: value for name, value in EXPORT.items() if name != "mood"}
    with pytest.raises(FileFaultError, match="mood is missing"):
        read_export(row)


def test_lines_that_nobody_filled_in_are_no_answers() -> None:
    lines = (
        "track_id,path,mood,annotator,labelled_at",
        "a.1,x,,,",
        f"a.2,x,Other,ann,{TIME}",
        "a.3,x,Other,,",
    )
    text = "\n".join(lines)
    batch = formats.read(text.encode(), source=formats.Source("next.csv"), limits=Limits(10, 100, 3_000_000))
    assert batch.rows["track_id"].tolist() == ["a.2", "a.3"]
    assert batch.positions == ["line 3", "line 4"]
