"""The servers' password: made once, shown to nobody else, and left where Prefect's commands look."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pipeline.errors import CmgError
from serving import password
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(password.SERVERS, raising=False)
    return tmp_path


def test_it_is_made_once_long_and_for_its_user_only() -> None:
    made = password.obtain()
    assert made.startswith("cmg:")
    assert len(made) >= 4 + 32
    assert stat.S_IMODE(password.FILE.stat().st_mode) == 0o600
    assert stat.S_IMODE(password.FILE.parent.stat().st_mode) == 0o700
    assert password.obtain() == made


def test_two_starts_at_once_make_one(folder: Path) -> None:
    command = [sys.executable, "-m", "serving.password"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    assert len({process.communicate()[0] for process in started}) == 1


def test_no_moment_shows_it_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the umask, and whichever file is written first."""
    seen = []
    replace = Path.replace

    def watched(path: Path, target: Path) -> Path:
        seen.append(stat.S_IMODE(path.stat().st_mode))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", watched)
    before = os.umask(0)
    try:
        password.obtain()
        password.obtain(PREFECT_API_URL="http://127.0.0.1:4300/api")
    finally:
        os.umask(before)
    assert seen == [0o600, 0o600]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o604])
def test_a_file_that_others_may_read_is_refused(mode: int) -> None:
    made = password.obtain()
    password.FILE.chmod(mode)
    with pytest.raises(
        CmgError, match=f"expected a file of mode 600 and your own, received mode {mode:o}"
    ) as told:
        password.obtain()
    assert made not in str(told.value)


def test_a_link_is_not_followed(folder: Path) -> None:
    password.FILE.parent.mkdir()
    (folder / "elsewhere.toml").touch(0o600)
    password.FILE.symlink_to(folder / "elsewhere.toml")
    with pytest.raises(CmgError, match="expected a file, received"):
        password.obtain()


def test_profiles_of_the_users_own_stay() -> None:
    made = password.obtain()
    kept = tomllib.loads(password.FILE.read_text())
    own = {"PREFECT_API_URL": 'https://"quoted".example/äpi', "PREFECT_LOGGING_LEVEL": "DEBUG"}
    password._write(kept | {"active": "mine", "profiles": kept["profiles"] | {"mine": own}})
    assert password.obtain(PREFECT_API_URL="http://127.0.0.1:4300/api") == made
    now = tomllib.loads(password.FILE.read_text())
    assert now["active"] == "mine"
    assert now["profiles"]["mine"] == own
    assert now["profiles"]["make-up"]["PREFECT_API_URL"] == "http://127.0.0.1:4300/api"


def test_a_teams_own_wins_and_is_not_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(password.SERVERS, "team:theirs")
    assert password.obtain() == "team:theirs"
    assert not password.FILE.exists()


@pytest.mark.parametrize("given", ["alone", ":none", "none:", "two words:x", "käse:x", "a:b\nc"])
def test_what_a_browser_cannot_send_is_refused_unseen(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(password.SERVERS, given)
    with pytest.raises(CmgError, match="to be user:password in ASCII") as told:
        password.obtain()
    assert given not in str(told.value)
