"""The classes: GTZAN's ten genres and the ten composite moods of the project report."""

from __future__ import annotations

import difflib
import unicodedata
from typing import Final

TASKS: Final = ("genre", "mood")
UNKNOWN_GENRE: Final = "unknown"  # the folder of tracks of which no genre is known; it is no class

GTZAN_GENRES: Final = (
    "blues",
    "classical",
    "country",
    "disco",
    "hiphop",
    "jazz",
    "metal",
    "pop",
    "reggae",
    "rock",
)

MOODS: Final = (
    "NegativeButHopeful",
    "RelaxButEnergetic",
    "TotallyPositive",
    "TotallyNegative",
    "PositiveButVoid",
    "CalmButEpic",
    "InsecureButInessential",
    "ConcernedButLight",
    "CalmButWarm",
    "Other",
)

# What pulls one way and what the other; the moods without an opposite have what is missing from them.
POLES: Final = {
    "NegativeButHopeful": ("negative", "hopeful"),
    "RelaxButEnergetic": ("relaxed", "energetic"),
    "TotallyPositive": ("positive", "no shadow"),
    "TotallyNegative": ("negative", "no relief"),
    "PositiveButVoid": ("positive", "void"),
    "CalmButEpic": ("calm", "epic"),
    "InsecureButInessential": ("insecure", "inessential"),
    "ConcernedButLight": ("concerned", "light"),
    "CalmButWarm": ("calm", "warm"),
    "Other": ("none fits", "several fit"),
}

_LONGEST: Final = 100  # characters of a spelling; normal forms take quadratic time in a run of accents
_ALIKE: Final = 0.85  # of two spellings, by difflib; 1 is the same

# The report's own files spell it so.
MOOD_ALIASES: Final = {"NegetiveButHopeful": "NegativeButHopeful"}


def _key(name: str) -> str:
    """Reduce a mood's spelling to what counts: ``"negative - but_Hopeful"`` → ``"negativebuthopeful"``."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(letter for letter in folded if not _is_joiner(letter))


def _is_joiner(letter: str) -> bool:
    return letter == "_" or letter.isspace() or unicodedata.category(letter) == "Pd"


_MOOD_BY_KEY: Final = {_key(name): name for name in MOODS} | {
    _key(alias): name for alias, name in MOOD_ALIASES.items()
}


def canonical_mood(name: str) -> str | None:
    """Return the taxonomy's spelling of a mood or of one of its aliases; None if there is no such mood.

    Case, width, blanks, hyphens, dashes and underscores do not count; any other character makes another name.

    Examples
    --------
    >>> canonical_mood("calm but-WARM"), canonical_mood("calm, but warm")
    ('CalmButWarm', None)
    """
    return _MOOD_BY_KEY.get(_key(name)) if len(name) <= _LONGEST else None


def moods_said() -> str:
    """Return the moods as a message lists them."""
    return ", ".join(MOODS)


def nearest_mood(name: str) -> str | None:
    """Return the mood whose spelling, or an alias's, is nearly the same; None if there is none.

    Examples
    --------
    >>> nearest_mood("TotallyPositve"), nearest_mood("happy")
    ('TotallyPositive', None)
    """
    if len(name) > _LONGEST:
        return None
    found = difflib.get_close_matches(_key(name), _MOOD_BY_KEY, n=1, cutoff=_ALIKE)
    return _MOOD_BY_KEY[found[0]] if found else None
