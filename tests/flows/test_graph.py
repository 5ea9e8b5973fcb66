"""What DVC's commands say of a graph, as flows read it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flows import graph

DVC_YAML = """
stages:
  first:
    cmd: cp source a
    deps: [source]
    outs: [a]
  each:
    matrix:
      task: [x, y]
    cmd: cp a ${item.task}
    deps: [source, a]
    outs: ["${item.task}"]
  alone:
    cmd: echo > b
    outs: [b]
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "source").write_text("1")
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = True\n")  # what `dvc init --no-scm` writes
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], cwd=tmp_path, check=True)
    return tmp_path


def test_stages_come_upstream_first_with_their_nearest_before_them_and_what_changed(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "y").write_text("by hand")
    (root / ".dvc/tmp/rwlock").write_text("{")  # a part: its writer was killed
    assert graph.read(root) == [
        graph.Stage("alone", (), False),
        graph.Stage("first", (), False),
        graph.Stage("each@x", ("first",), False),
        graph.Stage("each@y", ("first",), True),
    ]
    assert "rwlock: half written" in capsys.readouterr().out
