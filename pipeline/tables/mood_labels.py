"""``data/mood_labels.csv``: one row per annotation of a track by a person.

Columns: ``track_id,mood,annotator,labelled_at`` and, if anybody states it, ``confidence`` (1 to 3).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pandas as pd

from pipeline import files
from pipeline.errors import DataError
from pipeline.tables.label_history import write_history
from pipeline.tables.text_csv import decoded, delimiter

if TYPE_CHECKING:
    from _csv import Reader

MOOD_LABELS: Final = Path("data/mood_labels.csv")
LABELS_FILE: Final = MOOD_LABELS.name

LABEL_COLUMNS: Final = ("track_id", "mood", "annotator", "labelled_at")

# Our own column: where a row stands in the file.
LINE: Final = "line"


def read_annotations(path: Path) -> pd.DataFrame:
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
        text = decoded(path.read_bytes())
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter(text), strict=True)
        found = list(csv_records(reader, path=path))
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


def csv_records(reader: Reader, *, path: Path, even: bool = True) -> Iterator[list[str | int]]:
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
            f"{path}: expected the columns {', '.join(LABEL_COLUMNS)}, received an empty file. "
            "Put them in line 1."
        )
    header = [LINE, *records[0][1:]]
    received = ", ".join(str(name) for name in header[1:])
    missing = [name for name in LABEL_COLUMNS if name not in header]
    if missing:
        raise DataError(
            f"{path}: expected the columns {', '.join(LABEL_COLUMNS)}, received {received}; "
            f"{', '.join(missing)} is missing. Name the columns in line 1."
        )
    if len(set(header)) < len(header):
        raise DataError(
            f"{path}: expected each column once and none called {LINE}, received {received}. Rename it."
        )
    return header


def require_readable(text: str, table: pd.DataFrame) -> None:
    """Make sure that the text of new labels says what their table does, before it is put in place.

    Raises
    ------
    DataError
        It does not: merging it would leave a file that no later intake can read.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    found = [record[1:] for record in csv_records(reader, path=Path(LABELS_FILE))]
    if found != [list(table.columns), *table.to_numpy().tolist()]:
        raise DataError(
            f"expected {LABELS_FILE} to read back as it is written, received other cells. "
            "Nothing was merged; look for odd characters in the file, and report this."
        )


def write_labels(folder: Path, text: str | None = None) -> None:
    """Write mood labels, or their header, into a data folder; the history of intakes begins empty."""
    write_history(folder)
    files.write_text(folder / LABELS_FILE, text or ",".join(LABEL_COLUMNS) + "\n")
