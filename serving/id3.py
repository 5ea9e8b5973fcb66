"""Change text frames of an ID3v2 tag and leave all else in the file as it is (id3.org, v2.2 to v2.4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

PADDING = (
    1024  # bytes left free behind the frames of a new or longer tag, so that the next change moves nothing
)


def with_texts(content: bytes, fields: Mapping[str, Sequence[str]]) -> bytes:
    """Return an MP3's bytes with these fields in its ID3v2 tag.

    Parameters
    ----------
    content
        The whole file; one without an ID3v2 tag gets version 2.4. ID3v1 and APE tags at its end stay.
    fields
        Values by field name. ``GENRE`` is the frame ``TCON`` (``TCO``), ``MOOD`` is ``TMOO`` in version 2.4,
        all others are user-defined text. Versions before 2.4 have one value: several are joined by "; ".

    Raises
    ------
    ValueError
        If the tag is unsynchronised, compressed, has an extended header or footer, or is damaged.
    """
    version, size, body = _tag(content)
    start = 10 + size if version else 0
    version = version or 4
    frames = list(_frames(body, version))
    ours = [_frame(name, values, version) for name, values in fields.items()]
    kept = [frame for frame in frames if _name(frame, version) not in fields]
    if [frame for frame in frames if _name(frame, version) in fields] == ours:
        return content
    new = b"".join(kept + ours)
    room = size if len(new) <= size else len(new) + PADDING
    return (
        b"ID3"
        + bytes([version, content[4] if start else 0, 0])
        + _syncsafe(room)
        + new.ljust(room, b"\0")
        + content[start:]
    )


def _tag(content: bytes) -> tuple[int, int, bytes]:
    """Return an ID3v2 tag's version (0 where there is none), its size without the header, and its frames."""
    if content[:3] != b"ID3":
        return 0, 0, b""
    version, flags = content[3], content[5]
    size = sum(byte << shift for byte, shift in zip(content[6:10], (21, 14, 7, 0), strict=True))
    if version not in (2, 3, 4) or flags or 10 + size > len(content):
        raise ValueError(
            f"expected a plain ID3v2.2 to v2.4 tag, got version 2.{version}, flags {flags:#x}, {size} bytes"
        )
    return version, size, content[10 : 10 + size]


def _frames(body: bytes, version: int) -> Iterator[bytes]:
    """Yield the frames of a tag, header included, up to its padding."""
    head, width = (6, 3) if version == 2 else (10, 4)
    at = 0
    while at + head <= len(body) and body[at]:
        digits = body[at + width : at + 2 * width]
        size = (
            sum(byte << 7 * (3 - i) for i, byte in enumerate(digits))
            if version == 4
            else int.from_bytes(digits, "big")
        )
        end = at + head + size
        if not body[at : at + width].isalnum() or end > len(body) or (version == 4 and max(digits) > 127):
            raise ValueError(
                f"expected an ID3v2.{version} frame at byte {at + 10}, got {body[at : at + head]!r}"
            )
        yield body[at:end]
        at = end
    if body[at:].strip(b"\0"):
        raise ValueError(f"expected zeros behind the ID3v2 frames from byte {at + 10}, got other bytes")


def _name(frame: bytes, version: int) -> str | None:
    """Return the field that a frame holds, or None for a frame that is none of a text's."""
    if frame.startswith(b"TMOO"):
        return "MOOD"
    if frame.startswith(b"TCO" if version == 2 else b"TCON"):
        return "GENRE"
    if not frame.startswith(b"TXX" if version == 2 else b"TXXX"):
        return None
    text = frame[6 if version == 2 else 10 :]
    codec = ("latin-1", "utf-16", "utf-16-be", "utf-8")[min(text[0], 3)] if text else "latin-1"
    return text[1:].decode(codec, "replace").split("\0")[0]


def _frame(name: str, values: Sequence[str], version: int) -> bytes:
    """Return a text frame: UTF-8 in version 2.4, UTF-16 in older ones, which know no UTF-8."""
    own = {"GENRE": b"TCON"} | ({"MOOD": b"TMOO"} if version == 4 else {})
    if version == 4:
        texts, codec, mark = "\0".join(values), "utf-8", b""
    else:
        texts, codec, mark = "; ".join(values), "utf-16-le", b"\xff\xfe"
    described = b"" if name in own else mark + f"{name}\0".encode(codec)
    body = (b"\3" if version == 4 else b"\1") + described + mark + texts.encode(codec)
    frame = own.get(name, b"TXXX")
    if version == 2:
        return frame[:3] + len(body).to_bytes(3, "big") + body
    return frame + (_syncsafe(len(body)) if version == 4 else len(body).to_bytes(4, "big")) + b"\0\0" + body


def _syncsafe(number: int) -> bytes:
    """Return four bytes of seven bits each."""
    return bytes(number >> shift & 127 for shift in (21, 14, 7, 0))
