"""CSV files as tables of text: what people write by hand or in a spreadsheet."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import pandas as pd

from pipeline.errors import DataError

_FIRST_LINE: Final = re.compile(r"\S[^\r\n]*")


def decoded(content: bytes) -> str:
    """Return the text of a file: UTF-8, or UTF-16 with a byte order mark, as spreadsheets save it.

    Raises
    ------
    UnicodeDecodeError
        It is neither.
    """
    # The mark of UTF-32 begins like the one of UTF-16.
    is_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    is_32 = content.startswith(codecs.BOM_UTF32_LE)
    return content.decode("utf-16" if is_16 and not is_32 else "utf-8-sig")


def delimiter(text: str) -> str:
    r"""Return the separator that the first line with text uses most; a comma if none.

    Examples
    --------
    >>> delimiter("track_id;mood\nblues.00042;Other, or so\n")
    ';'
    """
    header = _FIRST_LINE.search(text)
    return max(",;\t", key=lambda mark: header[0].count(mark) if header else 0)


def read_table(path: Path, *, columns: Sequence[str]) -> pd.DataFrame:
    """Read a CSV file as text, blank where a value is missing.

    Parameters
    ----------
    path
        A file with a header; commas, semicolons or tabs separate.
    columns
        Columns that must be there; others may be.

    Raises
    ------
    DataError
        If the file is missing, is no UTF-8 CSV, or lacks a column.
    """
    try:
        text = decoded(path.read_bytes())
        table = pd.read_csv(io.StringIO(text), sep=delimiter(text), dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        reason = f"{type(error).__name__}: {str(error).strip()}"
        raise DataError(
            f"expected {path} to be a UTF-8 CSV file, received {reason}. Correct it or name another."
        ) from None
    # pandas takes the first column for an index when rows have more values than the header.
    if not isinstance(table.index, pd.RangeIndex):
        raise DataError(
            f"{path}: expected as many values in a row as columns, received more. Quote values with a comma."
        )
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise DataError(
            f"{path}: expected columns {','.join(columns)}, received {','.join(map(str, table.columns))}. "
            f"Add to the header: {','.join(missing)}."
        )
    return table


def csv_text(table: pd.DataFrame) -> str:
    """Return a table of text as CSV with Unix line ends, such that any cell is read back as it is."""
    text = _written(table, csv.QUOTE_MINIMAL)
    # Python 3.11 leaves a cell with a lone carriage return unquoted.
    return _written(table, csv.QUOTE_ALL) if "\r" in text else text


def _written(table: pd.DataFrame, quoting: Literal[0, 1]) -> str:
    return table.to_csv(index=False, lineterminator="\n", quoting=quoting)
