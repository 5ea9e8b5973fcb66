"""MLflow's edge: where it keeps things, and one run a training. Importing this does not import MLflow."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import CmgError
from pipeline.files import sha256
from pipeline.taxonomy import TASKS

if TYPE_CHECKING:
    import mlflow

ROOT: Final = Path("mlruns")
PARENT_RUN: Final = "CMG_PARENT_RUN"  # MLFLOW_RUN_ID would make every child resume the parent itself
PROMOTED: Final = "champion"

_TRAINING: Final = {"mlflow.experimentKind": "custom_model_development"}  # opens on runs, not on LLM traces


def configure() -> Any:
    """Point MLflow at the project's store and create it if need be; return the module.

    ``MLFLOW_TRACKING_URI`` wins; without it the store is ``mlruns/mlflow.db`` with ``mlruns/artifacts``.
    A lock keeps two processes from creating the database at the same time.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault(
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"
    )  # seven take minutes to say the server is gone
    import mlflow
    from filelock import FileLock
    from sqlalchemy.exc import SQLAlchemyError

    ROOT.mkdir(exist_ok=True)
    uri = os.environ.get("MLFLOW_TRACKING_URI") or _local_store()
    mlflow.set_tracking_uri(uri)
    try:
        with FileLock(ROOT / ".create.lock"):
            _create_experiments(mlflow)
    except (mlflow.exceptions.MlflowException, SQLAlchemyError) as error:
        raise CmgError(
            f"expected an MLflow store at {uri}, received {str(error).splitlines()[0]} "
            "Start the server, or move mlruns/ away: `make registry` fills a new one."
        ) from None
    return mlflow


def _local_store() -> str:
    """Return the project's own store; absolute, since MLflow keeps connections by URI."""
    return f"sqlite:///{(ROOT / 'mlflow.db').resolve().as_posix()}"


def _create_experiments(mlflow: Any) -> None:
    own = mlflow.get_tracking_uri() == _local_store()
    location = (ROOT / "artifacts").resolve().as_uri() if own else None
    for task in TASKS:
        found = mlflow.get_experiment_by_name(task)
        if found is None:
            mlflow.create_experiment(task, artifact_location=location, tags=_TRAINING)
        elif own:
            _check_experiment(mlflow, found, f"{location}")


def _check_experiment(mlflow: Any, found: Any, location: str) -> None:
    """Restore a deleted experiment; refuse one of a project that was copied or moved."""
    if found.artifact_location != location:
        raise CmgError(
            f"{ROOT}: expected artifacts in {location}, received {found.artifact_location}: the project was "
            "moved or copied. Move mlruns/ away; `make registry` fills a new one."
        )
    if found.lifecycle_stage == "deleted":
        mlflow.MlflowClient().restore_experiment(found.experiment_id)


def git_commit() -> str:
    """Return the commit that is checked out; blank outside a repository."""
    out = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return out.stdout.strip()


def data_version() -> str:
    """Return the md5 that ``data.dvc`` gives the data; blank if it is not versioned."""
    from ruamel.yaml import YAML

    pointer = Path("data.dvc")
    return YAML(typ="safe").load(pointer)["outs"][0]["md5"] if pointer.exists() else ""


def lock_version() -> str:
    """Return the SHA-256 of ``dvc.lock``; blank if there is none."""
    lock = Path("dvc.lock")
    return sha256(lock) if lock.exists() else ""


def versions() -> dict[str, str]:
    """Return the tags that say what a run was made from."""
    return {"git_commit": git_commit(), "data_md5": data_version(), "dvc_lock_sha256": lock_version()}


@contextmanager
def run(task: str, name: str, tags: dict[str, str]) -> Iterator[mlflow.ActiveRun]:
    """Open a run in the task's experiment, under the parent that ``CMG_PARENT_RUN`` names, if any."""
    mlflow = configure()
    mlflow.set_experiment(task)
    parent = os.environ.get(PARENT_RUN)
    with mlflow.start_run(run_name=name, tags=versions() | tags, parent_run_id=parent) as active:
        yield active


def resume(task: str, run_id: str) -> mlflow.ActiveRun:
    """Reopen a run of the task's experiment, as a context manager."""
    mlflow = configure()
    mlflow.set_experiment(task)  # MLflow refuses a run of another experiment than the active one
    return mlflow.start_run(run_id=run_id)


def find_run(task: str, weights_sha256: str) -> str | None:
    """Return the id of the latest run that made these weights; None if the store has none."""
    mlflow = configure()
    found = mlflow.search_runs(
        experiment_names=[task],
        filter_string=f"tags.weights_sha256 = '{weights_sha256}'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
        output_format="list",
    )
    return found[0].info.run_id if found else None
