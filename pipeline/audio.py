"""Decode audio, measure it, and cut it into slices."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from pipeline.errors import DataError

SAMPLE_RATE: Final = 22_050  # Hz, GTZAN's
SLICE_SAMPLES: Final = 220_598  # a third of GTZAN's usual 661 794 samples, about 10 s
SUFFIXES: Final = (".au", ".wav", ".flac", ".mp3", ".ogg")

_FULL_SCALE: Final = 32_767 / 32_768  # the largest 16-bit sample
_LOUDEST: Final = 1e4  # times full scale; beyond it a float file is damaged, and float32 power overflows
_RATES: Final = (1_000, 768_000)  # Hz; a header outside it would make resampling take gigabytes


@dataclass(frozen=True)
class Clip:
    """Decoded audio: ``samples`` float32 (n_samples, channels), full scale 1.0; ``rate`` in Hz."""

    samples: np.ndarray
    rate: int


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


def measure(clip: Clip) -> Measures:
    """Measure a clip; samples that are not finite, or absurdly large, count as silence in peak and rms."""
    finite = _sound(clip.samples)
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


def _sound(samples: np.ndarray) -> np.ndarray:
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
    if not _sound(clip.samples).all():
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
