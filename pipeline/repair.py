"""Put right what a killed DVC leaves half written; ``python -m pipeline.repair`` runs before ``dvc repro``.

DVC writes its list of busy files, ``dvc.lock`` and ``data.dvc`` in place. Killed within those milliseconds it
leaves a part, which every later DVC command refuses to read.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pipeline import files
from pipeline.errors import run_main

TMP: Final = Path(".dvc/tmp")
BUSY: Final = "rwlock"  # which files are being read and written, and by which processes
_CONFLICT: Final = "<<<<<<< "


def repair(root: Path = Path()) -> list[str]:
    """Repair DVC's files; while another DVC command runs, leave them alone.

    A part of a ``dvc.lock`` or ``data.dvc`` is kept in DVC's temporary folder; a committed one, if there
    is one, takes its place. What came after that commit is not lost: DVC's run cache has the stages' outputs,
    the working folder the data. What git has left in conflict is its user's to resolve.

    Parameters
    ----------
    root
        The root of a DVC repository.

    Returns
    -------
    list of str
        What was done, one line per file.
    """
    from dvc.lock import Lock, LockError

    tmp = root / TMP
    if not tmp.is_dir():  # DVC has never run here
        return []
    try:
        with Lock(str(tmp / "lock")), Lock(str(tmp / f"{BUSY}.lock")):
            return list(_repair_files(root))
    except LockError:
        return []


def _repair_files(root: Path) -> Iterator[str]:
    busy = root / TMP / BUSY
    if busy.exists() and not _is_json(busy):
        busy.unlink()
        yield f"{busy.relative_to(root)}: half written by a DVC that was killed; removed."
    for name, is_whole in (("dvc.lock", _is_lock), ("data.dvc", _is_pointer)):
        path = root / name
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        if not path.exists() or is_whole(text) or _CONFLICT in text:
            continue
        committed = _committed(path)
        if committed and not is_whole(committed):  # DVC's to say: it is of a later version, say
            continue
        shutil.copyfile(path, root / TMP / f"{name}.part")
        if committed:
            files.write_text(path, committed)
        else:
            path.unlink()
        put = "the committed one is in its place" if committed else "no commit has it: DVC makes a new one"
        yield f"{name}: half written by a DVC that was killed; {put}."


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True


def _is_lock(text: str) -> bool:
    """Return whether DVC can read a ``dvc.lock``; whole lines, since of an MD5 DVC would take a part, too."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    try:
        return text.endswith("\n") and bool(COMPILED_LOCKFILE_SCHEMA(_load(text)))
    except Invalid:
        return False


def _is_pointer(text: str) -> bool:
    """Return whether ``data.dvc`` is whole: it ends with the path of what it versions."""
    match _load(text):
        case {"outs": [{"path": "data"}]}:
            return True
    return False


def _load(text: str) -> Any:
    """Return what YAML holds; nothing if it is broken."""
    from ruamel.yaml import YAML, YAMLError

    try:
        return YAML(typ="safe").load(text)
    except (YAMLError, ValueError):
        return None


def _committed(path: Path) -> str:
    """Return a file of the commit that is checked out; nothing if git has none."""
    command = ["git", "show", f"HEAD:./{path.name}"]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, encoding="utf-8", check=False)
    return done.stdout if done.returncode == 0 else ""


def main() -> None:
    """Repair DVC's files in the working folder, and say so."""
    for line in repair():
        print(line)


if __name__ == "__main__":
    run_main(main)
