"""The labels that are there, and the history of intakes beside them: read, and extended by an intake."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import pandas as pd

from pipeline.errors import DataError
from pipeline.labelling.formats import CONFIDENCE
from pipeline.quality import labels as store_checks
from pipeline.sources import library
from pipeline.taxonomy import canonical_mood
from pipeline.untrusted import for_spreadsheet, without_mark

_ALPHA_DIGITS: Final = 6


def read(data: Path) -> pd.DataFrame:
    """Read ``mood_labels.csv`` of a data folder, with the line of each row.

    Raises
    ------
    DataError
        The file is missing or cannot be read row by row.
    """
    return store_checks.read(data / library.LABELS_FILE)


def merged(store: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the store with accepted rows at its end: moods in the taxonomy's spelling, times in UTC.

    Columns and rows of the store stay as they are; ``confidence`` is added if only the new rows have it.
    """
    before = store.drop(columns=store_checks.LINE)
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


def read_history(data: Path) -> pd.DataFrame:
    """Read ``label_history.csv`` of a data folder: a row an intake, as text; no rows where there is no file.

    A history of before there were faults in it has blank ones.

    Raises
    ------
    DataError
        The file is no UTF-8 CSV, or lacks a column.
    """
    path = data / library.HISTORY_FILE
    if not path.exists():
        return pd.DataFrame(columns=list(library.HISTORY_COLUMNS), dtype="str")
    *before, fault = library.HISTORY_COLUMNS
    history = library.read_table(path, columns=before).map(without_mark)
    return history if fault in history else history.assign(**{fault: ""})


def with_record(data: Path, record: Mapping[str, str]) -> str | None:
    """Return the history's text with one more intake; None if it holds that intake."""
    history = read_history(data)
    same = [history[name] == record[name] for name in ("file", "sha256", "received_at")]
    if (same[0] & same[1] & same[2]).any():
        return None
    longer = pd.concat([history, pd.DataFrame([dict(record)], dtype="str")], ignore_index=True)
    return csv_text(for_spreadsheet(longer[history.columns]))


def csv_text(table: pd.DataFrame) -> str:
    """Return a table of text as CSV with Unix line ends, such that any cell is read back as it is."""
    text = _written(table, csv.QUOTE_MINIMAL)
    # Python 3.11 leaves a cell with a lone carriage return unquoted.
    return _written(table, csv.QUOTE_ALL) if "\r" in text else text


def _written(table: pd.DataFrame, quoting: Literal[0, 1]) -> str:
    return table.to_csv(index=False, lineterminator="\n", quoting=quoting)


def require_readable(text: str, table: pd.DataFrame) -> None:
    """Make sure that a store's text says what its table does, before it becomes the store.

    Raises
    ------
    DataError
        It does not: merging it would leave a file that no later intake can read.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    found = [record[1:] for record in store_checks.records(reader, path=Path(library.LABELS_FILE))]
    if found != [list(table.columns), *table.to_numpy().tolist()]:
        raise DataError(
            f"expected {library.LABELS_FILE} to read back as it is written, received other cells. "
            "Nothing was merged; look for odd characters in the file, and report this."
        )
