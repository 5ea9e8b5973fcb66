"""The classes: the moods and genres of ``taxonomy.yaml``, until edited those of the project report."""

from __future__ import annotations

import difflib
import functools
import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import ParamsError

TASKS: Final = ("genre", "mood")
SOFT: Final = ("mood",)  # tasks whose labels are opinions: the annotators' shares are the truth
UNKNOWN_GENRE: Final = "unknown"  # the folder of tracks of which no genre is known; it is no class
TAXONOMY: Final = Path("taxonomy.yaml")

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

# Those of the project report, which the synthetic sample is made of.
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

_LONGEST: Final = 100  # characters of a spelling; normal forms take quadratic time in a run of accents
_ALIKE: Final = 0.85  # of two spellings, by difflib; 1 is the same
_FORBIDDEN: Final = frozenset(',"|/\\')  # a class's name is a column's, and ``|`` joins several answers


class Mood(BaseModel):
    """What is known of a mood beside its name: two poles, other spellings, a line for annotators."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    poles: tuple[str, str] = ("", "")
    aliases: tuple[str, ...] = ()
    listen_for: str = ""


class Taxonomy(BaseModel):
    """All of ``taxonomy.yaml``: moods by name, in the order of the classes; aliases by genre."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    moods: dict[str, Mood] = Field(min_length=2)
    genres: dict[str, tuple[str, ...]] = {}

    @field_validator("moods", mode="before")
    @classmethod
    def _names_alone_are_moods(cls, moods: Any) -> Any:
        """Take a list of names, and a name without anything behind it."""
        if isinstance(moods, list):
            return {name: {} for name in moods}
        return {name: facts or {} for name, facts in moods.items()} if isinstance(moods, Mapping) else moods

    @field_validator("moods")
    @classmethod
    def _are_told_apart(cls, moods: dict[str, Mood]) -> dict[str, Mood]:
        bad = [name for name in moods if not _is_name(name)]
        if bad:
            marks = " ".join(sorted(_FORBIDDEN))
            raise ValueError(
                f"expected printable names without {marks}, received {', '.join(map(repr, bad))}"
            )
        _by_key({name: mood.aliases for name, mood in moods.items()})
        return moods

    @field_validator("genres")
    @classmethod
    def _genres_are_told_apart(cls, genres: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        _by_key(genres)
        return genres


def _is_name(name: str) -> bool:
    return bool(_key(name)) and len(name) <= _LONGEST and name.isprintable() and not _FORBIDDEN & set(name)


def read() -> Taxonomy:
    """Return the taxonomy of the project in whose root this runs; elsewhere the one beside the package.

    Raises
    ------
    ParamsError
        The file is no YAML, or a key or name in it is wrong.
    """
    return _read(os.getcwd())  # noqa: PTH109 - asked row by row, and a string is hashed soonest


@functools.lru_cache(maxsize=8)
def _read(root: str) -> Taxonomy:
    path = Path(root) / TAXONOMY if TAXONOMY.exists() else Path(__file__).parents[1] / TAXONOMY
    try:
        return Taxonomy.model_validate(YAML(typ="safe").load(path.read_text(encoding="utf-8")))
    except (YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"expected {path} to be YAML, received {' '.join(str(error).split())}") from None
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'])) or 'all'}: {fault['msg']}" for fault in error.errors()]
        raise ParamsError(f"{path}: {'; '.join(faults)}. Correct it and run again.") from None


def moods() -> tuple[str, ...]:
    """Return the moods' names, in the order of the classes."""
    return tuple(read().moods)


def _key(name: str) -> str:
    """Reduce a mood's spelling to what counts: ``"negative - but_Hopeful"`` → ``"negativebuthopeful"``."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(letter for letter in folded if not _is_joiner(letter))


def _is_joiner(letter: str) -> bool:
    return letter == "_" or letter.isspace() or unicodedata.category(letter) == "Pd"


def _by_key(names: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Return names by the key of each of their spellings.

    Raises
    ------
    ValueError
        Two have a spelling in common.
    """
    found: dict[str, str] = {}
    for name, aliases in names.items():
        for spelling in (name, *aliases):
            if found.setdefault(_key(spelling), name) != name:
                raise ValueError(f"{spelling!r} is {found[_key(spelling)]} and {name}")
    return found


def canonical_mood(name: str) -> str | None:
    """Return the taxonomy's spelling of a mood or of one of its aliases; None if there is no such mood.

    Case, width, blanks, hyphens, dashes and underscores do not count; any other character makes another name.

    Examples
    --------
    >>> canonical_mood("calm but-WARM"), canonical_mood("calm, but warm")
    ('CalmButWarm', None)
    """
    return _moods_by_key(os.getcwd()).get(_key(name)) if len(name) <= _LONGEST else None  # noqa: PTH109


@functools.lru_cache(maxsize=8)
def _moods_by_key(root: str) -> dict[str, str]:
    return _by_key({name: mood.aliases for name, mood in _read(root).moods.items()})


def nearest_mood(name: str) -> str | None:
    """Return the mood whose spelling, or an alias's, is nearly the same; None if there is none.

    Examples
    --------
    >>> nearest_mood("TotallyPositve"), nearest_mood("happy")
    ('TotallyPositive', None)
    """
    if len(name) > _LONGEST:
        return None
    known = _moods_by_key(os.getcwd())  # noqa: PTH109
    found = difflib.get_close_matches(_key(name), known, n=1, cutoff=_ALIKE)
    return known[found[0]] if found else None


def canonical_genre(name: str) -> str:
    """Return the taxonomy's spelling of a genre or of one of its aliases; any other name as it is.

    Examples
    --------
    >>> canonical_genre("Hip-Hop"), canonical_genre("Shoegaze")
    ('hiphop', 'Shoegaze')
    """
    return _by_key(read().genres).get(_key(name), name) if len(name) <= _LONGEST else name
