"""What ``make up``, ``make down`` and ``make status`` say before anything starts."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows import services
from serving import password
from tests.conftest import ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder in which nothing runs; short, since a socket's address must be."""
    (tmp_path / "flows").symlink_to(ROOT / "flows")
    return tmp_path


def call(checkout: Path, action: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | settings
    command = [sys.executable, "-m", "flows.services", action]
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"PREFECT_PORT": "many"}, "expected PREFECT_PORT to be a port from 1 to 65535, received 'many'"),
        ({"MLFLOW_PORT": "65536"}, "expected MLFLOW_PORT to be a port from 1 to 65535, received '65536'"),
        ({"PAGES_PORT": "0"}, "expected PAGES_PORT to be a port from 1 to 65535, received '0'"),
        ({"LISTEN_PORT": "-1"}, "expected LISTEN_PORT to be a port from 1 to 65535, received '-1'"),
        ({"PREFECT_PORT": "4700", "PAGES_PORT": "4700"}, "expected four different ports, received 4700"),
        ({"CMG_FLOWS": "workers"}, "expected CMG_FLOWS to be one of deployments, worker, received 'workers'"),
        ({"CMG_RETRY_SECONDS": "soon"}, "expected CMG_RETRY_SECONDS to be seconds with commas: 30,120"),
        ({"CMG_RETRY_SECONDS": "30,-1"}, "30,120; received '30,-1'"),
        ({"CMG_MLFLOW_STORE": "postgresqlx://u:S3cr3t@h/x"}, "received postgresqlx://***@h/x: Can't load"),
        ({"PREFECT_API_DATABASE_CONNECTION_URL": "postgresql://u:S3cr3t@h:no/x"}, "//***@h:no/x: invalid"),
        ({"PREFECT_SERVER_API_AUTH_STRING": "S3cr3t"}, "PREFECT_SERVER_API_AUTH_STRING to be user:password"),
    ],
)
def test_wrong_settings_start_nothing(checkout: Path, settings: dict[str, str], said: str) -> None:
    done = call(checkout, "up", **settings)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "S3cr3t" not in done.stdout + done.stderr
    assert not (checkout / "logs").exists()


def test_a_port_in_use_is_named_with_what_to_do(checkout: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = call(checkout, "up", MLFLOW_PORT=str(port))
    assert done.returncode == 2
    assert f"expected port {port} to be free" in done.stderr
    assert f"MLFLOW_PORT={port + 100}" in done.stderr


@pytest.mark.parametrize("action", ["down", "status"])
def test_nothing_runs(checkout: Path, action: str) -> None:
    done = call(checkout, action)
    assert done.returncode == 0, done.stderr
    assert "nothing runs" in done.stdout


def test_status_prints_the_addresses_that_the_servers_were_started_with(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started = services.environment() | {"MLFLOW_PORT": "5300"}
    monkeypatch.setattr(services, "supervisor", lambda: SimpleNamespace(environ=lambda: started))
    monkeypatch.setattr(services, "_control", lambda *_: SimpleNamespace(stdout="mlflow RUNNING\n"))
    services.status()
    assert "MLflow    http://127.0.0.1:5300\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("uri", "is_told"),
    [
        ("http://127.0.0.1:5000", True),
        ("http://localhost:5000/", True),
        ("http://127.0.0.1:5001", False),
        ("https://mlflow.example.org:5000", False),
        ("sqlite:///mlruns/mlflow.db", False),
        ("", False),
    ],
)
def test_the_password_is_told_to_our_own_mlflow_only(
    uri: str, is_told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(password.SERVERS, raising=False)
    values = {
        "PREFECT_API_URL": "http://127.0.0.1:4200/api",
        "MLFLOW_PORT": "5000",
        "MLFLOW_TRACKING_URI": uri,
    }
    told = services.credentials(values)
    assert told[password.SERVERS] == told[password.CLIENTS] == password.obtain()
    assert ("MLFLOW_TRACKING_PASSWORD" in told) == is_told


def test_a_path_with_a_blank_stays_one_word() -> None:
    """`make up` in a folder of such a name started nothing: supervisord took the path for two words."""
    lines = (ROOT / "flows/supervisord.conf").read_text().splitlines()
    commands = [line.removeprefix("command=") for line in lines if line.startswith("command=")]
    assert len(commands) == 5
    for command in commands:
        words = shlex.split(command.replace("%(ENV_CMG_BIN)s", "/my müsic/.venv/bin"))
        assert words[:2] == ["/my müsic/.venv/bin/python", "-m"]
