"""The one sheet of an ``.xlsx`` file as a table of text.

A workbook is a zip of XML that somebody else made: it is measured before it is unpacked, formulas stay text,
links are not followed, entities are refused.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Any, Final

from pipeline.labelling.file_limits import FileFaultError, Limits, check_size, check_values
from pipeline.untrusted import few, visible

_MOST_BYTES: Final = 1 << 25  # unpacked; a hundred thousand labels take half of it
_MOST_PARTS: Final = 1000
_VALUES_PER_CELL: Final = 6  # openpyxl takes so much longer for a cell than the csv module
_ADVICE: Final = "Save it as CSV."

Row = tuple[int, list[str]]


def read(content: bytes, *, name: str, limits: Limits) -> list[Row]:
    """Return the rows of the one sheet that is not empty, each after its number, without blank ends.

    Raises
    ------
    FileFaultError
        It is no such file, too large when unpacked, or has several sheets with something on them.
    """
    _check_archive(content, name=name, limits=limits)
    try:
        sheets = _sheets(content, name=name, limits=limits)
    except FileFaultError:
        raise
    except Exception as error:  # whatever openpyxl's reading of a stranger's XML leads to
        raise FileFaultError(
            f"{name}: expected a workbook (.xlsx), received {type(error).__name__}: "
            f"{visible(str(error))[:200].partition(chr(10))[0]} {_ADVICE}"
        ) from None
    filled = {title: rows for title, rows in sheets.items() if rows}
    if len(filled) > 1:
        raise FileFaultError(
            f"{name}: expected one sheet with labels, received {few(list(filled))}. Delete the others."
        )
    return next(iter(filled.values()), [])


def _check_archive(content: bytes, *, name: str, limits: Limits) -> None:
    """Raise `FileFaultError` unless the zip says that it is small, and what it holds is few cells of XML."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise FileFaultError(
            f"{name}: expected a workbook (.xlsx), received another format, or one with a password. {_ADVICE}"
        ) from None
    parts = archive.infolist()
    size = sum(part.file_size for part in parts)  # no more than this is unpacked, whatever the zip holds
    if size > _MOST_BYTES or len(parts) > _MOST_PARTS:
        raise FileFaultError(
            f"{name}: expected a workbook of at most {_MOST_BYTES >> 20} MB unpacked and {_MOST_PARTS} "
            f"parts, received {size >> 20:,} MB and {len(parts):,}. {_ADVICE}"
        )
    n_cells = 0
    for part in parts:
        try:
            xml = archive.read(part) if part.filename.endswith((".xml", ".rels")) else b""
        except Exception as error:  # damaged, encrypted, or packed in a way that Python does not know
            raise FileFaultError(
                f"{name}: expected a workbook (.xlsx), received a damaged one: {visible(str(error))[:200]}. "
                f"{_ADVICE}"
            ) from None
        if b"\0" in xml:  # UTF-16, which no program writes here and which would hide what is counted
            raise FileFaultError(f"{name}: expected a workbook in UTF-8, received other XML. {_ADVICE}")
        n_cells += xml.count(b"<c") + xml.count(b"<si") + xml.count(b":c") + xml.count(b":si")
    check_values(_VALUES_PER_CELL * n_cells, name=name, limits=limits)


def _sheets(content: bytes, *, name: str, limits: Limits) -> dict[str, list[Row]]:
    """Return the rows of every sheet by its title."""
    from openpyxl import load_workbook

    # The formulas themselves, not what they last came to: a cell that says =A1 is rejected as what it is.
    book = load_workbook(io.BytesIO(content), read_only=True, data_only=False, keep_links=False)
    try:
        return {sheet.title: list(_rows(sheet, name=name, limits=limits)) for sheet in book.worksheets}
    finally:
        book.close()


def _rows(sheet: Any, *, name: str, limits: Limits) -> Iterator[Row]:
    """Yield the rows that are not empty; a cell far to the right or below is too many cells, not a gap."""
    n_values = n_rows = 0
    for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
        n_values += 1 + len(row)
        check_values(n_values, name=name, limits=limits)
        cells = [_text(cell) for cell in row]
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            n_rows += 1
            check_size(n_rows - 1, name=name, limits=limits)  # but for the header
            yield number, cells


def _text(value: Any) -> str:
    """Return a cell as people see it: whole numbers without a decimal point, dates as ISO 8601."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value).strip()
