"""Files that others dropped: only a folder's own regular files are opened, and each is read once.

Whoever may write into the folder may also exchange a file between a look at it and its opening. So a link is
refused by the opening itself, a pipe does not block it, and what was opened is looked at, not its name.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.errors import DataError

MEGABYTE: Final = 10**6
_CHUNK: Final = 1 << 20
# A pipe without a writer, or a device, would hold up the opening for ever.
_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_KINDS: Final = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class PassedOverError(DataError):
    """A file that is not opened or not read to its end, and stays where it is: the message says why."""


@dataclass(frozen=True)
class Content:
    """What a file held when it was read, and when it was last written to (seconds since 1970)."""

    data: bytes
    sha256: str
    modified: float


def require_folder(path: Path) -> None:
    """Make a folder of the inbox if it is not there.

    Raises
    ------
    DataError
        It is a link or a file: what is written there would come to lie elsewhere.
    """
    if not os.path.lexists(path):
        path.mkdir(parents=True, exist_ok=True)
    kind = _kind(path.lstat())
    if kind != "a folder":
        raise DataError(
            f"expected {path} to be a folder, received {kind or 'a file'}. Nothing was taken; move it away."
        )


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    """Yield a descriptor of a folder of the inbox that is no link."""
    require_folder(folder)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def state(found: os.stat_result) -> tuple[int, ...]:
    """Return what changes when a file is written to or exchanged."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def obstacle(found: os.stat_result) -> str:
    """Return why a file of the inbox is not taken; blank if it may be.

    A hard link may be a second name of a file that its owner alone may read.
    """
    if kind := _kind(found):
        return kind
    return "a hard link (the file has another name elsewhere)" if found.st_nlink > 1 else ""


def _kind(found: os.stat_result) -> str:
    """Return what it is, if no regular file."""
    known = (name for is_kind, name in _KINDS if is_kind(found.st_mode))
    return next(known, "" if stat.S_ISREG(found.st_mode) else "no regular file")


def look(name: str, *, folder: int) -> os.stat_result:
    """Look at a file of a folder; not at what it may link to."""
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


def read(name: str, *, folder: int, max_megabytes: int) -> Content:
    """Read a regular file of an opened folder.

    Raises
    ------
    PassedOverError
        It is none, or larger than ``max_megabytes`` (10**6 bytes each).
    OSError
        It cannot be read.
    """
    try:
        handle = os.open(name, _FLAGS | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        # ENXIO: a socket, or a device without a driver.
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO):
            raise PassedOverError(refusal(obstacle(look(name, folder=folder)))) from None
        raise
    return _content(handle, max_megabytes=max_megabytes)


def read_chosen(path: Path, *, max_megabytes: int) -> Content:
    """Read a file that the user has named, through a link too.

    Raises
    ------
    PassedOverError
        It is no regular file, or larger than ``max_megabytes``.
    OSError
        It cannot be read.
    """
    return _content(os.open(path, _FLAGS), max_megabytes=max_megabytes, chosen=True)


def _content(handle: int, *, max_megabytes: int, chosen: bool = False) -> Content:
    """Read an opened file once, and close it; one that grows meanwhile is not read further than allowed."""
    limit = max_megabytes * MEGABYTE
    try:
        found = os.fstat(handle)
        refused = _kind(found) if chosen else obstacle(found)
        if refused:
            raise PassedOverError(refusal(refused))
        data = b"" if found.st_size > limit else _read(handle, limit + 1)
    finally:
        os.close(handle)
    size = max(found.st_size, len(data))
    if size > limit:
        raise PassedOverError(
            f"expected at most {max_megabytes} MB, received {size / MEGABYTE:,.1f} MB. "
            "Split the file, or raise intake.max_megabytes"
        )
    return Content(data, hashlib.sha256(data).hexdigest(), found.st_mtime)


def _read(handle: int, most: int) -> bytes:
    """Return at most so many bytes."""
    data = bytearray()
    while len(data) < most and (chunk := os.read(handle, min(_CHUNK, most - len(data)))):
        data += chunk
    return bytes(data)


def put(name: str, content: Content, *, folder: int) -> None:
    """Write a file into an opened folder in one step, as old as it was; no link can come in the way of it."""
    temporary = f".new-{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(temporary, flags, 0o644, dir_fd=folder)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content.data)
        os.utime(temporary, (content.modified, content.modified), dir_fd=folder, follow_symlinks=False)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        raise


def refusal(kind: str) -> str:
    """Return why a thing that is no regular file is passed over."""
    return f"expected a regular file, received {kind or 'one that changed meanwhile'}. Copy its content here"


def holds(path: Path, sha256: str, *, size: int) -> bool:
    """Return whether a path is a regular file, and no link, with this content.

    Parameters
    ----------
    size
        In bytes; a file of another size is not read. -1 if it is not known.
    """
    try:
        handle = os.open(path, _FLAGS | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or (size >= 0 and found.st_size != size):
            return False
        with os.fdopen(handle, "rb", closefd=False) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == sha256
    finally:
        os.close(handle)
