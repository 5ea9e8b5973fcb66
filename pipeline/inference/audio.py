"""Decode audio block by block, mix and resample it, and cut it into slices.

Nothing is taken from a file's header but the format: the samples are counted as they come, so that neither a
header that lies nor ten hours of silence in two megabytes takes more memory than the limit allows.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import soundfile
import soxr

from . import mpeg4, recordings
from .errors import DataError, UndecodableError
from .recordings import Fault, Recording

SAMPLE_RATE: Final = 22_050  # Hz, GTZAN's
SLICE_SAMPLES: Final = 220_598  # a third of GTZAN's usual 661 794 samples, about 10 s
SUFFIXES: Final = (
    *(".au", ".wav", ".aiff", ".aif", ".aifc", ".flac", ".mp3", ".ogg", ".oga", ".opus"),
    *mpeg4.SUFFIXES,
)
MAX_SECONDS: Final = 1_800.0  # 30 min, 159 MB as float32 at 22 050 Hz; longer is a programme, not a track

_LOUDEST: Final = 1e4  # times full scale; beyond it a float file is damaged, and float32 power overflows
_RATES: Final = (1_000, 768_000)  # Hz; a header outside it would make resampling take gigabytes
_MAX_CHANNELS: Final = 32  # third-order ambisonics has 16
_MAX_BYTES: Final = 1 << 30  # 100 minutes of a CD
_BLOCK: Final = 1 << 19  # samples of all channels per read: 2 MiB, half of it in cache with the mono result

# What else lies in music folders, by its first bytes.
_OTHERS: Final = {
    b"/annex/": "a pointer of git-annex, whose content is not there",
    b"version https://git-lfs": "a pointer of Git LFS, whose content is not there",
    b"0&\xb2u": "Windows Media (WMA)",
    b"\x1aE\xdf\xa3": "Matroska or WebM",
    b"MAC ": "Monkey's Audio",
    b"wvpk": "WavPack",
    b"MPCK": "Musepack",
    b"<": "HTML or XML",
    b"PK": "a ZIP archive",
}
_CUT: Final = "no samples: the file is cut"
_SAYS_NOTHING: Final = (
    "Format not recognised",
    "File does not exist",
    "Unspecified",
    "System error",
    "Unknown",
)


@dataclass(frozen=True)
class Stream:
    """Audio being decoded.

    Parameters
    ----------
    rate, channels
        In Hz, and their number.
    blocks
        Each float32 (n, channels), full scale 1.0.
    faults
        Complete once the blocks are.
    """

    rate: int
    channels: int
    blocks: Iterator[np.ndarray]
    faults: list[Fault] = field(default_factory=list)


class _Sequential(soundfile.SoundFile):
    """A file that is only read onwards: soundfile seeks after every block of a seekable one."""

    def seekable(self) -> bool:
        return False


@contextmanager
def opened(source: Path | bytes) -> Iterator[Stream]:
    """Open a file, or its content, in any format libsndfile reads (au, wav, flac, mp3, ogg, …), or MPEG-4.

    All recordings in the file are decoded, to the end of what is there, and damaged parts are left out.

    Raises
    ------
    DataError
        The content is empty or no audio, or has an impossible rate, too many channels or bytes. While the
        blocks are read: it cannot be decoded further, or goes on in another format.

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
        if isinstance(source, Path) and source.is_symlink() and not source.exists():
            raise UndecodableError(
                "a link whose content is not there; git-annex and DataLad fetch it by `get`"
            )
        size = source.stat().st_size if isinstance(source, Path) else len(source)
        if size > _MAX_BYTES:
            raise DataError(f"expected audio of at most {_MAX_BYTES} bytes, received {name}: {size} bytes")
        # From a path libsndfile takes anything called .au for headerless 8 kHz audio.
        content = source.open("rb") if isinstance(source, Path) else io.BytesIO(source)
    with content:
        faults: list[Fault] = []
        with _refused(name):
            read = mpeg4.open_audio if mpeg4.is_mpeg4(content) else _open_audio
            rate, channels, blocks = read(content, faults)
        if not _RATES[0] <= rate <= _RATES[1]:
            raise DataError(f"expected audio, received {name}: a sample rate of {rate} Hz")
        if channels > _MAX_CHANNELS:
            raise DataError(f"expected at most {_MAX_CHANNELS} channels, received {name}: {channels}")
        yield Stream(rate, channels, _checked(blocks, name), faults)


def _checked(blocks: Iterator[np.ndarray], name: object) -> Iterator[np.ndarray]:
    """Yield the blocks; refuse a file without any."""
    is_empty = True
    with _refused(name):
        for block in blocks:
            is_empty = False
            yield block
        if is_empty:
            raise UndecodableError("no samples")


def _open_audio(file: BinaryIO, faults: list[Fault]) -> tuple[int, int, Iterator[np.ndarray]]:
    """Open what libsndfile reads, as `mpeg4.open_audio` does with what it does not."""
    found = recordings.find(file)
    try:
        with _Sequential(found[0].open(file)) as first:
            form = first.samplerate, first.channels
    except soundfile.LibsndfileError as error:
        reason = _CUT if found[0].promised > 1 else _description(file, error)
        raise UndecodableError(reason) from None
    return *form, _blocks(file, found, form, faults)


def _blocks(
    file: BinaryIO, found: list[Recording], form: tuple[int, int], faults: list[Fault]
) -> Iterator[np.ndarray]:
    """Yield all samples; where the decoder fails, search the file for damage, and go on behind it."""
    done = 0
    try:
        for block in _decoded(file, found, form, faults):
            done += len(block)
            yield block
    except soundfile.LibsndfileError as error:
        faults.clear()
        skipped = 0
        try:
            for block in _decoded(file, recordings.find(file, check=True), form, faults):
                kept = block[max(0, done - skipped) :]
                skipped += len(block)
                if len(kept):
                    yield kept
        except soundfile.LibsndfileError:
            reason = f"damaged behind {done / form[0]:.1f} s ({_words(error)})"
            raise UndecodableError(reason) from None
    if not done and any(recording.promised > 1 for recording in found):
        raise UndecodableError(_CUT)


def _decoded(
    file: BinaryIO, found: list[Recording], form: tuple[int, int], faults: list[Fault]
) -> Iterator[np.ndarray]:
    """Yield the recordings' samples, and add what is wrong with each one."""
    rate, start = form[0], 0.0
    damaged, joined = list[float](), list[float]()
    for number, recording in enumerate(found):
        with _Sequential(recording.open(file)) as sound:
            if (sound.samplerate, sound.channels) != form:
                raise UndecodableError(
                    f"another recording from {start:.1f} s on, of {sound.samplerate} Hz and "
                    f"{sound.channels} channels instead of {rate} Hz and {form[1]}. Cut the file"
                )
            length = 0
            # No more is asked for than there is: libFLAC would look for a frame behind the last one.
            while length < sound.frames:
                most = min(max(1, _BLOCK // sound.channels), sound.frames - length)
                block = sound.read(most, dtype="float32", always_2d=True)
                if not len(block):
                    break
                length += len(block)
                yield block
        faults += recording.length_faults(start, length / rate)
        damaged += [start + at for at in recording.damaged]
        joined += [start] if number and not recording.continues else []
        start += length / rate
    faults += [Fault("damaged", f"at {recordings.places(damaged)}")] if damaged else []
    faults += [Fault("joined", f"another recording from {recordings.places(joined)} on")] if joined else []


def _description(file: BinaryIO, error: soundfile.LibsndfileError) -> str:
    """Return what a file is that libsndfile does not open."""
    file.seek(0)
    head = file.read(64)
    if not head:
        return "an empty file"
    kind = next((kind for start, kind in _OTHERS.items() if head.startswith(start)), "")
    reason = kind or ("" if _words(error).startswith(_SAYS_NOTHING) else _words(error))
    return f"not an audio file that can be decoded; it starts with {head[:16]!r}" + f" ({reason})" * bool(
        reason
    )


def _words(error: BaseException) -> str:
    """Return an error's own words, without a path and a full stop."""
    words = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return words.removeprefix("Error : ").strip().rstrip(".")


@contextmanager
def _refused(name: object) -> Iterator[None]:
    """Turn the errors of decoders and of the system into ours."""
    try:
        yield
    except (OSError, RuntimeError, MemoryError, ValueError) as error:
        raise DataError(f"expected audio, received {name}: {_words(error)}") from None


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
