"""``data/gtzan/<genre>/<id>.<suffix>``: the audio files that DVC versions."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pipeline.errors import DataError
from pipeline.inference import audio

AUDIO: Final = Path("data/gtzan")


def find_audio(root: Path) -> list[Path]:
    """Return the audio files ``root/<genre>/<file>``, sorted.

    Raises
    ------
    DataError
        There is none.
    """
    found = sorted(
        path for path in root.glob("*/*") if path.suffix.lower() in audio.SUFFIXES and not path.is_dir()
    )
    if not found:
        raise DataError(
            f"expected audio files {root}/<genre>/<id> ({' '.join(audio.SUFFIXES)}), received none. "
            "Fill data/ with `python -m pipeline.sources.sample`, `make gtzan` or `make folder SRC=…`."
        )
    return found
