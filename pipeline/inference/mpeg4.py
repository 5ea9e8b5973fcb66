"""Decode MPEG-4 (.m4a, .mp4) and bare AAC, which libsndfile does not read, by PyAV, an optional package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

import numpy as np

from .errors import UndecodableError
from .recordings import TOLERANCE, Fault, after_id3, places

SUFFIXES: Final = (".m4a", ".mp4", ".aac")
_MOST_BOXES: Final = 10_000


def is_mpeg4(file: BinaryIO) -> bool:
    """Return whether a file begins like MPEG-4, or like a bare stream of AAC frames."""
    return _format(file) is not None


def open_audio(file: BinaryIO, faults: list[Fault]) -> tuple[int, int, Iterator[np.ndarray]]:
    """Open the first audio of a file.

    Parameters
    ----------
    file
        Seekable.
    faults
        Is appended to while the blocks are read.

    Returns
    -------
    rate, channels, blocks
        In Hz; their number; each float32 (n, channels), full scale 1.0.

    Raises
    ------
    UndecodableError
        PyAV is missing, or the file has no audio that it reads.
    """
    with _container(file) as container:
        stream = container.streams.audio[0]
        return stream.rate, stream.channels, _blocks(file, faults)


def _blocks(file: BinaryIO, faults: list[Fault]) -> Iterator[np.ndarray]:
    import av

    end, damaged, is_lost = 0.0, list[float](), False
    with _container(file) as container:
        stream = container.streams.audio[0]
        to_float = av.AudioResampler(format="flt", layout=stream.layout, rate=stream.rate)
        for packet in _packets(container, stream):
            frames = _frames(packet, stream) if packet else None
            if frames is None:
                damaged += [] if is_lost else [end]
                is_lost = True
            for frame in frames or ():
                end, is_lost = (frame.time or 0.0) + frame.samples / frame.sample_rate, False
                for samples in to_float.resample(frame):
                    yield samples.to_ndarray().reshape(-1, stream.channels)
        length = float((stream.duration or 0) * stream.time_base) if _format(file) == "mov" else end
    if is_lost:  # up to the end: cut, not damaged
        del damaged[-1]
    faults += [Fault("damaged", f"at {places(damaged)}")] if damaged else []
    if length - end > TOLERANCE:
        faults.append(Fault("truncated", f"{end:.1f} of {length:.1f} s"))
    elif is_lost:
        faults.append(Fault("truncated", f"ends at {end:.1f} s, within a frame"))
    if _boxes(file).count(b"ftyp") > 1:
        faults.append(Fault("joined", f"another recording behind {end:.1f} s, which is not read"))


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the packets, and None for the rest of a stream that is cut where a packet cannot be told."""
    import av

    is_begun = False
    try:
        for packet in container.demux(stream):
            yield packet
            is_begun = True
    except av.FFmpegError:
        if not is_begun:
            raise
        yield None


def _frames(packet: Any, stream: Any) -> list[Any] | None:
    """Return what a packet decodes to; None if it is damaged, which may also show as another format."""
    import av

    try:
        frames = packet.decode()
    except av.FFmpegError:
        return None
    form = stream.rate, stream.layout.name
    return frames if all((frame.sample_rate, frame.layout.name) == form for frame in frames) else None


@contextmanager
def _container(file: BinaryIO) -> Iterator[Any]:
    """Open a file that has audio. With a format given, FFmpeg opens no other file and no address."""
    try:
        import av
    except ImportError:
        raise UndecodableError(
            "MPEG-4 or AAC, which needs PyAV. Install it: pip install 'composite-mood-genre[m4a]'"
        ) from None
    file.seek(0)
    try:
        with av.open(file, format=_format(file)) as container:
            if not container.streams.audio:
                raise UndecodableError("MPEG-4 without audio")
            yield container
    except av.FFmpegError as error:
        boxes = _boxes(file)
        if b"ftyp" in boxes and b"moov" not in boxes:
            raise UndecodableError("MPEG-4 without its index (moov): the file is cut") from None
        raise UndecodableError(f"MPEG-4 or AAC that cannot be decoded ({error.strerror})") from None


def _format(file: BinaryIO) -> str | None:
    """Return FFmpeg's name of the format; None if it is neither."""
    file.seek(after_id3(file))
    head = file.read(8)
    if head[4:] == b"ftyp":
        return "mov"
    return "aac" if len(head) == 8 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0 else None


def _boxes(file: BinaryIO) -> list[bytes]:
    """Return the names of the outermost boxes of an MPEG-4 file."""
    names, at = list[bytes](), 0
    while len(names) < _MOST_BOXES:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:  # then the length stands behind the name
            length = int.from_bytes(head[8:], "big")
        if len(head) < 8 or length < 8:
            break
        names.append(head[4:8])
        at += length
    return names
