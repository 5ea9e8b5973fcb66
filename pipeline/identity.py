"""Who an annotator is: names that look alike are one person's, who is shown as first written."""

from __future__ import annotations

import re
import unicodedata
from itertools import groupby
from typing import Final, Literal

import pandas as pd

# What Unicode calls default ignorable (DerivedCoreProperties.txt, 16.0): zero-width characters, marks of the
# direction of writing, variation selectors, fillers, tags; and the anchors of interlinear notes.
_INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# White space, and the Braille pattern without dots; control characters stay, for a check to reject them.
_BLANKS: Final = re.compile(r"(?:[^\S\x00-\x1f\x7f-\x9f]|\u2800)+")
# Unicode's Stream-Safe Text Format; no language puts more on a letter than four or five.
_MOST_MARKS: Final = 30


def normalised(form: Literal["NFC", "NFD", "NFKC"], text: str) -> str:
    """Return text in a normal form; unchanged if it `has_stacked_accents`: sorting them is quadratic."""
    return text if text.isascii() or has_stacked_accents(text) else unicodedata.normalize(form, text)


def has_stacked_accents(text: str) -> bool:
    """Return whether there are more than thirty accents in a row on one letter."""
    if len(text) <= _MOST_MARKS or text.isascii():
        return False
    runs = groupby(text, key=lambda letter: unicodedata.combining(letter) > 0)
    return any(is_mark and sum(1 for _ in run) > _MOST_MARKS for is_mark, run in runs)


def without_invisible(text: str) -> str:
    """Return text without the characters that nobody sees."""
    return text if text.isascii() else _INVISIBLE.sub("", text)


def single_blanks(name: str) -> str:
    """Return a name with accents in one piece (NFC) and one blank between words; control characters stay."""
    return _BLANKS.sub(" ", normalised("NFC", name)).strip()


def spelling(name: str) -> str:
    r"""Return a name as it is kept: with `single_blanks`, and nothing invisible.

    Examples
    --------
    >>> spelling(" Nina\u200b   Simone ")
    'Nina Simone'
    """
    return single_blanks(without_invisible(name))


def key(name: str) -> str:
    """Return what two spellings of one person's name have in common (Unicode's NFKC_Casefold, single blanks).

    Examples
    --------
    >>> key("Bob") == key("bob ") == key("Ｂｏ\u200bb")
    True
    """
    folded = normalised("NFD", without_invisible(name))
    for _ in range(2):  # the first may bring letters that have a lower case themselves
        folded = normalised("NFKC", folded.casefold())
    return normalised("NFKC", _BLANKS.sub(" ", without_invisible(folded)).strip())


def first_spellings(names: pd.Series) -> pd.Series:
    """Return each name as its owner was first spelled in the column."""
    keys = names.map({name: key(name) for name in names.unique()})
    first = names.groupby(keys, sort=False).first().map(spelling)
    return keys.map(first).astype("str")
