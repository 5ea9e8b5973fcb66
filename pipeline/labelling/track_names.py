r"""Tracks by the names that people give them: an id in any case, a file's name, a path from another computer.

A name is read as a track only if there is one that it can mean. Folders count from the file upwards: one that
the library has too must agree, others (``C:\music``) do not count.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Final

from pipeline import identity
from pipeline.inference import audio

# Of audio in any format, whether it is read here or not: nobody ends a track's id so.
AUDIO_SUFFIXES: Final = tuple(
    sorted({*audio.SUFFIXES, ".ape", ".dsf", ".mka", ".mpc", ".tak", ".tta", ".webm", ".wma", ".wv"})
)
# What must not be in a track id or a genre: it would break a CSV line, a path or a shell line.
FORBIDDEN: Final = re.compile(r'[,"/\\\x00-\x1f\x7f]')

_SEPARATORS: Final = re.compile(r"[/\\]+")
_ALIKE: Final = 0.85  # of two spellings, by difflib; 1 is the same
_SEARCHED: Final = 20_000  # tracks; searching more for a near miss takes too long


@dataclass(frozen=True)
class TrackNames:
    """A library's tracks.

    Parameters
    ----------
    places
        By track id, its file in the library's own folders, ``"rock/1.mp3"``; a path without suffix will do.
    """

    places: Mapping[str, str]

    def meant(self, name: str) -> list[str]:
        r"""Return the ids of the tracks that a name can mean: one, several, or none.

        Examples
        --------
        >>> names = TrackNames({"b.0": "blues/b.0.au", "rock-1": "rock/1.mp3", "pop-1": "pop/1.mp3"})
        >>> names.meant("C:\\music\\B.0.wav"), names.meant("rock/1.mp3"), names.meant("1.mp3")
        (['b.0'], ['rock-1'], ['rock-1', 'pop-1'])
        """
        if name in self.places:
            return [name]
        parts = _parts(name)
        if not parts:
            return []
        near = [
            (track, place) for track, place in self._by_stem.get(parts[-1], ()) if self._may_be(parts, place)
        ]
        agreement: dict[str, int] = {}
        for track, place in near:
            agreement[track] = max(agreement.get(track, 0), _agreement(parts, place))
        most = max(agreement.values(), default=0)
        found = [track for track, n in agreement.items() if n == most]
        stem = identity.normalised("NFC", without_suffix(_SEPARATORS.split(name)[-1]))
        return [track for track in found if identity.normalised("NFC", track) == stem][:1] or found

    def suggestion(self, name: str) -> str:
        """Return the one track whose id is nearly what was written; blank if there is none.

        Examples
        --------
        >>> TrackNames({"pop.00004": "", "pop.00005": ""}).suggestion("POP-4")
        'pop.00004'
        """
        stem = _parts(name)[-1:]
        wanted = _numbered(stem[0]) if stem else ()
        same = self._by_numbers.get(wanted, []) if wanted else []
        if same or not stem:
            return same[0] if len(same) == 1 else ""
        if len(self.places) > _SEARCHED:
            return ""
        found = difflib.get_close_matches(stem[0], self._by_stem, n=2, cutoff=_ALIKE)
        tracks = [track for key in found[:1] for track, _ in self._by_stem[key]]
        return tracks[0] if len(tracks) == 1 else ""

    def _may_be(self, parts: list[str], place: list[str]) -> bool:
        """Return whether the first folder, from the file upwards, that differs is none of the library's."""
        n = _agreement(parts, place)
        return n >= min(len(parts), len(place)) or parts[-1 - n] not in self._folders

    @cached_property
    def _by_stem(self) -> dict[str, list[tuple[str, list[str]]]]:
        """Return, by the last part of a name, the tracks and the parts of their places."""
        found: dict[str, list[tuple[str, list[str]]]] = {}
        for track, place in self.places.items():
            own, there = _parts(track), _parts(place)
            found.setdefault(own[-1] if own else "", []).append((track, [*there[:-1], *own[-1:]]))
            if there and there[-1:] != own[-1:]:
                found.setdefault(there[-1], []).append((track, there))
        return found

    @cached_property
    def _folders(self) -> frozenset[str]:
        return frozenset(part for place in self.places.values() for part in _parts(place)[:-1])

    @cached_property
    def _by_numbers(self) -> dict[tuple[str, ...], list[str]]:
        found: dict[tuple[str, ...], list[str]] = {}
        for track in self.places:
            found.setdefault(_numbered(_key(track)), []).append(track)
        return found


def without_suffix(name: str) -> str:
    """Return a file's name without the suffix of an audio format, in any case."""
    return next((name[: -len(end)] for end in AUDIO_SUFFIXES if name.lower().endswith(end)), name)


def _parts(name: str) -> list[str]:
    """Return folders and stem of a path, as they are compared."""
    parts = [part for part in _SEPARATORS.split(name.strip()) if part not in ("", ".")]
    return [*map(_key, parts[:-1]), _key(without_suffix(parts[-1]))] if parts else []


def _key(name: str) -> str:
    """Return what spellings of a name have in common; of plain letters in a tenth of the time."""
    return FORBIDDEN.sub("_", " ".join(name.lower().split()) if name.isascii() else identity.key(name))


def _numbered(key: str) -> tuple[str, ...]:
    """Return words and numbers of a name, numbers without leading zeros: ``("pop", "4")``."""
    return tuple(
        part.lstrip("0") or "0" if part.isdigit() else part for part in re.findall(r"\d+|[^\W\d_]+", key)
    )


def _agreement(parts: Iterable[str], place: Iterable[str]) -> int:
    """Return how many parts are the same, from the last one."""
    pairs = zip(reversed(list(parts)), reversed(list(place)), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
