"""Stage ``split``: who trains, who chooses the model, who is held out, under a named protocol.

========================= ==================================================================== =========
protocol                  rule                                                                 promoted?
========================= ==================================================================== =========
``artist``                stratified by label; an artist or duplicate cluster is on one side    yes
``fault_filtered``        the published 443/197/290 GTZAN lists                                 yes
``track``                 stratified tracks; duplicates together, artists on both sides         yes
``shuffled``              slices and augmented copies shuffled, as the project report did: leaks never
========================= ==================================================================== =========

``artifacts/splits/<task>.csv``: ``track_id,label,group,part,protocol,slice,copy``. ``slice`` and ``copy``
are blank except under ``shuffled``, where each row is one slice (copy 0) or an augmented copy (1 to 5) of it.

Under ``artist`` and ``track`` a group stays in the part that an earlier split gave it, which
``data/held_out.csv`` has noted. ``artifacts/splits/<task>.groups.csv`` is what will be noted of this split
when data change again.
"""

from __future__ import annotations

import argparse
from typing import Final

import numpy as np
import pandas as pd

from pipeline import params
from pipeline.errors import DataError
from pipeline.files import write_csv
from pipeline.stage_run import run_stage
from pipeline.tables.held_out import (
    HELD_OUT,
    SETTINGS,
    earlier_path,
    groups_path,
    read_held_out,
    write_held_out,
)
from pipeline.tables.labels import read_labels
from pipeline.tables.splits import PARTS, SPLIT_COLUMNS, split_path
from pipeline.tables.tracks import usable_tracks
from pipeline.taxonomy import TASKS
from pipeline.training.augment import COPIES
from pipeline.training.earlier_split import REMEMBERED, earlier_parts, groups_drawn, settings_of
from pipeline.training.folds import group_names, track_groups
from pipeline.training.hold_out import parts as held_out
from pipeline.training.hold_out import place

_FAR_OFF: Final = 0.03  # of all tracks
_GROUPED: Final = "Add tracks until a class has three groups (artists, or tracks of unknown artist)"
_REMEDY: Final = {
    "artist": _GROUPED,
    "track": _GROUPED.replace("artists, or tracks of unknown artist", "tracks; duplicates count once"),
    "fault_filtered": "Take in all of GTZAN: fault_filtered needs GTZAN's published lists",
    "shuffled": "Add tracks",
}


def shuffled_parts(n_rows: int, settings: params.SplitParams, seed: int) -> np.ndarray:
    """Return the parts of protocol ``shuffled``: all rows shuffled, then cut by share."""
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
        (track_id, label, number, copy)
        for track_id, label in zip(table["track_id"], table["label"], strict=True)
        for number in range(int(n_slices[track_id]))
        for copy in versions
    ]
    out = pd.DataFrame(rows, columns=["track_id", "label", "slice", "copy"])
    group = out["track_id"] + "/" + out["slice"].astype(str) + "/" + out["copy"].astype(str)
    return out.assign(group=group)


def split(
    table: pd.DataFrame,
    tracks: pd.DataFrame,
    settings: params.SplitParams,
    *,
    seed: int,
    copies: bool,
    record: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Assign every labelled track (under ``shuffled``: every row) to a part.

    Parameters
    ----------
    table
        ``track_id``, ``label``.
    tracks
        The catalogue.
    settings, seed, copies
        Protocol and shares; random seed; whether augmented copies exist.
    record
        Parts of earlier splits with these settings: ``key``, ``part``; None: there was no split.

    Returns
    -------
    pd.DataFrame
        The contract's columns.

    Raises
    ------
    DataError
        A part would be empty.
    """
    by_artist = settings.protocol == "artist"
    group = track_groups(tracks, by_artist=by_artist)
    known = tracks.assign(group=group, group_name=group_names(tracks, group, by_artist=by_artist))
    catalogue = known.set_index("track_id").loc[table["track_id"]].reset_index()
    out = table[["track_id", "label"]].reset_index(drop=True)
    if settings.protocol == "shuffled":
        out = expand(out, catalogue.set_index("track_id")["n_slices"], copies=copies)
        out["part"] = shuffled_parts(len(out), settings, seed)
    elif settings.protocol == "fault_filtered":
        out["group"], out["part"] = catalogue["group"], catalogue["filtered_split"]
        out = out[out["part"] != ""]
    else:
        out["group"] = catalogue["group"]
        places = catalogue["group_name"].map(lambda name: place(name, seed))
        before = None
        if record is not None:
            before = earlier_parts(tracks, group, record).set_axis(tracks["track_id"])
            before = before.loc[out["track_id"]].reset_index(drop=True)
        out["part"] = held_out(
            out["label"], out["group"], places, valid=settings.valid, test=settings.test, before=before
        )
    out = out.assign(protocol=settings.protocol)
    _check_parts(out, settings.protocol)
    return out.reindex(columns=list(SPLIT_COLUMNS))


def _check_parts(table: pd.DataFrame, protocol: str) -> None:
    """Refuse a split with an empty part, or with a group in two parts."""
    empty = [part for part in PARTS if not (table["part"] == part).any()]
    if empty:
        counts = table["part"].value_counts().to_dict()
        raise DataError(
            f"protocol {protocol}: expected tracks in train, valid and test, received none in "
            f"{', '.join(empty)} (tracks: {counts}). {_REMEDY[protocol]}, or choose another split.protocol."
        )
    straddling = table.groupby("group")["part"].nunique().loc[lambda n: n > 1].index.tolist()
    if straddling:
        raise DataError(
            f"protocol {protocol}: expected each group in one part, received {straddling[:5]} in two. "
            "Correct artist, duplicate or split in data/index.csv."
        )


def earlier_record(task: str, settings: dict[str, str]) -> pd.DataFrame | None:
    """Read what is noted of earlier splits with these settings; None, and say so, where there is nothing."""
    record = read_held_out(earlier_path(task))
    same = (record[list(settings)] == pd.Series(settings)).all(axis=1)
    if same.any():
        return record[same]
    if len(record) and settings["protocol"] in REMEMBERED:
        others = record[list(SETTINGS)].drop_duplicates().agg(" ".join, axis=1).tolist()
        print(
            f"{task}: drawn anew, as {HELD_OUT} holds splits of other settings "
            f"({' '.join(SETTINGS)}): {'; '.join(others)}; now {' '.join(settings.values())}"
        )
    return None


def shares_note(table: pd.DataFrame, settings: params.SplitParams) -> str:
    """Return that a part is larger or smaller than wished, and why it stays so; blank if it is not."""
    found = {part: float((table["part"] == part).mean()) for part in ("valid", "test")}
    off = [
        f"{part} has {100 * share:.0f} % of the tracks instead of {100 * getattr(settings, part):.0f} %"
        for part, share in found.items()
        if abs(share - getattr(settings, part)) > _FAR_OFF
    ]
    return f"{' and '.join(off)}: groups are whole, and a group once held out stays so" if off else ""


def main() -> None:
    """Write one task's split."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.stages.split", description=main.__doc__)
    parser.add_argument("--task", choices=TASKS, required=True)
    task, chosen = parser.parse_args().task, params.read()
    settings, tracks = settings_of(chosen.split, chosen.seed), usable_tracks()
    record = earlier_record(task, settings)
    copies = chosen.spectrogram.waveform_copies
    table = split(read_labels(task), tracks, chosen.split, seed=chosen.seed, copies=copies, record=record)
    write_csv(split_path(task), table)
    write_held_out(groups_path(task), groups_drawn(table, tracks, settings, task))
    print(f"{task}: " + ", ".join(f"{part} {n}" for part, n in table["part"].value_counts().items()))
    if chosen.split.protocol in REMEMBERED and (note := shares_note(table, chosen.split)):
        print(f"{task}: {note}")


if __name__ == "__main__":
    run_stage(main)
