"""The servers of ``make up``, each behind the same guard: factories for uvicorn and for MLflow.

``python -m uvicorn --factory flows.web:prefect``, ``… flows.web:report``; MLflow's own command finds
``mlflow`` as ``mlflow server --app-name composite-mood-genre`` (an entry point of pyproject.toml).
"""

from __future__ import annotations

import os

from starlette.types import ASGIApp

from flows import pages
from serving import password
from serving.guard import Guard, allowed_hosts


def prefect() -> ASGIApp:
    """Return Prefect's server and UI, as ``prefect server start`` runs them.

    Prefect itself asks for the password, of everything but the UI's files and its health.
    """
    os.environ[password.SERVERS] = password.obtain()  # before Prefect reads its settings
    from prefect.server.api.server import create_app

    return Guard(create_app(final=True), auth=None, hosts=allowed_hosts())


def mlflow() -> ASGIApp:
    """Return MLflow's server and UI; its own, wider checks of host and origin are given the same names."""
    # MLflow compares a host with its port, which a proxy may or may not send.
    if names := allowed_hosts():
        anywhere = [*names, *(f"{name}:*" for name in names)]
        os.environ["MLFLOW_SERVER_ALLOWED_HOSTS"] = ",".join(["localhost:*", "127.0.0.1:*", *anywhere])
        origins = (f"{scheme}://{name}" for scheme in ("http", "https") for name in anywhere)
        os.environ["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] = ",".join(origins)
    from mlflow.server.fastapi_app import app

    return Guard(app, auth=password.obtain(), hosts=allowed_hosts())


def report() -> ASGIApp:
    """Return the pipeline's own pages."""
    return Guard(pages.build(), auth=password.obtain(), hosts=allowed_hosts())
