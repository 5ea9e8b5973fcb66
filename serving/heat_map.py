"""A spectrogram as a picture, and over it what speaks for a class."""

from __future__ import annotations

import io
from typing import Final

import numpy as np

from pipeline.inference.logmel import LogMel, decibels, mel_power

WIDTH: Final = 1200  # most columns of a picture

_ROWS_PER_BAND: Final = 2  # pixels
_RANGE_DB: Final = 80.0  # from white to black
_QUIETEST: Final = 1e-10  # power, -100 dB
_NOTHING: Final = 1e-12
_GAMMA: Final = 0.6  # weak colours are seen too
_FOR: Final = np.array([233, 78, 27], np.float32)  # orange: speaks for the class
_AGAINST: Final = np.array([38, 104, 190], np.float32)  # blue


def png(levels: np.ndarray, density: np.ndarray, opacity: float) -> bytes:
    """Return a PNG: low frequencies below, loud is dark, orange speaks for the class and blue against it.

    Parameters
    ----------
    levels
        float32 (n_mels, n_columns), in dB.
    density
        How much each point speaks for the class, of the same shape.
    opacity
        Of the strongest colour, 0 to 1; at 0 the spectrogram alone.
    """
    from PIL import Image

    grey = np.clip((levels.max() - levels) / _RANGE_DB, 0, 1)[..., None] * 255
    strength = (np.abs(density) / max(float(np.abs(density).max()), _NOTHING)) ** _GAMMA
    strength = strength[..., None] * opacity
    colour = np.where(density[..., None] > 0, _FOR, _AGAINST)
    pixels = (grey * (1 - strength) + colour * strength).round().astype(np.uint8)
    stream = io.BytesIO()
    image = Image.fromarray(np.repeat(pixels[::-1], _ROWS_PER_BAND, axis=0))
    image.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def spectrogram(samples: np.ndarray, settings: LogMel) -> np.ndarray:
    """Return a recording's mel spectrogram for the eye: float32 dB, (n_mels, at most 1200 columns).

    Parameters
    ----------
    samples
        float32 (n_samples,) at 22 050 Hz; the columns are equal parts of it.
    settings
        The model's.
    """
    power = mel_power(samples, settings)
    edges = np.linspace(0, power.shape[1], min(power.shape[1], WIDTH) + 1).astype(int)
    means = np.add.reduceat(power, edges[:-1], axis=1) / np.diff(edges)
    return decibels(np.maximum(means, _QUIETEST).astype(np.float32))
