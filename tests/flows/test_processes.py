"""Real processes that carry a flow's mark, and those that do not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from flows import processes

MARK = "CMG_TEST_MARK"
# A process and a child of it that both sleep; the child's number is printed.
FAMILY = (
    "import subprocess, sys, time; "
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
    "print(child.pid, flush=True); time.sleep(600)"
)
# A process that writes a file, slowly, when one of its children has ended: so does DVC.
WRITER = """
import subprocess, sys, time
from pathlib import Path
children = [subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"]) for _ in range(40)]
Path("started").touch()
children[0].wait()
with Path("written").open("w") as stream:
    time.sleep(60)
    stream.write("whole")
"""
Start = Callable[..., tuple[subprocess.Popen[str], int]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a family of two in a folder, with more in its environment; end it after the test."""
    with ExitStack() as started:

        def family(folder: Path, **more: str) -> tuple[subprocess.Popen[str], int]:
            parent = subprocess.Popen(
                [sys.executable, "-c", FAMILY],
                cwd=folder,
                env=os.environ | more,
                stdout=subprocess.PIPE,
                text=True,
            )
            started.callback(processes.end_family, parent.pid)
            assert parent.stdout is not None
            return parent, int(parent.stdout.readline())

        yield family


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


def test_stages_of_this_checkout_that_a_flow_left_are_ended_with_their_children(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    left, child = start(tmp_path, **{MARK: "monday"})
    others = [start(elsewhere, **{MARK: "monday"})[0], start(tmp_path)[0]]
    processes.end_stages(MARK)
    assert left.wait(10) is not None
    assert is_gone(child)
    assert [one.poll() for one in others] == [None, None]


def test_a_run_lives_while_a_process_carries_its_id(start: Start, tmp_path: Path) -> None:
    run = str(uuid4())
    assert not processes.is_alive(run)
    parent, _ = start(tmp_path, **{processes.FLOW_RUN: run})
    assert processes.is_alive(run)
    processes.end_family(parent.pid)
    parent.wait(10)
    assert not processes.is_alive(run)


def test_a_family_that_is_gone_already_is_no_error(start: Start, tmp_path: Path) -> None:
    parent, _ = start(tmp_path)
    processes.end_family(parent.pid)
    parent.wait(10)
    processes.end_family(parent.pid)


def test_a_parent_does_not_begin_to_write_because_its_child_is_ended(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", WRITER], cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    children = psutil.Process(parent.pid).children()
    processes.end_family(parent.pid)
    parent.wait(10)
    assert len(children) == 40
    assert all(is_gone(child.pid) for child in children)
    assert not (tmp_path / "written").exists()
