"""Change items of an MPEG-4 file's iTunes tags and leave all else as it is (ISO/IEC 14496-12; QuickTime).

A file is a sequence of boxes: four bytes of size, four of name, then a body, which may be boxes again. The
tags are the boxes of ``moov.udta.meta.ilst``. Where ``moov`` grows, what lies behind it moves, and the tables
of chunk offsets are the only other bytes that change.

Not by mutagen, as the other formats: it sorts the items anew, and writes a genre given by number as text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

_TAGS: Final = (b"udta", b"meta", b"ilst")
_SAMPLES: Final = (b"trak", b"mdia", b"minf", b"stbl")
_OFFSETS: Final = {b"stco": 4, b"co64": 8}  # tables of absolute places, and the bytes of each entry
_GENRES: Final = (b"\xa9gen", b"gnre")  # as text, and as the number of an ID3v1 genre
_TEXT: Final = b"\0\0\0\1" + bytes(4)  # type UTF-8, no language


def with_texts(content: bytes, fields: Mapping[str, Sequence[str]]) -> bytes:
    """Return a file's bytes with these fields among its tags.

    Parameters
    ----------
    content
        The whole file.
    fields
        Values by field name: ``GENRE`` is iTunes' own genre, all others are free-form items of
        ``com.apple.iTunes``, as other programs write them.

    Raises
    ------
    ValueError
        If the file is fragmented or damaged.
    """
    outer = list(_boxes(content))
    names = [name for name, *_ in outer]
    if names.count(b"moov") != 1 or b"moof" in names:
        raise ValueError("expected MPEG-4 with one moov and no fragments, got " + _listed(names))
    _, start, body, end = outer[names.index(b"moov")]
    old = content[body:end]
    new = _with_items(old, fields)
    if new == old:
        return content
    moved = 8 + len(new) - (end - start)
    if moved:
        new = _with_offsets(new, _SAMPLES, beyond=end, moved=moved)
    return content[:start] + _box(b"moov", new) + content[end:]


def _with_items(content: bytes, fields: Mapping[str, Sequence[str]], path: Sequence[bytes] = _TAGS) -> bytes:
    """Return a container's body with the fields at the end of a path; boxes that are missing are made."""
    if not path:
        return _with_fields(content, fields)
    children = list(_boxes(content))
    for name, start, body, end in children:
        if name == path[0]:
            # QuickTime's own meta has its boxes at once; that of MPEG-4 has a version before them.
            head = 4 if name == b"meta" and content[body + 4 : body + 8] != b"hdlr" else 0
            inner = content[body : body + head] + _with_items(content[body + head : end], fields, path[1:])
            return content[:start] + _box(name, inner) + content[end:]
    begin = bytes(4) + _box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9)) if path[0] == b"meta" else b""
    made = _box(path[0], begin + _with_items(b"", fields, path[1:]))
    last = children[-1][3] if children else 0  # QuickTime ends a list of boxes by four zeros, which stay last
    return content[:last] + made + content[last:]


def _with_fields(items: bytes, fields: Mapping[str, Sequence[str]]) -> bytes:
    """Return the body of ``ilst`` with these fields; the others stay as and where they are."""
    children = [(_field(items[body:end], name), items[start:end]) for name, start, body, end in _boxes(items)]
    ours = [_item(name, values) for name, values in fields.items()]
    if [item for name, item in children if name in fields] == ours:
        return items
    return b"".join([item for name, item in children if name not in fields] + ours)


def _field(item: bytes, name: bytes) -> str | None:
    """Return the field that an item holds, or None for one that is none of ours."""
    if name in _GENRES:
        return "GENRE"
    if name != b"----":
        return None
    parts = {part: item[body:end] for part, _, body, end in _boxes(item)}
    if parts.get(b"mean", b"")[4:] != b"com.apple.iTunes":
        return None
    return parts.get(b"name", b"")[4:].decode("utf-8", "replace")


def _item(name: str, values: Sequence[str]) -> bytes:
    data = b"".join(_box(b"data", _TEXT + value.encode()) for value in values)
    if name == "GENRE":
        return _box(_GENRES[0], data)
    mean = _box(b"mean", bytes(4) + b"com.apple.iTunes")
    return _box(b"----", mean + _box(b"name", bytes(4) + name.encode()) + data)


def _with_offsets(content: bytes, path: Sequence[bytes], *, beyond: int, moved: int) -> bytes:
    """Return the body of ``moov`` with every offset of a chunk that moves."""
    parts, last = list[bytes](), 0
    for name, _, body, end in _boxes(content):
        inner = content[body:end]
        if path and name == path[0]:
            inner = _with_offsets(inner, path[1:], beyond=beyond, moved=moved)
        elif not path and name in _OFFSETS:
            inner = _moved(inner, _OFFSETS[name], beyond=beyond, moved=moved)
        parts += [content[last:body], inner]
        last = end
    return b"".join([*parts, content[last:]])


def _moved(table: bytes, width: int, *, beyond: int, moved: int) -> bytes:
    number = int.from_bytes(table[4:8], "big")
    if len(table) < 8 + number * width:
        raise ValueError(f"expected {number} chunk offsets, got {len(table) - 8} bytes")
    found = [int.from_bytes(table[at : at + width], "big") for at in range(8, 8 + number * width, width)]
    moving = [offset + moved if offset >= beyond else offset for offset in found]
    if max(moving, default=0) >= 1 << 8 * width:
        raise ValueError("expected a file below 4 GB, got one whose chunk offsets would not fit")
    rest = table[8 + number * width :]
    return table[:8] + b"".join(offset.to_bytes(width, "big") for offset in moving) + rest


def _boxes(content: bytes) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield name, start, start of the body and end of each box."""
    at = 0
    while at + 8 <= len(content):
        size, body = int.from_bytes(content[at : at + 4], "big"), at + 8
        if size == 1:  # then it stands behind the name, in eight bytes
            size, body = int.from_bytes(content[at + 8 : at + 16], "big"), at + 16
        end = at + size if size else len(content)
        if end < body or end > len(content):
            raise ValueError(f"expected a box at byte {at}, got {content[at : at + 8]!r}")
        yield content[at + 4 : at + 8], at, body, end
        at = end


def _box(name: bytes, body: bytes) -> bytes:
    return (8 + len(body)).to_bytes(4, "big") + name + body


def _listed(names: Sequence[bytes]) -> str:
    return ", ".join(name.decode("latin-1") for name in names[:10]) or "no boxes"
