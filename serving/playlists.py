"""Playlists that other players open: M3U8, XSPF and JSPF, with addresses relative to the playlist."""

from __future__ import annotations

import json
import os
import re
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

MEDIA_TYPES: Final = {
    "m3u8": "application/vnd.apple.mpegurl",
    "xspf": "application/xspf+xml",
    "jspf": "application/jspf+json",
}


@dataclass(frozen=True)
class Entry:
    """A track of a playlist; artist and title are blank where they are not known, ``seconds`` 0."""

    path: Path
    artist: str = ""
    title: str = ""
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """Return what a player shows."""
        return f"{self.artist} - {self.title}" if self.artist and self.title else self.path.stem


def playlist(kind: str, entries: Sequence[Entry], folder: Path) -> str:
    """Return the text of a playlist that lies in ``folder``.

    Parameters
    ----------
    kind
        ``m3u8``, ``xspf`` or ``jspf``.

    Examples
    --------
    >>> print(playlist("m3u8", [Entry(Path("/music/é/1.mp3"), "A", "B", 61.5)], Path("/music")), end="")
    #EXTM3U
    #EXTINF:62,A - B
    é/1.mp3
    """
    ways = [_way(Path(os.path.relpath(entry.path, folder)).as_posix()) for entry in entries]
    return _WRITERS[kind](entries, ways)


def _way(path: str) -> str:
    """Return a relative path that no player takes for a comment or an address: ``./#1.mp3``."""
    return f"./{path}" if path.startswith("#") or ":" in path.partition("/")[0] else path


def _m3u8(entries: Sequence[Entry], ways: Sequence[str]) -> str:
    # UTF-8 without percent codes: many players take those for part of the name.
    lines = ["#EXTM3U"]
    for entry, way in zip(entries, ways, strict=True):
        lines += [f"#EXTINF:{round(entry.seconds) or -1},{_line(entry.name)}", _BREAKS.sub(" ", way)]
    return "\n".join(lines) + "\n"


def _xspf(entries: Sequence[Entry], ways: Sequence[str]) -> str:
    tracks = []
    for entry, way in zip(entries, ways, strict=True):
        fields = {"location": urllib.parse.quote(way), "title": entry.title or entry.path.stem}
        fields |= {"creator": entry.artist} if entry.artist else {}
        fields |= {"duration": f"{round(1000 * entry.seconds)}"} if entry.seconds else {}
        inner = "".join(f"<{name}>{escape(_line(text))}</{name}>" for name, text in fields.items())
        tracks.append(f"<track>{inner}</track>\n")
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<playlist version="1" xmlns="http://xspf.org/ns/0/">'
    return f"{head}<trackList>\n{''.join(tracks)}</trackList></playlist>\n"


def _jspf(entries: Sequence[Entry], ways: Sequence[str]) -> str:
    tracks = [
        {"location": [urllib.parse.quote(way)], "title": entry.title or entry.path.stem}
        | ({"creator": entry.artist} if entry.artist else {})
        | ({"duration": round(1000 * entry.seconds)} if entry.seconds else {})
        for entry, way in zip(entries, ways, strict=True)
    ]
    return json.dumps({"playlist": {"track": tracks}}, ensure_ascii=False, indent=1) + "\n"


def _line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


# Where players end a line. All else stays in a path: blanks that do not break and joiners are part of names.
_BREAKS: Final = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
_WRITERS: Final[dict[str, Callable[[Sequence[Entry], Sequence[str]], str]]] = {
    "m3u8": _m3u8,
    "xspf": _xspf,
    "jspf": _jspf,
}
