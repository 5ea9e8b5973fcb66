"""The lock that whoever changes ``data/`` or runs the stages holds: one process at a time in a checkout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

CACHE: Final = Path(".cache")

LOCK: Final = "workspace.lock"  # held by whoever changes data/ or runs the stages


@contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``; say so when another process holds it, and wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for another process that holds {path} ...", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
