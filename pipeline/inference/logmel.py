"""The one log-mel spectrogram: made here for training and for serving alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view

from .audio import SAMPLE_RATE, SLICE_SAMPLES

# Part of the cache key: raise it when a change of this module changes its numbers.
VERSION: Final = 1

_AMIN: Final = 1e-10  # floor of the power, librosa.power_to_db's default: -100 dB
_TOP_DB: Final = 80.0  # floor below each slice's own maximum, librosa.power_to_db's default
_BLOCK: Final = 64  # frames a step: 64 x 2048 float32 is 512 KiB and stays in a core's L2 cache


@dataclass(frozen=True)
class LogMel:
    """Parameters of the spectrogram; the defaults are the seed's.

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
    """Return the periodic Hann window, float32 (n_fft,)."""
    from scipy.signal import get_window  # most stages never make a spectrogram, and it takes most of a second

    return get_window("hann", n_fft, fftbins=True).astype(np.float32)


@lru_cache(maxsize=4)
def _mel_filters(spec: LogMel) -> np.ndarray:
    """Return librosa's Slaney filter bank, transposed: float32 (1 + n_fft // 2, n_mels)."""
    import librosa

    bank = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=spec.n_fft, n_mels=spec.n_mels)
    return np.ascontiguousarray(bank.T)


def mel_power(samples: np.ndarray, spec: LogMel) -> np.ndarray:
    """Return the mel power spectrogram, equal to ``librosa.feature.melspectrogram``.

    Parameters
    ----------
    samples
        float32 (n_samples,) at 22 050 Hz; frames are centred, the ends padded with zeros.
    spec
        Window, hop and bands.

    Returns
    -------
    np.ndarray
        float32 (frames, n_mels).
    """
    padded = np.pad(samples, spec.n_fft // 2)
    frames = sliding_window_view(padded, spec.n_fft)[:: spec.hop_length]  # (frames, n_fft), no copy
    window, bank = _window(spec.n_fft), _mel_filters(spec)
    out = np.empty((len(frames), spec.n_mels), np.float32)
    for start in range(0, len(frames), _BLOCK):
        spectrum = scipy.fft.rfft(frames[start : start + _BLOCK] * window, overwrite_x=True)
        power = np.square(spectrum.real)
        power += np.square(spectrum.imag)
        np.matmul(power, bank, out=out[start : start + _BLOCK])
    return out


def logmel(samples: np.ndarray, spec: LogMel) -> np.ndarray:
    """Return one slice's log-mel spectrogram in dB, as ``power_to_db(melspectrogram(...), ref=1.0)``.

    Parameters
    ----------
    samples
        float32 (n_samples,) at 22 050 Hz, full scale 1.0.
    spec
        Window, hop and bands.

    Returns
    -------
    np.ndarray
        float32 (n_mels, frames), dB re 1.0, no lower than the slice's maximum minus 80 dB.
    """
    power = mel_power(samples, spec)
    np.maximum(power, _AMIN, out=power)
    np.log10(power, out=power)
    power *= 10.0
    np.maximum(power, power.max() - _TOP_DB, out=power)
    return np.ascontiguousarray(power.T)


def quantise(decibels: np.ndarray) -> np.ndarray:
    """Round to float16, steps of at most 1/16 dB below 128 dB: what is stored, and what is served."""
    return decibels.astype(np.float16)


def features(slices: np.ndarray, spec: LogMel) -> np.ndarray:
    """Return the stored features of a clip's slices.

    Parameters
    ----------
    slices
        float32 (n_slices, 220598), from `pipeline.inference.audio.slices`.
    spec
        Window, hop and bands.

    Returns
    -------
    np.ndarray
        float16 (n_slices, n_mels, frames) in dB; each slice independent of the others.
    """
    return np.stack([quantise(logmel(one, spec)) for one in slices])
