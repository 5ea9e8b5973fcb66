"""Write the tasks that the data has something to learn for into ``params.yaml``."""

from __future__ import annotations

import argparse

from pipeline import data_folder, params, presets
from pipeline.errors import run_main
from pipeline.labelling import merging
from pipeline.tables.index import INDEX_FILE
from pipeline.tables.text_csv import read_table
from pipeline.taxonomy import UNKNOWN_GENRE


def fit(*, anew: bool) -> None:
    """Fit the tasks to the genres and labels of the data folder; see `pipeline.presets.fit_tasks`."""
    genres = set(read_table(data_folder.DATA / INDEX_FILE, columns=["genre"])["genre"]) - {UNKNOWN_GENRE, ""}
    labelled = not merging.read(data_folder.DATA).empty
    presets.fit_tasks(genres=len(genres), labelled=labelled, anew=anew)
    tasks = ", ".join(params.read().tasks)
    print(f"tasks: {tasks} (params.yaml)")


def main() -> None:
    """Make every task one that there is something to learn for."""
    argparse.ArgumentParser(prog="python -m pipeline.sources.tasks", description=main.__doc__).parse_args()
    fit(anew=True)


if __name__ == "__main__":
    run_main(main)
