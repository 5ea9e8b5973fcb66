"""Decode audio, mix and resample it, and cut it into slices."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from .errors import DataError

SAMPLE_RATE: Final = 22_050  # Hz, GTZAN's
SLICE_SAMPLES: Final = 220_598  # a third of GTZAN's usual 661 794 samples, about 10 s
SUFFIXES: Final = (".au", ".wav", ".flac", ".mp3", ".ogg")

_LOUDEST: Final = 1e4  # times full scale; beyond it a float file is damaged, and float32 power overflows
_RATES: Final = (1_000, 768_000)  # Hz; a header outside it would make resampling take gigabytes


@dataclass(frozen=True)
class Clip:
    """Decoded audio: ``samples`` float32 (n_samples, channels), full scale 1.0; ``rate`` in Hz."""

    samples: np.ndarray
    rate: int


def decode(source: Path | bytes) -> Clip:
    """Decode a file, or its content, in any format libsndfile reads (au, wav, flac, mp3, ogg, …).

    Raises
    ------
    DataError
        The content is empty or no audio.
    """
    name = source if isinstance(source, Path) else f"{len(source)} bytes"
    try:
        # From a path libsndfile takes anything called .au for headerless 8 kHz audio.
        stream = io.BytesIO(source.read_bytes() if isinstance(source, Path) else source)
        samples, rate = soundfile.read(stream, dtype="float32", always_2d=True)
    except (OSError, RuntimeError, MemoryError) as error:
        raise DataError(f"expected audio, received {name}: {_reason(error)}") from None
    if not len(samples):
        raise DataError(f"expected audio, received {name}: no samples")
    if not _RATES[0] <= rate <= _RATES[1]:
        raise DataError(f"expected audio, received {name}: a sample rate of {rate} Hz")
    return Clip(samples, rate)


def _reason(error: Exception) -> str:
    """Return the decoder's words without the path, which the caller names."""
    return str(error).rsplit(": ", 1)[-1].strip().rstrip(".")


def is_possible(samples: np.ndarray) -> np.ndarray:
    """Return True for each sample that is a number of possible size."""
    return np.abs(samples) <= _LOUDEST  # false for NaN


def mono(clip: Clip) -> np.ndarray:
    """Mix to one channel and resample to 22 050 Hz.

    Returns
    -------
    np.ndarray
        float32 (n_samples,).

    Raises
    ------
    DataError
        A sample is NaN or infinite.
    """
    if not is_possible(clip.samples).all():
        raise DataError(
            f"expected finite samples, at most {_LOUDEST:g} x full scale, received NaN, infinity or larger"
        )
    samples = clip.samples[:, 0] if clip.samples.shape[1] == 1 else clip.samples.mean(axis=1)
    if clip.rate == SAMPLE_RATE:
        return samples
    import librosa  # soxr behind it; most files need no resampling

    return librosa.resample(samples, orig_sr=clip.rate, target_sr=SAMPLE_RATE, res_type="soxr_hq")


def n_slices(seconds: float) -> int:
    """Return how many slices a clip gives: the nearest whole number, at least one (three for 30 s)."""
    return max(1, round(seconds * SAMPLE_RATE / SLICE_SAMPLES))


def fix_length(samples: np.ndarray) -> np.ndarray:
    """Cut to ``SLICE_SAMPLES``, or pad with zeros at the end; float32 (220598,)."""
    out = np.zeros(SLICE_SAMPLES, np.float32)
    kept = samples[:SLICE_SAMPLES]
    out[: len(kept)] = kept
    return out


def slices(samples: np.ndarray) -> np.ndarray:
    """Cut a clip into equal slices, as the seed does with ``array_split``.

    Parameters
    ----------
    samples
        float32 (n_samples,) at 22 050 Hz.

    Returns
    -------
    np.ndarray
        float32 (n_slices, 220598); each slice padded with zeros or cut to length.
    """
    parts = np.array_split(samples, n_slices(len(samples) / SAMPLE_RATE))
    return np.stack([fix_length(part) for part in parts])
