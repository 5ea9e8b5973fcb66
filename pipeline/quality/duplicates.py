"""Which tracks are the same recording: equal in content, or known as such to the data's index."""

from __future__ import annotations

import pandas as pd


def first_copies(track_ids: pd.Series, sha256: pd.Series, published: pd.Series) -> pd.Series:
    """Return for each track the first one of the same recording.

    Parameters
    ----------
    track_ids
        Sorted.
    sha256
        Of each track's file; ``""`` where it is not known.
    published
        The track id that the index names as the original; ``""`` for none.

    Returns
    -------
    pd.Series
        The first track (by id) with the same content; else the track that the index names or, where that one
        is missing, the first track for which the index names the same. ``""`` where the track is the first.

    Examples
    --------
    >>> found = first_copies(pd.Series(["a", "b", "c"]), pd.Series(["1", "2", "1"]), pd.Series(["", "", ""]))
    >>> found.tolist()
    ['', '', 'a']
    """
    ids = pd.Series(track_ids.to_numpy())
    names, hashes = pd.Series(published.to_numpy()), pd.Series(sha256.to_numpy())
    original = names.where(names.isin(ids), _first_with_same(names, ids))
    same_content = _first_with_same(hashes, ids)
    original = same_content.where(same_content != ids, original)
    return original.where(original != ids, "")


def _first_with_same(key: pd.Series, ids: pd.Series) -> pd.Series:
    """Return for each track the first track id with the same, non-blank ``key``; itself where it is blank."""
    return ids.groupby(key).transform("min").where(key != "", ids)
