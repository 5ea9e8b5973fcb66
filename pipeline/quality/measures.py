"""Measure audio as it is decoded: what the audio checks look at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from pipeline.inference.audio import Stream, is_possible

_FULL_SCALE: Final = 32_767 / 32_768  # the largest 16-bit sample


@dataclass(frozen=True)
class Measures:
    """What the audio checks look at.

    Parameters
    ----------
    seconds
        Length; of a file longer than the limit, that of the part that was read.
    longer
        Whether the file goes on beyond the limit.
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
    longer: bool
    rate: int
    channels: int
    peak: float
    rms: float
    clipped: float
    nonfinite: int


def measure(stream: Stream, *, max_seconds: float = math.inf) -> Measures:
    """Measure audio block by block, reading no further than ``max_seconds``.

    Samples that are not finite, or absurdly large, count as silence in peak and rms.
    """
    length, peak, squares, clipped, nonfinite = 0, 0.0, 0.0, 0, 0
    for block in stream.blocks:
        # A float file may hold NaN, or numbers whose squares overflow.
        finite = is_possible(block)
        samples = np.where(finite, block, 0.0)
        levels = np.abs(samples)
        length += len(block)
        peak = max(peak, float(levels.max()))
        squares += float(np.sum(np.square(samples, dtype=np.float64)))
        clipped += int(np.count_nonzero(levels >= _FULL_SCALE))
        nonfinite += int(np.size(finite) - np.count_nonzero(finite))
        if length > max_seconds * stream.rate:
            break
    size = length * stream.channels
    return Measures(
        seconds=length / stream.rate,
        longer=length > max_seconds * stream.rate,
        rate=stream.rate,
        channels=stream.channels,
        peak=peak,
        rms=math.sqrt(squares / size),
        clipped=clipped / size,
        nonfinite=nonfinite,
    )
