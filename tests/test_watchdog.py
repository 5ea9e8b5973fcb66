"""A test run that is killed leaves nothing behind of what its fixtures have started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
# A daemon of its own session, as supervisord makes itself one, with a child; and a child of the tests' own.
TESTS = """
import os, pathlib, subprocess, sys, time
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
DAEMON = '''
import os, subprocess, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        child = subprocess.Popen(SLEEP)
        open("daemon", "w").write(f"{os.getpid()} {child.pid}")
        time.sleep(600)
    os._exit(0)
'''.replace("SLEEP", repr(SLEEP))

def test_that_is_killed():
    subprocess.run([sys.executable, "-c", DAEMON], check=True)
    child = subprocess.Popen(SLEEP, start_new_session=True)
    pathlib.Path("child").write_text(str(child.pid))
    time.sleep(600)
"""


def pids(folder: Path) -> list[int]:
    return [int(pid) for path in ("child", "daemon") for pid in (folder / path).read_text().split()]


def test_a_killed_test_run_leaves_no_process(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_configure\n")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
    running = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not (tmp_path / "child").exists() or len(pids(tmp_path)) < 3:
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    left = [psutil.Process(pid) for pid in pids(tmp_path)]
    running.send_signal(signal.SIGKILL)
    running.wait()
    _, alive = psutil.wait_procs(left, timeout=20)
    for process in alive:  # do not leave them behind either
        process.kill()
    assert alive == []
