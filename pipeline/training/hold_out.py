"""Which groups are held out: each by a hash of its own name, corrected no more than shares and classes need.

A group's *place* is a number between 0 and 1 that follows from the seed and the group's name alone. The
lowest places are the test part, the next ones validate, the others train: whatever is added or removed, a
place stays. On a small library chance would miss the wished shares and leave classes out. So groups change
sides, those nearest to the boundary first, until

* every class has a group in the part and one to train on (two in the part if its share is 1 to 1.5 groups, so
  that a new group joins the one held out before instead of replacing it);
* no class has much more than double its share there;
* the part's share of the tracks is within `TOLERANCE` of the wish.

Where chance keeps these limits already, as it does on a large library, nothing is corrected and no group ever
moves because of others.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
import pandas as pd

TOLERANCE: Final = 0.029  # of all tracks, so that rounding keeps a share within 3 points
ROUNDED_UP: Final = 1.5  # groups: up to here a class that has outgrown one held out group holds out two
# A class's rows in a part and 1.5 times the next group's stay below 2.5 times its share: a large group, whose
# coming and going moves much, needs more room than a small one.
MOST: Final = 2.5
_ROOM: Final = 1.5
_BITS: Final = 64


def place(name: str, seed: int) -> float:
    """Return a group's place in [0, 1), uniform over names.

    Examples
    --------
    >>> round(place("nina simone", seed=0), 4), round(place("nina simone", seed=1), 4)
    (0.0206, 0.0421)
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[: _BITS // 8], "big") / 2**_BITS


def parts(label: pd.Series, group: pd.Series, places: pd.Series, *, valid: float, test: float) -> pd.Series:
    """Return each row's part: ``test``, ``valid`` or ``train``.

    Parameters
    ----------
    label, group
        Of each row (n,); a group may hold several classes.
    places
        Of each row's group (n,), in [0, 1).
    valid, test
        The wished shares of the rows, in (0, 1), together below 1.

    Returns
    -------
    pd.Series
        (n,), with the index of ``label``. A class of one group trains; a part that has no group is missing.

    Examples
    --------
    >>> artist = pd.Series(["nina", "bob", "ann", "nina"])
    >>> places = artist.map(lambda name: place(name, seed=0))
    >>> parts(pd.Series(["jazz"] * 4), artist, places, valid=0.25, test=0.25).tolist()
    ['train', 'test', 'valid', 'train']
    """
    place_of = places.groupby(group.to_numpy()).first().sort_values(kind="stable")
    counts = pd.crosstab(group.to_numpy(), label.to_numpy()).loc[place_of.index].to_numpy()
    is_test = choose(counts, place_of.to_numpy() < test, share=test, leave=2)  # one to validate, one to train
    rest = ~is_test
    is_valid = np.zeros_like(is_test)
    low = place_of.to_numpy()[rest] < test + valid
    share = valid * len(label) / max(1, counts[rest].sum())  # of what the test part has left
    is_valid[rest] = choose(counts[rest], low, share=share, leave=1)
    part = pd.Series(np.select([is_test, is_valid], ["test", "valid"], "train"), index=place_of.index)
    return pd.Series(part[group].to_numpy(), index=label.index)


def choose(counts: np.ndarray, low: np.ndarray, *, share: float, leave: int) -> np.ndarray:
    """Return which groups make up a part.

    Parameters
    ----------
    counts
        Rows of each group and class, int (n_groups, n_classes), the groups in the order of their places.
    low
        Whether a group's place is below the boundary, bool (n_groups,).
    share
        Wished share of the rows, in (0, 1).
    leave
        Groups of every class that must be left over; fewer, but at least one, where a class has no more.

    Returns
    -------
    np.ndarray
        Bool (n_groups,).
    """
    part = _Part(counts, share, leave)
    order = part.order()
    # Three passes: what chance and the classes ask for, then back or on until the share is met. Giving back
    # starts at the highest place, taking more at the lowest: those nearest to the boundary change sides.
    for group in order:
        if part.may_take(group) and (part.needs(group) or (low[group] and part.has_room(group))):
            part.move(group, 1)
    for group in reversed(order):
        if part.taken[group] and part.may_give(group) and part.is_closer(group, -1):
            part.move(group, -1)
    for group in order:
        if (
            not part.taken[group]
            and part.may_take(group)
            and part.has_room(group)
            and part.is_closer(group, 1)
        ):
            part.move(group, 1)
    return part.taken


class _Part:
    """A part that is filled group by group, and its limits; arrays of one number per class: (n_classes,)."""

    def __init__(self, counts: np.ndarray, share: float, leave: int) -> None:
        self.counts, self.has = counts, counts > 0
        n_rows, n_groups = counts.sum(axis=0), self.has.sum(axis=0)
        self.wish, self.slack = share * n_rows.sum(), TOLERANCE * n_rows.sum()
        wish = share * n_groups
        self.least = np.where((wish > 1) & (wish <= ROUNDED_UP), 2, 1)
        self.most = MOST * share * n_rows
        # A class of one group keeps it for training; the least is 1, so that such a class is never taken.
        self.leave = np.clip(n_groups - 1, 1, leave)
        self.taken = np.zeros(len(counts), bool)
        self.rows, self.groups, self.left = np.zeros_like(n_rows), np.zeros_like(n_groups), n_groups

    def order(self) -> list[int]:
        """Return the groups by place, but last those that alone are too much of a class."""
        too_large = (_ROOM * self.counts >= self.most).any(axis=1, where=self.has)
        return np.argsort(too_large, kind="stable").tolist()

    def may_take(self, group: int) -> bool:
        return bool((self.left > self.leave)[self.has[group]].all())

    def needs(self, group: int) -> bool:
        return bool((self.groups < self.least)[self.has[group]].any())

    def has_room(self, group: int) -> bool:
        return bool((self.rows + _ROOM * self.counts[group] < self.most)[self.has[group]].all())

    def may_give(self, group: int) -> bool:
        return bool((self.groups > self.least)[self.has[group]].all())

    def is_closer(self, group: int, sign: int) -> bool:
        """Return whether the part's share is off, and less so once the group has come (1) or gone (-1)."""
        off = self.rows.sum() - self.wish
        return abs(off) > self.slack and abs(off + sign * self.counts[group].sum()) < abs(off)

    def move(self, group: int, sign: int) -> None:
        """Take a group (1), or give it back (-1)."""
        self.taken[group] = sign > 0
        self.rows = self.rows + sign * self.counts[group]
        self.groups = self.groups + sign * self.has[group]
        self.left = self.left - sign * self.has[group]
