"""Which tracks of a library to play: what was asked, how it was understood, and how many really fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from pipeline import taxonomy
from pipeline.errors import ParamsError
from serving.query import Query, understand
from serving.ranking import Ranking, rank
from serving.track_index import Tracks

_SAME_SECONDS: Final = 2.0  # two editions of one recording differ by less

__all__ = ["Mix", "Wanted", "choose", "highlight"]


@dataclass(frozen=True)
class Wanted:
    """What a listener asks for.

    Parameters
    ----------
    text, excluded
        In the language of `serving.query`.
    genres
        Only these, if any.
    like, unlike
        Contents (SHA-256) that the result should, and should not, resemble.
    number
        How many tracks, if ``least`` is None.
    least
        The score, 0 to 1, from which on a track is taken, however many that are.
    per_artist
        Most tracks of one artist.
    """

    text: str = ""
    excluded: str = ""
    genres: tuple[str, ...] = ()
    like: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    number: int = 20
    least: float | None = None
    per_artist: int | None = None


@dataclass(frozen=True)
class Mix:
    """What was chosen.

    Parameters
    ----------
    query
        How the words were understood.
    notes
        How many tracks really fit, what was left out and why.
    chosen
        Indices of `Tracks`, best first.
    ranking
        Of all tracks.
    """

    query: Query
    notes: tuple[str, ...]
    chosen: tuple[int, ...]
    ranking: Ranking = field(repr=False)

    def as_dict(self, tracks: Tracks) -> dict[str, Any]:
        """Return plain JSON types."""
        found = [
            {
                "id": tracks.digests[n],
                "path": tracks.paths[n],
                "artist": tracks.artists[n],
                "title": tracks.titles[n],
                "seconds": round(float(tracks.seconds[n]), 3),
                "score": round(float(self.ranking.score[n]), 4),
                "because": {
                    pole: round(float(self.ranking.because[pole][n]), 4) for pole in self.query.poles
                },
            }
            for n in self.chosen
        ]
        return {
            "understood": list(self.query.understood),
            "notes": list(self.notes),
            "poles": dict(self.query.poles),
            "tracks": found,
        }


def choose(wanted: Wanted, tracks: Tracks, classes: Mapping[str, list[str]]) -> Mix:
    """Choose tracks.

    Parameters
    ----------
    wanted
        What was asked.
    tracks
        From `serving.track_index.Library.tracks`.
    classes
        By task, the champion's classes.

    Raises
    ------
    ParamsError
        Nothing is asked for; a word, a genre or a track is not known; there is no champion for moods.
    """
    query = _understood(wanted, classes)
    seeds = [_places(wanted.like, tracks), _places(wanted.unlike, tracks)]
    ranking = rank(query, tracks.means, classes, like=seeds[0], unlike=seeds[1])
    most = None if wanted.least is not None else wanted.number
    chosen, left_out = _distinct(ranking, tracks, wanted, most)
    heads = [pole if weight > 0 else f"not {pole}" for pole, weight in query.poles.items()]
    notes = []
    if heads:
        notes.append(
            f"{ranking.fitting:,} of your {len(tracks.paths):,} tracks "
            f"{'is' if ranking.fitting == 1 else 'are'} {_all_of(heads)}"
        )
    if left_out:
        notes.append(f"{sum(left_out.values())} left out: " + ", ".join(_counted(left_out, wanted)))
    if query.ignored:
        notes.append("not understood: " + ", ".join(query.ignored))
    if most is not None and len(chosen) < most:
        notes.append(f"only {len(chosen)} of the {most} asked for, as no other track is left")
    return Mix(query, tuple(notes), tuple(chosen), ranking)


def _understood(wanted: Wanted, classes: Mapping[str, list[str]]) -> Query:
    if not (wanted.text or wanted.excluded or wanted.genres or wanted.like):
        raise ParamsError(
            "expected words, genres or a track to resemble, received none of them. Try "
            '"negative but hopeful".'
        )
    names = classes.get("genre", [])
    query = Query({})
    if wanted.text or wanted.excluded:
        if "mood" not in classes:
            raise ParamsError("expected a champion for moods, received none. Label moods, then `dvc repro`.")
        moods = {name: mood.poles for name, mood in taxonomy.read().moods.items()}
        query = understand(wanted.text, moods=moods, genres=names, excluded=wanted.excluded)
    if wanted.genres:
        genres = tuple(taxonomy.canonical_genre(genre.strip()) for genre in wanted.genres)
        if unknown := set(genres) - set(names):
            raise ParamsError(
                f"expected genres among {', '.join(names)}, received {', '.join(sorted(unknown))}."
            )
        said = (*query.understood, "only " + ", ".join(genres))
        query = replace(query, genres=genres, understood=said)
    if not query.understood:
        query = replace(query, understood=("tracks like those named",))
    return query


def _places(digests: Sequence[str], tracks: Tracks) -> list[int]:
    found = []
    for digest in digests:
        if digest not in tracks.places:
            raise ParamsError(f"expected the id of a track of the library, received {digest[:80]!r}.")
        found.append(tracks.places[digest])
    return found


def _distinct(
    ranking: Ranking, tracks: Tracks, wanted: Wanted, most: int | None
) -> tuple[list[int], Counter[str]]:
    """Take the best tracks, each recording once and not too many of an artist."""
    chosen: list[int] = []
    known: dict[tuple[str, str], list[float]] = {}
    by_artist: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    for n in map(int, ranking.order):
        if len(chosen) == most or (wanted.least is not None and ranking.score[n] < wanted.least):
            break
        artist, title = tracks.artists[n].casefold(), tracks.titles[n].casefold()
        lengths = known.setdefault((artist, title), []) if artist and title else []
        if any(abs(tracks.seconds[n] - length) < _SAME_SECONDS for length in lengths):
            left_out["duplicate"] += 1
            continue
        if wanted.per_artist is not None and artist and by_artist[artist] >= wanted.per_artist:
            left_out["artist"] += 1
            continue
        lengths.append(float(tracks.seconds[n]))
        by_artist[artist] += 1
        chosen.append(n)
    return chosen, left_out


def _counted(left_out: Mapping[str, int], wanted: Wanted) -> list[str]:
    said = []
    if number := left_out.get("duplicate"):
        said.append(f"{number} of the same artist, title and length as another")
    if number := left_out.get("artist"):
        said.append(f"{number} beyond {wanted.per_artist} per artist")
    return said


def _all_of(poles: list[str]) -> str:
    *others, last = poles
    return "in your top fifth for " + (f"{', '.join(others)} and {last}" if others else last)


def highlight(query: Query, slices: Mapping[str, np.ndarray], classes: Mapping[str, list[str]]) -> int:
    """Return which slice of a track fits a query best, from its answers by task (n_slices, n_classes)."""
    n = min(len(one) for one in slices.values())
    shown = {task: one[:n] for task, one in slices.items()}
    return int(rank(replace(query, genres=()), shown, classes).order[0]) if n else 0
