"""Short clips for the players of the label audit and of what to label next."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import quote

import pandas as pd

from pipeline.files import replacing
from pipeline.inference import audio

CLIPS: Final = "clips"  # beside the page that plays them

_SECONDS: Final = 10.0


def clip_path(folder: Path, track_id: str) -> Path:
    """Return where a track's player finds its clip."""
    return folder / CLIPS / f"{track_id}.flac"


def clip_address(track_id: str) -> str:
    """Return the same as an address relative to the page's."""
    return quote(f"{CLIPS}/{track_id}.flac")


def write_clip(track_id: str, source: Path, folder: Path) -> None:
    """Write the middle ten seconds as FLAC, mono, 22 050 Hz: every browser plays it, none plays ``.au``."""
    import soundfile

    samples = audio.load(source)
    length = round(_SECONDS * audio.SAMPLE_RATE)
    start = max(0, (len(samples) - length) // 2)
    with replacing(clip_path(folder, track_id)) as temporary:
        soundfile.write(temporary, samples[start : start + length], audio.SAMPLE_RATE, subtype="PCM_16")


def write_clips(rows: pd.DataFrame, folder: Path) -> None:
    """Write a clip of each row's ``path``, named after its ``track_id``, for the page in ``folder``."""
    for row in rows.itertuples():
        write_clip(str(row.track_id), Path(str(row.path)), folder)


def remove_other_clips(folder: Path, kept: set[str]) -> None:
    """Remove clips of other tracks, which the page does not play any more."""
    for path in (folder / CLIPS).glob("*.flac"):
        if path.stem not in kept:
            path.unlink()
