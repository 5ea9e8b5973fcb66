"""Which groups are held out: each by a hash of its own name, corrected no more than shares and classes need.

A group's *place* is a number between 0 and 1 that follows from the seed and the group's name alone. The
lowest places are the test part, the next ones validate, the others train: whatever is added or removed, a
place stays. On a small library chance would miss the wished shares and leave classes out. So groups change
sides, those nearest to the boundary first, until

* every class has a group in the part and one to train on;
* no class has much more than double its share there;
* the part's share of the tracks is within `TOLERANCE` of the wish.

Where chance keeps these limits already, as it does on a large library, nothing is corrected and no group ever
moves because of others.

A group that an earlier split has put somewhere stays there. New groups bring the shares back to the wish;
only where these do not suffice, training groups are held out too. A test group leaves only if a class has no
other group to train on, or to bring a share that is too large back within `TOLERANCE`: then it validates, and
all that leave have at most `GIVEN_UP` of the earlier test rows.
"""

from __future__ import annotations

import hashlib
import math
from typing import Final

import numpy as np
import pandas as pd

TOLERANCE: Final = 0.029  # of all tracks, so that rounding keeps a share within 3 points
# A class's rows in a part and 1.5 times the next group's stay below 2.5 times its share: a large group, whose
# coming and going moves much, needs more room than a small one.
MOST: Final = 2.5
_ROOM: Final = 1.5
GIVEN_UP: Final = 0.05  # of the earlier test rows, for the share; counted with what has come to their groups
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


def parts(
    label: pd.Series,
    group: pd.Series,
    places: pd.Series,
    *,
    valid: float,
    test: float,
    before: pd.DataFrame | None = None,
) -> pd.Series:
    """Return each row's part: ``test``, ``valid`` or ``train``.

    Parameters
    ----------
    label, group
        Of each row (n,); a group may hold several classes.
    places
        Of each row's group (n,), in [0, 1).
    valid, test
        The wished shares of the rows, in (0, 1), together below 1.
    before
        Of each row (n,): ``part`` of its group in an earlier split, blank of a new group, and whether the row
        itself was in it, ``seen``; None: there was no split.

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
    was, seen = np.full(len(place_of), "", dtype=object), np.zeros(len(place_of), int)
    if before is not None:
        of_group = before.groupby(group.to_numpy()).agg({"part": "first", "seen": "sum"}).loc[place_of.index]
        was, seen = of_group["part"].to_numpy(), of_group["seen"].to_numpy()
    spare = GIVEN_UP * seen[was == "test"].sum()
    is_low = place_of.to_numpy() < test
    leave = 2  # one group of every class to validate, one to train
    is_test = choose(counts, is_low, was, part="test", share=test, leave=leave, spare=spare)
    rest = ~is_test
    is_valid = np.zeros_like(is_test)
    is_low = place_of.to_numpy() < test + valid
    share = valid * len(label) / max(1, counts[rest].sum())  # of what the test part has left
    is_valid[rest] = choose(counts[rest], is_low[rest], was[rest], part="valid", share=share, leave=1)
    part = pd.Series(np.select([is_test, is_valid], ["test", "valid"], "train"), index=place_of.index)
    return pd.Series(part[group].to_numpy(), index=label.index)


def choose(
    counts: np.ndarray,
    low: np.ndarray,
    was: np.ndarray,
    *,
    part: str,
    share: float,
    leave: int,
    spare: float = math.inf,
) -> np.ndarray:
    """Return which groups make up a part.

    Parameters
    ----------
    counts
        Rows of each group and class, int (n_groups, n_classes), the groups in the order of their places.
    low
        Whether a group's place is below the boundary, bool (n_groups,).
    was
        Each group's part in an earlier split, blank if it is new: str (n_groups,).
    part
        ``test``, or then ``valid`` of what is left: what has just left the test part validates.
    share
        Wished share of the rows, in (0, 1).
    leave
        Groups of every class that must be left over; fewer, but at least one, where a class has no more.
    spare
        Rows of the groups that were in the part and may leave it, for its share.

    Returns
    -------
    np.ndarray
        Bool (n_groups,).
    """
    chosen = _Part(counts, was, part, share, leave, spare)
    for group in chosen.stayers():
        if chosen.leaves_one(group):
            chosen.move(group, 1)
    # Three passes: what chance and the classes ask for, then back or on until the share is met. Giving back
    # starts at the highest place, taking more at the lowest: those nearest to the boundary change sides.
    order = chosen.order()
    for group in order:
        by_chance = chosen.is_new[group] and low[group] and chosen.has_room(group)
        if not chosen.taken[group] and chosen.may_take(group) and (chosen.needs(group) or by_chance):
            chosen.move(group, 1)
    for group in reversed(order):
        if chosen.taken[group] and chosen.may_give(group) and chosen.is_closer(group, -1):
            chosen.move(group, -1)
    for group in order:
        is_free = not chosen.taken[group] and chosen.may_take(group) and chosen.has_room(group)
        if is_free and chosen.is_closer(group, 1):
            chosen.move(group, 1)
    return chosen.taken


class _Part:
    """A part that is filled group by group, and its limits; arrays of one number per class: (n_classes,)."""

    def __init__(
        self, counts: np.ndarray, was: np.ndarray, part: str, share: float, leave: int, spare: float
    ) -> None:
        self.counts, self.has = counts, counts > 0
        n_rows, n_groups = counts.sum(axis=0), self.has.sum(axis=0)
        self.is_new, self.was_train = was == "", was == "train"
        self.stays = (was == part) | (was == "test")
        self.must_stay = self.stays & (was != part)
        is_first = bool(self.is_new.all())
        self.wish, self.slack = share * n_rows.sum(), TOLERANCE * n_rows.sum()
        # New groups are free to meet the share exactly; in a first split they move as little as possible.
        self.slack_of = np.where(self.is_new & (not is_first), 0, self.slack)
        self.most = MOST * share * n_rows
        # A class of one group keeps it for training; never 0, so that such a class is never taken.
        self.leave = np.clip(n_groups - 1, 1, leave)
        self.taken = np.zeros(len(counts), bool)
        self.rows, self.groups, self.left = np.zeros_like(n_rows), np.zeros_like(n_groups), n_groups
        self.spare = spare

    def stayers(self) -> list[int]:
        """Return the groups that were in the part, the smallest last: it trains if a class has no other."""
        groups = np.flatnonzero(self.stays)
        return groups[np.argsort(-self.counts[groups].sum(axis=1), kind="stable")].tolist()

    def order(self) -> list[int]:
        """Return the groups by place; first those that were in the part, then new ones, then the others."""
        too_large = (_ROOM * self.counts >= self.most).any(axis=1, where=self.has)
        rank = np.select([self.stays, self.is_new & ~too_large, self.is_new, self.was_train], [0, 1, 2, 3], 4)
        return np.argsort(rank, kind="stable").tolist()

    def leaves_one(self, group: int) -> bool:
        return bool((self.left > 1)[self.has[group]].all())

    def may_take(self, group: int) -> bool:
        return bool((self.left > self.leave)[self.has[group]].all())

    def needs(self, group: int) -> bool:
        return bool((self.groups < 1)[self.has[group]].any())

    def has_room(self, group: int) -> bool:
        return bool((self.rows + _ROOM * self.counts[group] < self.most)[self.has[group]].all())

    def may_give(self, group: int) -> bool:
        if self.stays[group] and (self.must_stay[group] or self.counts[group].sum() > self.spare):
            return False
        return bool((self.groups > 1)[self.has[group]].all())

    def is_closer(self, group: int, sign: int) -> bool:
        """Return whether the part's share is off, and less so once the group has come (1) or gone (-1)."""
        off = self.rows.sum() - self.wish
        return abs(off) > self.slack_of[group] and abs(off + sign * self.counts[group].sum()) < abs(off)

    def move(self, group: int, sign: int) -> None:
        """Take a group (1), or give it back (-1)."""
        if sign < 0 and self.stays[group]:
            self.spare -= self.counts[group].sum()
        self.taken[group] = sign > 0
        self.rows = self.rows + sign * self.counts[group]
        self.groups = self.groups + sign * self.has[group]
        self.left = self.left - sign * self.has[group]
