"""The one log-mel spectrogram: made here for training and for serving alike, equal to the bit on every CPU.

Only operations whose rounding IEEE 754 fixes are used (add, multiply, divide, convert), each a NumPy call of
its own, and SciPy's FFT and sparse product, which are compiled once for all CPUs of an architecture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Final

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from scipy.sparse import csr_array

from .audio import SAMPLE_RATE, SLICE_SAMPLES

_AMIN: Final = 1e-10  # floor of the power, librosa.power_to_db's default: -100 dB
_TOP_DB: Final = 80.0  # floor below each slice's own maximum, librosa.power_to_db's default
_BLOCK: Final = 64  # frames per step: 64 x 2048 float32 is 512 KiB and stays in a core's L2 cache
_LINEAR_MELS: Final = 15  # Slaney's scale is linear up to 15 mel = 1000 Hz, 27 mel per factor 6.4 above
_MANTISSA_BITS: Final = 23  # of a float32
_SQRT_HALF_BITS: Final = np.float32(math.sqrt(0.5)).view(np.int32)
_DB_PER_OCTAVE: Final = np.float32(10 * math.log10(2))
# log(m) = 2 atanh((m - 1) / (m + 1)), the series cut where float32 no longer sees the next term; in dB.
_ATANH: Final = tuple(np.float32(20 / math.log(10) / odd) for odd in (1, 3, 5, 7))


@dataclass(frozen=True)
class LogMel:
    """Parameters of the spectrogram; the defaults are the project report's.

    Parameters
    ----------
    n_fft
        Window and FFT length in samples.
    hop_length
        Samples from frame to frame.
    n_mels
        Mel bands between 0 Hz and half the sample rate.
    """

    n_fft: int = 2048
    hop_length: int = 512
    n_mels: int = 128

    @property
    def frames(self) -> int:
        """Number of frames of one slice: 431 with the defaults."""
        return 1 + SLICE_SAMPLES // self.hop_length

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of one slice's spectrogram: (n_mels, frames)."""
        return self.n_mels, self.frames


@lru_cache(maxsize=4)
def _window(n_fft: int) -> np.ndarray:
    """Return the periodic Hann window, float32 (n_fft, 1)."""
    angles = (2 * math.pi * sample / n_fft for sample in range(n_fft))
    # No value lies within 50 roundings of a float32 midpoint, so libm's last bit is not seen.
    return np.array([[0.5 - 0.5 * math.cos(angle)] for angle in angles], np.float32)


def _mel_points(n_mels: int, rate: int) -> np.ndarray:
    """Return the edges of Slaney's mel bands, evenly spaced in mel from 0 Hz: float64 (n_mels + 2,), in Hz.

    In decimals, since the last bit of ``exp`` and ``log`` differs between CPUs and may decide how a weight is
    rounded.
    """
    mels_per_log = 27 / Decimal("6.4").ln()
    highest = _LINEAR_MELS + mels_per_log * (Decimal(rate) / 2 / 1000).ln()
    mels = (highest * number / (n_mels + 1) for number in range(n_mels + 2))
    linear = 1000 / Decimal(_LINEAR_MELS)
    hertz = (
        mel * linear if mel < _LINEAR_MELS else 1000 * ((mel - _LINEAR_MELS) / mels_per_log).exp()
        for mel in mels
    )
    return np.array([float(each) for each in hertz])


@lru_cache(maxsize=4)
def _mel_filters(settings: LogMel) -> csr_array:
    return mel_filters(settings.n_mels, settings.n_fft, SAMPLE_RATE)


def mel_filters(n_mels: int, n_fft: int, rate: int) -> csr_array:
    """Return Slaney's filter bank, bit for bit that of ``librosa.filters.mel``: float32 (n_mels, bins).

    Sparse, since each bin feeds at most two bands. SciPy sums in the order of the bins with the instructions
    that every CPU of an architecture has, where a dense product's last bits depend on the CPU's BLAS kernel.
    """
    points = _mel_points(n_mels, rate)[:, None]
    bins = np.arange(1 + n_fft // 2) * (rate / n_fft)
    low, centre, high = points[:-2], points[1:-1], points[2:]
    slopes = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    triangles = np.maximum(slopes, 0.0).astype(np.float32)
    return csr_array((triangles * (2.0 / (high - low))).astype(np.float32))


def mel_power(samples: np.ndarray, settings: LogMel) -> np.ndarray:
    """Return the mel power spectrogram, equal to ``librosa.feature.melspectrogram``.

    Parameters
    ----------
    samples
        float32 (n_samples,) at 22 050 Hz; frames are centred, the ends padded with zeros.
    settings
        Window, hop and bands.

    Returns
    -------
    np.ndarray
        float32 (n_mels, frames).
    """
    padded = np.pad(samples, settings.n_fft // 2)
    return mel_frames(padded, settings.n_fft, settings.hop_length, _mel_filters(settings))


def mel_frames(padded: np.ndarray, n_fft: int, hop_length: int, bank: csr_array) -> np.ndarray:
    """Return the mel power of each frame of a padded clip.

    Parameters
    ----------
    padded
        float32 (n_samples,).
    n_fft, hop_length
        Window and hop, in samples.
    bank
        From `mel_filters`.

    Returns
    -------
    np.ndarray
        float32 (n_mels, frames).
    """
    frames = sliding_window_view(padded, n_fft)[::hop_length].T  # (n_fft, frames), no copy
    window = _window(n_fft)
    out = np.empty((bank.shape[0], frames.shape[1]), np.float32)
    for start in range(0, frames.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        spectrum = scipy.fft.rfft(frames[:, block] * window, axis=0, overwrite_x=True)
        power = np.square(spectrum.real)  # (bins, block)
        power += np.square(spectrum.imag)
        out[:, block] = bank @ power
    return out


def decibels(power: np.ndarray) -> np.ndarray:
    """Return ``10 log10(power)`` within 2e-5 dB, from operations that every CPU rounds alike.

    ``np.log10`` is not one of them: NumPy and the C library choose its code by the CPU.

    Parameters
    ----------
    power
        float32 of any shape, positive normal numbers.

    Returns
    -------
    np.ndarray
        float32 of that shape.
    """
    bits = power.view(np.int32)
    exponent = (bits - _SQRT_HALF_BITS) >> _MANTISSA_BITS
    mantissa = (bits - (exponent << _MANTISSA_BITS)).view(np.float32)  # from sqrt(1/2) to sqrt(2)
    ratio = (mantissa - 1) / (mantissa + 1)
    squared = ratio * ratio
    out = np.full_like(power, _ATANH[-1])
    for coefficient in _ATANH[-2::-1]:
        out *= squared
        out += coefficient
    out *= ratio
    out += exponent * _DB_PER_OCTAVE
    return out


def logmel(samples: np.ndarray, settings: LogMel) -> np.ndarray:
    """Return one slice's log-mel spectrogram in dB, as ``power_to_db(melspectrogram(...), ref=1.0)``.

    Parameters
    ----------
    samples
        float32 (n_samples,) at 22 050 Hz, full scale 1.0.
    settings
        Window, hop and bands.

    Returns
    -------
    np.ndarray
        float32 (n_mels, frames), dB re 1.0, no lower than the slice's maximum minus 80 dB.
    """
    power = mel_power(samples, settings)
    out = decibels(np.maximum(power, _AMIN, out=power))
    return np.maximum(out, out.max() - _TOP_DB, out=out)


def quantise(values: np.ndarray) -> np.ndarray:
    """Round to float16, steps of at most 1/16 dB below 128 dB: what is stored, and what is served."""
    return values.astype(np.float16)


def features(slices: Iterable[np.ndarray], settings: LogMel) -> np.ndarray:
    """Return the stored features of a clip's slices.

    Parameters
    ----------
    slices
        Each float32 (220598,), from `pipeline.inference.audio.slices`.
    settings
        Window, hop and bands.

    Returns
    -------
    np.ndarray
        float16 (n_slices, n_mels, frames) in dB; each slice independent of the others.

    Examples
    --------
    >>> time = np.arange(SLICE_SAMPLES) / SAMPLE_RATE
    >>> tone = np.sin(2 * np.pi * 1_000 * time).astype(np.float32)
    >>> table = features([tone], LogMel())
    >>> table.shape, table.dtype
    ((1, 128, 431), dtype('float16'))
    >>> int(table[0, :, 200].argmax())  # the band around 1000 Hz
    38
    """
    return np.stack([quantise(logmel(samples, settings)) for samples in slices])
