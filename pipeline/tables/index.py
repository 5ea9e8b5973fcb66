"""``data/index.csv``: artist, title, known duplicates and the published split of each track."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pandas as pd

from pipeline.errors import DataError
from pipeline.sources import library

INDEX: Final = Path("data/index.csv")

INDEX_COLUMNS: Final = ("track_id", "artist", "title", "exact_duplicate_of", "filtered_split")


def read_index(path: Path) -> pd.DataFrame:
    """Read artist, title, known duplicates and the published split; all text, blank where unknown."""
    if not path.exists():
        raise DataError(f"expected {path} (artist, title, split), received no such file. Fill data/ again.")
    index = library.read_table(path, columns=INDEX_COLUMNS)
    twice = index.loc[index["track_id"].duplicated(), "track_id"].unique().tolist()
    if twice:
        raise DataError(
            f"{path}: expected each track once, received {', '.join(twice[:5])} twice. Delete a row."
        )
    return index.set_index("track_id")
