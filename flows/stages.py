"""One Prefect task a DVC stage: it runs the stage through DVC, and says *Cached* where DVC skips it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import psutil
from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.concurrency.sync import concurrency
from prefect.states import Completed, State

from flows.errors import InfrastructureError, failure
from flows.graph import Stage

GPU: Final = "gpu"  # the concurrency limit that trainings share
RETRY_DELAYS: Final = (30, 120)  # seconds: a lock is soon free, a server takes longer to come back
_LEASE_SECONDS: Final = 60  # a killed training holds its slot no longer than this
_GRACE_SECONDS: Final = 5

_SKIPPED: Final = re.compile(r"didn't change, skipping|is cached - skipping run")
# DVC's advice to whoever types the command; it stands after every stage.
_HINT: Final = re.compile(r"\s*(To (track|enable)|git add|dvc config|Use `dvc push`)|\s*$")
_EPOCH: Final = re.compile(r"^Epoch (\d+)/(\d+)")


def may_pass(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Return whether a failed task is worth another try; Prefect's ``retry_condition_fn``."""
    return isinstance(state.result(raise_on_failure=False), InfrastructureError)


@task(retries=len(RETRY_DELAYS), retry_delay_seconds=list(RETRY_DELAYS), retry_condition_fn=may_pass)
def run_stage(stage: Stage, stale: bool, force: bool, environment: dict[str, str]) -> State[bool]:
    """Run one stage through DVC and pass its output on to the task's log.

    Parameters
    ----------
    stage
        The stage.
    stale
        Whether the stage, or one before it, has changed; without it DVC is not even asked.
    force
        Run it although nothing has changed.
    environment
        What the stage shall find in its environment beside ours.

    Returns
    -------
    State
        ``Cached`` with the result False, ``Completed`` with True.

    Raises
    ------
    InfrastructureError
        The stage failed, and trying again may help: the task does so.
    StageError
        The stage failed for good; the message is the stage's own.
    """
    if not (stale or force):
        return Completed(name="Cached", message="Nothing that this stage reads has changed.", data=False)
    with _slot(stage), _progress(stage) as progress:
        lines = reproduce(stage.name, force, environment, on_line=progress)
    if any(_SKIPPED.search(line) for line in lines):
        return Completed(name="Cached", message="DVC found its inputs unchanged.", data=False)
    return Completed(message="The stage ran.", data=True)


def reproduce(
    name: str, force: bool, environment: dict[str, str], on_line: Callable[[str], None]
) -> list[str]:
    """Run ``dvc repro --single-item`` and return what it printed; whatever happens, no child survives it.

    Raises
    ------
    InfrastructureError, StageError
        The stage failed.
    """
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", *(["--force"] if force else []), name]
    lines = []
    with _child(command, environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            if not _HINT.match(line):
                on_line(lines[-1])
    if process.returncode:
        raise failure(name, process.returncode, lines)
    return lines


@contextmanager
def _child(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Start a process; end it and all it started when the block is left early.

    Prefect cancels by a signal that raises in this block, and signals nobody but the flow's own process.
    """
    bin_folder = str(Path(sys.executable).parent)  # stages are called as `python -m ...`
    path = f"{bin_folder}{os.pathsep}{os.environ.get('PATH', '')}"
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=os.environ | {"PATH": path, "PYTHONUNBUFFERED": "1"} | environment,
    )
    try:
        yield process
        process.wait()
    finally:
        end_family(process)


def end_family(process: subprocess.Popen[str]) -> None:
    """Terminate a process and its descendants; kill what is left after five seconds."""
    if process.poll() is not None:
        return
    parent = psutil.Process(process.pid)
    family = [*parent.children(recursive=True), parent]
    for member in family:
        _signal(member.terminate)
    _, alive = psutil.wait_procs(family, timeout=_GRACE_SECONDS)
    for member in alive:
        _signal(member.kill)
    process.wait()


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except psutil.NoSuchProcess:  # it ended by itself in between
        return


def _slot(stage: Stage) -> AbstractContextManager[None]:
    """Return what a training waits for: the only slot of the limit ``gpu``; nothing for other stages."""
    if stage.kind != "train":
        return nullcontext()
    return concurrency(GPU, lease_duration=_LEASE_SECONDS, strict=True)


@contextmanager
def _progress(stage: Stage) -> Iterator[Callable[[str], None]]:
    """Yield what logs a line and, while a model trains, moves a progress bar on the run's page."""
    log = get_run_logger()
    if stage.kind != "train":
        yield log.info
        return
    bar: Any = create_progress_artifact(0.0, key=_key(stage), description=f"{stage.name}: starting")

    def show(line: str) -> None:
        log.info(line)
        if found := _EPOCH.match(line):
            done, total = int(found[1]) - 1, int(found[2])
            update_progress_artifact(bar, 100 * done / total, f"{stage.name}: epoch {done + 1} of {total}")

    yield show
    update_progress_artifact(bar, 100.0, f"{stage.name}: trained")


def _key(stage: Stage) -> str:
    """Return an artifact key: Prefect allows lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", f"progress-{stage.name}".lower())
