"""What a killed DVC leaves half written, cut at every byte or line; with a real DVC and git."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.lock import Lock

from pipeline import data_folder
from pipeline.repair import BUSY, TMP, repair

PIPELINE = """
stages:
  first:
    cmd: python -c "import pathlib; print(len(pathlib.Path('data/a.txt').read_text()))" > first.txt
    deps: [data/a.txt]
    outs: [first.txt]
  second:
    cmd: cp first.txt second.txt
    deps: [first.txt]
    outs: [second.txt]
"""
BUSY_FILES = json.dumps(
    {"write": {"/somewhere/first.txt": {"pid": 4_000_000, "cmd": "dvc repro"}}, "read": {}}
)


def call(root: Path, *command: str) -> str:
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout


def dvc(root: Path, *arguments: str) -> str:
    return call(root, sys.executable, "-m", "dvc", *arguments)


def commit(root: Path) -> None:
    call(root, "git", "add", "--all")
    call(root, "git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--message", "all")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository whose two stages have run and are committed; to be copied, not changed."""
    root = tmp_path_factory.mktemp("finished")
    call(root, "git", "init", "--quiet")
    dvc(root, "init", "--quiet")
    (root / "data").mkdir()
    (root / "data/a.txt").write_text("abc")
    (root / "dvc.yaml").write_text(PIPELINE)
    dvc(root, "add", "data", "--quiet")
    dvc(root, "repro", "--quiet")
    commit(root)
    return root


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "repository", symlinks=True)
    return tmp_path / "repository"


def texts(root: Path) -> dict[str, str]:
    return {name: (root / name).read_text() for name in ("dvc.lock", "data.dvc", "first.txt", "second.txt")}


def test_whole_files_are_left_alone(root: Path) -> None:
    (root / TMP / BUSY).write_text(BUSY_FILES)
    before = texts(root)
    assert repair(root) == []
    assert texts(root) == before
    assert (root / TMP / BUSY).read_text() == BUSY_FILES


@pytest.mark.parametrize("size", range(len(BUSY_FILES)))
def test_a_part_of_the_list_of_busy_files_is_removed(tmp_path: Path, size: int) -> None:
    (tmp_path / TMP).mkdir(parents=True)
    (tmp_path / TMP / BUSY).write_text(BUSY_FILES[:size])
    (said,) = repair(tmp_path)
    assert said.startswith(f"{TMP / BUSY}: half written")
    assert not (tmp_path / TMP / BUSY).exists()


def test_dvc_refuses_such_a_part_and_works_after_the_repair(root: Path) -> None:
    (root / TMP / BUSY).write_text("")
    (root / "data/a.txt").write_text("abcdef")
    with pytest.raises(subprocess.CalledProcessError) as refused:
        dvc(root, "repro")
    assert "JSON structure is corrupted" in refused.value.stderr
    assert "removed" in call(root, sys.executable, "-m", "pipeline.repair")
    dvc(root, "repro")
    assert (root / "second.txt").read_text() == "6\n"


def test_any_part_of_a_lock_is_mended_or_read_by_dvc(root: Path) -> None:
    from dvc.repo import Repo

    whole = (root / "dvc.lock").read_text()
    mended = 0
    for size in range(0, len(whole), 17):
        (root / "dvc.lock").write_text(whole[:size])
        if repair(root):
            mended += 1
            assert (root / "dvc.lock").read_text() == whole
            assert (root / TMP / "dvc.lock.part").read_text() == whole[:size]
        else:
            with Repo(str(root)) as repository:
                repository.status()
    assert mended > 20


def test_results_after_the_commit_come_from_the_run_cache(root: Path) -> None:
    (root / "data/a.txt").write_text("abcdef")
    dvc(root, "repro", "--quiet")
    done = texts(root)
    (root / "dvc.lock").write_text(done["dvc.lock"][:150])
    (said,) = repair(root)
    assert "the committed one is in its place" in said
    output = dvc(root, "repro")
    assert "Running stage" not in output
    assert "Stage 'first' is cached - skipping run" in output
    assert texts(root) == done


def test_a_lock_that_no_commit_has_is_removed_and_made_anew(root: Path) -> None:
    whole = (root / "dvc.lock").read_text()
    (root / "dvc.lock").unlink()
    commit(root)
    (root / "dvc.lock").write_text(whole[:150])
    (said,) = repair(root)
    assert "DVC makes a new one" in said
    assert not (root / "dvc.lock").exists()
    assert "Running stage" not in dvc(root, "repro")
    assert (root / "dvc.lock").read_text() == whole


def test_every_part_of_a_pointer_is_mended_and_the_data_is_versioned_anew(root: Path) -> None:
    (root / "data/a.txt").write_text("abcdef")
    committed = (root / "data.dvc").read_text()
    data_folder.version(root / "data")
    whole = (root / "data.dvc").read_text()
    assert whole != committed
    for size in range(len(whole) - 1):  # the last is the line's end
        (root / "data.dvc").write_text(whole[:size])
        assert len(repair(root)) == 1, whole[:size]
        assert (root / "data.dvc").read_text() == committed
    dvc(root, "repro", "--quiet")
    assert (root / "data.dvc").read_text() == whole
    assert (root / "data/a.txt").read_text() == "abcdef"


@pytest.mark.parametrize("name", ["data.dvc", "dvc.lock", str(TMP / BUSY)])
def test_versioning_goes_on_after_a_part_of_any_file(root: Path, name: str) -> None:
    before = data_folder.version(root / "data")
    (root / name).write_text("{part of")
    assert data_folder.version(root / "data") == before
    assert dvc(root, "repro").strip().endswith("Data and pipelines are up to date.")


def test_a_conflict_of_git_is_left_to_its_user(root: Path) -> None:
    conflict = "<<<<<<< HEAD\nschema: '2.0'\n=======\nschema: '2.1'\n>>>>>>> theirs\n"
    (root / "dvc.lock").write_text(conflict)
    assert repair(root) == []
    assert (root / "dvc.lock").read_text() == conflict


def test_what_another_version_of_dvc_has_written_is_left_to_dvc(root: Path) -> None:
    text = (root / "dvc.lock").read_text().replace("2.0", "9.0")
    (root / "dvc.lock").write_text(text)
    commit(root)
    (root / "dvc.lock").write_text(text + "more: true\n")
    (root / "data.dvc").write_text("more: true\n" + (root / "data.dvc").read_text())
    before = texts(root)
    assert repair(root) == []
    assert texts(root) == before


@pytest.mark.parametrize("lock", ["lock", f"{BUSY}.lock"])
def test_nothing_is_touched_while_dvc_runs(root: Path, lock: str) -> None:
    (root / TMP / BUSY).write_text("")
    (root / "dvc.lock").write_text("")
    with Lock(str(root / TMP / lock)):
        assert repair(root) == []
    assert (root / "dvc.lock").read_text() == ""
    assert len(repair(root)) == 2


def test_where_dvc_has_never_run_there_is_nothing_to_mend(tmp_path: Path) -> None:
    assert repair(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
