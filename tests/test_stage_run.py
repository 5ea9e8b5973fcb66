"""What is changed while a stage runs is not recorded as what made its outputs; a stage ends with its DVC."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pipeline import files, params, source_code, stage_run

ROOT = Path(__file__).parents[1]
STAGE = "split@genre"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a project in which the stage ``split`` of genre could run, as DVC would run it."""
    for package in source_code.PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "dvc.yaml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(stage_run.STAGE, STAGE)
    monkeypatch.setattr(stage_run, "_end_with", lambda dvc: None)
    monkeypatch.setattr(stage_run, "_leave", lambda: None)  # it would end the tests, too
    for path in ("artifacts/catalog/tracks.csv", "artifacts/labels/genre.csv"):
        files.write_text(Path(path), "track_id\n")
    files.write_json(source_code.path_of("split"), source_code.code_of("split")["split"])
    return tmp_path


def edit(name: str, old: str, new: str) -> None:
    text = Path(name).read_text()
    assert old in text
    Path(name).write_text(text.replace(old, new, 1))


def undone(name: str, old: str, new: str) -> None:
    edit(name, old, new)
    edit(name, new, old)


SPLIT, TRACKS = "pipeline/stages/split.py", "artifacts/catalog/tracks.csv"
MOVED: dict[str, tuple[Callable[[], object], str]] = {
    "a parameter": (lambda: edit("params.yaml", "protocol: artist", "protocol: track"), "of split."),
    "a definition": (
        lambda: edit(SPLIT, "    return part\n", "    return part[::-1]\n"),
        "of pipeline.stages.split.shuffled_parts.",
    ),
    "a file": (lambda: Path(TRACKS).write_text("track_id\n1\n"), f"of {TRACKS}."),
    # Undone, it may have been read in between; what was only touched looks the same.
    "a file, and back": (lambda: undone(TRACKS, "track_id", "x"), f"of {TRACKS}."),
    "a file that is gone": (lambda: Path(TRACKS).unlink(), f"of {TRACKS}."),
}
STAYS: dict[str, Callable[[], object]] = {
    "nothing": lambda: None,
    "a parameter, and back": lambda: undone("params.yaml", "protocol: artist", "protocol: track"),
    "another stage's parameter": lambda: edit("params.yaml", "calibration_bins: 10", "calibration_bins: 9"),
    "a comment": lambda: edit(SPLIT, "\n\ndef ", "\n\n# a remark\ndef "),
    "another stage's code": lambda: edit(
        "pipeline/stages/report.py", "_SHOWN: Final = ", "_SHOWN: Final = 1 + "
    ),
    "another file": lambda: Path("artifacts/labels/mood.csv").write_text("track_id\n"),
}


@pytest.mark.parametrize("name", MOVED)
def test_a_stage_whose_inputs_move_fails_and_names_them(
    project: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    change, named = MOVED[name]
    with pytest.raises(SystemExit) as caught:
        stage_run.run_stage(lambda: change() and None)
    said = capsys.readouterr().err
    assert caught.value.code == 2
    assert named in said
    assert said.startswith(f"error: {STAGE}: expected inputs that stay")
    assert "run `dvc repro` again" in said


@pytest.mark.parametrize("name", STAYS)
def test_what_the_stage_does_not_read_may_move(project: Path, name: str) -> None:
    stage_run.run_stage(lambda: STAYS[name]() and None)


def test_code_edited_before_the_stage_begins_does_not_run(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(SPLIT, "    return part\n", "    return part[::-1]\n")
    with pytest.raises(SystemExit) as caught:
        stage_run.run_stage(lambda: pytest.fail("the stage ran"))
    assert caught.value.code == 2
    assert "received changes of pipeline.stages.split.shuffled_parts" in capsys.readouterr().err


def test_new_and_removed_files_of_a_folder_are_seen(project: Path) -> None:
    entry = {"deps": ["artifacts"]}
    before = stage_run.inputs_of(entry, "other")
    files.write_text(Path("artifacts/deep/new.txt"), "")
    Path(TRACKS).unlink()
    moved = before.differences(stage_run.inputs_of(entry, "other"))
    assert moved == [TRACKS, "artifacts/deep/new.txt"]


def test_by_hand_nothing_is_watched(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(stage_run.STAGE)
    stage_run.run_stage(lambda: edit("params.yaml", "protocol: artist", "protocol: track"))
    assert params.read().split.protocol == "track"


def test_a_stage_that_leaves_has_said_all_and_closed_what_it_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    code = (
        "import atexit; from pipeline import stage_run; atexit.register(print, 'closed')\n"
        "print('done'); stage_run._leave()"
    )
    left = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert left.stdout.split() == ["done", "closed"]


def test_every_entry_is_read_as_dvc_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.dependency import ParamsDependency
    from dvc.repo import Repo

    monkeypatch.chdir(ROOT)
    with Repo() as repo:
        stages = [one for one in repo.index.stages if one.addressing != "data.dvc"]
        assert len(stages) >= 17
        for stage in stages:
            entry = stage_run.entry_of(stage.addressing)
            known = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
            assert sorted(entry.get("params", [])) == sorted(key for dep in known for key in dep.params)
            assert sorted(entry["deps"]) == sorted(dep.def_path for dep in stage.deps if dep not in known)


PIPELINE = """
stages:
  wait:
    cmd: python wait.py
    deps: [wait.py]
    outs: [out.txt]
"""
WAIT = """
import subprocess, sys, time
from pipeline.stage_run import run_stage

def main():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    open("pids.new", "w").write(f"{__import__('os').getpid()} {child.pid}")
    __import__("os").rename("pids.new", "pids")
    time.sleep(600)

run_stage(main)
"""


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_a_killed_dvc_leaves_no_stage_running(tmp_path: Path, shell: str) -> None:
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "wait.py").write_text(WAIT)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "SHELL": shell, "PYTHONPATH": str(ROOT)}
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "--quiet"], cwd=tmp_path, env=environment, check=True)
    running = subprocess.Popen([*dvc, "repro"], cwd=tmp_path, env=environment)
    deadline = time.monotonic() + 240
    while not (tmp_path / "pids").exists():
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    left = [psutil.Process(int(pid)) for pid in (tmp_path / "pids").read_text().split()]
    running.send_signal(signal.SIGKILL)
    running.wait()
    _, alive = psutil.wait_procs(left, timeout=20)
    assert alive == []
