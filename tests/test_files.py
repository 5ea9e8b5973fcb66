"""Files are old or new, never a part; equal content gives equal bytes."""

from __future__ import annotations

import errno
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import files
from pipeline.errors import DiskFullError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_replacing_moves_the_new_content_in(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    with files.replacing(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_text() == "new"
    assert names(path.parent) == ["b.txt"]


def test_replacing_leaves_the_old_content_on_failure(tmp_path: Path) -> None:
    path = tmp_path / "b.txt"
    path.write_text("old")

    def fail() -> None:
        with files.replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["b.txt"]


def test_a_failure_where_no_file_was_leaves_none(tmp_path: Path) -> None:
    def fail() -> None:
        with files.replacing(tmp_path / "a.npy") as temporary:
            np.save(temporary, np.zeros(3))
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("model.weights.h5", ".weights.h5"), ("1." + "n" * 240 + ".npy", ".npy"), ("t.csv", ".csv")],
)
def test_the_temporary_name_keeps_the_suffix(tmp_path: Path, name: str, suffix: str) -> None:
    with files.replacing(tmp_path / name) as temporary:
        assert temporary.name != name
        assert temporary.name.endswith(suffix)
    assert names(tmp_path) == [name]


def test_others_may_read_what_was_written(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.txt", "a")
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_refuses_what_it_has_no_word_for(tmp_path: Path, value: float) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"score": 0.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"score": value})
    assert files.read_json(path) == {"score": 0.5}


def test_equal_json_has_equal_bytes(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"b": [1, 2.5, None], "a": "ä"})
    files.write_json(tmp_path / "b.json", {"a": "ä", "b": [1, 2.5, None]})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert files.read_json(tmp_path / "b.json") == {"a": "ä", "b": [1, 2.5, None]}


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    table = pd.DataFrame({"track_id": ["blues.00000", 'quoted, "so"'], "rms": [0.1, 1 / 3]}, index=[7, 3])
    files.write_csv(tmp_path / "a.csv", table)
    assert (tmp_path / "a.csv").read_bytes() == b'track_id,rms\nblues.00000,0.1\n"quoted, ""so""",%s\n' % (
        repr(1 / 3).encode()
    )
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "a.csv"), table.reset_index(drop=True))


def test_an_array_comes_back_as_it_was(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.float16).reshape(3, 4)
    files.write_array(tmp_path / "blues.00042.npy", array)
    files.write_array(tmp_path / "again.npy", array.copy())
    back = np.load(tmp_path / "blues.00042.npy")
    assert back.dtype == np.float16
    np.testing.assert_array_equal(back, array)
    assert (tmp_path / "again.npy").read_bytes() == (tmp_path / "blues.00042.npy").read_bytes()
    assert names(tmp_path) == ["again.npy", "blues.00042.npy"]


def test_text_has_unix_line_ends(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.txt", "ä\nb\n")
    assert (tmp_path / "a.txt").read_bytes() == "ä\nb\n".encode()


@pytest.mark.parametrize("size", [0, 3, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_sha256_of_a_file(tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    (tmp_path / "a").write_bytes(content)
    assert files.sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_with_the_file_and_what_is_free(tmp_path: Path, number: int) -> None:
    path = tmp_path / "deep/table.json"
    files.write_text(path, "as it was")
    said = (
        rf"{path}: expected room on the disk, received a full one: \d+ MB free in {path.parent}\. Free some"
    )
    with pytest.raises(DiskFullError, match=said), files.replacing(path):
        raise OSError(number, "No space left on device")
    assert path.read_text() == "as it was"
    assert list(path.parent.iterdir()) == [path]


def test_a_short_write_on_a_full_disk_is_known_by_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NumPy says "1024 requested and 0 written" and no error number."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=4096))
    with pytest.raises(DiskFullError, match="0 MB free"), files.replacing(tmp_path / "a.npy"):
        raise OSError("1024 requested and 0 written")
    monkeypatch.undo()
    with pytest.raises(OSError, match="1024 requested"), files.replacing(tmp_path / "a.npy"):
        raise OSError("1024 requested and 0 written")
