"""What a worker does with an audio file: answer it, draw it, make it playable.

Each function takes the worker's `Listener` first; arguments and results pass between processes.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from serving.listener import Heard, Listener, sha256

PLAYABLE: Final = frozenset({".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".mp4", ".aac"})

_BARS: Final = 480  # of a waveform


def answer(listener: Listener, path: Path, name: str) -> tuple[dict[str, Any], Heard]:
    """Return a file's record, with ``name`` as its path and its SHA-256, and the answers behind it."""
    heard = listener.hear(path)
    record = listener.record(Path(name), heard)
    return record | {"id": sha256(path)}, heard


def waveform(listener: Listener, path: Path) -> list[float]:
    """Return the loudest sample of each of 480 equal parts of a file, 0 to 1 of the loudest of all.

    Raises
    ------
    UnreadableError
        It cannot be decoded.
    """
    samples = np.abs(listener.samples(path))
    edges = np.linspace(0, len(samples), _BARS + 1).astype(int)
    peaks = np.array([samples[a : max(a + 1, b)].max() for a, b in pairwise(edges)])
    return [round(float(value), 3) for value in peaks / max(float(peaks.max()), 1e-9)]


def playable(listener: Listener, path: Path, target: Path) -> None:
    """Write what browsers do not play (AU, AIFF) as WAV, 16 bits, at the models' sample rate.

    Raises
    ------
    UnreadableError
        It cannot be decoded.
    """
    import soundfile

    part = target.with_suffix(".part")
    soundfile.write(part, listener.samples(path), listener.sample_rate, format="WAV", subtype="PCM_16")
    part.replace(target)
