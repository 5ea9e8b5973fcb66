"""The data folder: what lies in it, how it is replaced in one step, and how DVC comes to version it.

A data folder holds ``gtzan/<genre>/<track_id>.<ext>`` (GTZAN's layout, for other libraries too),
``mood_labels.csv`` and ``label_history.csv`` (a row for every intake of labels), ``index.csv`` (facts known
beforehand) and ``dataset.json`` (its name).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from pipeline.errors import DataError
from pipeline.workspace_lock import CACHE, LOCK, waiting_lock

DATA: Final = Path("data")

AUDIO_FOLDER: Final = "gtzan"


_MD5: Final = re.compile(r"md5: ([0-9a-f]{32}\.dir)$", re.MULTILINE)
_Result = TypeVar("_Result")


def publish(write: Callable[[Path], _Result], *, data: Path = DATA) -> _Result:
    """Replace the data folder by what ``write`` makes, and version it with DVC.

    A kill at any moment leaves the old data or the new, complete. Data that DVC did not know yet is
    versioned before it is replaced.

    Parameters
    ----------
    write
        Fills the empty folder it is given. If it raises, nothing has changed.
    data
        The data folder; its parent is the root of a DVC repository.

    Returns
    -------
    result
        What ``write`` returned.

    Raises
    ------
    DataError
        If there is no DVC repository, DVC refuses, or the disk does.
    """
    _require_repository(data)
    with waiting_lock(data.parent / CACHE / LOCK):
        try:
            _recover(data)
            _staging(data).mkdir()
            result = write(_staging(data))
            before = _keep_unversioned(data)
            _swap_in(data)
            said = f"; before, it was {before}" if before else ""
            print(f"{data}: versioned by DVC as {version(data)} ({_pointer(data)}){said}")
            return result
        except OSError as error:
            raise DataError(
                f"expected to write {data} and its staging folder beside it, received {error}. "
                "Free disk space or correct the permissions, then run this again."
            ) from error
        finally:
            _recover(data)


def version(data: Path = DATA) -> str:
    """Let DVC version the data folder and return its MD5 (``<hex>.dir``).

    Raises
    ------
    DataError
        If DVC refuses; its own words are in the message.
    """
    done = _python(data, "dvc", "add", data.name)
    if done.returncode and (repaired := _python(data, "pipeline.repair").stdout):
        print(repaired, end="")
        done = _python(data, "dvc", "add", data.name)
    if done.returncode:
        raise DataError(
            f"expected `dvc add {data.name}` to version {data}, received {done.stderr.strip()}. If another "
            "DVC command is running, wait for it and run this again; what is on disk is complete."
        )
    return _versioned_as(data)


def _pointer(data: Path) -> Path:
    """Return the file in which DVC notes the version of ``data``."""
    return data.with_name(f"{data.name}.dvc")


def _staging(data: Path) -> Path:
    """Return the folder that is filled before it becomes ``data``; it may be swept at any time."""
    return data.with_name(f".{data.name}-staging")


def _old(data: Path) -> Path:
    """Return the name that ``data`` bears while it is being replaced; always complete."""
    return data.with_name(f".{data.name}-old")


def _require_repository(data: Path) -> None:
    """Raise `DataError` unless DVC can version ``data`` where it lies."""
    root = data.parent.resolve()
    if not (root / ".dvc").is_dir():
        raise DataError(
            f"expected a DVC repository (a folder .dvc) in {root}, received none. "
            "Run this from the root of the project, or run `dvc init` there first."
        )
    if data.is_symlink() or (data.exists() and not data.is_dir()):
        raise DataError(f"expected {data} to be a plain folder, received a link or a file. Move it away.")


def _recover(data: Path) -> None:
    """Undo a replacement that was cut short, and sweep what it left behind."""
    if _old(data).exists() and not data.exists():
        _old(data).rename(data)
    for leftover in (_staging(data), _old(data)):
        shutil.rmtree(leftover, ignore_errors=True)


def _swap_in(data: Path) -> None:
    """Put the staging folder in the place of ``data``; `_recover` repairs a kill between any two lines."""
    if data.exists():
        data.rename(_old(data))
    _staging(data).rename(data)
    if _old(data).exists():
        # A folder half removed must not bear the name from which `_recover` restores.
        _old(data).rename(_staging(data))


def _keep_unversioned(data: Path) -> str:
    """Version data that DVC does not know yet, so that replacing it loses nothing; return its MD5, if any."""
    if not data.exists() or not any(data.iterdir()):
        return ""
    before = _versioned_as(data)
    kept = version(data)
    if kept != before:
        print(
            f"{data} held content that DVC had not versioned; it is kept as {kept}. To have it back, "
            f"put that md5 into {_pointer(data)} and run `dvc checkout {data.name}`."
        )
    return kept


def _python(data: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a module in the root of the repository."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=data.parent, capture_output=True, text=True, check=False)


def _versioned_as(data: Path) -> str:
    """Return the MD5 in ``data.dvc``; empty where there is no such file, or only a part of one."""
    pointer = _pointer(data)
    found = _MD5.search(pointer.read_text(encoding="utf-8")) if pointer.exists() else None
    return found[1] if found else ""
