"""What DVC knows: the stages in the order in which they run, what each follows, and which changed.

``python -m flows.graph`` prints what ``dvc status --json`` and ``dvc dag --dot`` do. Flows ask it in a
process of its own: DVC sets up logging, event loops and locks that do not belong into Prefect's process.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flows.errors import failure

_NODE: Final = re.compile(r'^"([^"]+)";$', re.MULTILINE)
_EDGE: Final = re.compile(r'^"([^"]+)" -> "([^"]+)";$', re.MULTILINE)


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
    InfrastructureError
        Another DVC holds its lock.
    """
    import networkx

    command = [sys.executable, "-m", "flows.graph"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise failure("graph", done.returncode, (done.stdout + done.stderr).splitlines())
    if done.stderr:  # what was repaired or noted, or that a killed process held a file
        print(done.stderr.strip())
    changed, dot = done.stdout.split("\n", 1)
    full = networkx.DiGraph(_EDGE.findall(dot))
    full.add_nodes_from(_NODE.findall(dot))
    # A stage reads data and catalog, but it comes after the spectrogram: that edge says it all.
    graph = networkx.transitive_reduction(full)
    return [
        Stage(name, tuple(sorted(graph.predecessors(name))), name in json.loads(changed))
        for name in networkx.lexicographical_topological_sort(graph)
    ]


def main() -> int:
    """Print which stages of the project in the working folder changed, and the graph."""
    from dvc.cli import main as dvc

    from pipeline.labelling.hand_edits import note
    from pipeline.repair import repair

    for line in [*repair(), *note()]:
        print(line, file=sys.stderr)
    # Two commands in one process, since half of a command's time is loading DVC.
    return dvc(["status", "--json"]) or dvc(["dag", "--dot"])


if __name__ == "__main__":
    sys.exit(main())
