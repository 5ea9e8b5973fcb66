"""Stage ``split``: who trains, who chooses the model, who is held out, under a named protocol.

========================= ==================================================================== =========
protocol                  rule                                                                 promoted?
========================= ==================================================================== =========
``artist``                stratified by label; an artist or duplicate cluster is on one side    yes
``fault_filtered``        the published 443/197/290 GTZAN lists                                 yes
``track``                 stratified tracks; duplicates together, artists on both sides         yes
``seed``                  slices and augmented copies shuffled, as the report did: leaks        never
========================= ==================================================================== =========

``artifacts/splits/<task>.csv``: ``track_id,label,group,part,protocol,slice,copy``. ``slice`` and ``copy``
are blank but under ``seed``, where each row is one slice (copy 0) or one augmented copy (1 to 5) of it.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from pipeline import catalog, labels, params
from pipeline.augment import COPIES
from pipeline.errors import DataError, run_main
from pipeline.files import write_csv
from pipeline.taxonomy import TASKS

PARTS: Final = ("train", "valid", "test")
LEAKY: Final = frozenset({"seed"})
OPTIMISTIC: Final = frozenset({"track"})
COLUMNS: Final = ("track_id", "label", "group", "part", "protocol", "slice", "copy")


def path_of(task: str) -> Path:
    """Return where a task's split is."""
    return Path(f"artifacts/splits/{task}.csv")


def read(task: str) -> pd.DataFrame:
    """Read a task's split; ``slice`` and ``copy`` are nullable integers."""
    text = dict.fromkeys(COLUMNS[:5], str)
    return pd.read_csv(
        path_of(task),
        dtype=text | {"slice": "Int64", "copy": "Int64"},
        keep_default_na=False,
        na_values={"slice": [""], "copy": [""]},
    )


def groups(tracks: pd.DataFrame, *, by_artist: bool) -> pd.Series:
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
    links: list[tuple[int, int]] = []
    keys = [tracks["sha256"], original] + ([tracks["artist"].str.casefold().str.strip()] if by_artist else [])
    for key in keys:
        first = pd.Series(range(n)).groupby(key.to_numpy()).transform("first").to_numpy()
        links += [(i, first[i]) for i in range(n) if key.iloc[i]]
    rows, columns = zip(*links, strict=True)
    component = connected_components(coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(n, n)))[1]
    return tracks["track_id"].groupby(component).transform("min")


def folds(label: pd.Series, group: pd.Series, n_folds: int, seed: int) -> np.ndarray:
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


def hold_out(table: pd.DataFrame, share: float, seed: int) -> pd.Series:
    """Return True for about ``share`` of the rows; a class that has one group only is never held out."""
    groups_of_class = table.groupby("label")["group"].transform("nunique")
    only = table["group"].isin(table.loc[groups_of_class == 1, "group"])
    free = table[~only]
    held = pd.Series(False, index=table.index)
    held[free.index] = folds(free["label"], free["group"], max(2, round(1 / share)), seed) == 0
    return held


def grouped(table: pd.DataFrame, settings: params.SplitParams, seed: int) -> pd.Series:
    """Return the part of each row: first test, then valid, are held out of what remains."""
    part = pd.Series("train", index=table.index)
    part[hold_out(table, settings.test, seed)] = "test"
    rest = table[part == "train"]
    part[rest.index[hold_out(rest, settings.valid / (1 - settings.test), seed)]] = "valid"
    return part


def shuffled(n_rows: int, settings: params.SplitParams, seed: int) -> np.ndarray:
    """Return the seed's parts: all rows shuffled, then cut by share."""
    order = np.random.default_rng(seed).permutation(n_rows)
    n_test, n_valid = round(n_rows * settings.test), round(n_rows * settings.valid)
    part = np.full(n_rows, "train", dtype=object)
    part[order[:n_test]] = "test"
    part[order[n_test : n_test + n_valid]] = "valid"
    return part


def expand(table: pd.DataFrame, n_slices: pd.Series, *, copies: bool) -> pd.DataFrame:
    """Return one row for every slice (copy 0) and, if wanted, every augmented copy of it."""
    versions = range(1 + (len(COPIES) if copies else 0))
    rows = [
        (track_id, label, one, copy)
        for track_id, label in zip(table["track_id"], table["label"], strict=True)
        for one in range(int(n_slices[track_id]))
        for copy in versions
    ]
    out = pd.DataFrame(rows, columns=["track_id", "label", "slice", "copy"])
    group = out["track_id"] + "/" + out["slice"].astype(str) + "/" + out["copy"].astype(str)
    return out.assign(group=group)


def split(
    table: pd.DataFrame, tracks: pd.DataFrame, settings: params.SplitParams, *, seed: int, copies: bool
) -> pd.DataFrame:
    """Assign every labelled track (under ``seed``: every row) to a part.

    Parameters
    ----------
    table
        ``track_id``, ``label``.
    tracks
        The catalogue.
    settings, seed, copies
        Protocol and shares; seed; whether augmented copies exist.

    Returns
    -------
    pd.DataFrame
        The contract's columns.

    Raises
    ------
    DataError
        A part would be empty.
    """
    known = tracks.assign(group=groups(tracks, by_artist=settings.protocol == "artist"))
    facts = known.set_index("track_id").loc[table["track_id"]].reset_index()
    out = table[["track_id", "label"]].reset_index(drop=True)
    if settings.protocol == "seed":
        out = expand(out, facts.set_index("track_id")["n_slices"], copies=copies)
        out["part"] = shuffled(len(out), settings, seed)
    elif settings.protocol == "fault_filtered":
        out["group"], out["part"] = facts["group"], facts["filtered_split"]
        out = out[out["part"] != ""]
    else:
        out["group"] = facts["group"]
        out["part"] = grouped(out, settings, seed)
    out = out.assign(protocol=settings.protocol)
    _check_parts(out, settings.protocol)
    return out.reindex(columns=list(COLUMNS))


def _check_parts(table: pd.DataFrame, protocol: str) -> None:
    """Refuse a split with an empty part, or with a group in two parts."""
    empty = [part for part in PARTS if not (table["part"] == part).any()]
    if empty:
        counts = table["part"].value_counts().to_dict()
        raise DataError(
            f"protocol {protocol}: expected tracks in train, valid and test, received none in "
            f"{', '.join(empty)} (tracks: {counts}). Add tracks, or choose another split.protocol"
            + (": fault_filtered needs GTZAN's published lists." if protocol == "fault_filtered" else ".")
        )
    straddling = table.groupby("group")["part"].nunique().loc[lambda n: n > 1].index.tolist()
    if straddling:
        raise DataError(
            f"protocol {protocol}: expected each group in one part, received {straddling[:5]} in two. "
            "Mend artist, duplicate or split in data/index.csv."
        )


def main() -> None:
    """Write one task's split."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.split", description=main.__doc__)
    parser.add_argument("--task", choices=TASKS, required=True)
    task, settings = parser.parse_args().task, params.read()
    table = split(
        labels.read(task),
        catalog.usable(),
        settings.split,
        seed=settings.seed,
        copies=settings.spectrogram.waveform_copies,
    )
    write_csv(path_of(task), table)
    print(f"{task}: " + ", ".join(f"{part} {n}" for part, n in table["part"].value_counts().items()))


if __name__ == "__main__":
    run_main(main)
