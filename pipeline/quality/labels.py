"""Checks of the mood annotations in ``mood_labels.csv``."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pandas as pd

from pipeline.errors import DataError
from pipeline.quality.findings import Finding
from pipeline.quality.suites import Check, run, with_severity
from pipeline.taxonomy import MOODS, canonical_mood

if TYPE_CHECKING:
    from _csv import Reader

    from pipeline.params import LabelsParams

REQUIRED: Final = ("track_id", "mood", "annotator", "labelled_at")
# Our own column: where a row stands in the file.
LINE: Final = "line"

_ISO_8601: Final = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:?\d{2})$"
# Spreadsheets and pandas write whole numbers beside blanks as 2.0.
_CONFIDENCE: Final = r"^[123](?:\.0+)?$"

CONTENT_CHECKS: Final = (
    Check(
        name="known_track",
        column="track_id",
        expected="the id of a track in the library",
        advice="Correct the id, add the track, or delete the line.",
        expectation="ExpectColumnPairValuesToBeEqual",
        arguments={
            "column_A": "track_id",
            "column_B": "library_id",
            "ignore_row_if": "either_value_is_missing",
        },
        severity="critical",
        shown=("track_id",),
    ),
    Check(
        name="known_mood",
        column="mood",
        expected=f"one of {', '.join(MOODS)}",
        advice="Correct the mood's spelling, or delete the line.",
        expectation="ExpectColumnValuesToBeInSet",
        arguments={"column": "mood_class", "value_set": list(MOODS)},
        severity="critical",
        shown=("mood",),
    ),
    Check(
        name="date_format",
        column="labelled_at",
        expected="an ISO 8601 time with its UTC offset, such as 2024-03-05T14:00:00Z",
        advice="Write the time so.",
        expectation="ExpectColumnValuesToMatchRegex",
        arguments={"column": "labelled_at", "regex": _ISO_8601},
        severity="critical",
    ),
    Check(
        name="date_format",
        column="labelled_at",
        expected="a day and time that exist",
        advice="Correct the time.",
        expectation="ExpectColumnValuesToBeNull",
        arguments={"column": "impossible_time"},
        severity="critical",
        shown=("labelled_at",),
    ),
    Check(
        name="confidence",
        column="confidence",
        expected="1, 2, 3 or blank",
        advice="Correct the confidence, or leave it blank.",
        expectation="ExpectColumnValuesToMatchRegex",
        arguments={"column": "confidence", "regex": _CONFIDENCE},
        severity="critical",
    ),
    Check(
        name="unique_annotation",
        column="annotator",
        expected="one line for a track and an annotator",
        advice="Keep the annotator's latest line.",
        expectation="ExpectCompoundColumnsToBeUnique",
        arguments={"column_list": ["track_id", "annotator"], "ignore_row_if": "any_value_is_missing"},
        severity="critical",
        shown=("track_id", "annotator"),
    ),
)


def read(path: Path) -> pd.DataFrame:
    """Read an annotation file; blanks around a cell are dropped.

    Returns
    -------
    pd.DataFrame
        ``line``, the 1-based line in the file, and the file's columns as text, ``""`` where blank.

    Raises
    ------
    DataError
        The file is missing, empty, not UTF-8, not CSV, has ragged rows, or lacks a required column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            found = list(records(csv.reader(stream, strict=True), path=path))
    except FileNotFoundError:
        raise DataError(
            f"expected annotations in {path}, received no such file. "
            "Run this in the project's root; `make repro` makes the sample library, with labels."
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: expected UTF-8 text, received {error.reason} at byte {error.start}. Save it as UTF-8."
        ) from None
    _, *header = _checked_header(found, path=path)
    return pd.DataFrame(found[1:], columns=[LINE, *header]).astype(dict.fromkeys(header, "str"))


def check_labels(
    labels: pd.DataFrame, *, known_tracks: Collection[str], settings: LabelsParams, docs: Path | None
) -> list[Finding]:
    """Check every annotation, then the number of tracks that each mood has.

    Parameters
    ----------
    labels
        What `read` returns.
    known_tracks
        Ids of the tracks in the library.
    settings
        The least number of tracks a mood, and severities by check name.
    docs
        Folder of the Data Docs; suites ``labels`` and ``labels_classes``. None writes none.

    Returns
    -------
    list of Finding
        The failed checks; rows are named ``line 17``, or by mood for ``labels_per_class``.
    """
    table = derived(labels, known_tracks=known_tracks)
    present = [check for check in CONTENT_CHECKS if check.column in labels]
    checks = with_severity((*schema_checks(labels), *present), settings.severity)
    found = run(table, checks, name="labels", row="row", docs=docs)
    checks = with_severity([_class_check(settings)], settings.severity)
    return found + run(_tracks_per_mood(table), checks, name="labels_classes", row="mood", docs=docs)


def records(reader: Reader, *, path: Path, even: bool = True) -> Iterator[list[str | int]]:
    """Yield each record after the line it starts on; skip blank lines, refuse ragged ones if ``even``."""
    line, width = 1, 0
    try:
        for record in reader:
            cells = [cell.strip() for cell in record]
            if any(cells):
                width = width or len(record)
                if even:
                    _check_width(record, width=width, where=f"{path}, line {line}")
                yield [line, *cells]
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {line}: expected comma-separated values, received: {error}.") from None


def _check_width(record: list[str], *, width: int, where: str) -> None:
    if len(record) != width:
        raise DataError(
            f"{where}: expected {width} columns as in the header, received {len(record)}. "
            "Add or remove commas, or put quotes round a cell that has one."
        )


def _checked_header(records: list[list[str | int]], *, path: Path) -> list[str | int]:
    """Return the first record if it can name columns."""
    if not records:
        raise DataError(
            f"{path}: expected the columns {', '.join(REQUIRED)}, received an empty file. Put them in line 1."
        )
    header = [LINE, *records[0][1:]]
    received = ", ".join(str(name) for name in header[1:])
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise DataError(
            f"{path}: expected the columns {', '.join(REQUIRED)}, received {received}; "
            f"{', '.join(missing)} is missing. Name the columns in line 1, separated by commas."
        )
    if len(set(header)) < len(header):
        raise DataError(
            f"{path}: expected each column once and none called {LINE}, received {received}. Rename it."
        )
    return header


def schema_checks(labels: pd.DataFrame) -> list[Check]:
    """Return the checks that the required columns are there, and filled in."""
    return [
        Check(
            name="schema",
            column=column,
            expected=f"{column} filled in" if column in labels else f"a column {column}",
            advice="Fill it in, or delete the line." if column in labels else "Add the column.",
            expectation="ExpectColumnValuesToNotBeNull" if column in labels else "ExpectColumnToExist",
            arguments={"column": column},
            severity="critical",
        )
        for column in REQUIRED
    ]


def _class_check(settings: LabelsParams) -> Check:
    """Return the check of the classes' sizes."""
    return Check(
        name="labels_per_class",
        column="tracks",
        expected=f"at least {settings.min_labels_per_class} tracks a mood",
        advice="Label more tracks with it, or do not trust its scores; see labels.min_labels_per_class.",
        expectation="ExpectColumnValuesToBeBetween",
        arguments={"column": "tracks", "min_value": settings.min_labels_per_class},
    )


def derived(labels: pd.DataFrame, *, known_tracks: Collection[str]) -> pd.DataFrame:
    """Return the annotations as the suite reads them: blanks are null, look-ups are done once a value."""
    rows = ("line " + labels[LINE].astype(str)).tolist()
    table = labels.mask(labels == "").assign(row=rows).set_axis(rows)
    if "track_id" in table:
        table["library_id"] = table["track_id"].where(table["track_id"].isin(list(known_tracks)), "")
    if "mood" in table:
        table["mood_class"] = table["mood"].map(
            {name: canonical_mood(name) or name for name in _values(table["mood"])}
        )
    if "labelled_at" in table:
        table["impossible_time"] = table["labelled_at"].where(
            table["labelled_at"].isin(_impossible(table["labelled_at"]))
        )
    return table


def _values(column: pd.Series) -> list[str]:
    """Return a column's distinct values without the blank one."""
    return column.dropna().unique().tolist()


def _impossible(times: pd.Series) -> list[str]:
    """Return the times that look right and are not, such as the 30th of February."""
    looks_right = pd.Series([time for time in _values(times) if re.match(_ISO_8601, time)], dtype="str")
    parsed = pd.to_datetime(looks_right, format="ISO8601", utc=True, errors="coerce")
    return looks_right[parsed.isna()].tolist()


def _tracks_per_mood(table: pd.DataFrame) -> pd.DataFrame:
    """Return ``mood`` and ``tracks``, the number of known tracks with it, for every mood of the taxonomy."""
    counts = pd.Series(0, index=MOODS)
    if {"mood_class", "library_id"} <= set(table):
        known = table[table["library_id"] != ""]
        counts = known.groupby("mood_class")["library_id"].nunique().reindex(MOODS, fill_value=0)
    return pd.DataFrame({"mood": MOODS, "tracks": counts.to_numpy()}, index=list(MOODS))
