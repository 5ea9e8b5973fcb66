"""Measure a decoded clip: what the audio checks look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from pipeline.inference.audio import Clip, is_possible

_FULL_SCALE: Final = 32_767 / 32_768  # the largest 16-bit sample


@dataclass(frozen=True)
class Measures:
    """What the audio checks look at.

    Parameters
    ----------
    seconds
        Length.
    rate, channels
        As stored in the file.
    peak, rms
        Linear, 1.0 is full scale; rms is over all channels.
    clipped
        Share of samples at full scale, 0 to 1.
    nonfinite
        Number of NaN and infinite samples.
    """

    seconds: float
    rate: int
    channels: int
    peak: float
    rms: float
    clipped: float
    nonfinite: int


def measure(clip: Clip) -> Measures:
    """Measure a clip; samples that are not finite, or absurdly large, count as silence in peak and rms."""
    finite = is_possible(clip.samples)
    samples = np.where(finite, clip.samples, 0.0)
    peaks = np.abs(samples)
    return Measures(
        seconds=len(samples) / clip.rate,
        rate=clip.rate,
        channels=samples.shape[1],
        peak=float(peaks.max()),
        rms=float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))),
        clipped=float(np.mean(peaks >= _FULL_SCALE)),
        nonfinite=int(np.size(finite) - np.count_nonzero(finite)),
    )
