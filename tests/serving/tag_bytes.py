"""What is in a music file, byte by byte, without mutagen: each part by itself, to see which ones change."""

from __future__ import annotations

from collections.abc import Iterator

Parts = list[tuple[str, bytes]]


def parts(content: bytes) -> Parts:
    """Return name and bytes of each frame, block, packet or box of tags, and the audio as one part."""
    if content[:4] == b"fLaC":
        return _flac(content)
    if content[:4] == b"OggS":
        return _ogg(content)
    if content[4:8] == b"ftyp":
        return _mpeg4(content)
    return _mp3(content)


def _mp3(content: bytes) -> Parts:
    if content[:3] != b"ID3":
        return [("audio and what is behind", content)]
    version, at = content[3], 10
    size = int("".join(f"{byte:07b}" for byte in content[6:10]), 2)
    width = 3 if version == 2 else 4
    found = []
    while at < 10 + size and content[at]:
        name = content[at : at + width].decode()
        digits = content[at + width : at + 2 * width]
        length = int("".join(f"{byte:07b}" if version == 4 else f"{byte:08b}" for byte in digits), 2)
        end = at + (6 if version == 2 else 10) + length
        body = content[end - length : end]
        codec = {0: "latin-1", 1: "utf-16", 2: "utf-16-be", 3: "utf-8"}
        if name in ("TXX", "TXXX"):
            name += ":" + body[1:].decode(codec[body[0]]).split("\0")[0]
        found.append((name, content[at:end]))
        at = end
    assert not any(content[at : 10 + size]), "padding is zeros"
    return [*found, ("version", bytes([version])), ("audio and what is behind", content[10 + size :])]


def _flac(content: bytes) -> Parts:
    found, at, is_last = Parts(), 4, False
    while not is_last:
        is_last, kind = bool(content[at] & 128), content[at] & 127
        end = at + 4 + int.from_bytes(content[at + 1 : at + 4], "big")
        if kind == 4:
            found += _comments(content[at + 4 : end])
        elif kind != 1:  # padding
            found.append((f"block {kind}", content[at + 4 : end]))
        at = end
    return [*found, ("audio", content[at:])]


def _ogg(content: bytes) -> Parts:
    at, packets, packet = 0, list[bytes](), b""
    while at < len(content):
        n = content[at + 26]
        lengths = content[at + 27 : at + 27 + n]
        at += 27 + n
        for length in lengths:
            packet += content[at : at + length]
            at += length
            if length < 255:
                packets.append(packet)
                packet = b""
    head = 8 if packets[1].startswith(b"OpusTags") else 7  # or "\3vorbis"
    return [
        ("first packet", packets[0]),
        *_comments(packets[1][head:]),
        *[("packet", one) for one in packets[2:]],
    ]


def _comments(block: bytes) -> Parts:
    """Return the vendor and the comments of a Vorbis comment."""
    at, found = 0, list[bytes]()

    def text() -> bytes:
        nonlocal at
        length = int.from_bytes(block[at : at + 4], "little")
        at += 4 + length
        return block[at - length : at]

    vendor = text()
    number = int.from_bytes(block[at : at + 4], "little")
    at += 4
    found = [text() for _ in range(number)]
    return [("vendor", vendor), *[(one.split(b"=")[0].decode().upper(), one) for one in found]]


def _mpeg4(content: bytes) -> Parts:
    found = Parts()
    for path, body in _leaves(content, ""):
        if path.endswith(("stco", "co64")):
            # Not the places themselves, which may move, but what lies there.
            width = 4 if path.endswith("stco") else 8
            places = [
                int.from_bytes(body[i : i + width], "big") for i in range(8, len(body) - width + 1, width)
            ]
            body = b"".join(content[place : place + 16] for place in places)
        found.append((path, body))
    return found


def _leaves(content: bytes, path: str) -> Iterator[tuple[str, bytes]]:
    at = 0
    while at < len(content):
        end = at + int.from_bytes(content[at : at + 4], "big")
        name, body = content[at + 4 : at + 8].decode("latin-1"), content[at + 8 : end]
        if path.endswith("ilst") and name == "----":
            mean = int.from_bytes(body[:4], "big")
            yield body[mean + 12 : mean + int.from_bytes(body[mean : mean + 4], "big")].decode(), body
        elif name in ("moov", "udta", "trak", "mdia", "minf", "stbl", "ilst"):
            yield from _leaves(body, f"{path}/{name}")
        elif name == "meta":
            yield from _leaves(body[4:], f"{path}/{name}")
        else:
            yield f"{path}/{name}", body
        at = end
