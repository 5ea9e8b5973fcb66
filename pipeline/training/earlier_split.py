"""What earlier splits made of the groups that are there now, and what the next split has to know of this one.

A group is known again by its tracks' content and its artists' names, not by track ids.
"""

from __future__ import annotations

from typing import Final

import pandas as pd

from pipeline.params import SplitParams
from pipeline.tables.held_out import HELD_OUT_COLUMNS, SETTINGS
from pipeline.training.folds import artist_keys

REMEMBERED: Final = ("artist", "track")  # the protocols that draw groups

_MOST_HELD_OUT: Final = ("test", "valid", "train")  # of a group that was in two parts, half in each


def settings_of(settings: SplitParams, seed: int) -> dict[str, str]:
    """Return what a part holds for, as text: another protocol, seed or share is another draw.

    Examples
    --------
    >>> settings_of(SplitParams(protocol="artist", valid=0.25, test=0.2), seed=0)
    {'protocol': 'artist', 'seed': '0', 'valid': '0.25', 'test': '0.2'}
    """
    values = (settings.protocol, seed, f"{settings.valid:g}", f"{settings.test:g}")
    return dict(zip(SETTINGS, map(str, values), strict=True))


def earlier_parts(tracks: pd.DataFrame, group: pd.Series, record: pd.DataFrame) -> pd.DataFrame:
    """Return where earlier splits had each track's group.

    Groups that have become one are where most of their known tracks were.

    Parameters
    ----------
    tracks
        All usable tracks (n,): ``sha256``, and ``artist``, blank where unknown.
    group
        Of each track (n,), from `pipeline.training.folds.track_groups`.
    record
        ``key`` and ``part``, for this task and these settings.

    Returns
    -------
    pd.DataFrame
        Of each track (n,): ``part``, blank of a new group; ``seen``, whether a split had its content.
    """
    record = record[record["part"].isin(_MOST_HELD_OUT)]
    part_of = dict(zip(record["key"], record["part"], strict=True))
    keys = _keys(tracks)
    of_content = keys["content"].map(part_of)
    known = of_content.where(of_content.notna(), keys["artist"].map(part_of))
    votes = pd.crosstab(group.to_numpy(), known.to_numpy()).reindex(columns=[*_MOST_HELD_OUT], fill_value=0)
    part = group.map(votes.idxmax(axis=1) if len(votes) else {}).astype("str").fillna("")
    return pd.DataFrame({"part": part, "seen": of_content.notna()})


def groups_drawn(
    table: pd.DataFrame, tracks: pd.DataFrame, settings: dict[str, str], task: str
) -> pd.DataFrame:
    """Return the rows of the next record: the part of every content, and artist, that was split.

    Parameters
    ----------
    table
        The split: ``track_id``, ``part``.
    tracks
        All usable tracks: ``track_id``, ``sha256``, ``artist``.
    settings, task
        What the parts hold for.
    """
    if settings["protocol"] not in REMEMBERED:
        return pd.DataFrame(columns=list(HELD_OUT_COLUMNS), dtype="str")
    known = tracks.set_index("track_id").loc[table["track_id"]]
    keys = _keys(known).drop(columns=[] if settings["protocol"] == "artist" else ["artist"])
    rows = keys.assign(part=table["part"].to_numpy()).melt("part", value_name="key")
    rows = rows[rows["key"] != ""].drop_duplicates("key").sort_values("key", ignore_index=True)
    return rows.assign(task=task, **settings)[list(HELD_OUT_COLUMNS)]


def _keys(tracks: pd.DataFrame) -> pd.DataFrame:
    """Return by what each track is known again; a blank artist is unknown."""
    artist = artist_keys(tracks)
    return pd.DataFrame(
        {"content": "content " + tracks["sha256"], "artist": ("artist " + artist).where(artist != "", "")}
    )
