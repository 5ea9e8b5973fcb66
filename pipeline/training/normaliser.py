"""Fit the normaliser that serving applies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from pipeline.inference.normalise import Kind, Normaliser

_EPSILON: Final = 1e-6  # dB^2; a band that varies less never changes, and is left at zero


def fit(kind: Kind, clips: Iterable[np.ndarray]) -> Normaliser:
    """Fit on the training part only, one clip in memory at a time.

    Parameters
    ----------
    kind
        ``"l2"`` needs no fitting.
    clips
        Arrays (n_slices, n_mels, frames) in dB.
    """
    if kind == "l2":
        return Normaliser("l2")
    count = 0
    total = squares = np.zeros(1)  # (1,), then (n_mels,)
    for clip in clips:
        values = clip.astype(np.float64)
        count += values.shape[0] * values.shape[2]
        total = total + values.sum(axis=(0, 2))
        squares = squares + np.square(values).sum(axis=(0, 2))
    mean = total / count
    # In float64, where the mean of squares loses nothing that matters in dB.
    variance = squares / count - np.square(mean)
    std = np.sqrt(np.where(variance > _EPSILON, variance, 1.0))  # 1 dB: later changes stay in proportion
    return Normaliser("standard", tuple(mean.tolist()), tuple(std.tolist()))
