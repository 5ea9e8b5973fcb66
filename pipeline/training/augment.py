"""The project report's five waveform copies; SpecAugment, gain, shifts and mixup on log-mel slices."""

from __future__ import annotations

from typing import Final

import numpy as np

from pipeline.inference.audio import SAMPLE_RATE, fix_length
from pipeline.params import SpecAugmentParams

COPIES: Final = ("pitch_up_4", "pitch_up_6", "stretch_half", "stretch_double", "noise")

_PITCH_STEPS: Final = (4, 6)  # semitones
_STRETCH_RATES: Final = (0.5, 2.0)  # below 1 is slower
_NOISE_SIGMA: Final = 0.005  # of full scale


def waveform_copies(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the project report's five copies of a slice, each cut or padded to the slice's length.

    Parameters
    ----------
    samples
        float32 (220598,) at 22 050 Hz.
    rng
        Draws the noise.

    Returns
    -------
    np.ndarray
        float32 (5, 220598), in the order of ``COPIES``.
    """
    import librosa

    shifted = [librosa.effects.pitch_shift(samples, sr=SAMPLE_RATE, n_steps=steps) for steps in _PITCH_STEPS]
    stretched = [librosa.effects.time_stretch(samples, rate=rate) for rate in _STRETCH_RATES]
    noisy = samples + _NOISE_SIGMA * rng.standard_normal(len(samples), dtype=np.float32)
    return np.stack([fix_length(copy) for copy in (*shifted, *stretched, noisy)])


def _mask(batch: np.ndarray, *, axis: int, longest: int, count: int, rng: np.random.Generator) -> None:
    """Set random stripes along ``axis`` of each slice to the slice's mean; in place."""
    size = batch.shape[axis]
    for decibels in batch:
        fill = decibels.mean()
        for _ in range(count):
            width = int(rng.integers(0, min(longest, size) + 1))  # 0: no stripe this time
            start = int(rng.integers(0, size - width + 1))
            decibels[(slice(None),) * (axis - 1) + (slice(start, start + width),)] = fill


def specaugment(batch: np.ndarray, settings: SpecAugmentParams, rng: np.random.Generator) -> np.ndarray:
    """Augment log-mel slices before normalisation: shift in time, gain, time and mel masks.

    Parameters
    ----------
    batch
        float32 (n, n_mels, frames) in dB; left as it is.
    settings
        Ranges, see ``params.yaml``.
    rng
        Draws everything.

    Returns
    -------
    np.ndarray
        float32 (n, n_mels, frames) in dB. After Park et al. 2019 (SpecAugment).
    """
    shifts = rng.integers(-settings.shift_frames, settings.shift_frames + 1, len(batch))
    # What leaves at the end comes in at the start: no frame of silence is invented.
    out = np.stack([np.roll(decibels, shift, axis=-1) for decibels, shift in zip(batch, shifts, strict=True)])
    out += rng.uniform(-settings.gain_db, settings.gain_db, (len(out), 1, 1)).astype(np.float32)
    _mask(out, axis=2, longest=settings.time_mask_frames, count=settings.time_masks, rng=rng)
    _mask(out, axis=1, longest=settings.mel_mask_bands, count=settings.mel_masks, rng=rng)
    return out


def mixup(
    batch: np.ndarray, targets: np.ndarray, alpha: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Blend each row with another of the batch, inputs and targets by the same share.

    Parameters
    ----------
    batch
        float32 (n, ...).
    targets
        float32 (n, n_classes).
    alpha
        Of the Beta(alpha, alpha) distribution; 0 changes nothing.
    rng
        Draws the shares and the partners.

    Returns
    -------
    tuple of np.ndarray
        The blended batch and targets. After Zhang et al. 2018.
    """
    if alpha == 0:
        return batch, targets
    share = rng.beta(alpha, alpha, len(batch)).astype(np.float32)
    share = np.maximum(share, 1 - share)  # each row stays the larger part of its blend
    partner = rng.permutation(len(batch))
    wide = share.reshape(-1, *(1,) * (batch.ndim - 1))
    blended = wide * batch + (1 - wide) * batch[partner]
    narrow = share[:, None]
    return blended, narrow * targets + (1 - narrow) * targets[partner]
