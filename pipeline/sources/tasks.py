"""Write the tasks that the data has something to learn for into ``params.yaml``."""

from __future__ import annotations

import argparse
from typing import Final

import pandas as pd

from pipeline import data_folder, params, presets
from pipeline.errors import run_main
from pipeline.labelling import merging
from pipeline.tables.index import INDEX_FILE
from pipeline.tables.text_csv import read_table
from pipeline.taxonomy import UNKNOWN_GENRE

NOTHING: Final = (
    "nothing to learn yet: there is one genre or none, and too few mood labels. "
    "Now: import again, a folder with several genres, or with LABELS=FILE"
)


def fit(*, anew: bool) -> None:
    """Fit the tasks to the genres and labels of the data folder, and say what comes next.

    See `pipeline.presets.fit_tasks`.
    """
    index = read_table(data_folder.DATA / INDEX_FILE, columns=["track_id", "genre", "artist"])
    genres = set(index["genre"]) - {UNKNOWN_GENRE, ""}
    labelled = learnable_moods(merging.read(data_folder.DATA), index)
    if not presets.fit_tasks(genres=len(genres), labelled=len(labelled) > 1, anew=anew):
        print(NOTHING)
        return
    print(f"tasks: {', '.join(params.read().tasks)} (params.yaml)\nnow: make repro")


def learnable_moods(labels: pd.DataFrame, index: pd.DataFrame) -> list[str]:
    """Return the moods that tracks of enough artists have; a track of unknown artist counts as an artist."""
    artist = index.set_index("track_id")["artist"]
    known = labels[["track_id", "mood"]].assign(group=labels["track_id"].map(artist[artist != ""]))
    groups = known["group"].fillna(known["track_id"]).groupby(known["mood"]).nunique()
    return sorted(groups[groups >= presets.GROUPS].index)


def main() -> None:
    """Make every task one that there is something to learn for."""
    argparse.ArgumentParser(prog="python -m pipeline.sources.tasks", description=main.__doc__).parse_args()
    fit(anew=True)


if __name__ == "__main__":
    run_main(main)
