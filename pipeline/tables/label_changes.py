"""``data/label_changes.csv``: one row per label that was taken back or corrected after it had been merged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pandas as pd

from pipeline.tables.text_csv import csv_text, read_table
from pipeline.untrusted import for_spreadsheet, without_mark

CHANGES_FILE: Final = "label_changes.csv"

CHANGE_COLUMNS: Final = (
    "changed_at",
    "track_id",
    "annotator",
    "mood_before",
    "mood_after",  # blank: taken back
    "labelled_at_before",
    "confidence_before",
    "reason",
)


def read_changes(data: Path) -> pd.DataFrame:
    """Read the changes of a data folder, as text, the oldest first; no rows without a file.

    Raises
    ------
    DataError
        The file is no CSV, or lacks a column.
    """
    path = data / CHANGES_FILE
    if not path.exists():
        return pd.DataFrame(columns=list(CHANGE_COLUMNS), dtype="str")
    return read_table(path, columns=CHANGE_COLUMNS)[list(CHANGE_COLUMNS)].map(without_mark)


def with_changes(data: Path, rows: Sequence[dict[str, str]]) -> str | None:
    """Return the file's text with more changes at its end; None if it holds them already."""
    before = read_changes(data)
    new = pd.DataFrame(list(rows), columns=list(CHANGE_COLUMNS), dtype="str")
    if before["changed_at"].isin(new["changed_at"]).any():
        return None
    return csv_text(for_spreadsheet(pd.concat([before, new], ignore_index=True)))
