"""``data/held_out.csv``: the part in which earlier splits have put each group of tracks.

Columns: ``task,protocol,seed,valid,test,key,part``. A ``key`` is ``content <SHA-256>`` or ``artist <name>``;
the part holds for these settings of ``split`` only. The file is missing until data change for the first time:
who changes them writes down before what the last split made of them (`remembered`, `carry_over`).

The stage ``labels`` passes a task's rows on, in ``artifacts/held_out/<task>.csv``. The stage ``split`` writes
the next record's beside its split, in ``artifacts/splits/<task>.groups.csv``.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from pathlib import Path
from typing import Final

import pandas as pd

from pipeline import files
from pipeline.errors import DataError
from pipeline.tables.dataset import dataset_of
from pipeline.tables.text_csv import csv_text, read_table
from pipeline.taxonomy import TASKS

HELD_OUT_FILE: Final = "held_out.csv"
HELD_OUT: Final = Path("data") / HELD_OUT_FILE
SETTINGS: Final = ("protocol", "seed", "valid", "test")
HELD_OUT_COLUMNS: Final = ("task", *SETTINGS, "key", "part")


def earlier_path(task: str) -> Path:
    """Return where a task's rows of the record are passed on."""
    return Path(f"artifacts/held_out/{task}.csv")


def groups_path(task: str, root: Path = Path()) -> Path:
    """Return where a split's rows for the next record are."""
    return root / f"artifacts/splits/{task}.groups.csv"


def read_held_out(path: Path) -> pd.DataFrame:
    """Read a record, all text; no rows where there is no such file.

    Raises
    ------
    DataError
        The file is no UTF-8 CSV, or lacks a column.
    """
    if not path.exists():
        return pd.DataFrame(columns=list(HELD_OUT_COLUMNS), dtype="str")
    return read_table(path, columns=HELD_OUT_COLUMNS)


def write_held_out(path: Path, record: pd.DataFrame) -> None:
    """Write a record, or a task's rows of one."""
    files.write_text(path, csv_text(record[list(HELD_OUT_COLUMNS)]))


def remembered(data: Path, tasks: Sequence[str] = TASKS) -> str | None:
    """Return the text of a data folder's record once the last split's groups are in it; None if they are.

    A group that has gone stays in it: it may come back. So do those of other settings, for whoever goes back
    to these.

    Parameters
    ----------
    data
        The data folder; ``artifacts/`` is beside it.
    tasks
        Whose splits the change concerns.
    """
    before = read_held_out(data / HELD_OUT_FILE)
    drawn = [read_held_out(groups_path(task, data.parent)) for task in tasks]
    both = pd.concat([before, *drawn], ignore_index=True)[list(HELD_OUT_COLUMNS)]
    after = both.drop_duplicates(list(HELD_OUT_COLUMNS[:-1]), keep="last").sort_values(
        list(HELD_OUT_COLUMNS[:-1]), ignore_index=True
    )
    return None if after.equals(before[list(HELD_OUT_COLUMNS)]) else csv_text(after)


def carry_over(staging: Path, *, data: Path, names: Set[str]) -> None:
    """Take the record along into a new data folder of the same library, with the last split's groups in it.

    Parameters
    ----------
    staging
        Receives ``held_out.csv``, if there is anything to remember.
    data
        The present data folder, if there is one.
    names
        The library's name: one of these in ``dataset.json``.

    Raises
    ------
    DataError
        The record cannot be read.
    """
    if dataset_of(data).get("name") not in names:
        return
    text = remembered(data)
    if text is None and (data / HELD_OUT_FILE).exists():
        text = (data / HELD_OUT_FILE).read_text(encoding="utf-8")
    if text is not None:
        files.write_text(staging / HELD_OUT_FILE, text)


def place(text: str, data: Path) -> None:
    """Put a record into a data folder in one step; it is written beside it, where a kill may leave a part."""
    part = data.with_name(f".{data.name}-{HELD_OUT_FILE}")
    part.write_text(text, encoding="utf-8", newline="\n")
    part.replace(data / HELD_OUT_FILE)


def require_readable(data: Path) -> None:
    """Raise `DataError` if a data folder's record, or what is to be put in, cannot be read."""
    try:
        remembered(data)
    except DataError as error:
        raise DataError(
            f"{error} `dvc checkout` brings the last version back; without {HELD_OUT_FILE}, groups are held "
            "out by chance again."
        ) from None
