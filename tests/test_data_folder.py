"""Publishing a data folder: old or new, never a part, never lost. With a real DVC."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock

from pipeline import data_folder
from pipeline.errors import DataError
from pipeline.tables.index import INDEX_COLUMNS, write_index
from pipeline.tables.mood_labels import write_labels
from pipeline.tables.text_csv import read_table
from pipeline.untrusted import listing

ROOT = Path(__file__).parents[2]


def dvc(*arguments: str, cwd: Path) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout


def fill(text: str):
    def write(staging: Path) -> str:
        for name in ("a.txt", "b.txt"):
            (staging / name).write_text(text)
        return text

    return write


def content(data: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(data.iterdir())}


OLD = {"a.txt": "old", "b.txt": "old"}
NEW = {"a.txt": "new", "b.txt": "new"}


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a DVC repository with data "old" versioned; to be copied, not changed."""
    root = tmp_path_factory.mktemp("published")
    dvc("init", "--no-scm", "-q", cwd=root)
    dvc("config", "core.analytics", "false", cwd=root)
    dvc("config", "core.check_update", "false", cwd=root)
    data_folder.publish(fill("old"), data=root / "data")
    return root


@pytest.fixture
def repository(published: Path, tmp_path: Path) -> Path:
    shutil.copytree(published, tmp_path / "repo", symlinks=True)
    return tmp_path / "repo"


def test_publish_replaces_and_versions(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (repository / "data.dvc").read_text()
    md5 = before.split("md5: ")[1].split("\n")[0]
    assert data_folder.publish(fill("new"), data=repository / "data") == "new"
    assert content(repository / "data") == NEW
    assert (repository / "data.dvc").read_text() != before
    assert json.loads(dvc("status", "--json", cwd=repository)) == {}
    assert not list(repository.glob(".data-*"))
    said = capsys.readouterr().out
    assert "not versioned" not in said
    assert said.endswith(f"; before, it was {md5}\n")


def test_unversioned_data_is_kept_and_comes_back(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, pointer = repository / "data", repository / "data.dvc"
    (data / "a.txt").write_text("an afternoon of labelling")
    data_folder.publish(fill("new"), data=data)
    said = capsys.readouterr().out
    assert "had not versioned" in said
    assert re.search(r"kept as (\w+\.dir)\..*; before, it was \1\n", said, flags=re.DOTALL)
    kept = said.split("kept as ")[1].split(".dir")[0]
    now = pointer.read_text().split("md5: ")[1].split(".dir")[0]
    pointer.write_text(pointer.read_text().replace(now, kept))
    dvc("checkout", "data", cwd=repository)
    assert content(data) == {"a.txt": "an afternoon of labelling", "b.txt": "old"}


@pytest.mark.parametrize("error", [DataError("no"), KeyboardInterrupt("^C"), OSError("disk full")])
def test_failing_write_changes_nothing(repository: Path, error: BaseException) -> None:
    def write(staging: Path) -> None:
        (staging / "a.txt").write_text("half")
        raise error

    before = (repository / "data.dvc").read_text()
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else DataError
    with pytest.raises(expected, match=re.escape(str(error))):
        data_folder.publish(write, data=repository / "data")
    assert content(repository / "data") == OLD
    assert (repository / "data.dvc").read_text() == before
    assert not list(repository.glob(".data-*"))


def publish_until(repository: Path, *, event: str, nth: int) -> None:
    """Publish "new" in a process that is killed just before Python does the n-th thing named ``event``."""
    program = f"""
        import os, signal, sys
        from pathlib import Path
        from pipeline import data_folder

        seen = []

        def kill(name, arguments):
            if {event!r} not in name + str(arguments):
                return
            seen.append(name)
            if len(seen) == {nth}:
                os.kill(os.getpid(), signal.SIGKILL)

        def write(staging):
            for name in ("a.txt", "b.txt"):
                (staging / name).write_text("new")

        sys.addaudithook(kill)
        data_folder.publish(write, data=Path(sys.argv[1]))
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(repository / "data")]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == -signal.SIGKILL


def stop(_staging: Path) -> None:
    raise DataError("stop here")


# Renames: data → old, staging → data, old → staging; the second kill comes while there is no data.
@pytest.mark.parametrize(
    ("event", "nth", "expected"),
    [("b.txt", 1, OLD), ("os.rename", 1, OLD), ("os.rename", 2, OLD), ("os.rename", 3, NEW)],
)
def test_kill_leaves_old_or_new(repository: Path, event: str, nth: int, expected: dict[str, str]) -> None:
    data = repository / "data"
    publish_until(repository, event=event, nth=nth)
    assert data.exists() == ((event, nth) != ("os.rename", 2))
    with pytest.raises(DataError, match="stop here"):
        data_folder.publish(stop, data=data)
    assert content(data) == expected
    assert not list(repository.glob(".data-*"))


def test_kill_before_versioning_loses_nothing(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_until(repository, event="subprocess.Popen", nth=2)
    assert content(repository / "data") == NEW
    data_folder.publish(fill("newer"), data=repository / "data")
    assert "had not versioned" in capsys.readouterr().out
    assert json.loads(dvc("status", "--json", cwd=repository)) == {}


def test_a_second_publisher_waits(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, done = repository / "data", []

    def publish() -> None:
        with pytest.raises(DataError, match="stop here"):
            data_folder.publish(stop, data=data)
        done.append(True)

    with FileLock(repository / ".cache" / "workspace.lock"):
        second = threading.Thread(target=publish)
        second.start()
        second.join(timeout=0.5)
        assert second.is_alive()
        assert not done
    second.join(timeout=30)
    assert done
    assert "waiting for another process" in capsys.readouterr().out


def test_publish_needs_a_dvc_repository(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.dvc"):
        data_folder.publish(fill("new"), data=tmp_path / "data")
    assert not any(tmp_path.iterdir())


def test_publish_refuses_a_link(repository: Path, tmp_path: Path) -> None:
    (repository / "data").rename(tmp_path / "elsewhere")
    (repository / "data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="plain folder"):
        data_folder.publish(fill("new"), data=repository / "data")
    assert content(tmp_path / "elsewhere") == OLD


def test_dvc_words_are_passed_on(repository: Path) -> None:
    (repository / "data.dvc").write_text("outs: [{path: data, nonsense: 1}]")
    with pytest.raises(DataError, match="nonsense"):
        data_folder.version(repository / "data")


def test_read_table_keeps_text_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("track_id,artist\n007,NA\nb,\n")
    table = read_table(path, columns=["track_id"])
    assert table.to_numpy().tolist() == [["007", "NA"], ["b", ""]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", "EmptyDataError"),
        (b"track_id\n\xff\xfe\n", "UnicodeDecodeError"),
        (b"track_id,artist\na,b\na,b,c\n", "line 3"),
        (b"track_id,artist\na,b,c\n", "as many values in a row as columns"),
        (b"id,artist\na,b\n", "Add to the header: track_id"),
    ],
)
def test_read_table_says_what_is_wrong(tmp_path: Path, text: bytes, expected: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(text)
    with pytest.raises(DataError, match=expected) as raised:
        read_table(path, columns=["track_id"])
    assert str(path) in str(raised.value)


def test_read_table_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_table(tmp_path / "none.csv", columns=[])


def test_read_table_takes_what_spreadsheets_save(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for mark, encoding in ((";", "utf-8-sig"), ("\t", "utf-16"), (",", "utf-8")):
        path.write_bytes(f"track_id{mark}artist\na{mark}Zoë\n".encode(encoding))
        assert read_table(path, columns=["artist"]).to_dict("records") == [{"track_id": "a", "artist": "Zoë"}]


def test_no_labels_leave_a_header(tmp_path: Path) -> None:
    write_labels(tmp_path, None)
    assert (tmp_path / "mood_labels.csv").read_text() == "track_id,mood,annotator,labelled_at\n"


def test_the_history_of_intakes_begins_empty(tmp_path: Path) -> None:
    write_labels(tmp_path, "track_id,mood,annotator,labelled_at\n")
    assert (tmp_path / "label_history.csv").read_text().split(",")[:3] == ["file", "sha256", "received_at"]


def test_index_has_every_column_sorted(tmp_path: Path) -> None:
    write_index(tmp_path, pd.DataFrame({"genre": ["x", "y"], "track_id": ["b", "a"]}))
    assert (tmp_path / "index.csv").read_text().splitlines() == [
        ",".join(INDEX_COLUMNS),
        "a,y,,,,,,,",
        "b,x,,,,,,,",
    ]


@pytest.mark.parametrize(
    ("names", "expected"),
    [([], "0"), (["a", "b"], "2: a, b"), (list("abcdefg"), "7: a, b, c, d, e … and 2 more")],
)
def test_listing(names: list[str], expected: str) -> None:
    assert listing(names) == expected
