"""What the tests let workers do; a worker imports this module, so it imports nothing that takes long."""

from __future__ import annotations

import errno
import os
import time

from serving import workers


def process(listener: object) -> int:
    """Return the worker's process id."""
    return os.getpid()


def sleeper(listener: object, seconds: float) -> str:
    """Work for so long."""
    time.sleep(seconds)
    return "done"


def faulty(listener: object) -> None:
    """Fail as a full disk does."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/secret/place")


def eater(listener: object) -> None:
    """End as the system ends a process that needs too much memory."""
    os._exit(9)


def greedy(listener: object) -> int:
    """Need more memory than a worker may have."""
    return len(bytearray(workers.MEMORY_BYTES))
