"""A copy of the project with a tiny library in it, run through the real DVC: for tests of the whole graph."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline import files, params
from pipeline.sources import sample

ROOT = Path(__file__).parents[1]
GENRES = ("blues", "disco", "metal")
MOODS_USED = ("CalmButWarm", "TotallyNegative", "TotallyPositive")
TINY = {
    "models": ["lenet5", "cnn64"],
    "catalog": {"min_tracks_per_genre": 1},
    # A quarter of the frames and half of the bands: a tenth of LeNet-5's weights, which ONNX copies often.
    "spectrogram": {"hop_length": 2048, "n_mels": 64},
    "split": {"valid": 0.25, "test": 0.25},
    "train": {
        "batch_size": 8,
        "models": {
            "lenet5": {"epochs": 2, "learning_rate": 0.001, "patience": 2},
            "cnn64": {"epochs": 1, "learning_rate": 0.001, "patience": 1},
        },
    },
    "evaluate": {"calibration_bins": 5, "sure_precision": 0.8},
    "promote": {"margin": 0.0, "min_tracks": 2, "floor_confidence": 0.0},
}


@dataclass(frozen=True)
class Project:
    """A project folder and what one does with it."""

    root: Path

    @property
    def python(self) -> str:
        """The project's own Python, in whose path is a blank if there is one in the project's."""
        own = self.root / ".venv/bin" / Path(sys.executable).name
        return str(own) if own.exists() else sys.executable

    @property
    def environment(self) -> dict[str, str]:
        """Stages call ``python``: the one that runs the tests. Thread limits of the suite do not apply."""
        path = f"{Path(self.python).parent}{os.pathsep}{os.environ['PATH']}"
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("TF_", "OMP_", "MLFLOW_"))
        }
        return kept | {"PATH": path}

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the project; with ``check`` a failure shows its output."""
        done = subprocess.run(
            command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)} gave {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def dvc(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run DVC."""
        return self.run(self.python, "-m", "dvc", *arguments, check=check)

    def repro(self, *arguments: str) -> list[str]:
        """Run ``dvc repro``; return the stages that really ran."""
        return stages_run(self.dvc("repro", *arguments).stdout)

    def would_run(self) -> list[str]:
        """Return the stages that ``dvc repro`` would run if every output of a changed stage changed too."""
        return stages_run(self.dvc("repro", "--dry", "--force-downstream").stdout)

    def stage(self, name: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one stage's module."""
        return self.run(self.python, "-m", f"pipeline.stages.{name}", *arguments, check=check)

    def edit_params(self, changes: dict[str, Any]) -> None:
        """Overlay params.yaml."""
        overlay = self.root / "change.yaml"
        files.write_json(overlay, changes)  # every JSON is YAML
        params.apply_overlay(overlay, self.root / "params.yaml")
        overlay.unlink()

    def read_json(self, path: str) -> Any:
        """Read a JSON file of the project."""
        return json.loads((self.root / path).read_text())


def stages_run(output: str) -> list[str]:
    """Return the stage names out of ``dvc repro``'s output."""
    return re.findall(r"^Running stage '([^']+)'", output, re.MULTILINE)


def copy_sources(target: Path) -> None:
    """Copy what git tracks (and what it would) into ``target``, without data, lock and outputs."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in listed:
        if name in ("data.dvc", "dvc.lock") or name.startswith("docs/") or not (ROOT / name).is_file():
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target / name)


def write_tiny_library(
    folder: Path,
    *,
    genres: tuple[str, ...] = GENRES,
    artists: int = 4,
    unlabelled: tuple[str, ...] = (),
) -> None:
    """Write the sample's music, 4 s a track, with three moods only: few tracks cannot carry ten."""
    sample.write_library(folder, genres=genres, artists_per_genre=artists, tracks_per_artist=1, seconds=4.0)
    ids = pd.read_csv(folder / "index.csv", dtype=str)["track_id"]
    rng = np.random.default_rng(0)
    rows = [
        (track_id, MOODS_USED[(number // 2 + int(rng.random() < 0.2)) % 3], who, "2024-03-05T14:00:00Z")
        for number, track_id in enumerate(ids)
        for who in ("ann", "bob", "cy")
        if track_id not in unlabelled
    ]
    table = pd.DataFrame(rows, columns=["track_id", "mood", "annotator", "labelled_at"])
    files.write_csv(folder / "mood_labels.csv", table)


def make(target: Path, changes: dict[str, Any] | None = None, *, unlabelled: tuple[str, ...] = ()) -> Project:
    """Make a project with a tiny library, its data versioned, nothing run yet; some tracks without moods."""
    copy_sources(target)
    (target / ".venv").symlink_to(Path(sys.executable).parent.parent)
    project = Project(target)
    project.run("git", "init", "--quiet")
    write_tiny_library(target / "data", unlabelled=unlabelled)
    project.dvc("add", "data", "--quiet")
    project.edit_params(TINY | (changes or {}))
    project.run("git", "add", "--all")
    project.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--message", "tiny")
    return project
