"""What a listener asks for: composites, poles with weights, but/and/not, genres.

First the grammar, then the thesaurus (``serving/words.csv``). A query is a strength of -1 to 1 for each pole.
"""

from __future__ import annotations

import csv
import difflib
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pipeline.errors import ParamsError
from serving.listener import pole_matrix

_WORDS: Final = Path(__file__).with_name("words.csv")
_JOINERS: Final = frozenset({"but", "yet", "and", "with", "while", "although", "though", "or"})
_NEGATIONS: Final = frozenset({"not", "no", "without", "never", "hardly", "less", "nothing", "non"})
_ALIKE: Final = 0.84  # of two spellings, by difflib; nearer ones are taken for a slip of the keys
# The composites that are one pole and the lack of its opposite.
_PURE: Final = {
    "TotallyPositive": {"positive": 1.0, "negative": -1.0},
    "TotallyNegative": {"negative": 1.0, "positive": -1.0, "hopeful": -1.0},
}
_TERM: Final = re.compile(r"(?P<word>[^\s:,;]+(?:[ ][^\s:,;]+)*?):(?P<weight>[-+]?\d*\.?\d+)(?=$|[\s,;])")


@dataclass(frozen=True)
class Query:
    """What was understood.

    Parameters
    ----------
    poles
        Strength by pole, -1 to 1, none of them 0.
    moods
        Composites that were named, or whose two poles were.
    genres
        Only these, if any.
    understood, ignored
        In words; words that mean nothing here.
    """

    poles: Mapping[str, float]
    moods: tuple[str, ...] = ()
    genres: tuple[str, ...] = ()
    understood: tuple[str, ...] = ()
    ignored: tuple[str, ...] = field(default=())


@functools.cache
def thesaurus() -> dict[str, tuple[str, ...]]:
    """Return the poles of every known word, the poles' own names among them; none for "the" and the like."""
    found: dict[str, list[str]] = {pole: [pole] for pole in pole_matrix()}
    with _WORDS.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            found.setdefault(row["word"], []).extend([row["pole"]] if row["pole"] else [])
    return {word: tuple(dict.fromkeys(poles)) for word, poles in found.items()}


def understand(
    text: str, *, moods: Mapping[str, tuple[str, str]], genres: Iterable[str], excluded: str = ""
) -> Query:
    """Return what a phrase asks for.

    Parameters
    ----------
    text
        ``negative but hopeful``, ``calm:1 epic:0.5 void:-1``, ``sad jazz, not slow``.
    moods
        The two poles of each composite.
    genres
        That the library's champion knows.
    excluded
        What must not be heard, written like ``text``.

    Raises
    ------
    ParamsError
        Nothing of it is known; the nearest poles are named. A weight is not -1 to 1.

    Examples
    --------
    >>> moods = {"NegativeButHopeful": ("negative", "hopeful"), "CalmButWarm": ("calm", "warm")}
    >>> found = understand("Negative, but hopeful", moods=moods, genres=["jazz"])
    >>> dict(found.poles), found.moods
    ({'negative': 1.0, 'hopeful': 1.0}, ('NegativeButHopeful',))
    >>> dict(understand("sad jazz, not slow", moods=moods, genres=["jazz"]).poles)
    {'negative': 1.0, 'calm': -1.0}
    """
    reader = _Reader(moods, tuple(genres))
    reader.read(text)
    if excluded:
        reader.read(excluded, sign=-1.0)
    return reader.query(text)


class _Reader:
    def __init__(self, moods: Mapping[str, tuple[str, str]], genres: tuple[str, ...]) -> None:
        self.moods, self.genres_known = moods, {_plain(genre): genre for genre in genres}
        self.poles: dict[str, float] = {}
        self.named: list[str] = []
        self.genres: list[str] = []
        self.ignored: list[str] = []

    def read(self, text: str, sign: float = 1.0) -> None:
        rest = _TERM.sub(lambda match: self._weighted(match["word"], float(match["weight"]) * sign), text)
        words = re.findall(r"[a-z]+(?:['-][a-z]+)*", rest.casefold().replace("’", "'"))
        words = re.sub(r"anything but", "not", " ".join(words)).split()
        clauses = re.split(r"[,;.]", rest.casefold())
        if len(clauses) < 2 and self._composite(" ".join(words), sign):
            return
        negated, at = False, 0
        while at < len(words):
            word = words[at]
            if word in _NEGATIONS and not self._known(words, at):
                negated = True
            elif word in _JOINERS:
                negated = negated and word in ("or", "and")
            elif thesaurus().get(word) != ():
                length = self._known(words, at) or 1
                self._word(" ".join(words[at : at + length]), -sign if negated else sign)
                at += length - 1
                negated = negated and at + 1 < len(words) and words[at + 1] in ("or", "and")
            at += 1

    def _known(self, words: list[str], at: int) -> int:
        """Return how many words from here are one entry; 0 for none."""
        for length in (3, 2, 1):
            joined = " ".join(words[at : at + length])
            if len(words) >= at + length and (joined in thesaurus() or _plain(joined) in self.genres_known):
                return length
        return 0

    def _weighted(self, word: str, weight: float) -> str:
        if not -1 <= weight <= 1:
            raise ParamsError(
                f"expected a weight of -1 to 1, received {word}:{weight:g}. Write {word}:1 or less."
            )
        name = " ".join(re.findall(r"[\w'-]+", word.casefold()))
        if not self._composite(name, weight):
            self._word(name, weight)
        return " "

    def _composite(self, text: str, sign: float) -> bool:
        """Take a phrase that is a composite's name, or its two poles joined."""
        key = _plain(text)
        for mood, pair in self.moods.items():
            if key == _plain(mood) or (set(text.split()) - _JOINERS == set(pair) and len(set(pair)) == 2):
                if sign > 0:
                    self.named.append(mood)
                for pole, strength in _PURE.get(mood, dict.fromkeys(pair, 1.0)).items():
                    if pole in pole_matrix():
                        self.poles[pole] = sign * strength
                return True
        return False

    def _word(self, word: str, sign: float) -> None:
        if _plain(word) in self.genres_known:
            self.genres.append(self.genres_known[_plain(word)])
        elif (found := _stem(word)) and thesaurus()[found]:
            # A word of several poles is shared among them, so that it weighs no more than a plain one.
            for pole in thesaurus()[found]:
                share = sign if found == pole or len(thesaurus()[found]) == 1 else 0.7 * sign
                if abs(share) >= abs(self.poles.get(pole, 0.0)):
                    self.poles[pole] = share
        else:
            self.ignored.append(word)

    def query(self, text: str) -> Query:
        poles = {pole: weight for pole, weight in self.poles.items() if weight}
        mistyped = [word for word in self.ignored if difflib.get_close_matches(word, thesaurus(), 1, _ALIKE)]
        if mistyped or not (poles or self.genres):
            raise ParamsError(_unknown(text, mistyped or self.ignored))
        wanted = {pole for pole, weight in poles.items() if weight > 0}
        pairs = [mood for mood, pair in self.moods.items() if set(pair) == wanted and len(set(pair)) == 2]
        moods = tuple(dict.fromkeys([*self.named, *pairs]))
        said = [
            f"{pole} ×{weight:g}" if weight > 0 else f"not {pole} ×{-weight:g}"
            for pole, weight in poles.items()
        ]
        if moods:
            said.append("the composite " + ", ".join(moods))
        elif len(wanted) > 1:
            said.append("no mood of this name, so ranked by its poles")
        if self.genres:
            said.append("only " + ", ".join(self.genres))
        return Query(poles, moods, tuple(self.genres), tuple(said), tuple(self.ignored))


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.casefold())


def _stem(word: str) -> str | None:
    """Return the entry that a word is a form of; None if it is none."""
    known = thesaurus()
    for end in ("", "s", "es", "ly", "ness", "ing", "ed", "ish", "er", "est", "y", "ful", "ally"):
        cut = word.removesuffix(end) if end else word
        for form in (cut, cut + "e", cut[:-1] + "y" if cut.endswith("i") else cut):
            if len(cut) > 2 and form in known and (not end or word.endswith(end)):
                return form
    return None


def _unknown(text: str, words: list[str]) -> str:
    near = [
        pole
        for word in words
        for entry in difflib.get_close_matches(word, thesaurus(), n=3, cutoff=0.6)
        for pole in thesaurus()[entry]
    ]
    suggestions = ", ".join((list(dict.fromkeys(near)) or list(pole_matrix()))[:3])
    received = f"{', '.join(words)} in {text!r}" if words else repr(text)
    return (
        f"expected words for a mood, received {received}, which is not known. The nearest poles are "
        f"{suggestions}; all are {', '.join(pole_matrix())}."
    )
