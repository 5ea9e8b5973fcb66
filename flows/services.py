"""``make up``, ``make down``, ``make status``: the servers and the flows under supervisord, on loopback.

``make mlflow`` starts MLflow's server alone.

Ports: ``PREFECT_PORT`` (4200), ``MLFLOW_PORT`` (5000), ``PAGES_PORT`` (8080), ``LISTEN_PORT`` (8700). For a
team (docs/team.md): databases other than SQLite by ``PREFECT_API_DATABASE_CONNECTION_URL`` and
``CMG_MLFLOW_STORE``, MLflow's files by ``CMG_MLFLOW_ARTIFACTS``, flows that a work pool hands out by
``CMG_FLOWS=worker``, a password of the team's own by ``PREFECT_SERVER_API_AUTH_STRING``.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psutil
import requests

from flows.retries import retry_seconds
from pipeline.errors import CmgError, run_main
from serving import password
from serving.guard import LOOPBACK

APP: Final = "composite-mood-genre"  # MLflow's server behind our guard, an entry point of pyproject.toml
LOGS: Final = Path("logs")
CONFIGURATION: Final = Path("flows/supervisord.conf")
PORTS: Final = {"PREFECT_PORT": "4200", "MLFLOW_PORT": "5000", "PAGES_PORT": "8080", "LISTEN_PORT": "8700"}
DATABASES: Final = {"CMG_MLFLOW_STORE", "PREFECT_API_DATABASE_CONNECTION_URL"}
RUNNERS: Final = ("deployments", "worker")  # modules of flows: serve the deployments, or work for a pool
_ALWAYS: Final = ("Report", "Data Docs")  # the other pages are there once a command has made them
_DOWN_SECONDS: Final = 90
_UP_SECONDS: Final = 120


def environment() -> dict[str, str]:
    """Return what the configuration and the programs read, beside our own environment."""
    ports = {name: os.environ.get(name, default) for name, default in PORTS.items()}
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    local_store = f"sqlite:///{Path('mlruns/mlflow.db').resolve().as_posix()}"
    ours = {
        "CMG_BIN": str(Path(sys.executable).parent),
        "CMG_MLFLOW_URL": os.environ.get("CMG_MLFLOW_URL", urls["MLFLOW_PORT"]),
        "CMG_PAGES_URL": os.environ.get("CMG_PAGES_URL", urls["PAGES_PORT"]),
        # In the environment, since everybody on the machine can read arguments, and it may hold a password.
        "MLFLOW_BACKEND_STORE_URI": os.environ.get("CMG_MLFLOW_STORE", local_store),
        "MLFLOW_ARTIFACTS_DESTINATION": os.environ.get("CMG_MLFLOW_ARTIFACTS", "mlruns/artifacts"),
        "CMG_FLOWS": os.environ.get("CMG_FLOWS", RUNNERS[0]),
        "PREFECT_API_URL": f"{urls['PREFECT_PORT']}/api",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # for language models; a dozen processes
    }
    return os.environ | ports | ours


def credentials(values: Mapping[str, str]) -> dict[str, str]:
    """Return what the servers ask for and the programs send, by the variables of Prefect and MLflow.

    A training that logs to another MLflow than ours must not tell it our password.

    Parameters
    ----------
    values
        The environment without it; the file of the password is left with Prefect's address for commands.
    """
    auth = password.obtain(PREFECT_API_URL=values["PREFECT_API_URL"])
    user, _, secret = auth.partition(":")
    ours = {password.SERVERS: auth, password.CLIENTS: auth}
    uri = urlsplit(values.get("MLFLOW_TRACKING_URI", ""))
    if uri.hostname in LOOPBACK and f"{uri.port}" == values["MLFLOW_PORT"]:
        ours |= {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": secret}
    return ours


def addresses(values: Mapping[str, str]) -> str:
    """Return one line for each page of servers that have ``values`` as their environment."""
    pages = {"Report": "report", "Data Docs": "data_docs", "Audit": "label_audit", "Next": "label_next"}
    # Where no command has made a page yet its address would show an error.
    made = {name: folder for name, folder in pages.items() if name in _ALWAYS or Path(folder).exists()}
    return "\n".join(
        [
            f"Prefect   http://127.0.0.1:{values['PREFECT_PORT']}",
            f"MLflow    http://127.0.0.1:{values['MLFLOW_PORT']}",
            f"Listen    http://127.0.0.1:{values['LISTEN_PORT']}/",
            *(f"{name:9} http://127.0.0.1:{values['PAGES_PORT']}/{made[name]}/" for name in made),
        ]
    )


def supervisor() -> psutil.Process | None:
    """Return this project's supervisor; None if it does not run."""
    answer = _control("pid")
    try:
        return psutil.Process(int(answer.stdout)) if answer.returncode == 0 else None
    except psutil.NoSuchProcess:
        return None


def _control(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "supervisor.supervisorctl", "--configuration", str(CONFIGURATION)]
    return subprocess.run(
        [*command, *arguments], env=environment(), capture_output=True, text=True, check=False
    )


def ports() -> dict[str, int]:
    """Return the chosen ports by their variables.

    Raises
    ------
    CmgError
        One is no port, or two are the same.
    """
    chosen: dict[str, int] = {}
    for name, text in ((name, environment()[name]) for name in PORTS):
        if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
            raise CmgError(f"expected {name} to be a port from 1 to 65535, received {text!r}.")
        if int(text) in chosen.values():
            raise CmgError(
                f"expected four different ports, received {text} again for {name}. Choose another."
            )
        chosen[name] = int(text)
    return chosen


def require_free_ports() -> None:
    """Raise `CmgError` if another program listens on one of the ports."""
    for name, port in ports().items():
        with socket.socket() as probe:
            # A port of a server that has just ended is free, as the next server itself finds.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                raise CmgError(
                    f"expected port {port} to be free, received one in use. "
                    f"Stop what uses it, or choose another: make up {name}={port + 100}."
                ) from None


def require_known_runner() -> None:
    """Raise `CmgError` if ``CMG_FLOWS`` names nothing that runs flows."""
    chosen = environment()["CMG_FLOWS"]
    if chosen not in RUNNERS:
        raise CmgError(f"expected CMG_FLOWS to be one of {', '.join(RUNNERS)}, received {chosen!r}.")


def require_databases() -> None:
    """Raise `CmgError` if an address of a database is none, or needs a driver that is not installed."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    for name in DATABASES & set(os.environ):
        try:
            make_url(os.environ[name]).get_dialect().import_dbapi()
        except (ValueError, ImportError, ArgumentError) as error:
            raise CmgError(
                f"expected {name} to be DRIVER://user:password@host:port/database, "
                f"received {os.environ[name]}: {error}. Correct it, or unset it for SQLite."
            ) from None


def up(*, detach: bool) -> None:
    """Become the supervisor; detached, return once it has started."""
    if supervisor():
        raise CmgError("expected nothing to run yet, received a running supervisor. See make status.")
    require_known_runner()
    # What may be wrong is said here, where somebody reads it, and not in the logs of five programs.
    retry_seconds()
    require_databases()
    require_free_ports()
    values = environment() | credentials(environment())
    _make_store()
    LOGS.mkdir(exist_ok=True)
    print(addresses(values), flush=True)
    print(f"user {values[password.SERVERS].partition(':')[0]}; make password prints the password", flush=True)
    print(f"logs in {LOGS}/; " + ("make down stops all" if detach else "Ctrl-C stops all"), flush=True)
    command = [sys.executable, "-m", "supervisor.supervisord", "--configuration", str(CONFIGURATION)]
    # This process becomes the supervisor, so that Ctrl-C reaches it.
    if not detach:
        os.execve(sys.executable, [*command, "--nodaemon", "--silent"], values)
    subprocess.run(command, env=values, check=True)
    wait_for_answers(values)
    print("all answer")


def wait_for_answers(values: Mapping[str, str]) -> None:
    """Return when all servers answer.

    Raises
    ------
    CmgError
        One does not within two minutes; a first start makes two databases.
    """
    deadline = time.monotonic() + _UP_SECONDS
    for name in PORTS:
        while not _answers(f"http://127.0.0.1:{values[name]}/"):
            if time.monotonic() > deadline:
                raise CmgError(
                    f"expected an answer at port {values[name]} within {_UP_SECONDS} s, received none. "
                    f"See {LOGS}/; make down stops what runs."
                )
            time.sleep(0.2)


def _answers(url: str) -> bool:
    """Return whether a server is there, if only to ask for the password."""
    try:
        # Not redirected: the pages' root leads to a report that may not be there yet.
        return requests.get(url, timeout=2, allow_redirects=False).status_code < 500
    except requests.RequestException:
        return False


def mlflow() -> None:
    """Become MLflow's server alone."""
    ports()
    values = environment() | credentials(environment())
    _make_store()
    port = values["MLFLOW_PORT"]
    print(f"MLflow    http://127.0.0.1:{port}; make password prints user and password", flush=True)
    # One worker: what the pages show comes from one SQLite file.
    server = ("server", "--app-name", APP, "--host", "127.0.0.1", "--port", port, "--workers", "1")
    os.execve(sys.executable, [sys.executable, "-m", "mlflow", *server], values)


def _make_store() -> None:
    """Create MLflow's database before its server and a training both try to."""
    elsewhere = {"CMG_MLFLOW_STORE", "MLFLOW_TRACKING_URI"} & set(os.environ)
    if elsewhere or Path("mlruns/mlflow.db").exists():
        return
    from pipeline import tracking

    tracking.configure()


def down() -> None:
    """Stop everything and return when it has ended."""
    running = supervisor()
    if running is None:
        print("nothing runs")
        return
    _control("shutdown")
    try:
        running.wait(_DOWN_SECONDS)
    except psutil.TimeoutExpired:
        raise CmgError(
            f"expected all to stop within {_DOWN_SECONDS} s, but some go on. See {LOGS}/."
        ) from None
    print("stopped")


def status() -> None:
    """Print what runs, and where."""
    answer = _control("status")
    running = supervisor()
    if running is None:
        print("nothing runs; make up starts all")
        return
    print(answer.stdout + addresses(running.environ()))  # the ports that it was started with


def main() -> None:
    """Start, stop or show the services."""
    parser = argparse.ArgumentParser(prog="python -m flows.services", description=main.__doc__)
    parser.add_argument("action", choices=("up", "down", "status", "mlflow"))
    parser.add_argument("--detach", action="store_true", help="with up: return, and run in the background")
    args = parser.parse_args()
    if args.action == "up":
        up(detach=args.detach)
    else:
        {"down": down, "status": status, "mlflow": mlflow}[args.action]()


if __name__ == "__main__":
    run_main(main)
