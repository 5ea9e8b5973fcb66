"""Settings for one kind of library: ``python -m pipeline.presets NAME`` writes them into ``params.yaml``.

``presets/sample.yaml`` holds every default; any other preset says where it differs from that. So a preset
gives the same parameters whatever was applied before.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline import params
from pipeline.errors import ParamsError, run_main

FOLDER: Final = Path("presets")
DEFAULTS: Final = "sample"
LIBRARY: Final = "library"
GROUPS: Final = 3  # artists, or tracks of unknown artist, that a class needs: for train, valid and test
NOT_CHOSEN: Final = (DEFAULTS, "gtzan")


@dataclass(frozen=True)
class Change:
    """A key that a preset has changed.

    Parameters
    ----------
    key
        Dotted.
    before, after
        Its values.
    is_own
        The value before was neither the default nor any preset's: somebody's own edit.
    """

    key: str
    before: Any
    after: Any
    is_own: bool

    def __str__(self) -> str:
        own = "  (replaces an edit of your own)" if self.is_own else ""
        return f"{self.key}: {_shown(self.before)} → {_shown(self.after)}{own}"


def apply(name: str, *, folder: Path = FOLDER, target: Path = params.PARAMS_FILE) -> list[Change]:
    """Write the defaults, and a preset over them, into ``target``; comments stay.

    Returns
    -------
    list of Change
        What is now another value than before.

    Raises
    ------
    ParamsError
        There is no such preset, or the outcome would be no valid params file; ``target`` is as it was.
    """
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise ParamsError(f"expected a preset, one of {', '.join(known)}, received {name!r}.")
    wanted = values_of(name, folder)
    before = dict(_leaves(params.load(target)))
    params.replace(target, wanted, source=f"{target} with {folder / name}.yaml")
    others = [dict(_leaves(values_of(preset, folder))) for preset in known]
    after = dict(_leaves(wanted))
    return [
        Change(
            key, before.get(key), after.get(key), all(before.get(key) != preset.get(key) for preset in others)
        )
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def begin_library(*, folder: Path = FOLDER, target: Path = params.PARAMS_FILE) -> None:
    """Apply the preset for music of one's own, and say so, unless somebody has chosen other settings.

    The defaults, and what ``make gtzan`` sets, are nobody's choice; an edit, or another preset, stays.
    """
    now = params.load(target)
    if any({**values_of(name, folder), "tasks": now["tasks"]} == now for name in NOT_CHOSEN):
        changes = apply(LIBRARY, folder=folder, target=target)
        keys = ", ".join(change.key for change in changes if change.key != "tasks")
        print(f"settings for your own music (presets/{LIBRARY}.yaml): {keys}")


def fit_tasks(*, genres: int, labelled: bool, anew: bool, target: Path = params.PARAMS_FILE) -> bool:
    """Write the tasks that a library has something to learn for into ``target``, and say if they changed.

    Parameters
    ----------
    genres
        How many there are; one alone is nothing to tell apart.
    labelled
        Whether there are mood labels enough.
    anew
        Whether the library is new, or has new labels: then all that is possible is a task. Else the
        tasks that are possible stay, and no others come.

    Returns
    -------
    is_possible
        Whether there is anything to learn.
    """
    before = params.load(target)
    possible = (["genre"] if genres > 1 else []) + (["mood"] if labelled else [])
    kept = [task for task in before["tasks"] if task in possible]
    tasks = (possible if anew or not kept else kept) or ["mood"]
    why = [] if genres > 1 else ["one genre is nothing to tell apart"]
    why += (
        []
        if labelled
        else [f"moods need labels, two moods with {GROUPS} artists each: import again with LABELS=FILE"]
    )
    if list(before["tasks"]) != tasks:
        wanted = deepcopy(before)
        wanted["tasks"] = tasks
        params.replace(target, wanted, source=str(target))
        change = Change("tasks", list(before["tasks"]), tasks, is_own=False)
        print("; ".join([str(change), *why]))
    return bool(possible)


def values_of(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """Return all the parameters of a preset: the defaults with what it changes."""
    values = deepcopy(params.load(folder / f"{DEFAULTS}.yaml"))
    params.overlay(values, params.load(folder / f"{name}.yaml"))
    return values


def _leaves(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return the dotted keys and values; an empty mapping is a value."""
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        nested = isinstance(value, Mapping) and value
        found += _leaves(value, f"{prefix}{key}.") if nested else [(f"{prefix}{key}", value)]
    return found


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value).lower() if isinstance(value, bool) else f"{value}"


def main() -> None:
    """Write a preset's settings into params.yaml and say what changed."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.presets", description=main.__doc__)
    parser.add_argument("name", help="a file of presets/, without .yaml")
    name = parser.parse_args().name
    changes = apply(name)
    print(f"preset {name}: params.yaml has {len(changes)} other values than before")
    print("".join(f"  {change}\n" for change in changes), end="")


if __name__ == "__main__":
    run_main(main)
