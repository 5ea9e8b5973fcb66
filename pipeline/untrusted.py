"""Text that others wrote, made harmless where people read it: in a terminal, a message or a spreadsheet."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pandas as pd

NAMES_SHOWN: Final = 5
_NAME_SHOWN: Final = 60  # characters

# Control and format characters (which turn the direction of writing, or are invisible), half a surrogate
# pair, separators of lines and paragraphs.
_UNSEEN: Final = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))

# What spreadsheets take for the start of a formula, in wide letters too, and what they skip before one.
_FORMULA: Final = "=+\\-@＝＋－＠\t\r\n"
# Where ``;`` or a tab separates by the user's locale, a formula may begin behind one in the midst of a cell.
_START: Final = re.compile(rf"(^|[;\t\r\n])('*)(?=[{_FORMULA}])")
_MARKED: Final = re.compile(rf"(^|[;\t\r\n])'('*)(?=[{_FORMULA}])")
_NUMBER: Final = re.compile(r"[+-]?\d+(?:[.,]\d+)?")


def visible(text: str) -> str:
    r"""Return text for a terminal or a log: what would steer it, or not be seen, is written as Python does.

    Line breaks stay.

    Examples
    --------
    >>> visible("Bob\x1b[31m\u202e")
    'Bob\\x1b[31m\\u202e'
    """
    if text.isprintable():
        return text
    return "".join(ascii(letter)[1:-1] if is_unseen(letter) and letter != "\n" else letter for letter in text)


def is_unseen(letter: str) -> bool:
    """Return whether a character steers what shows it, or shows nothing."""
    return unicodedata.category(letter) in _UNSEEN


def few(names: Sequence[object]) -> str:
    """Return the first names of many, as a message lists them.

    Examples
    --------
    >>> few(["a", "b", "c", "d", "e", "f", "g"])
    'a, b, c, d, e … and 2 more'
    """
    shown = ", ".join(_short(visible(str(name))) for name in names[:NAMES_SHOWN])
    more = len(names) - NAMES_SHOWN
    return f"{shown} … and {more:,} more" if more > 0 else shown


def listing(names: Sequence[object]) -> str:
    """Return the count and the first names.

    Examples
    --------
    >>> listing(["a", "b", "c", "d", "e", "f", "g"]), listing([])
    ('7: a, b, c, d, e … and 2 more', '0')
    """
    return f"{len(names)}" + (f": {few(names)}" if names else "")


def _short(name: str) -> str:
    return name if len(name) <= _NAME_SHOWN else f"{name[:_NAME_SHOWN]}…"


def marked(cell: str) -> str:
    """Return a cell that no spreadsheet runs: what looks like a formula and no number gets an apostrophe.

    Examples
    --------
    >>> marked("=1+1"), marked("-1.5"), marked("a;=1+1")
    ("'=1+1", '-1.5', "a;'=1+1")
    """
    return cell if _NUMBER.fullmatch(cell) else _START.sub(r"\1\2'", cell)


def without_mark(cell: str) -> str:
    """Return a cell as it was before `marked`, of any cell at all.

    Examples
    --------
    >>> without_mark("'=1+1"), without_mark("rock 'n' roll")
    ('=1+1', "rock 'n' roll")
    """
    return _MARKED.sub(r"\1\2", cell)


def for_spreadsheet(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with every text cell `marked`."""
    return table.map(lambda cell: marked(cell) if isinstance(cell, str) else cell)
