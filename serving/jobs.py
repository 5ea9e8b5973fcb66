"""What a worker does with an audio file: answer it, draw it, make it playable.

Each function takes the worker's `Listener` first; arguments and results pass between processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from serving.attribution import UnexplainableError
from serving.explanation import AREA, Explainer, Explanation
from serving.listener import Heard, Listener, sha256

PLAYABLE: Final = frozenset({".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".mp4", ".aac"})

_BARS: Final = 480  # of a waveform


def answer(listener: Listener, path: Path, name: str) -> tuple[dict[str, Any], Heard]:
    """Return a file's record, with ``name`` as its path and its SHA-256, and the answers behind it."""
    heard = listener.hear(path)
    record = listener.record(Path(name), heard)
    return record | {"id": sha256(path)}, heard


@dataclass(frozen=True)
class Question:
    """Which decision is asked about.

    Parameters
    ----------
    task
        ``genre`` or ``mood``.
    label
        Why this class; blank for the most probable one.
    area
        How much of the spectrogram is called what decided, 0 to 1.
    """

    task: str
    label: str = ""
    area: float = AREA


def why(listener: Listener, path: Path, question: Question) -> dict[str, Any]:
    """Return what decided as plain JSON types (``cmg.why/1``), and what is left of the answer without it.

    Raises
    ------
    ParamsError
        There is no such class, or no champion for the task.
    UnexplainableError
        The champion's decisions cannot be taken apart.
    UnreadableError
        The file cannot be decoded.
    """
    explainer, samples, found = _explained(listener, path, question)
    region, number = found.region(question.area), explainer.classes.index(found.label)
    # One after the other: half an hour of audio takes 160 MB.
    without, alone = (
        round(float(explainer.probabilities(masked(samples, found.grid, region))[number]), 6)
        for masked in (explainer.without, explainer.only)
    )
    return {
        "schema": "cmg.why/1",
        "task": question.task,
        "label": found.label,
        "model": listener.champions[question.task].name,
        "seconds": round(len(samples) / listener.sample_rate, 3),
        "probability": round(found.probability, 6),
        "without": without,
        "only": alone,
        "area": round(float(found.grid.area[region].sum()), 4),
        "logit": round(found.logit, 6),
        "silence": round(found.silence, 6),
        "heights": (found.grid.bands / explainer.settings.n_mels).round(4).tolist(),
        "hertz": [round(value, 1) for value in explainer.hertz(found.grid)],
        "times": found.grid.times.round(3).tolist(),
        "shares": found.shares.round(6).tolist(),
        "decided": region.astype(int).tolist(),
    }


def why_each(listener: Listener, path: Path) -> dict[str, Any]:
    """Return by task why its most probable class, as `why`, or ``error``: why that cannot be said.

    Raises
    ------
    UnreadableError
        The file cannot be decoded.
    """
    found: dict[str, Any] = {}
    for task in listener.champions:
        try:
            found[task] = why(listener, path, Question(task))
        except UnexplainableError as error:
            found[task] = {"error": str(error)}
    return found


def why_picture(listener: Listener, path: Path, question: Question, opacity: float) -> bytes:
    """Return a PNG of a file's spectrogram, and what speaks for and against a class over it; see `why`."""
    from serving import heat_map

    explainer, samples, found = _explained(listener, path, question)
    levels = heat_map.spectrogram(samples, explainer.settings)
    seconds = (np.arange(levels.shape[1]) + 0.5) * len(samples) / levels.shape[1] / listener.sample_rate
    return heat_map.png(levels, found.grid.painted(found.density, len(levels), seconds), opacity)


def why_audio(
    listener: Listener, path: Path, question: Question, part: Literal["decided", "rest"], target: Path
) -> None:
    """Write what decided, or the rest, as WAV of 16 bits: the spectrum masked, phases kept; see `why`."""
    explainer, samples, found = _explained(listener, path, question)
    masked = explainer.only if part == "decided" else explainer.without
    _write(target, masked(samples, found.grid, found.region(question.area)), listener.sample_rate)


def _explained(
    listener: Listener, path: Path, question: Question
) -> tuple[Explainer, np.ndarray, Explanation]:
    explainer, samples = listener.explainer(question.task), listener.samples(path, question.task)
    return explainer, samples, explainer.explain(samples, question.label)


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
    _write(target, listener.samples(path), listener.sample_rate)


def _write(target: Path, samples: np.ndarray, rate: int) -> None:
    import soundfile

    part = target.with_suffix(".part")
    soundfile.write(part, samples, rate, format="WAV", subtype="PCM_16")
    part.replace(target)
