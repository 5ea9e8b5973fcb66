"""Write a mood into a file's own tags, and take it back byte for byte.

A file is rewritten beside itself; its old bytes are in a journal on the disk before the new file takes its
place: a process killed at any moment leaves either the old or the new file, and a way back from the new one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from serving.id3 import with_texts

_LEAST: Final = 0.05  # of a pole that is written

VORBIS = frozenset({".flac", ".ogg", ".oga", ".opus"})


class TagError(ValueError):
    """A file whose tags cannot be written or restored, with the reason."""


def write(path: Path, fields: Mapping[str, str], journal: Path) -> bool:
    """Write text fields into the tags of one file.

    Parameters
    ----------
    path
        MP3, FLAC, Ogg Vorbis or Opus file.
    fields
        Text by field: ``MOOD``, and what else should be written, such as ``CMG_POLES`` and ``CMG_MODEL``.
    journal
        File that gets one line with what ``undo`` needs; it is made where it is missing.

    Returns
    -------
    bool
        False where the file says all this already.

    Raises
    ------
    TagError
        If this kind of file has no tags, or its tags cannot be changed without changing others.
    """
    path = path.resolve()
    old = path.read_bytes()
    new = _tagged(path, old, fields)
    if new == old:
        return False
    _append(journal, {"path": str(path), **_splice(old, new)})
    _replace(path, new, expected=old)
    return True


def fields_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Return what is written of a track's record (``cmg.track/1``): one mood, its poles, and who says so.

    Examples
    --------
    >>> record = {"mood": {"label": "CalmButWarm", "poles": {"calm": 0.62, "epic": 0.0}}}
    >>> fields_of(record | {"model": {"mood": "mood-classifier/4"}})
    {'MOOD': 'Calm but warm', 'CMG_POLES': 'calm=0.62', 'CMG_MODEL': 'mood-classifier/4'}
    """
    mood = record["mood"]
    poles = {pole: value for pole, value in mood["poles"].items() if value >= _LEAST}
    return {
        "MOOD": re.sub(r"(?<=[a-z])(?=[A-Z])", " ", mood["label"]).capitalize(),
        "CMG_POLES": ";".join(f"{pole}={value:.2f}" for pole, value in poles.items()),
        "CMG_MODEL": record["model"]["mood"],
    }


def mood_of(path: Path) -> str:
    """Return the mood in a file's tags; empty if there is none, or no tags."""
    import mutagen

    try:
        file = mutagen.File(path)
    except (mutagen.MutagenError, OSError):
        return ""
    if file is None or file.tags is None:
        return ""
    for key in ("TMOO", "TXXX:MOOD", "mood"):
        if key in file.tags:
            return str(file.tags[key][0])
    return ""


def would_change(path: Path, fields: Mapping[str, str]) -> bool:
    """Return whether `write` would change a file; raise what it would raise, and change nothing."""
    path = path.resolve()
    old = path.read_bytes()
    return _tagged(path, old, fields) != old


def undo(journal: Path) -> dict[Path, str]:
    """Restore every file of a journal, the last change first.

    Returns
    -------
    dict
        The files that were left alone, with the reason: they have changed since, or are gone.
    """
    refused = {}
    for line in reversed(_lines(journal)):
        path = Path(line["path"])
        try:
            _restore(path, line)
        except (OSError, TagError) as error:
            refused[path] = str(error)
    return refused


def _tagged(path: Path, old: bytes, fields: Mapping[str, str]) -> bytes:
    """Return the bytes of a file with these fields."""
    kind = path.suffix.lower()
    try:
        if kind == ".mp3":
            return with_texts(old, fields)
        if kind in VORBIS:
            return _by_mutagen(path, old, fields)
    except TagError:
        raise
    except Exception as error:  # mutagen raises struct.error, KeyError and others on broken files
        raise TagError(f"{path}: its tags cannot be changed: {error}") from error
    got = kind or "no suffix"
    raise TagError(f"{path}: expected MP3, FLAC, Ogg or Opus, got {got}, whose tags are not written")


def _by_mutagen(path: Path, old: bytes, fields: Mapping[str, str]) -> bytes:
    """Return a file's bytes with its Vorbis comments changed."""
    from io import BytesIO

    import mutagen

    content = BytesIO(old)
    file = mutagen.File(content)
    if file is None:
        raise TagError(f"{path}: expected {path.suffix} audio, got other content")
    if file.tags is None:
        file.add_tags()
    if all(name in file.tags and file.tags[name] == [text] for name, text in fields.items()):
        return old
    for name, text in fields.items():
        file.tags[name] = [text]
    content.seek(0)
    file.save(content)
    return content.getvalue()


def _splice(old: bytes, new: bytes) -> dict[str, str | int]:
    """Return what turns new bytes into old ones: where they differ, how many, and the old bytes."""
    start = _common(old, new)
    tail = _common(old[start:][::-1], new[start:][::-1])
    return {
        "before": hashlib.sha256(old).hexdigest(),
        "after": hashlib.sha256(new).hexdigest(),
        "offset": start,
        "length": len(new) - start - tail,
        "old": base64.b64encode(zlib.compress(old[start : len(old) - tail])).decode(),
    }


def _common(first: bytes, second: bytes) -> int:
    """Return the number of bytes with which both begin."""
    shorter = min(len(first), len(second))
    differ = np.frombuffer(first, np.uint8, shorter) != np.frombuffer(second, np.uint8, shorter)
    return int(differ.argmax()) if differ.any() else shorter


def _restore(path: Path, line: dict) -> None:
    """Give one file its old bytes back; one that has them already stays."""
    now = path.read_bytes()
    digest = hashlib.sha256(now).hexdigest()
    if digest == line["before"]:
        return
    if digest != line["after"]:
        raise TagError(f"{path}: it has changed since its tags were written, so it is left as it is")
    start = line["offset"]
    old = now[:start] + zlib.decompress(base64.b64decode(line["old"])) + now[start + line["length"] :]
    if hashlib.sha256(old).hexdigest() != line["before"]:
        raise TagError(f"{path}: the journal's line is damaged, so it is left as it is")
    _replace(path, old, expected=now)


def _replace(path: Path, content: bytes, *, expected: bytes) -> None:
    """Put new bytes in a file's place at once, unless somebody else changed it meanwhile."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".cmg-tag-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), path.stat().st_mode & 0o7777)
            os.fsync(file.fileno())
        if path.read_bytes() != expected:
            raise TagError(f"{path}: it was changed by another program meanwhile, so it is left")
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _append(journal: Path, line: dict) -> None:
    """Add a line to a journal and wait until it is on the disk."""
    with journal.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _lines(journal: Path) -> list[dict]:
    """Read a journal; a last line that was cut by a kill belongs to a file that was not changed."""
    lines = journal.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]
