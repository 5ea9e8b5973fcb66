"""``artifacts/catalog/tracks.csv``: one row per track, usable or with the reason why not."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pandas as pd

TRACKS: Final = Path("artifacts/catalog/tracks.csv")

TRACK_FINDINGS: Final = Path("artifacts/catalog/findings.json")

TRACK_COLUMNS: Final = (
    "track_id",
    "genre",
    "path",
    "seconds",
    "n_slices",
    "sample_rate",
    "channels",
    "peak",
    "rms",
    "clipped",
    "sha256",
    "artist",
    "title",
    "duplicate_of",
    "filtered_split",
    "usable",
    "reason",
)
NUMERIC: Final = ("seconds", "n_slices", "sample_rate", "channels", "peak", "rms", "clipped", "usable")


def read_tracks(path: Path = TRACKS) -> pd.DataFrame:
    """Read ``tracks.csv``; text columns have blanks, not NaN."""
    text = {name: str for name in TRACK_COLUMNS if name not in NUMERIC}
    return pd.read_csv(path, dtype=text, keep_default_na=False, na_values={})


def usable_tracks(path: Path = TRACKS) -> pd.DataFrame:
    """Read the rows of ``tracks.csv`` that may be used."""
    tracks = read_tracks(path)
    return tracks[tracks["usable"]].reset_index(drop=True)
