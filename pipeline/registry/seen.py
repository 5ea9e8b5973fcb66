"""Which tracks are new to a model? By the content of their files, since names change.

A re-encoded file has other bytes, and counts as another recording.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from pipeline.training.folds import track_groups


def contents(tracks: pd.DataFrame, track_ids: list[str]) -> list[str]:
    """Return the SHA-256 of the audio that a model has seen: its tracks and all known duplicates of them.

    Parameters
    ----------
    tracks
        The catalogue: ``track_id``, ``sha256``, ``duplicate_of``, ``artist``.
    track_ids
        What the model has trained on or been chosen by.
    """
    cluster = track_groups(tracks, by_artist=False)
    theirs = cluster[tracks["track_id"].isin(track_ids)]
    return sorted(set(tracks.loc[cluster.isin(theirs), "sha256"]) - {""})


def is_seen(tracks: pd.DataFrame, card: dict[str, Any]) -> pd.Series:
    """Return whether the model of a card has seen each track, or a known duplicate of it.

    Parameters
    ----------
    tracks
        The catalogue.
    card
        ``seen_sha256``; cards of the first releases know only ``seen_tracks``, the ids.

    Returns
    -------
    pd.Series
        bool, in the order of ``tracks``.
    """
    known = card.get("seen_sha256")
    seen = tracks["track_id"].isin(card["seen_tracks"]) if known is None else tracks["sha256"].isin(known)
    return seen.groupby(track_groups(tracks, by_artist=False)).transform("any").astype(bool)
