import pandas as pd
import pytest

from pipeline.errors import DataError
from pipeline.params import LabelsParams
from pipeline.quality.labels import check_labels
from pipeline.tables.mood_labels import read_annotations
from pipeline.taxonomy import MOODS

HEADER = "track_id,mood,annotator,labelled_at,confidence"
TIME = "2024-03-05T14:00:00Z"
TRACKS = [f"blues.{number:05d}" for number in range(20)]


def sound_lines():
    """Return two tracks for each mood."""
    moods = [*MOODS, *MOODS]
    return [f"{track},{mood},ann1,{TIME},2" for track, mood in zip(TRACKS, moods, strict=True)]


def table_of(tmp_path, lines, *, header=HEADER):
    path = tmp_path / "mood_labels.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return read_annotations(path)


def check(labels, *, least=1, severity=None):
    settings = LabelsParams(aggregation="share", min_labels_per_class=least, severity=severity or {})
    return check_labels(labels, known_tracks=TRACKS, settings=settings, docs=None)


def summary(findings):
    return [(finding.check, finding.severity, finding.rows) for finding in findings]


def test_read_keeps_text_and_line_numbers(tmp_path):
    path = tmp_path / "mood_labels.csv"
    path.write_bytes(
        f'\ufeff{HEADER}\r\n\r\n 007 ,Other,"Ann,\nB",{TIME},\r\nx,Other,NA,{TIME},1\r\n'.encode()
    )
    assert read_annotations(path).to_dict("list") == {
        "line": [3, 5],
        "track_id": ["007", "x"],
        "mood": ["Other", "Other"],
        "annotator": ["Ann,\nB", "NA"],
        "labelled_at": [TIME, TIME],
        "confidence": ["", "1"],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "received an empty file"),
        (b"\n\n", "received an empty file"),
        (HEADER.encode() + b"\na,Other,J\xfcrgen,2024,1\n", "expected UTF-8 text"),
        (HEADER.encode() + b"\n\na,Other,ann\n", "line 3: expected 5 columns as in the header, received 3"),
        (HEADER.encode() + b"\na,Other,ann,2024,1,2\n", "line 2: expected 5 columns .*, received 6"),
        (HEADER.encode() + b'\na,"Other,ann,2024,1\n', "line 2: expected comma-separated values"),
        (b"track_id,mood\na,Other\n", "received track_id, mood; annotator, labelled_at is missing"),
        (HEADER.replace(",", "|").encode() + b"\n", r"received track_id\|mood\|.*Name the columns in line 1"),
        (HEADER.encode() + b",mood\n", "expected each column once"),
        (HEADER.encode() + b",line\n", "none called line"),
    ],
)
def test_read_says_what_is_wrong_with_a_file(tmp_path, content, message):
    path = tmp_path / "mood_labels.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"mood_labels.csv.*{message}"):
        read_annotations(path)


def test_read_names_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"none.csv, received no such file"):
        read_annotations(tmp_path / "none.csv")


def test_sound_labels_have_no_findings(tmp_path):
    assert check(table_of(tmp_path, sound_lines())) == []


@pytest.mark.parametrize(
    "line",
    [
        f"blues.00000,NegetiveButHopeful,ann2,{TIME},",
        f"blues.00000,calm but warm,ann2,{TIME},2.0",
        "blues.00000,Other,ann2,2024-03-05 14:00:00.123456+05:30,3",
        "blues.00000,Other,ann2,2024-02-29T14:00-0800,1",
    ],
)
def test_other_spellings_that_pass(tmp_path, line):
    assert check(table_of(tmp_path, [*sound_lines(), line])) == []


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        (f",Other,ann2,{TIME},1", "schema", "blank"),
        (f"blues.00000, ,ann2,{TIME},1", "schema", "blank"),
        (f"blues.00000,Other,,{TIME},1", "schema", "blank"),
        ("blues.00000,Other,ann2,,1", "schema", "blank"),
        (f"polka.00001,Other,ann2,{TIME},1", "known_track", "polka.00001"),
        (f"blues.00000,Sad,ann2,{TIME},1", "known_mood", "Sad"),
        (f"blues.00000,42,ann2,{TIME},1", "known_mood", "42"),
        ("blues.00000,Other,ann2,05/03/2024,1", "date_format", "05/03/2024"),
        ("blues.00000,Other,ann2,2024-03-05T14:00:00,1", "date_format", "2024-03-05T14:00:00"),
        ("blues.00000,Other,ann2,2024-02-30T14:00:00Z,1", "date_format", "2024-02-30T14:00:00Z"),
        (f"blues.00000,Other,ann2,{TIME},4", "confidence", "4"),
        (f"blues.00000,Other,ann2,{TIME},sure", "confidence", "sure"),
    ],
)
def test_a_fault_of_one_line_is_critical_and_names_it(tmp_path, line, name, value):
    findings = check(table_of(tmp_path, [*sound_lines(), line]))
    assert summary(findings) == [(name, "critical", (("line 22", value),))]


def test_a_missing_column_is_named_and_does_not_stop_the_other_checks(tmp_path):
    labels = table_of(tmp_path, ["x.1" + line[11:] for line in sound_lines()[:1]]).drop(columns="mood")
    found = {finding.check: finding for finding in check(labels)}
    assert list(found) == ["schema", "known_track", "labels_per_class"]
    assert found["schema"].expected == "a column mood"


def test_two_lines_of_one_annotator_for_a_track(tmp_path):
    findings = check(table_of(tmp_path, [*sound_lines(), f"blues.00000,Other,ann1,{TIME},1"]))
    rows = (("line 2", "blues.00000, ann1"), ("line 22", "blues.00000, ann1"))
    assert summary(findings) == [("unique_annotation", "critical", rows)]


def test_moods_with_few_tracks_are_named_with_their_count(tmp_path):
    lines = sound_lines()
    lines[1] = f"blues.00001,RelaxButEnergetic,ann2,{TIME},1"
    lines[11] = f"blues.00001,RelaxButEnergetic,ann3,{TIME},1"
    lines[2] = f"blues.00002,Other,ann1,{TIME},1"
    lines[12] = f"blues.00012,Other,ann1,{TIME},1"
    rows = (("RelaxButEnergetic", "1"), ("TotallyPositive", "0"))
    assert summary(check(table_of(tmp_path, lines), least=2)) == [("labels_per_class", "warning", rows)]


def test_no_annotation_at_all_is_too_few(tmp_path):
    found = check(table_of(tmp_path, []))
    assert summary(found) == [("labels_per_class", "warning", tuple((mood, "0") for mood in MOODS))]


def test_a_severity_of_the_params_replaces_the_default(tmp_path):
    labels = table_of(tmp_path, [*sound_lines(), f"polka.00001,Other,ann2,{TIME},1"])
    assert check(labels, severity={"known_track": "warning"})[0].severity == "warning"


def test_a_hundred_thousand_faulty_lines_are_all_named():
    n = 100_000
    labels = pd.DataFrame(
        {
            "line": range(2, n + 2),
            "track_id": "nope",
            "mood": "Sad",
            "annotator": [f"ann{number}" for number in range(n)],
            "labelled_at": "yesterday",
        }
    )
    assert [len(finding.rows) for finding in check(labels)] == [n, n, n, len(MOODS)]
