"""The processes of this machine that flows have started: which live, and how they end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

FLOW_RUN: Final = "PREFECT__FLOW_RUN_ID"  # in the environment of the process that executes a flow run
_GRACE_SECONDS: Final = 5
_END_SECONDS: Final = 20


def is_alive(flow_run: str) -> bool:
    """Return whether a process of this machine executes a flow run; stages do not carry its id."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it has ended meanwhile, or is another user's
            if process.environ().get(FLOW_RUN) == flow_run:
                return True
    return False


def end_runs() -> None:
    """Terminate this process's flow runs, which end their stages; kill what is left after twenty seconds."""
    runs = psutil.Process().children()
    for run in runs:
        _signal(run.terminate)
    _, alive = psutil.wait_procs(runs, _END_SECONDS)
    for run in alive:  # it waits for a server that is gone
        end_family(run.pid)


def end_stages(mark: str) -> None:
    """End the stages that a killed flow run left going in this checkout; whoever calls holds its lock.

    Parameters
    ----------
    mark
        The variable that a flow's stages, and nothing else, have in their environment.
    """
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if mark in process.environ() and Path(process.cwd()) == Path.cwd():
                end_family(process.pid)


def end_family(pid: int) -> None:
    """Terminate a process and its descendants; kill what is left after five seconds.

    The process is halted meanwhile: it neither starts a child unseen nor does anything about a child's end.
    DVC would write, and be terminated within it.
    """
    try:
        parent = psutil.Process(pid)
        parent.suspend()
        family = [*parent.children(recursive=True), parent]
    except psutil.NoSuchProcess:
        return
    for member in family:
        _signal(member.terminate)
    _signal(parent.resume)
    _, alive = psutil.wait_procs(family, timeout=_GRACE_SECONDS)
    for member in alive:
        _signal(member.kill)


def _signal(send: Callable[[], None]) -> None:
    with suppress(psutil.NoSuchProcess):  # it ended by itself in between
        send()
