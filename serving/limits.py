"""What a request may cost: `serving.api` refuses larger bodies, `serving.workers` ends longer work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Bytes of a body that is no upload: a hundred times as much memory, and a second's work for all to wait for.
MOST_JSON: Final = 1 << 20


@dataclass(frozen=True)
class UploadLimits:
    """What a request may cost.

    Parameters
    ----------
    megabytes
        Of an upload.
    files
        Of an upload.
    seconds
        That a worker may take for a file.
    workers
        Processes that answer audio, one thread each.
    waiting
        Requests that may wait for one.
    """

    megabytes: int = 100
    files: int = 20
    seconds: float = 60.0
    workers: int = 2
    waiting: int = 8
