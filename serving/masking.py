"""Let parts of a recording be heard, and the others not: its short-time spectrum masked, and turned back."""

from __future__ import annotations

from typing import Final

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view

N_FFT: Final = 2048
HOP_LENGTH: Final = 512
N_BINS: Final = N_FFT // 2 + 1

_MORE: Final = 2  # frames
_BLOCK: Final = 64  # frames at a time: 0.5 MB of spectrum, whatever the recording's length


def n_frames(n_samples: int) -> int:
    """Return the number of frames of a recording; frame t is centred at sample 512 t."""
    return 1 + -(-n_samples // HOP_LENGTH)


def apply(samples: np.ndarray, region: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return a recording of which one region is heard; phases stay, and so does the level of what is heard.

    Parameters
    ----------
    samples
        float32 (n_samples,).
    region
        What is heard of each cell, 0 to 1, (n_rows, n_columns).
    rows
        The region's row of each frequency of the spectrum, int (1025,).
    columns
        The region's column of each frame, int (`n_frames`,).

    Returns
    -------
    np.ndarray
        float32 (n_samples,). The whole region gives the recording back within 1e-6.

    Examples
    --------
    >>> tone = np.sin(np.arange(22_050) / 5).astype(np.float32)
    >>> none = np.zeros((1, 1))
    >>> np.abs(apply(tone, none, np.zeros(N_BINS, int), np.zeros(n_frames(22_050), int))).max()
    np.float32(0.0)
    """
    window = np.hanning(N_FFT + 1)[:-1].astype(np.float32)
    # As many frames before and behind that as many overlap everywhere: their squares then add up to 1.5.
    columns = np.pad(columns[: n_frames(len(samples))], _MORE, mode="edge")
    length = (len(columns) - 1) * HOP_LENGTH + N_FFT
    before = N_FFT // 2 + _MORE * HOP_LENGTH
    padded = np.pad(samples, (before, length - len(samples) - before))
    heard = np.zeros(length, np.float32)
    each = sliding_window_view(padded, N_FFT)[::HOP_LENGTH]  # (n_frames, n_fft), no copy
    for first in range(0, len(columns), _BLOCK):
        block = slice(first, first + _BLOCK)
        spectrum = scipy.fft.rfft(each[block] * window, axis=1)
        spectrum *= region[rows][:, columns[block]].T.astype(np.float32)
        parts = scipy.fft.irfft(spectrum, axis=1) * (window / np.float32(1.5))
        for start, part in zip(range(first * HOP_LENGTH, length, HOP_LENGTH), parts, strict=False):
            heard[start : start + N_FFT] += part
    return heard[before : before + len(samples)]
