"""The plan of an intake, or a change, written ahead: once on disk it happens, however often it is killed.

Before it nothing outside ``inbox/.intake/`` has changed. Each step after it can be done again: the record of
what is held out, the labels and the history are replaced only while they are not what they are to become, the
file moves last, and the plan goes when all is done. Everything is on disk (fsync) before the step that relies
on it, so that a power cut is a kill like any other.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from pipeline import files
from pipeline.errors import DataError
from pipeline.labelling import dropped
from pipeline.tables import held_out
from pipeline.tables.label_changes import CHANGES_FILE, with_changes
from pipeline.tables.label_history import HISTORY_FILE, with_record
from pipeline.tables.mood_labels import LABELS_FILE
from pipeline.untrusted import is_unseen

LABELS: Final = "labels"
DONE: Final = "done"
REJECTED: Final = "rejected"

# Names may have 255 bytes; a number and ``.reason.txt`` are put behind these.
_NAME_BYTES: Final = 150
_SUFFIX_BYTES: Final = 16
_FOLDER: Final = ".intake"
_ANY_SIZE: Final = 10**6  # MB
_PLAN: Final = "plan.json"
_FILE: Final = "file"
_NEW_LABELS: Final = "store.csv"  # in plans that an earlier version left, too
_BESIDE: Final = "beside"
_HISTORY: Final = "history.csv"
_RECORD: Final = "held_out.csv"
_LABELLED: Final = ("mood",)  # the task whose split new labels change
_MOVING: Final = ".moving"
# Beside the data folder, not in it: what a kill leaves there must not be versioned with the data.
_INCOMING: Final = "intake"


@dataclass(frozen=True)
class Plan:
    """What an intake is going to do.

    Parameters
    ----------
    file, sha256
        Name of the file in ``inbox/labels/`` as the file system has it, and the hash of what was read.
    size
        Bytes that were read; -1 in a plan of before there was this field.
    store_before, store_after
        Hashes of ``mood_labels.csv``; equal if nothing is merged. Named so in plans on disk.
    moves_to
        Where the file goes, relative to the inbox.
    beside
        Where the rejected rows or the reason go, relative to the inbox; blank if there are none.
    record
        The row of the history.
    docs
        Data Docs pages of the checks, relative to the Data Docs folder.
    fault
        Why the whole file is rejected; blank if it is not.
    changes
        Of a plan that takes labels back or corrects them: its rows of ``label_changes.csv``. Such a plan is
        of no ``file``, and has neither a ``record`` nor a place that something ``moves_to``.
    """

    file: str
    sha256: str
    store_before: str
    store_after: str
    moves_to: str
    beside: str
    record: dict[str, str]
    docs: tuple[str, ...]
    fault: str = ""
    size: int = -1
    changes: tuple[dict[str, str], ...] = ()


def require_folders(inbox: Path) -> None:
    """Make sure, before anything is read or written, that no folder of the inbox leads elsewhere.

    Raises
    ------
    DataError
        One of them is a link, or no folder.
    """
    dropped.require_folder(inbox / LABELS)
    for name in (DONE, REJECTED, _FOLDER):
        if os.path.lexists(inbox / name):
            dropped.require_folder(inbox / name)


def commit(plan: Plan, *, inbox: Path, content: bytes, labels_text: str | None, beside_text: str) -> None:
    """Stage what the plan needs, then write the plan: from here on the intake happens.

    The file's content is staged too: its name may stand for another file by the time it is moved.
    """
    folder = inbox / _FOLDER
    clear(inbox)
    _make(folder)
    _write_bytes(folder / _FILE, content)
    if labels_text is not None:
        _write(folder / _NEW_LABELS, labels_text)
    if plan.beside:
        _write(folder / _BESIDE, beside_text)
    sync(folder)
    # In ASCII: a file's name may hold bytes that are no UTF-8.
    _write(folder / f"{_PLAN}.new", json.dumps(asdict(plan), indent=2, ensure_ascii=True))
    (folder / f"{_PLAN}.new").replace(folder / _PLAN)
    sync(folder)


def is_committed(inbox: Path) -> bool:
    """Return whether there is a plan."""
    return (inbox / _FOLDER / _PLAN).exists()


def pending(inbox: Path, *, data: Path) -> Plan | None:
    """Return the plan that a kill left undone; drop a plan that no longer fits: its file is checked again."""
    if not is_committed(inbox):
        clear(inbox)
        return None
    plan = _read_plan(inbox)
    if _fits(plan, inbox=inbox, now=labels_hash(data)):
        return plan
    clear(inbox)
    return None


def _read_plan(inbox: Path) -> Plan:
    """Read the plan.

    Raises
    ------
    DataError
        It is none, or names anything but files of the inbox's own folders.
    """
    path = inbox / _FOLDER / _PLAN
    values: Any = files.read_json(path)
    try:
        lists = {name: tuple(values.get(name, ())) for name in ("docs", "changes")}
        plan = Plan(**(values | lists))
        places = (f"{LABELS}/{plan.file}", plan.moves_to, plan.beside or plan.moves_to)
        is_change = bool(plan.changes) and not (plan.file or plan.moves_to or plan.beside)
        is_ours = is_change or all(map(_is_inside, places))
    except (TypeError, KeyError, AttributeError):
        is_ours = False
    if not is_ours:
        raise DataError(
            f"{path}: expected the plan of an intake, within {inbox}, received something else. "
            f"Nothing was done; take {path.parent} away."
        )
    return plan


def _is_inside(place: str) -> bool:
    """Return whether a place is a file of one of the inbox's folders, ``done/batch.csv``."""
    folder, _, name = place.partition("/")
    return folder in (LABELS, DONE, REJECTED) and Path(name).name == name not in ("", "..")


def _fits(plan: Plan, *, inbox: Path, now: str) -> bool:
    """Return whether the plan is half done, or can still begin: its file is there, labels unchanged."""
    if now == plan.store_after != plan.store_before:
        return True
    places = (inbox / LABELS / plan.file, inbox / plan.moves_to)
    if plan.changes:
        return now == plan.store_before
    return now == plan.store_before and any(
        dropped.holds(place, plan.sha256, size=plan.size) for place in places
    )


def carry_out(plan: Plan, *, inbox: Path, data: Path) -> None:
    """Do what the plan says, or what is left of it."""
    folder = inbox / _FOLDER
    if labels_hash(data) != plan.store_after:
        # First: the last split, of the labels as they still are, is what the next one keeps to.
        if (record := held_out.remembered(data, _LABELLED)) is not None:
            _write(folder / _RECORD, record)
            _place(folder / _RECORD, data / held_out.HELD_OUT_FILE, by=_incoming(data))
        _place(folder / _NEW_LABELS, data / LABELS_FILE, by=_incoming(data))
    if plan.beside:
        _place(folder / _BESIDE, inbox / plan.beside, by=folder / _MOVING)
    history = with_changes(data, plan.changes) if plan.changes else with_record(data, plan.record)
    if history is not None:
        _write(folder / _HISTORY, history)
        _place(folder / _HISTORY, data / (CHANGES_FILE if plan.changes else HISTORY_FILE), by=_incoming(data))
    if not plan.changes:
        _move(plan, inbox=inbox)
    clear(inbox)


def clear(inbox: Path) -> None:
    """Forget the plan, then what was staged for it."""
    folder = inbox / _FOLDER
    if is_committed(inbox):
        (folder / _PLAN).unlink()
        sync(folder)
    shutil.rmtree(folder, ignore_errors=True)


def labels_hash(data: Path) -> str:
    """Return the SHA-256 of ``mood_labels.csv``; blank where there is none."""
    path = data / LABELS_FILE
    return files.sha256(path) if path.exists() else ""


def plain_name(name: str) -> str:
    """Return a file's name as it is written down: Unicode, nothing unseen in it, at most 150 bytes."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    text = "".join("_" if is_unseen(letter) else letter for letter in text)
    suffix = Path(text).suffix if len(Path(text).suffix.encode()) <= _SUFFIX_BYTES else ""
    stem = text.removesuffix(suffix).encode()[: _NAME_BYTES - len(suffix.encode())]
    return stem.decode("utf-8", "ignore") + suffix


def unique_path(path: Path) -> Path:
    """Return the path, numbered if it is taken: ``batch.csv``, ``batch-2.csv``, ``batch-3.csv``."""
    number, candidate = 1, path
    while os.path.lexists(candidate):
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return candidate


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's entries, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _incoming(data: Path) -> Path:
    """Return the name under which a file of the data folder is written; git ignores it."""
    return data.with_name(f".{data.name}-{_INCOMING}")


def _make(folder: Path) -> None:
    """Make a folder of the inbox, if it is not there."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        sync(folder.parent)


def _write(path: Path, text: str) -> None:
    _write_bytes(path, text.encode())


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    sync(path)


def _place(source: Path, target: Path, *, by: Path) -> None:
    """Copy a file over another in one step; ``by`` is a name on the target's disk."""
    _make(target.parent)
    shutil.copyfile(source, by)
    by.chmod(0o644)
    sync(by)
    by.replace(target)
    sync(target.parent)


def _move(plan: Plan, *, inbox: Path) -> None:
    """Move the file, even to another disk; a newer one of the same name stays for the next intake."""
    source, target, staged = inbox / LABELS / plan.file, inbox / plan.moves_to, inbox / _FOLDER / _FILE
    is_there = dropped.holds(source, plan.sha256, size=plan.size)
    if is_there and not staged.exists():  # the plan is of a version that staged no content
        with dropped.opened(source.parent) as folder:
            _write_bytes(staged, dropped.read(plan.file, folder=folder, max_megabytes=_ANY_SIZE).data)
    if staged.exists() and not dropped.holds(target, plan.sha256, size=plan.size):
        _place(staged, target, by=inbox / _FOLDER / _MOVING)
    if is_there:
        source.unlink()
        sync(source.parent)
