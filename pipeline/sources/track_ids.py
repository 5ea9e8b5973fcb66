"""Ids for the files of a library: a file's stem, and where two have the same one, its folders before it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final

from pipeline import identity
from pipeline.labelling.track_names import FORBIDDEN

_LONGEST: Final = 180  # bytes; file systems allow 255, and a clip's or an array's suffix comes behind


def assign(paths: Sequence[str], *, before: Mapping[str, str]) -> dict[str, str]:
    """Return a track id for every file of a library.

    Parameters
    ----------
    paths
        Relative to the library, ``rock/Artist/Album/song.mp3``, each once.
    before
        Ids that files of this library had when it was taken in last: labels hang on them, so they stay.

    Returns
    -------
    dict
        By path; no two are the same on a disk that does not tell capitals from small letters.

    Examples
    --------
    >>> assign(["classical/1.mp3", "rock/1.mp3", "rock/2.mp3"], before={})
    {'classical/1.mp3': 'classical-1', 'rock/1.mp3': 'rock-1', 'rock/2.mp3': '2'}
    """
    ids = {path: before[path] for path in paths if path in before}
    taken = {identity.key(track) for track in ids.values()}
    todo = {path: PurePosixPath(path) for path in paths if path not in ids}
    depth = 0
    while todo:
        names = {path: _name(parts, depth) for path, parts in todo.items()}
        times = Counter(identity.key(name) for name in names.values())
        is_last = all(depth >= len(parts.parts) + 1 for parts in todo.values())
        for path, name in names.items():
            wanted = _numbered(name, taken) if is_last else name
            key = identity.key(wanted)
            if key not in taken and (is_last or times[key] == 1):
                ids[path] = wanted
                taken.add(key)
                del todo[path]
        depth += 1
    return {path: ids[path] for path in paths}


def safe(name: str) -> str:
    """Return a name that can be a folder, a file's stem and a cell: others' characters become ``_``.

    Examples
    --------
    >>> safe('AC/DC, "live"'), safe(" .hidden "), safe("..")
    ('AC_DC_ _live_', '_hidden', '_')
    """
    text = FORBIDDEN.sub("_", "".join(c if c.isprintable() else "_" for c in name)).strip().rstrip(".")
    text = f"_{text.lstrip('.')}" if text.startswith(".") or not text else text
    if name and len(text.encode()) > _LONGEST:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        text = text.encode()[: _LONGEST - 9].decode("utf-8", "ignore").rstrip() + f"-{digest}"
    return text


def _name(path: PurePosixPath, depth: int) -> str:
    """Return the stem after so many of its folders, then with its suffix too."""
    folders = path.parts[:-1]
    parts = [*folders[len(folders) - min(depth, len(folders)) :], path.stem]
    ending = f"-{path.suffix.lower().lstrip('.')}" if depth > len(folders) else ""
    return safe("-".join(parts) + ending)


def _numbered(name: str, taken: set[str]) -> str:
    """Return the name, or the first ``name-2``, ``name-3``, … that nobody has."""
    number, found = 1, name
    while identity.key(found) in taken:
        number += 1
        found = f"{name}-{number}"
    return found
