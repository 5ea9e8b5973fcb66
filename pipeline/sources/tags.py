"""What music files say of themselves: artist, title, genre, in ID3, Vorbis comments, MP4 or APEv2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_LONGEST: Final = 200  # characters of a tag that is kept
# The names of mutagen's easy interface, and of ID3 frames in files (wav, aiff) that it does not cover.
_ARTIST: Final = ("artist", "TPE1", "albumartist", "TPE2")
_TITLE: Final = ("title", "TIT2")
_GENRE: Final = ("genre", "TCON")
_NOBODY: Final = ("unknown artist", "unknown", "<unknown>")  # what rippers write where they do not know


@dataclass(frozen=True)
class Tags:
    """A file's tags, blank where it has none."""

    artist: str = ""
    title: str = ""
    genre: str = ""


def read(path: Path) -> Tags:
    """Read a file's tags; a damaged tag is none."""
    import mutagen

    try:
        found = mutagen.File(path, easy=True)
    except Exception:  # a stranger's bytes; mutagen has errors of its own and lets others through
        return Tags()
    tags = found.tags if found is not None and found.tags else {}
    return Tags(_first(tags, _ARTIST), _first(tags, _TITLE), _first(tags, _GENRE))


def _first(tags: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """Return the first value of the first of these tags that has one, in one line."""
    for name in names:
        try:
            found = tags[name]
        except (KeyError, ValueError):  # ValueError: a name that this format cannot have
            continue
        values = getattr(found, "genres", None) or getattr(found, "text", None) or found
        text = values if isinstance(values, str) else " ".join(map(str, list(values)[:1]))
        cleaned = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        if cleaned and cleaned.lower() not in _NOBODY:
            return cleaned[:_LONGEST]
    return ""
