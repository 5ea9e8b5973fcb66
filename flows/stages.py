"""One Prefect task a DVC stage, which DVC runs; the task says *Cached* where DVC does not run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final, Literal

import httpx
from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.concurrency.sync import concurrency
from prefect.exceptions import PrefectException
from prefect.states import Completed, State

from flows import processes
from flows.errors import failure, without_secrets
from flows.graph import Stage
from flows.retries import may_pass, retry_seconds
from pipeline.messages import masked

Outcome = Literal["unchanged", "restored", "ran"]

# Limits of the whole server, by the kind of stage that holds their only slot: trainings share a device, and
# of two machines that compare a candidate with the champion the second must see what the first decided.
GPU: Final = "gpu"
LIMITS: Final = {"train": GPU, "promote": "champion"}
RETRY_SECONDS: Final = retry_seconds()
_LEASE_SECONDS: Final = 60  # a killed training holds its slot no longer than this

# `dvc repro` says what it did in no other form than these words; it has no --json.
_UNCHANGED: Final = "didn't change, skipping"
_RESTORED: Final = "is cached - skipping run, checking out outputs"
# DVC's advice to whoever types the command; it stands after every stage.
_HINT: Final = re.compile(r"\s*(To (track|enable)|git add|dvc config|Use `dvc push`)|\s*$")
_DECISION: Final = re.compile(r"^\w+-classifier: ")
_EPOCH: Final = re.compile(r"^Epoch (\d+)/(\d+)")


@task(retries=len(RETRY_SECONDS), retry_delay_seconds=RETRY_SECONDS, retry_condition_fn=may_pass)
@without_secrets
def run_stage(stage: Stage, stale: bool, force: bool, environment: dict[str, str]) -> State[Outcome]:
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
        ``Cached`` with the result "unchanged", or "restored" if DVC's run cache put other outputs there;
        ``Completed`` with "ran".

    Raises
    ------
    InfrastructureError
        The stage failed, and trying again may help: the task does so.
    StageError
        The stage failed for good; the message is the stage's own.
    """
    if not (stale or force):
        return Completed(
            name="Cached", message="Nothing that this stage reads has changed.", data="unchanged"
        )
    with _slot(stage), _progress(stage) as progress:
        lines = reproduce(stage.name, force, environment, on_line=progress)
    if any(_RESTORED in line for line in lines):
        return Completed(name="Cached", message="DVC had its outputs from an earlier run.", data="restored")
    if any(_UNCHANGED in line for line in lines):
        return Completed(name="Cached", message="DVC found its inputs unchanged.", data="unchanged")
    decided = [line for line in lines if stage.kind == "promote" and _DECISION.match(line)]
    return Completed(message="; ".join(decided) or "The stage ran.", data="ran")


def moved(outcomes: Mapping[str, Outcome]) -> set[str]:
    """Return the stages whose outputs may be others than before the run."""
    return {name for name, outcome in outcomes.items() if outcome != "unchanged"}


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
            lines.append(masked(line.rstrip()))
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
    # With the run's id a stage would pass for its flow (`processes.is_alive`).
    inherited = {name: value for name, value in os.environ.items() if name != processes.FLOW_RUN}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=inherited | {"PATH": path, "PYTHONUNBUFFERED": "1"} | environment,  # lines as they come
    )
    try:
        yield process
        process.wait()
    finally:
        try:
            if process.poll() is None:
                processes.end_family(process.pid)
        finally:  # a second signal must not leave DVC alive or a zombie: its locks would seem to be held
            process.kill()
            process.wait()


def _slot(stage: Stage) -> AbstractContextManager[None]:
    """Return what a training or a promotion waits for, the slot of its limit; nothing for other stages."""
    if stage.kind not in LIMITS:
        return nullcontext()
    return concurrency(LIMITS[stage.kind], lease_duration=_LEASE_SECONDS, strict=True)


@contextmanager
def _progress(stage: Stage) -> Iterator[Callable[[str], None]]:
    """Yield what logs a line and, while a model trains, moves a progress bar on the run's page."""
    log = get_run_logger()
    if stage.kind != "train":
        yield log.info
        return
    bar: Any = None
    key = re.sub(r"[^a-z0-9]+", "-", f"progress-{stage.name}".lower())  # all that Prefect allows

    def move(percent: float, said: str) -> None:
        nonlocal bar
        try:  # a server that is busy or restarts must not cost a training
            bar = bar or create_progress_artifact(0.0, key=key, description=f"{stage.name}: starting")
            update_progress_artifact(bar, percent, f"{stage.name}: {said}")
        except (httpx.HTTPError, PrefectException) as error:
            log.warning("The progress bar was not moved: %s", error)

    def show(line: str) -> None:
        log.info(line)
        if found := _EPOCH.match(line):
            done, total = int(found[1]) - 1, int(found[2])
            move(100 * done / total, f"epoch {done + 1} of {total}")

    move(0.0, "starting")
    yield show
    move(100.0, "trained")
