"""What DVC knows: the stages in the order in which they run, what each follows, and which changed.

``python -m flows.graph`` prints it as JSON. Flows ask it in a process of its own: DVC sets up logging, event
loops and locks that do not belong into Prefect's process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from flows.errors import failure


@dataclass(frozen=True)
class Stage:
    """A stage of the graph.

    Parameters
    ----------
    name
        As DVC addresses it: ``train@genre-lenet5``; ``data.dvc`` for the versioned data.
    after
        The stages whose outputs it reads.
    changed
        Whether its own files, parameters or outputs differ from ``dvc.lock``. A stage that is unchanged
        itself may still have to run, after one before it has run.
    """

    name: str
    after: tuple[str, ...]
    changed: bool

    @property
    def kind(self) -> str:
        """The stage's name without task and model; ``data`` for the versioned data."""
        return self.name.split("@")[0].removesuffix(".dvc")


def read(root: Path) -> list[Stage]:
    """Ask DVC about the project in ``root``; upstream stages come first.

    Raises
    ------
    StageError
        DVC refuses, because ``params.yaml`` or ``dvc.yaml`` is broken, say.
    """
    command = [sys.executable, "-m", "flows.graph"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise failure("graph", done.returncode, (done.stdout + done.stderr).splitlines())
    if done.stderr:  # what was repaired, or that a killed process held a file
        print(done.stderr.strip())
    return [
        Stage(stage["name"], tuple(stage["after"]), stage["changed"]) for stage in json.loads(done.stdout)
    ]


def main() -> None:
    """Print the graph of the project in the working folder."""
    import networkx
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    from pipeline.repair import repair

    for line in repair():
        print(line, file=sys.stderr)
    try:
        with Repo() as repo:
            # A stage reads data and catalog, but it comes after the spectrogram: that edge says it all.
            graph, changed = networkx.transitive_reduction(repo.index.graph), repo.status()
    except DvcException as error:
        raise SystemExit(f"error: {error}") from None
    ordered = networkx.lexicographical_topological_sort(graph.reverse(), key=lambda stage: stage.addressing)
    rows = [
        {
            "name": stage.addressing,
            "after": sorted(before.addressing for before in graph.successors(stage)),
            "changed": stage.addressing in changed,
        }
        for stage in ordered
    ]
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
