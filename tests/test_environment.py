"""Another Python than the project's: one line that says what to do, and exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from pipeline import environment, source_code
from tests.project import ROOT


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a Python without packages."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    return folder / "bin"


@pytest.mark.parametrize("module", ["pipeline.stages.split", "pipeline.presets", "pipeline.repair"])
def test_a_python_without_packages_is_told(bare: Path, module: str) -> None:
    done = subprocess.run(
        [bare / "python", "-m", module], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"error: expected the project's environment, received {bare}/python, which "
    )
    assert "lacks numpy, pandas" in done.stderr
    assert "`source .venv/bin/activate`" in done.stderr
    assert done.stderr.count("\n") == 1


def test_dvc_called_from_outside_its_environment_shows_that_line(bare: Path, tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = True\n")
    (tmp_path / "dvc.yaml").write_text("stages:\n  code:\n    cmd: python -m pipeline.stages.code\n")
    path = {"PATH": f"{bare}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "dvc", "repro"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | path, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    assert "error: expected the project's environment" in said
    assert "Traceback" not in said


def test_an_old_python_is_told() -> None:
    assert "which is Python 3.10." in environment.fault(version=(3, 10))
    assert "which lacks psutil." in environment.fault(has=lambda name: None if name == "psutil" else name)
    assert environment.fault() == ""


def test_the_check_is_part_of_no_stages_code() -> None:
    found = source_code.code_of("split")["split"]["code"]
    assert not any(name == "pipeline" or "environment" in name for name in found)
