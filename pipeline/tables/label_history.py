"""``data/label_history.csv``: one row per intake of labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pandas as pd

from pipeline import files
from pipeline.tables.text_csv import csv_text, read_table
from pipeline.untrusted import for_spreadsheet, without_mark

HISTORY_FILE: Final = "label_history.csv"

HISTORY_COLUMNS: Final = (
    "file",
    "sha256",
    "received_at",
    "rows",
    "accepted",
    "rejected",
    "mended",  # rows whose spelling was normalised; the name stays, since it is a file format
    "annotators",
    "new_tracks",
    "alpha",
    "fault",  # why the file was rejected whole, in one line; the last column, which older histories lack
)


def read_history(data: Path) -> pd.DataFrame:
    """Read ``label_history.csv`` of a data folder: one row per intake, as text; no rows without a file.

    A history of before there were faults in it has blank ones.

    Raises
    ------
    DataError
        The file is no UTF-8 CSV, or lacks a column.
    """
    path = data / HISTORY_FILE
    if not path.exists():
        return pd.DataFrame(columns=list(HISTORY_COLUMNS), dtype="str")
    *before, fault = HISTORY_COLUMNS
    history = read_table(path, columns=before).map(without_mark)
    return history if fault in history else history.assign(**{fault: ""})


def with_record(data: Path, record: Mapping[str, str]) -> str | None:
    """Return the history's text with one more intake; None if it holds that intake."""
    history = read_history(data)
    same = [history[name] == record[name] for name in ("file", "sha256", "received_at")]
    if (same[0] & same[1] & same[2]).any():
        return None
    longer = pd.concat([history, pd.DataFrame([dict(record)], dtype="str")], ignore_index=True)
    return csv_text(for_spreadsheet(longer[history.columns]))


def write_history(folder: Path) -> None:
    """Begin an empty history of intakes."""
    files.write_text(folder / HISTORY_FILE, ",".join(HISTORY_COLUMNS) + "\n")
