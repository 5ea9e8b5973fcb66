"""Which tracks fit a query best: a product of pole strengths, and how many tracks really fit."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from serving.listener import poles
from serving.query import Query

_EPSILON: Final = 0.02  # a pole that is not there at all: log(0) would hide the other poles
_TOP: Final = 0.2  # the share of the library that counts as fitting a pole
_LEAST: Final = 0.25  # and the strength that it must have all the same


@dataclass(frozen=True)
class Percentiles:
    """For each track the share of tracks whose value it is not below, 0 to 1; ties share one."""

    values: np.ndarray

    def __getitem__(self, n: int) -> float:
        return float(np.searchsorted(self._ordered, self.values[n], side="right")) / len(self.values)

    @functools.cached_property
    def _ordered(self) -> np.ndarray:
        return np.sort(self.values)

    def top(self, share: float) -> np.ndarray:
        """Return which tracks have a percentile of at least ``1 - share``, bool (n_tracks,)."""
        if not len(self.values):
            return np.zeros(0, bool)
        # Not a place more because (1 - share) n, where it is whole, is rounded up.
        place = math.ceil((1 - share) * len(self.values) - 1e-9) - 1
        return self.values >= np.partition(self.values, place)[place]


@dataclass(frozen=True)
class Ranking:
    """Every track in order.

    Parameters
    ----------
    order
        Indices, best first; those that the query rules out are not among them.
    score
        Of each track, 0 to 1, (n_tracks,).
    because
        By pole, each track's percentile in the library of having it (or of lacking it, if unwanted).
    fitting
        How many tracks are in the top fifth for every pole, and have it.
    """

    order: np.ndarray
    score: np.ndarray
    because: Mapping[str, Percentiles]
    fitting: int


def rank(
    query: Query,
    means: Mapping[str, np.ndarray],
    classes: Mapping[str, list[str]],
    *,
    like: Sequence[int] = (),
    unlike: Sequence[int] = (),
) -> Ranking:
    """Order tracks by a query.

    Parameters
    ----------
    query
        From `serving.query.understand`.
    means, classes
        By task, a track's probabilities (n_tracks, n_classes), and the classes' names.
    like, unlike
        Indices of tracks that the result should, and should not, resemble; they are not in it.
    """
    n = len(next(iter(means.values())))
    total, because = np.zeros(n), {}
    fits = np.ones(n, bool)
    if query.poles:
        strengths = poles(means["mood"], classes["mood"], of=tuple(query.poles))
        for pole, weight in query.poles.items():
            strength = strengths[pole]
            value = np.clip(strength, _EPSILON, 1 - _EPSILON)
            total += abs(weight) * np.log(value if weight > 0 else 1 - value)
            because[pole] = Percentiles(strength if weight > 0 else -strength)
            if weight > 0:
                fits &= because[pole].top(_TOP) & (strength >= _LEAST)
            else:
                fits &= strength < _LEAST
        total /= sum(abs(weight) for weight in query.poles.values())
    for mood in query.moods:
        if mood in classes["mood"]:
            total += np.log(_EPSILON + means["mood"][:, classes["mood"].index(mood)])
    if like or unlike:
        total += _likeness(means, like) - _likeness(means, unlike)
    score = np.exp(total - total.max()) if n else total
    allowed = np.ones(n, bool)
    if query.genres and "genre" in means:
        is_wanted = np.array([name in query.genres for name in classes["genre"]])
        allowed &= is_wanted[means["genre"].argmax(axis=1)]
    allowed[[*like, *unlike]] = False
    order = np.argsort(-score, kind="stable")
    return Ranking(
        order[allowed[order]],
        score,
        because,
        int((fits & allowed).sum()) if query.poles else int(allowed.sum()),
    )


def _likeness(means: Mapping[str, np.ndarray], tracks: Sequence[int]) -> np.ndarray:
    """Return how alike tracks' answers are to those of some, 0 to 1 (Bhattacharyya, mean of the tasks)."""
    if not tracks:
        return np.zeros(len(next(iter(means.values()))))
    found = []
    for shares in means.values():
        root = np.sqrt(np.clip(shares, 0, 1))
        middle = root[list(tracks)].mean(axis=0)
        found.append(root @ (middle / max(float(np.linalg.norm(middle)), 1e-9)))
    return np.mean(found, axis=0)
