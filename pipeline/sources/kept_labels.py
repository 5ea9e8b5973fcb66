"""A library that is taken in again keeps the labels that people gave it meanwhile."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Set
from pathlib import Path

import pandas as pd

from pipeline import files
from pipeline.labelling import merging
from pipeline.tables.dataset import dataset_of
from pipeline.tables.label_history import HISTORY_FILE
from pipeline.tables.mood_labels import LABELS_FILE, LINE
from pipeline.tables.text_csv import csv_text
from pipeline.untrusted import listing


def carry_over(staging: Path, *, data: Path, names: Set[str], track_ids: Set[str]) -> str:
    """Take the present labels of these tracks, and the history of intakes, along into a new data folder.

    Only of the same library: one of these names in ``dataset.json``, and not synthetic. Elsewhere an id
    such as ``blues.00001`` (which the sample has too) or ``01`` is another recording.

    Parameters
    ----------
    staging
        Receives ``mood_labels.csv`` and ``label_history.csv``; left as it is if there is nothing to keep.
    data
        The present data folder, if there is one.
    names
        The library's name.
    track_ids
        Ids of the tracks that are still there.

    Returns
    -------
    kept
        What was kept and what was not, as a line for the summary; blank if there was nothing.

    Raises
    ------
    DataError
        If there are labels of the same library and they cannot be read.
    """
    there = dataset_of(data)
    if there.get("synthetic", True) or not (data / LABELS_FILE).exists():
        return ""
    if there["name"] not in names:
        return (
            f"\n  labels kept: none, as {data} held another library, {there['name']!r}; DVC's cache has "
            "them in the data of before. If it is the same library, put that md5 into data.dvc, run `dvc "
            f"checkout data`, and import by pipeline.sources.folder with --name {shlex.quote(there['name'])}."
        )
    table = merging.read(data)
    is_here = table["track_id"].isin(track_ids)
    _copy_labels(table[is_here], staging, data=data, is_whole=bool(is_here.all()))
    return _kept(table.loc[is_here, "track_id"], table.loc[~is_here, "track_id"])


def _copy_labels(table: pd.DataFrame, staging: Path, *, data: Path, is_whole: bool) -> None:
    """Write the labels that stay, byte for byte if all of them do, and the history."""
    if is_whole:
        shutil.copyfile(data / LABELS_FILE, staging / LABELS_FILE)
    else:
        files.write_text(staging / LABELS_FILE, csv_text(table.drop(columns=LINE)))
    if (data / HISTORY_FILE).exists():
        shutil.copyfile(data / HISTORY_FILE, staging / HISTORY_FILE)


def _kept(here: pd.Series, gone: pd.Series) -> str:
    """Return how many labels were kept and dropped, from the track id of each."""
    said = f"\n  labels kept: {len(here)} of {here.nunique()} tracks"
    if gone.empty:
        return said
    return (
        f"{said}; dropped: {len(gone)} of tracks that are gone ({listing(gone.unique().tolist())}). "
        "DVC's cache has them in the data of before: put its md5 into data.dvc and run `dvc checkout data`."
    )
