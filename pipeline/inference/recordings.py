"""Where the recordings in a file lie: its MPEG and FLAC frames, Ogg pages, or WAV, AIFF and AU chunks.

libsndfile believes the length that a header gives, and fails at what is no frame. It is therefore given whole
frames alone, below a header that gives their true number. What is missing or damaged is told.
"""

from __future__ import annotations

import functools
import io
import math
import re
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate, islice, pairwise
from typing import BinaryIO, Final, Literal, NamedTuple

FAULTS: Final = ("truncated", "damaged", "joined")
TOLERANCE: Final = 0.05  # s; a header may be off by a frame or two

_LONGEST: Final = 1_860.0  # s; a file is not read further, so it is not searched further
_WINDOW: Final = 1 << 20  # bytes
_MOST: Final = 1_000  # chunks, tags, blocks of metadata, or recordings, in a file
_MOST_NAMED: Final = 5  # places of damage
_TRIES: Final = 100_000  # places of a damaged file that are tried as a frame's start: less than a second


@dataclass(frozen=True)
class Fault:
    """What is wrong with a file that decodes: ``kind``, one of `FAULTS`, and in words where or how much."""

    kind: str
    words: str


def places(seconds: list[float]) -> str:
    """Return places in a file in words.

    Examples
    --------
    >>> places([4.21]), places([1, 2, 3, 4, 5, 6, 7])
    ('4.2 s', '1.0, 2.0, 3.0, 4.0, 5.0 s and 2 more')
    """
    named, more = ", ".join(f"{each:.1f}" for each in seconds[:_MOST_NAMED]), len(seconds) - _MOST_NAMED
    return f"{named} s" + (f" and {more} more" if more > 0 else "")


@dataclass
class Recording:
    """One recording in a file, to be decoded by itself.

    Parameters
    ----------
    ranges
        Bytes of the file, (start, stop), that hold whole frames.
    header
        What stands before them.
    promised
        The length that the file's header gives, relative to what is there; infinite if the file gives none
        and ends within a frame or before its last page.
    damaged
        Where parts are left out, in seconds from the recording's start.
    continues
        Whether it is a further piece of the recording before, to be decoded by itself all the same.
    """

    ranges: list[tuple[int, int]] = field(default_factory=list)
    header: bytes = b""
    promised: float = 1.0
    damaged: list[float] = field(default_factory=list)
    continues: bool = False

    def add(self, start: int, stop: int) -> None:
        """Append bytes of the file."""
        if self.ranges and self.ranges[-1][1] == start:
            start = self.ranges.pop()[0]
        self.ranges.append((start, stop))

    def length_faults(self, start: float, seconds: float) -> list[Fault]:
        """Return what is wrong with its length, given where it begins in what was read, and its seconds."""
        missing = seconds * (self.promised - 1)
        if missing == math.inf:
            words = f"ends at {start + seconds:.1f} s, within a frame or before its last page"
            return [Fault("truncated", words)]
        if missing > TOLERANCE:
            return [Fault("truncated", f"{start + seconds:.1f} of {start + seconds + missing:.1f} s")]
        if missing < -TOLERANCE:
            return [
                Fault("joined", f"{seconds:.1f} s instead of the {seconds + missing:.1f} s of its header")
            ]
        return []

    def open(self, file: BinaryIO) -> io.BufferedReader:
        """Return the recording as a file of its own."""
        parts = [(io.BytesIO(self.header), 0, len(self.header)), *((file, *each) for each in self.ranges)]
        return io.BufferedReader(_Joined(parts))


class _Joined(io.RawIOBase):
    """Parts of files, (file, start, stop), as one file."""

    def __init__(self, parts: list[tuple[BinaryIO, int, int]]) -> None:
        self._parts = parts
        self._starts = [0, *accumulate(stop - start for _, start, stop in parts)]
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._starts[-1])[whence]
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        part = bisect_right(self._starts, self._at) - 1
        if part == len(self._parts):
            return 0
        file, start, stop = self._parts[part]
        at = start + self._at - self._starts[part]
        data = _read(file, at, min(len(buffer), stop - at))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def find(file: BinaryIO, *, check: bool = False) -> list[Recording]:
    """Return the recordings of a file; a format that is not known here is one recording.

    Parameters
    ----------
    file
        Seekable.
    check
        Whether to compute the checksum of each FLAC frame, and leave out those that are damaged: 0.1 s for
        each MB, of use only after the decoder failed.

    Examples
    --------
    >>> find(io.BytesIO(b"no audio"))
    [Recording(ranges=[(0, 8)], header=b'', promised=1.0, damaged=[], continues=False)]
    """
    size = file.seek(0, io.SEEK_END)
    start = after_id3(file)
    magic = _read(file, start, 4)
    if magic == b"fLaC":
        found = _flac(file, start, size, check=check)
    elif magic == b"OggS":
        found = _ogg(file, start, size)
    elif magic in (b"RIFF", b"RF64", b"FORM"):
        found = _chunks(file, size)
    elif magic == b".snd":
        found = _au(file, size)
    else:
        found = _mpeg(file, start, size)
    return found or [Recording([(0, size)])]


def after_id3(file: BinaryIO, at: int = 0) -> int:
    """Return where the ID3v2 tags at ``at`` end; ``at`` if there is none, or nothing behind them."""
    end = at
    for _ in range(_MOST):
        tag = _read(file, end, 10)
        if len(tag) < 10 or tag[:3] != b"ID3":
            break
        size = functools.reduce(lambda high, low: high << 7 | low & 0x7F, tag[6:], 0)
        end += size + (20 if tag[5] & 0x10 else 10)
    return end if _read(file, end, 1) else at


def _read(file: BinaryIO, at: int, length: int) -> bytes:
    file.seek(at)
    return file.read(length)


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _matches(file: BinaryIO, pattern: re.Pattern[bytes], start: int, stop: int) -> Iterator[int]:
    """Yield where the pattern, of at most 16 bytes, occurs."""
    for at in range(start, stop, _WINDOW):
        window = _read(file, at, min(_WINDOW + 16, stop - at))
        yield from (at + match.start() for match in pattern.finditer(window) if match.start() < _WINDOW)


# MPEG audio: ISO 11172-3, 13818-3. A first frame without sound may hold Xing's header, and LAME's behind it.

_KBITS: Final = {  # per second, by (MPEG 1, layer)
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MPEG_HEADER: Final = re.compile(rb"\xff[\xe2-\xff][\x10-\xef].", re.DOTALL)
_TAGS: Final = (b"ID3", b"TAG", b"APETAGEX", b"LYRICSBEGIN")
_FEWEST: Final = 4  # frames in a row that make a recording; fewer occur by chance
_XING_BYTES: Final = 200  # a header's frame up to LAME's part
_DELAY: Final = 529  # samples that libmpg123 leaves out at the start where there is a header
_SILENT: Final = 4  # frames of silence before the first: with so many libmpg123 rounds as it does with none


class _Frame(NamedTuple):
    """What four bytes say of a frame: bytes, samples, Hz, place of a Xing header, what all have alike."""

    length: int
    samples: int
    rate: int
    xing: int
    form: tuple[int, int]


@functools.lru_cache(1 << 12)
def _frame(header: bytes) -> _Frame | None:
    """Read a frame's header; None if it is none, or of free format."""
    if not _MPEG_HEADER.fullmatch(header):
        return None
    version, layer, rate_code = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3), header[2] >> 2 & 3
    if version == 1 or layer == 4 or rate_code == 3:
        return None
    is_mpeg1, is_mono, padding = version == 3, header[3] >> 6 == 3, header[2] >> 1 & 1
    rate = (44_100, 48_000, 32_000)[rate_code] >> (2, 0, 1, 0)[version]
    bits = 1_000 * _KBITS[is_mpeg1, layer][(header[2] >> 4) - 1]
    samples = 384 if layer == 1 else 1_152 if layer == 2 or is_mpeg1 else 576
    length = 4 * (12 * bits // rate + padding) if layer == 1 else samples // 8 * bits // rate + padding
    side = (17 if is_mono else 32) if is_mpeg1 else (9 if is_mono else 17)
    return _Frame(length, samples, rate, 4 + side, (header[1] & 0xFE, rate_code))


@dataclass
class _Mpeg:
    """A recording of MPEG frames: the first one, what the file says of their number, what came so far."""

    frame: _Frame
    head: bytes
    facts: tuple[int, int, int] | None
    count: int = 0
    found: Recording = field(default_factory=Recording)

    def recording(self, *, is_cut: bool) -> Recording:
        """Return the recording below a header of libmpg123's, which reads no further than it says."""
        promised, delay, padding = self.facts or (0, -1, 0)
        if promised and not self.found.damaged:  # else frames are missing for another reason
            self.found.promised = promised / self.count
        elif is_cut and not promised:
            self.found.promised = math.inf
        is_last = abs(promised - self.count) <= 1 or (self.found.damaged and not is_cut)
        if not is_last:  # the last frame of the recording, which has the padding, is missing
            padding = 0
        if self.frame.form[0] & 6 == 2:  # layer III, the only one with such headers
            self.found.header = _info(self.head, self.count, delay, padding)
        return self.found


def _mpeg(file: BinaryIO, start: int, size: int) -> list[Recording]:
    found: list[_Mpeg] = []
    end = start
    for at, head, frame in _mpeg_frames(file, start, size):
        facts = _facts(_read(file, at, _XING_BYTES), frame) if _is_header(head, frame) else None
        has_tag = at > end and _read(file, end, 16).startswith(_TAGS)
        if not found or facts or frame.form != found[-1].frame.form or has_tag:
            found.append(_Mpeg(frame, head, facts))
        elif at > end:
            found[-1].found.damaged.append(found[-1].count * frame.samples / frame.rate)
        end = at + frame.length
        if not facts:
            found[-1].count += 1
            found[-1].found.add(at, end)
    rest = _frame(_read(file, end, 4))
    is_cut = bool(found and rest and rest.form == found[-1].frame.form)
    whole = [each for each in found if each.count >= _FEWEST]
    if found and not whole:
        return [Recording(promised=math.inf)]
    return [each.recording(is_cut=is_cut and each is found[-1]) for each in whole]


def _mpeg_frames(file: BinaryIO, at: int, size: int) -> Iterator[tuple[int, bytes, _Frame]]:
    """Yield each whole frame: where it is, how it begins, and what its header says."""
    tries = iter(range(_TRIES))
    seconds, form = 0.0, None
    while seconds < _LONGEST:
        head = _read(file, at, 40)
        frame = _frame(head[:4])
        if frame is None or frame.form != form or at + frame.length > size:
            after = _next_frame(file, at, size, form, tries)
            if after is None:
                return
            at, head = after, _read(file, after, 40)
            frame = _frame(head[:4])
            assert frame is not None
        yield at, head, frame
        at, form, seconds = at + frame.length, frame.form, seconds + frame.samples / frame.rate


def _next_frame(
    file: BinaryIO, start: int, size: int, form: tuple[int, int] | None, tries: Iterator[int]
) -> int | None:
    """Return where a chain of frames begins: two of this form, or four of another."""
    start = after_id3(file, start)
    for at in _matches(file, _MPEG_HEADER, start, min(size, start + _WINDOW)):
        if next(tries, None) is None:
            return None
        first = frame = _frame(_read(file, at, 4))
        end, count = at, 0
        while first and frame and frame.form == first.form and end + frame.length <= size and count < _FEWEST:
            end, count = end + frame.length, count + 1
            frame = _frame(_read(file, end, 4))
        if first and count >= (2 if first.form == form else _FEWEST):
            return at
    return None


def _is_header(head: bytes, frame: _Frame) -> bool:
    """Return whether a frame has no sound, but facts on those that follow."""
    return head[frame.xing : frame.xing + 4] in (b"Xing", b"Info") or head[36:40] == b"VBRI"


def _facts(head: bytes, frame: _Frame) -> tuple[int, int, int]:
    """Return such a frame's number of frames (0: unknown), and delay (-1: unknown) and padding in samples."""
    if head[36:40] == b"VBRI":
        return _number(head[50:54]), -1, 0
    flags, at = _number(head[frame.xing + 4 : frame.xing + 8]), frame.xing + 8
    count = _number(head[at : at + 4]) if flags & 1 else 0
    at += 4 * (flags & 1) + 4 * (flags >> 1 & 1) + 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)
    trim = _number(head[at + 21 : at + 24])
    return count, trim >> 12, trim & 0xFFF


def _info(head: bytes, count: int, delay: int, padding: int) -> bytes:
    """Return a header frame for ``count`` frames; a delay of -1 keeps all that the decoder puts out."""
    silent = 0 if delay >= 0 else _SILENT
    info_head = _with_bitrate(head, 9)  # 160 bytes at least: room for what follows
    frame, silence = _frame(info_head), _with_bitrate(head, 1)
    first = _frame(silence)
    assert frame is not None
    assert first is not None
    if silent:
        delay = silent * frame.samples - _DELAY
    facts = b"Info" + (1).to_bytes(4, "big") + (count + silent).to_bytes(4, "big")
    lame = b"LAME3.100" + bytes(12) + (delay << 12 | padding).to_bytes(3, "big")
    before = info_head + bytes(frame.xing - 4) + facts + lame
    return before.ljust(frame.length, b"\0") + silent * silence.ljust(first.length, b"\0")


def _with_bitrate(head: bytes, code: int) -> bytes:
    """Return a frame's header with another bitrate, and neither checksum nor padding."""
    return bytes([head[0], head[1] | 1, code << 4 | head[2] & 0x0C, head[3] & 0xC0])


# FLAC: RFC 9639. A frame tells its number, and a checksum of its header and one of all of it.

_FLAC_START: Final = re.compile(rb"fLaC[\0\x80]\0\0\x22")
_FLAC_FRAME: Final = re.compile(rb"\xff[\xf8\xf9]")
_FLAC_MARK: Final = b"fLaC\x80\0\0\x22"  # and that what follows is the only block before the frames


def _crc_table(polynomial: int, bits: int) -> list[int]:
    table = []
    for value in range(256):
        value <<= bits - 8
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> bits - 1 & 1 else 0)
        table.append(value & (1 << bits) - 1)
    return table


_CRC8: Final = _crc_table(0x07, 8)
_CRC16: Final = _crc_table(0x8005, 16)


def _flac(file: BinaryIO, start: int, size: int, *, check: bool) -> list[Recording]:
    marks = islice(_matches(file, _FLAC_START, start, size), _MOST)
    parts = pairwise([*marks, size])
    return [found for part in parts for found in _flac_recording(file, *part, check=check)]


class _FlacFrame(NamedTuple):
    """Where a frame is in the file, its first sample's number, how many it has, and what all have alike."""

    at: int
    first: int
    samples: int
    form: tuple[int, int, int]


def _flac_recording(file: BinaryIO, start: int, stop: int, *, check: bool) -> list[Recording]:
    """Return the recording whose marker is at ``start``, in pieces without gaps."""
    info = _read(file, start + 8, 34)
    total = _number(info[13:18]) & (1 << 36) - 1
    found, expected, count = list[Recording](), 0, 0
    frames = list(_flac_frames(file, start, stop, total))
    for frame, end in zip(frames, [*(frame.at for frame in frames[1:]), stop], strict=False):
        # Behind the last frame there may be tags; any other that comes last is perhaps cut.
        is_cut = end == stop and frame.first + frame.samples != total
        if (check or is_cut) and _crc(_read(file, frame.at, end - frame.at), _CRC16, 16):
            continue
        if not found or frame.first > expected:  # libFLAC would put silence into a gap, or too little of it
            found.append(Recording(continues=bool(found), damaged=[0.0] if frame.first > expected else []))
            count = 0
        found[-1].add(frame.at, end)
        expected, count = frame.first + frame.samples, count + frame.samples
        samples = (_number(info[13:18]) >> 36 << 36 | count).to_bytes(5, "big")
        found[-1].header = _FLAC_MARK + info[:13] + samples + info[18:]
    if found and total:
        found[-1].promised = 1.0 + (total - expected) / count
    return found


def _flac_frames(file: BinaryIO, start: int, stop: int, total: int) -> Iterator[_FlacFrame]:
    """Yield the frames: what looks like one, and goes on from the frame before if anything does."""
    info, at = _read(file, start + 8, 34), start + 4
    for _ in range(_MOST):  # blocks of metadata
        head = _read(file, at, 4)
        at += 4 + _number(head[1:])
        if not head or head[0] & 0x80:
            break
    read = (_flac_frame(file, each, info) for each in _matches(file, _FLAC_FRAME, at, stop))
    frames = [frame for frame in read if frame]
    places = {frame.first: frame.at for frame in frames} | {total: stop}
    expected = 0
    for frame in frames:
        following = frame.first + frame.samples
        # After damage a frame is known by the one behind it; chance makes some that look like frames.
        is_next = frame.first > expected and places.get(expected, 0) < frame.at and following in places
        if frame.form == frames[0].form and (frame.first == expected or is_next):
            yield frame
            expected = following


def _flac_frame(file: BinaryIO, at: int, info: bytes) -> _FlacFrame | None:
    """Read a frame's header; None if it is none."""
    head = _read(file, at, 16).ljust(16, b"\0")
    code, digits = head[2] >> 4, max(1, 8 - (head[4] ^ 0xFF).bit_length())
    if not code or head[3] & 1 or digits > 7:
        return None
    number = head[4] & 0x7F >> (digits if digits > 1 else 0)
    for byte in head[5 : 4 + digits]:
        number = number << 6 | byte & 0x3F
    end = 4 + digits
    if code in (6, 7):
        samples = 1 + _number(head[end : end + code - 5])
        end += code - 5
    else:
        samples = 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8
    end += (0, 1, 2, 2)[max(0, (head[2] & 0x0F) - 11)] if head[2] & 0x0F < 15 else 0
    if _crc(head[: end + 1], _CRC8, 8):
        return None
    first = number if head[1] & 1 else number * _number(info[2:4])
    return _FlacFrame(at, first, samples, (head[1], head[2] & 0x0F, head[3] & 0x0F))


def _crc(data: bytes, table: list[int], bits: int) -> int:
    """Return the checksum, which is zero for data that end in their own."""
    crc, mask = 0, (1 << bits) - 1
    for byte in data:
        crc = crc << 8 & mask ^ table[crc >> bits - 8 ^ byte]
    return crc


# Ogg: RFC 3533. The granule position of a page counts the samples up to its end.

_OGG_PAGE: Final = re.compile(rb"OggS\0")
_REVERSED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_BEGINS, _ENDS = 2, 4  # flags


class _Page(NamedTuple):
    """A page: flags, granule position, stream, number in the stream, length, first bytes of its content."""

    flags: int
    granule: int
    stream: bytes
    number: int
    length: int
    content: bytes


def _ogg(file: BinaryIO, start: int, size: int) -> list[Recording]:
    found: list[Recording] = []
    rate, last, seconds = 0, _BEGINS, 0.0
    numbers: dict[bytes, int] = {}
    for at, page in _pages(file, start, size):
        if page.flags & _BEGINS and not (found and last & _BEGINS):  # streams side by side begin together
            found.append(Recording(promised=math.inf))
            numbers, seconds = {}, 0.0
            rate = _ogg_rate(page.content)
        if not found:
            continue
        if page.number != numbers.get(page.stream, page.number):
            found[-1].damaged.append(seconds)
        numbers[page.stream] = page.number + 1
        found[-1].add(at, at + page.length)
        found[-1].promised = 1.0 if page.flags & _ENDS else math.inf
        seconds = page.granule / rate if rate and page.granule >= 0 else seconds
        last = page.flags
        if seconds > _LONGEST:
            break
    return found


def _pages(file: BinaryIO, at: int, size: int) -> Iterator[tuple[int, _Page]]:
    """Yield each undamaged page and where it is."""
    tries = iter(range(_TRIES))
    while True:
        if page := _page(file, at):
            yield at, page
            at += page.length
            continue
        places = (place for place, _ in zip(_matches(file, _OGG_PAGE, at + 1, size), tries, strict=False))
        after = next((place for place in places if _page(file, place)), None)
        if after is None:
            return
        at = after


def _page(file: BinaryIO, at: int) -> _Page | None:
    """Read a page; None if it is none, damaged or cut."""
    head = _read(file, at, 27)
    if len(head) < 27 or head[:5] != b"OggS\0":
        return None
    sizes = _read(file, at + 27, head[26])
    page = _read(file, at, 27 + head[26] + sum(sizes))
    # The checksum is zlib's with the bits of each byte, and of the result, the other way round.
    crc = ~zlib.crc32((page[:22] + bytes(4) + page[26:]).translate(_REVERSED), 0xFFFFFFFF) & 0xFFFFFFFF
    if crc.to_bytes(4, "little").translate(_REVERSED)[::-1] != page[22:26]:
        return None
    granule = int.from_bytes(head[6:14], "little", signed=True)
    content = page[27 + len(sizes) :][:64]
    return _Page(head[5], granule, head[14:18], int.from_bytes(head[18:22], "little"), len(page), content)


def _ogg_rate(content: bytes) -> int:
    """Return the granules per second of the stream whose first packet begins so; 0 if it is not known."""
    if content.startswith(b"OpusHead"):
        return 48_000
    if content.startswith(b"\x7fFLAC"):
        return _number(content[27:30]) >> 4
    return int.from_bytes(content[12:16], "little") if content.startswith(b"\x01vorbis") else 0


# RIFF (WAV), RF64 and FORM (AIFF) consist of chunks; AU has a header and samples.

_UNKNOWN: Final = 0x7FFF_0000  # bytes; programs that write into a pipe give such lengths, or none


def _chunks(file: BinaryIO, size: int) -> list[Recording]:
    found: list[Recording] = []
    at = 0
    while (form := _read(file, at, 8))[:4] in (b"RIFF", b"RF64", b"FORM") and len(found) < _MOST:
        order: Literal["big", "little"] = "big" if form[:4] == b"FORM" else "little"
        length = int.from_bytes(form[4:], order)
        samples, promised = _sample_chunk(file, at + 12, size, order)
        found.append(Recording([(at, min(at + 8 + length, size))], promised=promised))
        if samples and not length:  # a program that wrote into a pipe, or was killed
            unknown = b"\xff\xff\xff\xff"
            header = form[:4] + unknown + _read(file, at + 8, samples - at - 12) + unknown
            return [Recording([(samples, size)], header)]
        at += 8 + length + length % 2
    return found if len(found) > 1 else [Recording([(0, size)], promised=each.promised) for each in found]


def _sample_chunk(file: BinaryIO, at: int, size: int, order: Literal["big", "little"]) -> tuple[int, float]:
    """Return where the samples begin (0: nowhere), and their promised length relative to what is there."""
    for _ in range(_MOST):
        head = _read(file, at, 8)
        length = int.from_bytes(head[4:], order)
        if head[:4] in (b"data", b"SSND"):
            return at + 8, _promised(length, size - at - 8)
        at += 8 + length + length % 2
    return 0, 1.0


def _au(file: BinaryIO, size: int) -> list[Recording]:
    found: list[Recording] = []
    at = 0
    while (head := _read(file, at, 12))[:4] == b".snd" and len(found) < _MOST:
        start, length = at + _number(head[4:8]), _number(head[8:])
        found.append(Recording([(at, min(start + length, size))], promised=_promised(length, size - start)))
        at = start + length
    return found if len(found) > 1 else [Recording([(0, size)], promised=each.promised) for each in found]


def _promised(length: int, there: int) -> float:
    """Return a length in bytes, if it is one, relative to what is there."""
    return length / there if 0 < there < length < _UNKNOWN else 1.0
