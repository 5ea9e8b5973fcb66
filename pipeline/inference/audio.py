"""Decode audio block by block, mix and resample it, and cut it into slices.

Nothing is taken from a file's header but the format: the samples are counted as they come, so that neither a
header that lies nor ten hours of silence in two megabytes takes more memory than the limit allows.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
import soxr

from .errors import DataError

SAMPLE_RATE: Final = 22_050  # Hz, GTZAN's
SLICE_SAMPLES: Final = 220_598  # a third of GTZAN's usual 661 794 samples, about 10 s
SUFFIXES: Final = (".au", ".wav", ".flac", ".mp3", ".ogg")
MAX_SECONDS: Final = 1_800.0  # 30 min, 159 MB as float32 at 22 050 Hz; longer is a programme, not a track

_LOUDEST: Final = 1e4  # times full scale; beyond it a float file is damaged, and float32 power overflows
_RATES: Final = (1_000, 768_000)  # Hz; a header outside it would make resampling take gigabytes
_MAX_CHANNELS: Final = 32  # third-order ambisonics has 16
_MAX_BYTES: Final = 1 << 30  # 100 minutes of a CD
_BLOCK: Final = 1 << 19  # samples of all channels per read: 2 MiB, half of it in cache with the mono result


@dataclass(frozen=True)
class Stream:
    """Audio being decoded: ``rate`` in Hz, and ``blocks``, each float32 (n, channels), full scale 1.0."""

    rate: int
    channels: int
    blocks: Iterator[np.ndarray]


class _Sequential(soundfile.SoundFile):
    """A file that is only read onwards: soundfile seeks after every block of a seekable one."""

    def seekable(self) -> bool:
        return False


@contextmanager
def opened(source: Path | bytes) -> Iterator[Stream]:
    """Open a file, or its content, in any format libsndfile reads (au, wav, flac, mp3, ogg, …).

    Raises
    ------
    DataError
        The content is empty or no audio, or has an impossible rate, too many channels or bytes.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> soundfile.write(file, np.zeros((8_000, 2)), 8_000, format="WAV")
    >>> with opened(file.getvalue()) as stream:
    ...     stream.rate, stream.channels, [block.shape for block in stream.blocks]
    (8000, 2, [(8000, 2)])
    """
    name = source if isinstance(source, Path) else f"{len(source)} bytes"
    with _refused(name):
        size = source.stat().st_size if isinstance(source, Path) else len(source)
        if size > _MAX_BYTES:
            raise DataError(f"expected audio of at most {_MAX_BYTES} bytes, received {name}: {size} bytes")
        # From a path libsndfile takes anything called .au for headerless 8 kHz audio.
        content = source.open("rb") if isinstance(source, Path) else io.BytesIO(source)
    with content:
        with _refused(name):
            file = _Sequential(content)
        with file:
            if not _RATES[0] <= file.samplerate <= _RATES[1]:
                raise DataError(f"expected audio, received {name}: a sample rate of {file.samplerate} Hz")
            if file.channels > _MAX_CHANNELS:
                raise DataError(
                    f"expected at most {_MAX_CHANNELS} channels, received {name}: {file.channels}"
                )
            yield Stream(file.samplerate, file.channels, _blocks(file, name))


def _blocks(file: soundfile.SoundFile, name: object) -> Iterator[np.ndarray]:
    """Yield what the file holds, at least one sample, until the decoder gives no more."""
    length, first = max(1, _BLOCK // file.channels), True
    while True:
        with _refused(name):
            block = file.read(length, dtype="float32", always_2d=True)
        if not len(block):
            break
        yield block
        first = False
    if first:
        raise DataError(f"expected audio, received {name}: no samples")


@contextmanager
def _refused(name: object) -> Iterator[None]:
    """Turn the decoder's errors into ours, in its words without the path, which ``name`` gives."""
    try:
        yield
    except (OSError, RuntimeError, MemoryError) as error:
        words = getattr(error, "strerror", None) or str(error)  # the system's own words have no path
        reason = words.rsplit(": ", 1)[-1].strip().rstrip(".")
        raise DataError(f"expected audio, received {name}: {reason}") from None


def is_possible(samples: np.ndarray) -> np.ndarray:
    """Return True for each sample that is a number of possible size."""
    return np.abs(samples) <= _LOUDEST  # false for NaN


def load(source: Path | bytes, *, max_seconds: float = MAX_SECONDS) -> np.ndarray:
    """Decode a file, or its content, to one channel at 22 050 Hz; see `opened` and `mono`.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> soundfile.write(file, np.zeros((44_100, 2)), 44_100, format="FLAC")
    >>> load(file.getvalue()).shape
    (22050,)
    """
    with opened(source) as stream:
        return mono(stream, max_seconds=max_seconds)


def mono(stream: Stream, *, max_seconds: float = MAX_SECONDS) -> np.ndarray:
    """Mix to one channel and resample to 22 050 Hz, block by block.

    Parameters
    ----------
    stream
        Decoded no further than ``max_seconds``.
    max_seconds
        The longest clip taken; it bounds the memory, 88 kB per second.

    Returns
    -------
    np.ndarray
        float32 (n_samples,), bit for bit what mixing and resampling the clip as a whole gives.

    Raises
    ------
    DataError
        A sample is NaN, infinite or beyond 10 000 x full scale, or the clip is longer.
    """
    # Zeros take no memory until they are written to, and the rest is given back in place.
    out = np.zeros(1 + math.ceil(max_seconds * SAMPLE_RATE), np.float32)
    length = 0
    for chunk in _resampled(_mixed(stream, max_seconds), stream.rate):
        out[length : length + len(chunk)] = chunk
        length += len(chunk)
    out.resize(length, refcheck=False)
    return out


def _mixed(stream: Stream, max_seconds: float) -> Iterator[np.ndarray]:
    """Yield each block's mean over the channels, float32 (n,)."""
    length = 0
    for block in stream.blocks:
        length += len(block)
        if length > max_seconds * stream.rate:
            raise DataError(f"expected at most {max_seconds:g} s of audio, received more. Cut the file")
        if not is_possible(block).all():
            raise DataError(
                f"expected finite samples, at most {_LOUDEST:g} x full scale, "
                "received NaN, infinity or larger"
            )
        mixed = block[:, 0].copy()
        for channel in range(1, stream.channels):  # one after the other: the same order on every CPU
            mixed += block[:, channel]
        mixed /= stream.channels
        yield mixed


def _resampled(chunks: Iterator[np.ndarray], rate: int) -> Iterator[np.ndarray]:
    """Yield the chunks at 22 050 Hz, those that are so already as they are."""
    resampler = soxr.ResampleStream(rate, SAMPLE_RATE, num_channels=1, dtype="float32", quality="HQ")
    for chunk in chunks:
        yield resampler.resample_chunk(chunk)
    yield resampler.resample_chunk(np.empty(0, np.float32), last=True)


def n_slices(seconds: float) -> int:
    """Return how many slices a clip gives: the nearest whole number, at least one (three for 30 s)."""
    return max(1, round(seconds * SAMPLE_RATE / SLICE_SAMPLES))


def fix_length(samples: np.ndarray) -> np.ndarray:
    """Cut to ``SLICE_SAMPLES``, or pad with zeros at the end; float32 (220598,)."""
    out = np.zeros(SLICE_SAMPLES, np.float32)
    kept = samples[:SLICE_SAMPLES]
    out[: len(kept)] = kept
    return out


def slices(samples: np.ndarray) -> Iterator[np.ndarray]:
    """Cut a clip into equal slices, as the project report does with ``array_split``.

    Parameters
    ----------
    samples
        float32 (n_samples,) at 22 050 Hz.

    Yields
    ------
    np.ndarray
        ``n_slices`` times float32 (220598,), padded with zeros or cut to length; one at a time, since all
        of them take as much memory as the clip.

    Examples
    --------
    >>> half_a_minute = np.zeros(30 * SAMPLE_RATE, np.float32)
    >>> [len(each) for each in slices(half_a_minute)]
    [220598, 220598, 220598]
    """
    yield from map(fix_length, np.array_split(samples, n_slices(len(samples) / SAMPLE_RATE)))
