"""Data that were edited by hand since the last run: what that run held out is noted before the next one.

Intakes and sources note it themselves (`pipeline.tables.held_out`). ``make repro`` runs this module
first, and every flow asks it; a plain ``dvc repro`` does not.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.data_folder import AUDIO_FOLDER, DATA
from pipeline.errors import run_main

if TYPE_CHECKING:
    from dvc.output import Output

_POINTER: Final = Path(f"{DATA}.dvc")
_LABELS: Final = "mood_labels.csv"
_GROUPS: Final = "artifacts/splits/*.groups.csv"


def note() -> list[str]:
    """Note what the last split held out if ``data/`` is not what ``data.dvc`` says.

    Data of another version, which ``dvc checkout`` has put there, have their own record, which stays.

    Returns
    -------
    list of str
        What was done, one line.
    """
    if not _POINTER.exists() or not any(Path().glob(_GROUPS)):
        return []
    tasks = _tasks_edited()
    if not tasks:
        return []
    from pipeline.tables import held_out

    text = held_out.remembered(DATA, tasks)
    if text is None:
        return []
    held_out.place(text, DATA)
    return [f"{DATA} was edited: what the last split held out is noted in {DATA / held_out.HELD_OUT_FILE}."]


def _tasks_edited() -> tuple[str, ...]:
    """Return the tasks whose split an edit of the data may change; none if there was no edit."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            if not repo.status(targets=[_POINTER.name]):
                return ()
            (out,) = repo.stage.load_one(_POINTER.name).outs
            before = _listed(out)
    except (DvcException, OSError, ValueError, LookupError):  # DVC says it itself when it runs
        return ()
    audio = {path.relative_to(DATA).as_posix() for path in DATA.glob(f"{AUDIO_FOLDER}/*/*")}
    is_same_audio = audio == {name for name in before if name.startswith(f"{AUDIO_FOLDER}/")}
    others = [name for name, md5 in before.items() if "/" not in name and _md5(DATA / name) != md5]
    return ("mood",) if is_same_audio and others == [_LABELS] else ("genre", "mood")


def _listed(out: Output) -> dict[str, str]:
    """Return the MD5 of each file of the data's last version, by its path."""
    path = out.cache.oid_to_path(out.hash_info.value)
    return {one["relpath"]: one["md5"] for one in json.loads(Path(path).read_bytes())}


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() if path.exists() else ""


def main() -> None:
    """Note what the last split held out, if data were edited by hand since."""
    for line in note():
        print(line)


if __name__ == "__main__":
    run_main(main)
