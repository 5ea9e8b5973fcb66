"""Write a mood into a file's own tags, and take it back byte for byte.

A file is rewritten beside itself; its old bytes are in a journal on the disk before the new file takes its
place: a process killed at any moment leaves either the old or the new file, and a way back from the new one.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from serving import id3, mp4_tags

_LEAST: Final = 0.05  # of a pole that is written
_ALSO: Final = 0.5  # of the most probable mood's probability, from which on another one is written too

VORBIS: Final = frozenset({".flac", ".ogg", ".oga", ".opus"})
MPEG4: Final = frozenset({".m4a", ".mp4"})

Fields = Mapping[str, Sequence[str]]  # values by field: MOOD, CMG_POLES, CMG_MODEL, GENRE


class TagError(ValueError):
    """A file whose tags cannot be written or restored, with the reason."""


def write(
    path: Path, fields: Fields, journal: Path, *, expected: str | None = None, keep_mtime: bool = False
) -> bool:
    """Write text fields into the tags of one file.

    Parameters
    ----------
    path
        MP3, FLAC, Ogg Vorbis, Opus or M4A file.
    fields
        Values by field: ``MOOD``, and what else should be written, such as ``CMG_POLES`` and ``GENRE``.
    journal
        File that gets one line with what ``undo`` needs; it is made where it is missing.
    expected
        SHA-256 of the file that was listened to; None for any.
    keep_mtime
        Leave the file's time of change as it is.

    Returns
    -------
    bool
        False where the file says all this already.

    Raises
    ------
    TagError
        If this kind of file has no tags, its tags cannot be changed without changing others, or it is not
        the file that was listened to.
    """
    path = path.resolve()
    mtime_ns = path.stat().st_mtime_ns
    old = path.read_bytes()
    if expected is not None and hashlib.sha256(old).hexdigest() != expected:
        raise TagError(f"{path}: it has changed since it was listened to, so it is left as it is")
    new = _tagged(path, old, fields)
    if new == old:
        return False
    with _place(path) as part:
        _append(journal, {"path": str(path), "mtime_ns": mtime_ns, **_splice(old, new)})
        _replace(path, part, new, expected=old, mtime_ns=mtime_ns if keep_mtime else None)
    return True


def fields_of(record: Mapping[str, Any], *, all_moods: bool = False, genre: bool = False) -> Fields:
    """Return what is written of a track's record (``cmg.track/1``).

    Parameters
    ----------
    record
        With a mood's label.
    all_moods
        Also the moods at least half as probable as the first, most probable first.
    genre
        Also the genre, if the model is sure of it.

    Examples
    --------
    >>> shares = {"CalmButWarm": 0.6, "TotallyPositive": 0.3, "Other": 0.1}
    >>> mood = {"label": "CalmButWarm", "probabilities": shares, "poles": {"calm": 0.62, "epic": 0.0}}
    >>> record = {"mood": mood, "model": {"mood": "mood-classifier/4"}}
    >>> fields_of(record)
    {'MOOD': ['Calm but warm'], 'CMG_POLES': ['calm=0.62'], 'CMG_MODEL': ['mood-classifier/4']}
    >>> fields_of(record, all_moods=True)["MOOD"]
    ['Calm but warm', 'Totally positive']
    """
    mood = record["mood"]
    poles = {pole: value for pole, value in mood["poles"].items() if value >= _LEAST}
    shares = mood["probabilities"]
    least = _ALSO * shares[mood["label"]] if all_moods else np.inf
    others = [name for name, share in shares.items() if share >= least and name != mood["label"]]
    moods = [mood["label"], *sorted(others, key=lambda name: -shares[name])]
    fields = {
        "MOOD": [_in_words(name) for name in moods],
        "CMG_POLES": [";".join(f"{pole}={value:.2f}" for pole, value in poles.items())],
        "CMG_MODEL": [record["model"]["mood"]],
    }
    if genre and record.get("genre", {}).get("label"):
        fields["GENRE"] = [_in_words(record["genre"]["label"])]
    return fields


def _in_words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).capitalize()


def mood_of(path: Path) -> str:
    """Return the moods in a file's tags, with semicolons; empty if there is none, or no tags."""
    import mutagen

    try:
        file = mutagen.File(path)
    except (mutagen.MutagenError, OSError):
        return ""
    if file is None or file.tags is None:
        return ""
    for key in ("TMOO", "TXXX:MOOD", "mood", "----:com.apple.iTunes:MOOD"):
        if key in file.tags:
            values = getattr(file.tags[key], "text", file.tags[key])
            return "; ".join(
                value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
                for value in values
            )
    return ""


def genre_of(path: Path) -> str:
    """Return the genre in a file's tags; empty if there is none."""
    from pipeline.sources import tags

    return tags.read(path).genre


def would_change(path: Path, fields: Fields) -> bool:
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


def _tagged(path: Path, old: bytes, fields: Fields) -> bytes:
    """Return the bytes of a file with these fields."""
    kind = path.suffix.lower()
    try:
        if kind == ".mp3":
            return id3.with_texts(old, fields)
        if kind in MPEG4:
            return mp4_tags.with_texts(old, fields)
        if kind in VORBIS:
            return _by_mutagen(path, old, fields)
    except TagError:
        raise
    except Exception as error:  # mutagen raises struct.error, KeyError and others on broken files
        raise TagError(f"{path}: its tags cannot be changed: {error}") from error
    got = kind or "no suffix"
    raise TagError(f"{path}: expected MP3, FLAC, Ogg, Opus or M4A, got {got}, whose tags are not written")


def _by_mutagen(path: Path, old: bytes, fields: Fields) -> bytes:
    """Return a file's bytes with its Vorbis comments changed."""
    from io import BytesIO

    import mutagen

    content = BytesIO(old)
    file = mutagen.File(content)
    if file is None:
        raise TagError(f"{path}: expected {path.suffix} audio, got other content")
    if file.tags is None:
        file.add_tags()
    if all(name in file.tags and file.tags[name] == list(values) for name, values in fields.items()):
        return old
    for name, values in fields.items():
        file.tags[name] = list(values)
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
    """Give one file its old bytes and its old time back; one that has them already stays."""
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
    with _place(path) as part:
        _replace(path, part, old, expected=now, mtime_ns=line["mtime_ns"])


@contextmanager
def _place(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside one, in which its new bytes are written, for nobody else to write.

    Its name is always the same, so that what a killed process has left is written over.
    """
    name = f".cmg-tag-{hashlib.sha256(path.name.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"
    part = path.parent / name
    with part.open("ab") as file:
        if not (_is_locked(file) and _is_at(file, part)):
            raise TagError(f"{path}: another cmg tag is writing it, so it is left as it is")
        try:
            yield file
        finally:
            if _is_at(file, part):  # and not the file itself by now
                part.unlink()


def _is_locked(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Return whether an open file is the one of this name: another process may have renamed it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _replace(
    path: Path, part: BinaryIO, content: bytes, *, expected: bytes, mtime_ns: int | None = None
) -> None:
    """Put new bytes in a file's place at once, unless somebody else changed it meanwhile."""
    before = path.stat()
    part.truncate(0)
    part.write(content)
    part.flush()
    os.fchmod(part.fileno(), before.st_mode & 0o7777)
    if mtime_ns is not None:
        os.utime(part.fileno(), ns=(before.st_atime_ns, mtime_ns))
    os.fsync(part.fileno())
    if path.read_bytes() != expected:
        raise TagError(f"{path}: it was changed by another program meanwhile, so it is left")
    Path(part.name).replace(path)


def _append(journal: Path, line: dict) -> None:
    """Add a line to a journal and wait until it is on the disk; a line that a kill has cut goes."""
    is_new = not journal.exists()
    with journal.open("ab+") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        _sync_folder(journal.absolute().parent)


def _sync_folder(folder: Path) -> None:
    """Wait until a new file's name is on the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lines(journal: Path) -> list[dict]:
    """Read a journal; a last line that was cut by a kill belongs to a file that was not changed."""
    lines = journal.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]
