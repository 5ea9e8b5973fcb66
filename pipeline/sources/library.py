"""The data folder: what lies in it, how it is replaced at one stroke, and how DVC comes to version it.

A data folder holds ``gtzan/<genre>/<track_id>.<ext>`` (GTZAN's layout, for other libraries too),
``mood_labels.csv`` and ``label_history.csv`` (a row for every intake of labels), ``index.csv`` (facts known
beforehand) and ``dataset.json`` (its name).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import pandas as pd
from filelock import FileLock, Timeout

from pipeline import files
from pipeline.errors import DataError

DATA: Final = Path("data")
CACHE: Final = Path(".cache")
LOCK: Final = "workspace.lock"  # held by whoever changes data/ or runs the stages

AUDIO_FOLDER: Final = "gtzan"
LABELS_FILE: Final = "mood_labels.csv"
HISTORY_FILE: Final = "label_history.csv"
INDEX_FILE: Final = "index.csv"
DATASET_FILE: Final = "dataset.json"

LABEL_COLUMNS: Final = ("track_id", "mood", "annotator", "labelled_at")
HISTORY_COLUMNS: Final = (
    "file",
    "sha256",
    "received_at",
    "rows",
    "accepted",
    "rejected",
    "mended",
    "annotators",
    "new_tracks",
    "alpha",
    "fault",  # why the file was rejected whole, in one line; the last column, which older histories lack
)
INDEX_COLUMNS: Final = (
    "track_id",
    "genre",
    "bytes",
    "sha256",
    "artist",
    "title",
    "artist_source",
    "exact_duplicate_of",
    "filtered_split",
)

_NAMES_SHOWN = 5
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
                f"Expected to write {data} and its staging folder beside it. Received: {error}. "
                "Free disk space or mend the permissions, then run this again."
            ) from error
        finally:
            _recover(data)


def version(data: Path = DATA) -> str:
    """Let DVC version the data folder and return the MD5 it goes by (``<hex>.dir``).

    Raises
    ------
    DataError
        If DVC refuses; its own words are in the message.
    """
    done = _python(data, "dvc", "add", data.name)
    if done.returncode and (mended := _python(data, "pipeline.repair").stdout):
        print(mended, end="")
        done = _python(data, "dvc", "add", data.name)
    if done.returncode:
        raise DataError(
            f"Expected `dvc add {data.name}` to version {data}. Received: {done.stderr.strip()}. If another "
            "DVC command is running, wait for it and run this again; what is on disk is complete."
        )
    return _versioned_as(data)


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


def read_table(path: Path, *, columns: Sequence[str]) -> pd.DataFrame:
    """Read a CSV file as text, blank where a value is missing.

    Parameters
    ----------
    path
        A UTF-8 file with a header.
    columns
        Columns that must be there; others may be.

    Raises
    ------
    DataError
        If the file is missing, is no UTF-8 CSV, or lacks a column.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        reason = f"{type(error).__name__}: {str(error).strip()}"
        raise DataError(
            f"Expected {path} to be a UTF-8 CSV file. Received: {reason}. Mend or name another."
        ) from None
    # pandas takes the first column for an index when rows have more values than the header.
    if not isinstance(table.index, pd.RangeIndex):
        raise DataError(f"{path}: rows have more values than the header; quote values that hold a comma.")
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise DataError(
            f"{path}: expected columns {','.join(columns)}. Received: {','.join(map(str, table.columns))}. "
            f"Add to the header: {','.join(missing)}."
        )
    return table


def write_labels(folder: Path, labels: Path | None) -> None:
    """Copy a mood-label CSV as it is into a data folder; without one, write its header only.

    The history of intakes beside it begins empty.
    """
    write_history(folder)
    if labels is None:
        files.write_text(folder / LABELS_FILE, ",".join(LABEL_COLUMNS) + "\n")
        return
    read_table(labels, columns=LABEL_COLUMNS)
    shutil.copyfile(labels, folder / LABELS_FILE)


def write_history(folder: Path) -> None:
    """Begin an empty history of intakes."""
    files.write_text(folder / HISTORY_FILE, ",".join(HISTORY_COLUMNS) + "\n")


def write_index(folder: Path, index: pd.DataFrame) -> None:
    """Write the facts on a data folder's tracks, sorted by id; columns not given are left blank."""
    table = index.reindex(columns=list(INDEX_COLUMNS), fill_value="").sort_values("track_id")
    files.write_csv(folder / INDEX_FILE, table)


def write_dataset(folder: Path, *, name: str, description: str, synthetic: bool = False) -> None:
    """Write what the data goes by; no dates and no paths, so that equal data has an equal MD5."""
    identity = {"name": name, "description": description, "synthetic": synthetic}
    files.write_json(folder / DATASET_FILE, identity)


def read_dataset(folder: Path) -> dict[str, Any]:
    """Return what a data folder's ``dataset.json`` says; nothing where there is no such file."""
    path = folder / DATASET_FILE
    return files.read_json(path) if path.exists() else {}


def listing(names: Sequence[str]) -> str:
    """Return the count and the first names: ``"7: a, b, c, d, e and 2 more"``."""
    more = len(names) - _NAMES_SHOWN
    shown = ", ".join(names[:_NAMES_SHOWN])
    return f"{len(names)}" + (f": {shown}" if names else "") + (f" and {more} more" if more > 0 else "")


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
            f"Expected a DVC repository (a folder .dvc) in {root}. Received: none. "
            "Run this from the root of the project, or run `dvc init` there first."
        )
    if data.is_symlink() or (data.exists() and not data.is_dir()):
        raise DataError(f"Expected {data} to be a plain folder. Received: a link or a file. Move it away.")


def _recover(data: Path) -> None:
    """Undo a replacement that was cut short, and sweep what it left behind."""
    if _old(data).exists() and not data.exists():
        _old(data).rename(data)
    for leftover in (_staging(data), _old(data)):
        shutil.rmtree(leftover, ignore_errors=True)


def _swap_in(data: Path) -> None:
    """Put the staging folder in the place of ``data``; `_recover` mends a kill between any two lines."""
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
