"""User errors are one line and exit code 2; bugs keep their traceback."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from pipeline.errors import CmgError, DataError, ParamsError, QualityError, UnavailableError, run_main


@pytest.mark.parametrize("kind", [CmgError, DataError, ParamsError, QualityError])
def test_a_user_error_is_one_line_and_exit_code_2(
    kind: type[CmgError], capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise kind("expected a, received b. Do c.")

    with pytest.raises(SystemExit) as caught:
        run_main(main)
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: expected a, received b. Do c.\n"
    assert caught.value.__suppress_context__


def test_what_waiting_mends_has_a_code_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise UnavailableError("expected a server, received none.")

    with pytest.raises(SystemExit) as caught:
        run_main(main)
    assert caught.value.code == 75
    assert capsys.readouterr().err == "error: expected a server, received none.\n"


def test_a_lack_of_memory_passes(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    with pytest.raises(SystemExit) as caught:
        run_main(main)
    assert caught.value.code == 75
    assert "expected enough memory" in capsys.readouterr().err


def test_a_missing_file_is_named_with_what_makes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tracks.csv"
    with pytest.raises(SystemExit) as caught:
        run_main(lambda: print(path.read_text()))
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        f"error: expected {path}, received no such file. Run `dvc repro`: it makes what is missing.\n"
    )


def test_a_bug_is_not_hidden() -> None:
    def main() -> None:
        raise KeyError("rms")

    with pytest.raises(KeyError, match="rms"):
        run_main(main)


def test_success_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    run_main(lambda: None)
    assert capsys.readouterr() == ("", "")


def test_failed_checks_are_data_errors() -> None:
    assert issubclass(QualityError, DataError)
    assert not issubclass(ParamsError, DataError)


def test_a_full_disk_is_for_a_person_to_mend(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "mlruns/mlflow.db")

    with pytest.raises(SystemExit) as caught:
        run_main(main)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: mlruns/mlflow.db: expected room on the disk, received a full one: ")
    assert "MB are free here" in said
