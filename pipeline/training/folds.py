"""Groups of tracks that must stay together, and folds that keep them so."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from pipeline.errors import DataError


def track_groups(tracks: pd.DataFrame, *, by_artist: bool) -> pd.Series:
    """Return each track's group: tracks connected by a common artist or by being duplicates.

    Parameters
    ----------
    tracks
        All usable tracks, also those without a label: two artists may be one by a track between them.
        Columns ``track_id``, ``artist`` (blank: unknown, shared with nobody), ``duplicate_of``, ``sha256``.
    by_artist
        False: only duplicates belong together.

    Returns
    -------
    pd.Series
        The group's first track id, in the order of ``tracks``.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = len(tracks)
    original = tracks["duplicate_of"].where(tracks["duplicate_of"] != "", tracks["track_id"])
    position = {track_id: i for i, track_id in enumerate(tracks["track_id"])}
    # A duplicate may name a track that is a duplicate itself.
    links = [(i, position[track_id]) for i, track_id in enumerate(original) if track_id in position]
    keys = [tracks["sha256"], original] + ([artist_keys(tracks)] if by_artist else [])
    for key in keys:
        # A link to the first track of the same key, instead of one between any two.
        first = pd.Series(range(n)).groupby(key.to_numpy()).transform("first").to_numpy()
        # A blank artist is unknown, and shared with nobody.
        links += [(i, first[i]) for i in range(n) if key.iloc[i]]
    rows, columns = zip(*links, strict=True)
    component = connected_components(coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(n, n)))[1]
    return tracks["track_id"].groupby(component).transform("min")


def artist_keys(tracks: pd.DataFrame) -> pd.Series:
    """Return what two spellings of one artist have in common; blank: unknown."""
    return tracks["artist"].str.normalize("NFKC").str.casefold().str.strip()


def group_names(tracks: pd.DataFrame, group: pd.Series, *, by_artist: bool) -> pd.Series:
    """Return each track's group's name, which stays when tracks join or leave the group, or ids change.

    An artist's group has the artist's name, the first of several; another group has its content's hash, an
    original's rather than a duplicate's.

    Parameters
    ----------
    tracks, by_artist
        As for `track_groups`.
    group
        From `track_groups`.
    """
    artist = artist_keys(tracks) if by_artist else pd.Series("", index=tracks.index)
    # A name that stays: an artist's before a content's, an original's before a copy's.
    kind = np.select([artist != "", tracks["duplicate_of"] == ""], [0, 1], 2)
    name = ("artist " + artist).where(artist != "", "content " + tracks["sha256"])
    best = pd.DataFrame({"group": group, "kind": kind, "name": name}).sort_values(["kind", "name"])
    return group.map(best.groupby("group")["name"].first())


def stratified_folds(label: pd.Series, group: pd.Series, n_folds: int, seed: int) -> np.ndarray:
    """Return a fold number for each row, int (n,): stratified by label, groups kept whole.

    Raises
    ------
    DataError
        There are fewer groups than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    if group.nunique() < n_folds:
        raise DataError(
            f"expected at least {n_folds} groups (artists, or tracks of unknown artist), "
            f"received {group.nunique()}. Add tracks of other artists, or hold out a larger share."
        )
    largest = label.value_counts().max()
    if largest < n_folds:
        raise DataError(
            f"expected at least {n_folds} tracks in some class, received {largest} at most. "
            "Add tracks, or hold out a larger share."
        )
    out = np.zeros(len(label), int)
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # classes rarer than the folds are expected: moods are
        warnings.simplefilter("ignore", UserWarning)
        for number, (_, held_out) in enumerate(splitter.split(label, label, group)):
            out[held_out] = number
    return out
