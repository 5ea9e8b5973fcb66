"""Write the tasks that the data has something to learn for into ``params.yaml``."""

from __future__ import annotations

import argparse
from typing import Final

from pipeline import data_folder, params, presets
from pipeline.errors import run_main
from pipeline.labelling import merging
from pipeline.tables.index import INDEX_FILE
from pipeline.tables.text_csv import read_table
from pipeline.taxonomy import UNKNOWN_GENRE

NOTHING: Final = (
    "nothing to learn yet: there is one genre or none, and no mood label. "
    "Now: import again, a folder with several genres, or with LABELS=FILE"
)


def fit(*, anew: bool) -> None:
    """Fit the tasks to the genres and labels of the data folder, and say what comes next.

    See `pipeline.presets.fit_tasks`.
    """
    genres = set(read_table(data_folder.DATA / INDEX_FILE, columns=["genre"])["genre"]) - {UNKNOWN_GENRE, ""}
    labelled = not merging.read(data_folder.DATA).empty
    if not presets.fit_tasks(genres=len(genres), labelled=labelled, anew=anew):
        print(NOTHING)
        return
    print(f"tasks: {', '.join(params.read().tasks)} (params.yaml)\nnow: make repro")


def main() -> None:
    """Make every task one that there is something to learn for."""
    argparse.ArgumentParser(prog="python -m pipeline.sources.tasks", description=main.__doc__).parse_args()
    fit(anew=True)


if __name__ == "__main__":
    run_main(main)
