"""``artifacts/splits/<task>.csv``: who trains, who chooses the model, who is held out.

Columns: ``track_id,label,group,part,protocol,slice,copy``. ``slice`` and ``copy`` are blank except under
``shuffled``, where each row is one slice (copy 0) or one augmented copy (1 to 5) of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pandas as pd

PARTS: Final = ("train", "valid", "test")

LEAKY: Final = frozenset({"shuffled", "seed"})  # its name in 0.1.0: a split of then still leaks

OPTIMISTIC: Final = frozenset({"track"})

SPLIT_COLUMNS: Final = ("track_id", "label", "group", "part", "protocol", "slice", "copy")


def split_path(task: str) -> Path:
    """Return where a task's split is."""
    return Path(f"artifacts/splits/{task}.csv")


def read_split(task: str) -> pd.DataFrame:
    """Read a task's split; ``slice`` and ``copy`` are nullable integers."""
    text = dict.fromkeys(SPLIT_COLUMNS[:5], str)
    return pd.read_csv(
        split_path(task),
        dtype=text | {"slice": "Int64", "copy": "Int64"},
        keep_default_na=False,
        na_values={"slice": [""], "copy": [""]},
    )
