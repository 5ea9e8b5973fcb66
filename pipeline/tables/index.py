"""``data/index.csv``: artist, title, known duplicates and the published split of each track."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pandas as pd

from pipeline import files
from pipeline.errors import DataError
from pipeline.tables.text_csv import read_table

INDEX: Final = Path("data/index.csv")
INDEX_FILE: Final = INDEX.name

INDEX_COLUMNS: Final = (
    "track_id",
    "genre",
    "bytes",
    "sha256",
    "artist",
    "title",
    "artist_source",
    "exact_duplicate_of",
    "filtered_split",
)
# A file's path in the library it comes from; there only if it says more than genre and track id.
SOURCE: Final = "source"
# What the catalogue needs of them.
USED_COLUMNS: Final = ("track_id", "artist", "title", "exact_duplicate_of", "filtered_split")


def read_index(path: Path) -> pd.DataFrame:
    """Read artist, title, known duplicates and the published split; all text, blank where unknown."""
    if not path.exists():
        raise DataError(f"expected {path} (artist, title, split), received no such file. Fill data/ again.")
    index = read_table(path, columns=USED_COLUMNS)
    twice = index.loc[index["track_id"].duplicated(), "track_id"].unique().tolist()
    if twice:
        raise DataError(
            f"{path}: expected each track once, received {', '.join(twice[:5])} twice. Delete a row."
        )
    return index.set_index("track_id")


def write_index(folder: Path, index: pd.DataFrame) -> None:
    """Write the facts on a data folder's tracks, sorted by id; columns not given are left blank."""
    names = [*INDEX_COLUMNS, SOURCE] if SOURCE in index else list(INDEX_COLUMNS)
    table = index.reindex(columns=names, fill_value="").sort_values("track_id")
    files.write_csv(folder / INDEX_FILE, table)


def sources_of(folder: Path) -> dict[str, str]:
    """Return, by track id, each file's path in the library it comes from; nothing where that is not known."""
    path = folder / INDEX_FILE
    if not path.exists():
        return {}
    index = read_table(path, columns=["track_id"])
    return dict(zip(index["track_id"], index[SOURCE], strict=True)) if SOURCE in index else {}
