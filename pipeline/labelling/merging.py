"""The labels that are there, and the history of intakes beside them: read, and extended by an intake."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pandas as pd

from pipeline.labelling.formats import CONFIDENCE
from pipeline.tables.mood_labels import LABELS_FILE, LINE, read_annotations
from pipeline.taxonomy import canonical_mood

_ALPHA_DIGITS: Final = 6


def read(data: Path) -> pd.DataFrame:
    """Read ``mood_labels.csv`` of a data folder, with the line of each row.

    Raises
    ------
    DataError
        The file is missing or cannot be read row by row.
    """
    return read_annotations(data / LABELS_FILE)


def merged(labels: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the labels with accepted rows at their end: moods in the taxonomy's spelling, times in UTC.

    Columns and rows of the labels stay as they are; ``confidence`` is added if only the new rows have it.
    """
    before = labels.drop(columns=LINE)
    if CONFIDENCE not in before and (rows[CONFIDENCE] != "").any():
        before = before.assign(**{CONFIDENCE: ""})
    new = rows.assign(
        mood=rows["mood"].map(lambda name: canonical_mood(name) or name), labelled_at=utc(rows["labelled_at"])
    )
    new = new.reindex(columns=before.columns, fill_value="")
    return pd.concat([before, new], ignore_index=True).astype("str")


def utc(times: pd.Series) -> pd.Series:
    """Return ISO 8601 times as UTC, to the second: ``2024-03-05T14:00:00Z``; others as they are."""
    parsed = pd.to_datetime(times, format="ISO8601", utc=True, errors="coerce")
    return parsed.dt.strftime("%Y-%m-%dT%H:%M:%SZ").astype("str").where(parsed.notna(), times)


def timestamp(moment: datetime) -> str:
    """Return a moment as UTC ISO 8601 text to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def alpha(table: pd.DataFrame) -> float:
    """Return Krippendorff's alpha over a label table; NaN where it is not defined."""
    from pipeline.labelling import agreement

    return agreement.alpha(table[["track_id", "mood", "annotator"]])


def alpha_text(value: float) -> str:
    """Return alpha as the history keeps it: six digits, blank where it is not defined."""
    return "" if pd.isna(value) else f"{value:.{_ALPHA_DIGITS}f}"
