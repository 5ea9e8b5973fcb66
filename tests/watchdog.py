"""End what a test run has started when the run itself is killed: no fixture's end is reached then.

Every process that tests start, supervisord's daemons among them, inherits an environment variable by which
the watchdog knows it. It runs beside each process of pytest and lives a moment longer.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

MARK = "CMG_TEST_RUN"
_POLL_SECONDS = 0.5


def start() -> None:
    """Mark this process's future children, and start the watchdog of them."""
    os.environ[MARK] = f"{os.getpid()}-{time.time_ns()}"
    command = [sys.executable, str(Path(__file__)), str(os.getpid()), os.environ[MARK]]
    subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def marked(mark: str) -> list[psutil.Process]:
    """Return the processes, but for this one, that carry a mark."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it has ended meanwhile
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
    return found


def wait_and_end(pid: int, mark: str) -> None:
    """Wait for the end of a process; kill all that carry its mark, and what these start meanwhile."""
    with suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait()
    while left := marked(mark):
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        time.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    wait_and_end(int(sys.argv[1]), sys.argv[2])
