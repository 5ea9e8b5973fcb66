"""Where the pages are that a run's page links to."""

from __future__ import annotations

import os
from urllib.parse import urlencode


def mlflow(path: str = "") -> str:
    """Return a URL of the MLflow UI; ``CMG_MLFLOW_URL`` says where it is."""
    return os.environ.get("CMG_MLFLOW_URL", "http://127.0.0.1:5000").rstrip("/") + path


def page(path: str) -> str:
    """Return a URL of the report, the Data Docs and the like; ``CMG_PAGES_URL`` says where they are."""
    return os.environ.get("CMG_PAGES_URL", "http://127.0.0.1:8080").rstrip("/") + path


def run(experiment_id: str, run_id: str) -> str:
    """Return the page of an MLflow run."""
    return mlflow(f"/#/experiments/{experiment_id}/runs/{run_id}")  # the UI's own routes are behind the #


def picture(run_id: str, path: str) -> str:
    """Return the URL of a picture that an MLflow run keeps; a later retrain does not change it."""
    return mlflow("/get-artifact?" + urlencode({"path": path, "run_uuid": run_id}))
