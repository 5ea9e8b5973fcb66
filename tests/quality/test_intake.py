"""The checks of new labels: which rows may be merged, and what is odd about a batch."""

from __future__ import annotations

import re
import subprocess
import sys
import unicodedata
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from pipeline import params
from pipeline.quality import intake as checks
from pipeline.taxonomy import MOODS

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TIME = "2024-03-05T14:00:00Z"
TRACKS = [f"blues.{number:05}" for number in range(80)]
COLUMNS = ["track_id", "mood", "annotator", "labelled_at", "confidence"]


def table_of(*rows: tuple[str, ...]) -> pd.DataFrame:
    """Return rows (track, mood, annotator, time, confidence); what is left out is valid."""
    valid = ("blues.00000", "Other", "ann", TIME, "")
    return pd.DataFrame([row + valid[len(row) :] for row in rows], columns=COLUMNS, dtype="str")


def labels_of(*rows: tuple[str, ...]) -> pd.DataFrame:
    table = table_of(*rows).drop(columns="confidence")
    return table.assign(line=range(2, len(table) + 2))


def check(rows: pd.DataFrame, *, labels=None, dropped=(), docs=None, page="", **changes) -> checks.Verdict:
    settings = params.read(ROOT / "params.yaml").intake.model_copy(update=changes)
    return checks.check_batch(
        rows,
        [f"line {number}" for number in range(2, len(rows) + 2)],
        labels=labels_of() if labels is None else labels,
        known_tracks=TRACKS,
        now=NOW,
        settings=settings,
        dropped=dropped,
        docs=docs,
        page=page,
    )


def summary(verdict: checks.Verdict):
    return [(finding.check, finding.severity, finding.rows) for finding in verdict.findings]


def test_valid_rows_have_no_findings() -> None:
    verdict = check(table_of(("blues.00000", "Other"), ("blues.00001", "CalmButWarm", "ann", TIME, "3")))
    assert (verdict.findings, verdict.reasons, verdict.fault) == ((), {}, "")


FAULTS = [
    ((" "[1:],), "schema", "track_id", "blank"),
    (("blues.00000", "Other", ""), "schema", "annotator", "blank"),
    (("polka.00001",), "known_track", "track_id", "polka.00001"),
    (("blues.00000", "Sad"), "known_mood", "mood", "Sad"),
    (("blues.00000", "Other", "ann", "5.3.2024"), "date_format", "labelled_at", "5.3.2024"),
    (("blues.00000", "Other", "ann", "2024-02-30T14:00:00Z"), "date_format", "labelled_at", "2024-02-30"),
    (("blues.00000", "Other", "ann", "2026-01-01T12:06:00Z"), "future_date", "labelled_at", "2026-01-01"),
    (("blues.00000", "Other", "ann", TIME, "4"), "confidence", "confidence", "4"),
    (("blues.00000", "Other", "a" * 201), "cell_size", "annotator", "a" * 80),
]


def test_faulty_rows_are_rejected_and_the_others_are_not() -> None:
    verdict = check(table_of(("blues.00001",), *(row for row, *_ in FAULTS)))
    assert {finding.check for finding in verdict.findings} == {name for _, name, *_ in FAULTS}
    assert len(verdict.reasons) == len(FAULTS)
    for line, (_, name, column, value) in enumerate(FAULTS, start=3):
        assert f"{column}: {name} expected " in verdict.reasons[f"line {line}"]
        assert f"received {value}" in verdict.reasons[f"line {line}"]


@pytest.mark.parametrize(
    "row",
    [
        ("blues.00079", "Other", "ann", "2026-01-01T12:04:00Z"),
        ("blues.00079", "Other", "ann", "2026-01-01T13:30:00+01:30"),
        ("blues.00079", "Other", "a" * 200, TIME, "1"),
    ],
)
def test_the_limits_themselves_pass(row) -> None:
    assert check(table_of(row)).findings == ()


@pytest.mark.parametrize("column", COLUMNS[:4])
def test_a_column_without_any_value_is_no_error(column: str) -> None:
    verdict = check(table_of(("blues.00000",), ("blues.00001",)).assign(**{column: ""}))
    assert [reason.split(" expected")[0] for reason in verdict.reasons.values()] == [f"{column}: schema"] * 2


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_the_stores_annotators_are_known_by_any_spelling(form: str) -> None:
    labels = labels_of(("blues.00000", "Other", unicodedata.normalize(form, "José  B")))
    assert [
        one.check for one in check(table_of(("blues.00000", "Other", "José B")), labels=labels).findings
    ] == ["duplicate"]


def test_every_reason_is_given() -> None:
    verdict = check(table_of(("polka", "Sad", "", "2999-01-01T00:00:00Z")))
    reasons = verdict.reasons["line 2"].split("; ")
    assert [one.split(" expected")[0] for one in reasons] == [
        "annotator: schema",
        "track_id: known_track",
        "mood: known_mood",
        "labelled_at: future_date",
    ]


def test_a_mended_spelling_is_said_and_accepted() -> None:
    verdict = check(table_of(("blues.00000", "calm but warm"), ("blues.00001", "NegetiveButHopeful")))
    rows = (
        ("line 2", "calm but warm → CalmButWarm"),
        ("line 3", "NegetiveButHopeful → NegativeButHopeful"),
    )
    assert summary(verdict) == [("spelling", "warning", rows)]
    assert (verdict.reasons, verdict.normalised) == ({}, {"line 2", "line 3"})


def test_the_first_of_equal_rows_is_good() -> None:
    verdict = check(table_of(("blues.00000",), ("blues.00000", "other"), ("blues.00000", "Other", "bob")))
    assert list(verdict.reasons) == ["line 3"]
    assert "duplicate expected" in verdict.reasons["line 3"]
    assert "blues.00000, ann, Other in line 2" in verdict.reasons["line 3"]


def test_a_row_that_the_store_has() -> None:
    verdict = check(table_of(("blues.00000",)), labels=labels_of(("blues.00001",), ("blues.00000", "OTHER")))
    rows = (("line 2", "blues.00000, ann, Other in line 3 of mood_labels.csv"),)
    assert summary(verdict) == [("duplicate", "critical", rows)]


def test_another_answer_of_the_same_annotator() -> None:
    labels = labels_of(("blues.00000", "CalmButWarm"))
    verdict = check(
        table_of(("blues.00000",), ("blues.00001",), ("blues.00001", "CalmButEpic")), labels=labels
    )
    rows = (
        ("line 2", "blues.00000, ann, Other, CalmButWarm in line 2 of mood_labels.csv"),
        ("line 4", "blues.00001, ann, CalmButEpic, Other in line 3"),
    )
    assert summary(verdict) == [("conflict", "critical", rows)]


def test_a_rejected_row_does_not_hide_its_correction() -> None:
    verdict = check(table_of(("blues.00000", "Sad"), ("blues.00000", "Other")))
    assert list(verdict.reasons) == ["line 2"]


def test_an_annotator_who_always_answers_the_same() -> None:
    labels = labels_of(*[(track, "Other", "bob") for track in TRACKS[:8]])
    rows = [(TRACKS[8], "Other", "bob"), (TRACKS[9], "other", "bob"), (TRACKS[9], "CalmButWarm", "ann")]
    assert "same_answer" not in [
        finding.check for finding in check(table_of(rows[0], rows[2]), labels=labels).findings
    ]
    found = [one for one in check(table_of(*rows), labels=labels).findings if one.check == "same_answer"]
    assert [(one.severity, one.rows) for one in found] == [
        ("warning", (("annotator bob", "10 answers, all Other"),))
    ]


def test_an_annotator_with_two_moods_is_not_monotone() -> None:
    rows = [(track, "Other", "bob") for track in TRACKS[:12]] + [(TRACKS[12], "CalmButWarm", "bob")]
    assert check(table_of(*rows)).findings == ()


def moods_in_turn(n: int, annotator: str, moods: tuple[str, ...] = MOODS):
    return [(TRACKS[at], moods[at % len(moods)], annotator) for at in range(n)]


def test_a_shift_of_the_moods() -> None:
    labels = labels_of(*moods_in_turn(60, "ann"))
    verdict = check(table_of(*moods_in_turn(40, "bob", MOODS[:2])), labels=labels)
    ((name, severity, ((row, value),)),) = summary(verdict)
    assert (name, severity, row, verdict.reasons) == ("class_shift", "warning", "the batch", {})
    assert value.startswith("0.80 (chi-square p ")
    assert "10% before, 50% now" in value


@pytest.mark.parametrize(
    ("n", "moods", "changes"),
    [
        (40, MOODS, {}),
        (29, MOODS[:2], {}),
        (40, MOODS[:2], {"shift_distance": 0.81}),
        (40, MOODS[:2], {"shift_p_value": 1e-30}),
    ],
)
def test_no_shift(n, moods, changes) -> None:
    labels = labels_of(*moods_in_turn(60, "ann"))
    assert check(table_of(*moods_in_turn(n, "bob", moods)), labels=labels, **changes).findings == ()


def test_columns_that_are_not_kept_are_said() -> None:
    verdict = check(table_of(("blues.00000",)), dropped=("ratings", "why"))
    assert summary(verdict) == [("extra_columns", "warning", (("the batch", "ratings, why"),))]


def test_severities_of_the_params_replace_the_defaults() -> None:
    rows = table_of(("polka.00000",), ("blues.00001", "other"))
    verdict = check(rows, severity={"known_track": "warning", "spelling": "critical"})
    assert list(verdict.reasons) == ["line 3"]
    assert [finding.severity for finding in verdict.findings] == ["warning", "critical"]


def test_a_critical_check_of_the_batch_rejects_it_whole() -> None:
    verdict = check(table_of(("blues.00000",)), dropped=("why",), severity={"extra_columns": "critical"})
    assert verdict.fault.startswith("extra_columns [critical]: expected no columns but the contract's")
    assert verdict.reasons == {}


def test_rows_that_are_all_bad() -> None:
    verdict = check(table_of(("polka",), ("polka",)))
    assert list(verdict.reasons) == ["line 2", "line 3"]


def test_every_intake_has_its_own_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "KEPT_INTAKES", 2)
    linked: list[str] = []
    for number in range(4):
        page = checks.page_name(f"batch {number}.csv", NOW.replace(microsecond=number * 1000))
        check(table_of(("polka",), ("blues.00000",)), docs=tmp_path, page=page)
        rows, *_ = kept = checks.keep_pages(tmp_path, page)
        linked += kept
        assert page == f"20260101T120000{number:03}-batch_{number}"
        assert "polka" in (tmp_path / rows).read_text(encoding="utf-8")
        checks.forget_old_pages(tmp_path)
    kept = {path.parts[-4].split("-")[-1] for path in tmp_path.glob("validations/**/*.html")}
    assert kept == {"batch_2", "batch_3"}
    check(table_of(("blues.00000",)), docs=tmp_path, page="z")
    assert "batch_0" not in (tmp_path / "index.html").read_text(encoding="utf-8")
    assert len(linked) == 12
    for name in linked:  # the run pages of intakes long past link them
        (index,) = set(re.findall(r'href="(\S*index.html)"', (tmp_path / name).read_text(encoding="utf-8")))
        assert ((tmp_path / name).parent / index).resolve() == (tmp_path / "index.html").resolve()


def test_importing_the_checks_does_not_import_great_expectations() -> None:
    code = "import sys, pipeline.labelling.inbox; print('great_expectations' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
