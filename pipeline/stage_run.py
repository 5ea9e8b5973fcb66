"""Run a stage so that what DVC records of it is what made its outputs.

DVC hashes dependencies and parameters after a stage has ended. What is changed while it runs would be
recorded as what made the outputs; so the stage looks at its inputs before and after, and fails if they moved.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import psutil
from ruamel.yaml import YAML

from pipeline import source_code
from pipeline.errors import CmgError, run_main

STAGE: Final = "DVC_STAGE"  # DVC sets it for the commands that it runs: train@genre-lenet5
GRAPH: Final = Path("dvc.yaml")
PARAMS: Final = Path("params.yaml")

_SHELLS: Final = {"sh", "bash", "dash", "zsh", "fish", "ksh"}
_POLL_SECONDS: Final = 1.0
# Python's 700 have it walk through all of TensorFlow and MLflow, again and again, while it loads them.
_COLLECT_AFTER: Final = 100_000  # new objects
_SHOWN: Final = 5


@dataclass(frozen=True)
class Inputs:
    """A stage's inputs at one moment.

    Parameters
    ----------
    files
        Size in bytes, time of change in ns and inode of every file below its dependencies. Not the content:
        an edit that was undone may have been read, and looks like a file that was only touched.
    params
        The values of its keys of ``params.yaml``.
    code
        Its definitions, as `pipeline.source_code.code_of` gives them.
    """

    files: dict[str, tuple[int, int, int]]
    params: dict[str, Any]
    code: source_code.Code

    def differences(self, other: Inputs) -> list[str]:
        """Return the names of what differs."""
        pairs = [(self.files, other.files), (self.params, other.params)]
        pairs += [(self.code.get(kind, {}), other.code.get(kind, {})) for kind in self.code | other.code]
        return [
            name
            for own, others in pairs
            for name in sorted(own.keys() | others.keys())
            if own.get(name) != others.get(name)
        ]


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's ``main`` as `run_main` does; under DVC, also watch its inputs, and DVC.

    Exit code 2 if an input has moved since the stage began: DVC then records nothing.
    """
    gc.set_threshold(_COLLECT_AFTER)
    address = os.environ.get(STAGE)
    if address is None:
        run_main(main)
        return
    run_main(lambda: _run_under_dvc(main, address))
    _leave()


def _leave() -> NoReturn:
    """End this process without freeing object by object, for which Python takes seconds after TensorFlow."""
    atexit._run_exitfuncs()  # MLflow ends its run, a log and a pool of workers close
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _run_under_dvc(main: Callable[[], None], address: str) -> None:
    _end_with(_dvc())
    entry = entry_of(address)
    before = inputs_of(entry, address)
    _require_listed_code(before, address)
    main()
    moved = before.differences(inputs_of(entry, address))
    if moved:
        raise CmgError(
            f"{address}: expected inputs that stay as they are while the stage runs, received changes of "
            f"{_listed(moved)}. Nothing is recorded; run `dvc repro` again."
        )


def _require_listed_code(inputs: Inputs, address: str) -> None:
    """Refuse to run code that was changed after the stage ``code`` has listed it."""
    path = source_code.path_of(address.partition("@")[0])
    if not inputs.code or not path.exists():
        return
    listed = Inputs({}, {}, json.loads(path.read_text(encoding="utf-8")))
    moved = listed.differences(Inputs({}, {}, inputs.code))
    if moved:
        raise CmgError(
            f"{address}: expected the code that {path} lists, received changes of {_listed(moved)}. "
            "Run `dvc repro` again."
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def entry_of(address: str) -> dict[str, Any]:
    """Return a stage's entry of ``dvc.yaml``, with the task and model of ``train@genre-lenet5`` filled in."""
    name, _, chosen = address.partition("@")
    entry = YAML(typ="safe").load(GRAPH.read_text(encoding="utf-8"))["stages"][name]
    text = json.dumps(entry)
    for key, value in zip(entry.get("matrix", ()), chosen.split("-"), strict=False):
        text = text.replace(f"${{item.{key}}}", value)
    return json.loads(text)


def inputs_of(entry: dict[str, Any], address: str) -> Inputs:
    """Look at a stage's inputs as they are now."""
    keys = entry.get("params", ())
    values = YAML(typ="safe").load(PARAMS.read_text(encoding="utf-8")) if keys else {}
    stage = address.partition("@")[0]
    return Inputs(
        files={
            path: _state(path) for dependency in entry.get("deps", ()) for path in _files_below(dependency)
        },
        params={key: _value(values, key) for key in keys},
        code=source_code.code_of(stage)[stage] if stage in source_code.STAGES else {},
    )


def _files_below(path: str) -> Iterator[str]:
    """Yield the files of a dependency, without what ``.dvcignore`` leaves out."""
    if not os.path.isdir(path):  # noqa: PTH112 - faster than pathlib by a factor of three on thousands of files
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if name != "__pycache__"]
        yield from (os.path.join(folder, name) for name in names)  # noqa: PTH118


def _state(path: str) -> tuple[int, int, int]:
    try:
        found = os.stat(path)  # noqa: PTH116
    except FileNotFoundError:  # the stage says so itself
        return 0, 0, 0
    return found.st_size, found.st_mtime_ns, found.st_ino


def _value(values: Any, key: str) -> Any:
    """Return what a dotted key of ``params.yaml`` holds; None if it is not there."""
    for name in key.split("."):
        values = values.get(name) if isinstance(values, dict) else None
    return values


def _dvc() -> psutil.Process | None:
    """Return the DVC that runs this stage: its parent, or that of the shell between; None if it ended."""
    try:
        parent = psutil.Process().parent()
        return parent.parent() if parent and parent.name() in _SHELLS else parent
    except psutil.NoSuchProcess:
        return None


def _end_with(dvc: psutil.Process | None) -> None:
    """End this process, and those it started, when DVC is gone: another DVC would run the stage beside it."""

    def watch() -> None:
        while dvc is not None and _lives(dvc):
            time.sleep(_POLL_SECONDS)
        for child in psutil.Process().children(recursive=True):
            child.kill()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="watch DVC").start()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
