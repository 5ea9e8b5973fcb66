"""An address at which MLflow is not is said in one line, without the password in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import tracking
from pipeline.errors import run_main


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("postgresqlx://user:S3cr3t@127.0.0.1/db", 2),
        ("postgresql+nodriver://user:S3cr3t@127.0.0.1/db", 2),
        ("mysql://user:S3cr3t@127.0.0.1/db", 2),
        ("postgresql://user:S3cr3t@127.0.0.1:notaport/db", 2),
        ("http://user:S3cr3t@127.0.0.1:notaport", 2),
        ("http://user:S3cr3t@127.0.0.1:99999", 2),
        ("http://user:S3cr3t@", 2),
        ("http://[::1:S3cr3t@", 2),
        ("ftp://user:S3cr3t@127.0.0.1/db", 2),
        ("http://user:S3cr3t@127.0.0.1:9", 75),
        ("postgresql://user:S3cr3t@127.0.0.1:9/db", 75),
    ],
)
def test_a_wrong_or_silent_store_is_one_line_without_its_password(
    uri: str, code: int, workspace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(SystemExit) as ended:
        run_main(tracking.configure)
    said = capfd.readouterr().err
    assert ended.value.code == code, said
    assert said.startswith("error: expected ")
    assert len(said.splitlines()) == 1
    assert "S3cr3t" not in said
