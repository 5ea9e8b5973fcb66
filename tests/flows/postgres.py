"""A real PostgreSQL of the tests' own, from the programs of an installed one (Debian: postgresql)."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.flows.stack import free_ports


def programs() -> Path | None:
    """Return the folder of initdb and its fellows; None if PostgreSQL is not installed."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


NEEDED = pytest.mark.skipif(programs() is None, reason="needs PostgreSQL: apt-get install postgresql")


@dataclass(frozen=True)
class Server:
    """A running server on loopback, whose user ``postgres`` needs no password."""

    port: int

    def url(self, database: str, scheme: str = "postgresql") -> str:
        return f"{scheme}://postgres@127.0.0.1:{self.port}/{database}"

    def run(self, query: str, database: str = "postgres") -> str:
        folder = programs()
        assert folder is not None
        command = [folder / "psql", "--tuples-only", "--no-align", "--command", query, self.url(database)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def store(self, name: str) -> str:
        """Return the address of a new database with MLflow's tables, copied: making them takes seconds."""
        from mlflow import MlflowClient

        if not self.run("select 1 from pg_database where datname = 'tables'"):
            self.run("create database tables")
            MlflowClient(self.url("tables")).search_experiments()
            # What somebody is connected to cannot be copied.
            self.run("select pg_terminate_backend(pid) from pg_stat_activity where datname = 'tables'")
        self.run(f"create database {name} template tables")
        return self.url(name)


def settings(server: Server, *, mlflow: str) -> dict[str, str]:
    """Return what puts both servers of ``make up`` on a PostgreSQL with databases prefect and mlflow."""
    return {
        "PREFECT_API_DATABASE_CONNECTION_URL": server.url("prefect", "postgresql+asyncpg"),
        "CMG_MLFLOW_STORE": server.url("mlflow"),
        "MLFLOW_TRACKING_URI": mlflow,
    }


@contextmanager
def server() -> Iterator[Server]:
    """Start one in a folder of its own; stop it and remove the folder in the end."""
    folder = programs()
    assert folder is not None
    # PostgreSQL refuses to run as root, and pytest's folders are closed to others.
    user = "postgres" if os.geteuid() == 0 else None
    data = Path(tempfile.mkdtemp(prefix="pg-"))
    if user:
        os.chown(data, pwd.getpwnam(user).pw_uid, -1)
    port = free_ports(1)[0]

    def call(name: str, *arguments: str) -> None:
        subprocess.run(
            [folder / name, "--pgdata", data, *arguments],
            user=user,
            cwd="/",
            check=True,
            stdout=subprocess.DEVNULL,
        )

    options = f"-p {port} -k {data} -c listen_addresses=127.0.0.1 -c fsync=off"
    try:
        call("initdb", "--username", "postgres", "--auth", "trust", "--encoding", "UTF8")
        call("pg_ctl", "--wait", "--log", f"{data}/log", "--options", options, "start")
        yield Server(port)
        call("pg_ctl", "--mode", "immediate", "stop")
    finally:
        shutil.rmtree(data, ignore_errors=True)
