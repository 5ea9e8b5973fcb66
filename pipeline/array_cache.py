"""Arrays kept between runs under a key of what made them, in files that tell whether they are damaged.

An entry is one file, ``<key>.<digest of key and content>.npy``, written in one step: a kill leaves it or
nothing, and an entry that was cut, overwritten, or put in another's place no longer fits its name.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import io
import os
import re
import shutil
import textwrap
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np

from pipeline.files import replacing
from pipeline.syntax import fingerprint

_ENTRY: Final = re.compile(r"([0-9a-f]{64})(?:\.([0-9a-f]{64}))?\.npy")


def key_of(*parts: object) -> str:
    """Return the key of an array made from ``parts``, each known by its text."""
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()


def code_digest(*sources: ModuleType | Callable[..., Any]) -> str:
    """Return the SHA-256 of modules' or functions' code; comments, docstrings and layout do not count."""
    return fingerprint(*(ast.parse(textwrap.dedent(inspect.getsource(source))) for source in sources))


def store(folder: Path, key: str, array: np.ndarray) -> Path:
    """Write an entry in one step and return its path."""
    stream = io.BytesIO()
    np.save(stream, array)
    path = folder / f"{key}.{_digest(key, stream.getbuffer())}.npy"
    with replacing(path) as temporary:
        temporary.write_bytes(stream.getbuffer())
    return path


def valid_entries(folder: Path, keys: Collection[str]) -> dict[str, Path]:
    """Return the entries of these keys that are as they were written, and mark them as used now.

    Damaged ones are deleted, and so are all without a digest, as the cache once had them.
    """
    files = sorted(folder.iterdir()) if folder.exists() else []
    found = [(match, path) for path in files if (match := _ENTRY.fullmatch(path.name))]
    wanted = [(match[1], path) for match, path in found if match[1] in keys or not match[2]]
    with ThreadPoolExecutor() as pool:  # hashing releases the GIL
        valid = list(pool.map(_is_valid, (path for _, path in wanted)))
    for (_, path), is_valid in zip(wanted, valid, strict=True):
        if is_valid:
            os.utime(path)
        else:
            path.unlink(missing_ok=True)
    return {key: path for (key, path), is_valid in zip(wanted, valid, strict=True) if is_valid}


def publish(entry: Path, target: Path) -> None:
    """Put an entry's content at ``target``, which does not exist: as a link where the disk can do that."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(entry, target)
    except OSError:  # another disk, one without links, or too many of them
        with replacing(target) as temporary:
            shutil.copyfile(entry, temporary)


def _is_valid(path: Path) -> bool:
    key, _, digest = path.stem.partition(".")
    try:
        return bool(digest) and _digest(key, path.read_bytes()) == digest
    except OSError:  # a bad sector, or somebody cleared the cache meanwhile
        return False


def _digest(key: str, content: bytes | memoryview) -> str:
    digest = hashlib.sha256(key.encode())
    digest.update(content)
    return digest.hexdigest()
