"""Checks of the mood annotations in ``mood_labels.csv``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import pandas as pd

from pipeline.quality.findings import Finding
from pipeline.quality.suites import Check, run, with_severity
from pipeline.tables.mood_labels import LABEL_COLUMNS, LINE
from pipeline.taxonomy import canonical_mood, moods, nearest_mood

if TYPE_CHECKING:
    from pipeline.params import LabelsParams


NO_HINTS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType({})
_HINTED: Final = ("track_id", "mood", "labelled_at")
_ISO_8601: Final = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:?\d{2})$"
# Spreadsheets and pandas write whole numbers beside blanks as 2.0.
_CONFIDENCE: Final = r"^[123](?:\.0+)?$"
_ANNOTATION_CHECKS: Final = (
    Check(
        name="date_format",
        column="labelled_at",
        expected="an ISO 8601 time with its UTC offset, such as 2024-03-05T14:00:00Z",
        advice="Write the time so.",
        expectation="ExpectColumnValuesToMatchRegex",
        arguments={"column": "labelled_at", "regex": _ISO_8601},
        severity="critical",
        shown=("labelled_at_hinted",),
    ),
    Check(
        name="date_format",
        column="labelled_at",
        expected="a day and time that exist",
        advice="Correct the time.",
        expectation="ExpectColumnValuesToNotBeNull",
        arguments={"column": "time", "row_condition": "is_iso_8601", "condition_parser": "pandas"},
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


def content_checks() -> tuple[Check, ...]:
    """Return the checks of single annotations; those of moods are the taxonomy's."""
    names = moods()
    return (
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
            shown=("track_id_hinted",),
        ),
        Check(
            name="known_mood",
            column="mood",
            expected=f"one of {', '.join(names)}",
            advice="Correct the mood's spelling, or delete the line.",
            expectation="ExpectColumnValuesToBeInSet",
            arguments={"column": "mood_class", "value_set": list(names)},
            severity="critical",
            shown=("mood_hinted",),
        ),
        *_ANNOTATION_CHECKS,
    )


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
        The least number of tracks per mood, and severities by check name.
    docs
        Folder of the Data Docs; suites ``labels`` and ``labels_classes``. None writes none.

    Returns
    -------
    list of Finding
        The failed checks; rows are named ``line 17``, or by mood for ``labels_per_class``.
    """
    table = derived(labels, known_tracks=known_tracks)
    # Of a column that is missing the schema check says so, once.
    present = [check for check in content_checks() if check.column in labels]
    checks = with_severity((*schema_checks(labels), *present), settings.severity)
    found = run(table, checks, name="labels", row="row", docs=docs)
    checks = with_severity([_class_check(settings)], settings.severity)
    return found + run(_tracks_per_mood(table), checks, name="labels_classes", row="mood", docs=docs)


def schema_checks(labels: pd.DataFrame) -> list[Check]:
    """Return the checks that the required columns are there, and filled in."""
    return [
        Check(
            name="schema",
            column=column,
            expected=f"{column} filled in" if column in labels else f"a column {column}",
            advice="Fill it in, or delete the line." if column in labels else "Add the column.",
            expectation="ExpectColumnValuesToNotBeNull" if column in labels else "ExpectColumnToExist",
            severity="critical",
        )
        for column in LABEL_COLUMNS
    ]


def _class_check(settings: LabelsParams) -> Check:
    """Return the check of the classes' sizes."""
    return Check(
        name="labels_per_class",
        column="tracks",
        expected=f"at least {settings.min_labels_per_class} tracks per mood",
        advice="Label more tracks with it, or do not trust its scores; see labels.min_labels_per_class.",
        expectation="ExpectColumnValuesToBeBetween",
        arguments={"column": "tracks", "min_value": settings.min_labels_per_class},
    )


def derived(
    labels: pd.DataFrame,
    *,
    known_tracks: Collection[str],
    hints: Mapping[str, Mapping[str, str]] = NO_HINTS,
) -> pd.DataFrame:
    """Return the annotations as the suite reads them: blanks are null, look-ups are done once a value."""
    # By the line of the file, which is where a person corrects it.
    rows = ("line " + labels[LINE].astype(str)).tolist()
    table = labels.mask(labels == "").assign(row=rows).set_axis(rows)
    if "track_id" in table:
        # A look-up beside the id: as a set of values, 100,000 ids would stand on the page.
        table["library_id"] = table["track_id"].where(table["track_id"].isin(list(known_tracks)), "")
    if "mood" in table:
        table["mood_class"] = table["mood"].map(
            {name: canonical_mood(name) or name for name in table["mood"].dropna().unique()}
        )
        hints = {**hints, "mood": _mood_hints(table["mood"].dropna().unique().tolist())}
    for column in _HINTED:
        if column in table:
            table[f"{column}_hinted"] = _with_hints(table[column], hints.get(column, {}))
    if "labelled_at" in table:
        # The 30th of February has the form, but is no time.
        table["is_iso_8601"] = table["labelled_at"].str.match(_ISO_8601).eq(True)
        table["time"] = pd.to_datetime(table["labelled_at"], format="ISO8601", utc=True, errors="coerce")
    return table


def _mood_hints(names: list[str]) -> dict[str, str]:
    """Return, by a name that is no mood's, the mood that is spelled nearly so."""
    near = {name: nearest_mood(name) for name in names if canonical_mood(name) is None}
    return {name: f"did you mean {mood}?" for name, mood in near.items() if mood}


def _with_hints(column: pd.Series, hints: Mapping[str, str]) -> pd.Series:
    """Return a column's cells as a report shows them."""
    shown = {cell: f"{cell} ({hint})" for cell, hint in hints.items()}
    return column.map(lambda cell: shown.get(cell, cell), na_action="ignore").astype("object")


def _tracks_per_mood(table: pd.DataFrame) -> pd.DataFrame:
    """Return ``mood`` and ``tracks``, the number of known tracks with it, for every mood of the taxonomy."""
    names = moods()
    counts = pd.Series(0, index=names)
    if {"mood_class", "library_id"} <= set(table):
        # A label of an unknown track teaches nothing.
        known = table[table["library_id"] != ""]
        counts = known.groupby("mood_class")["library_id"].nunique().reindex(names, fill_value=0)
    return pd.DataFrame({"mood": names, "tracks": counts.to_numpy()}, index=list(names))
