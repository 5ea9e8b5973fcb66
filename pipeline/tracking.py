"""MLflow's edge: where it keeps things, and one run a training. Importing this does not import MLflow."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pipeline.errors import CmgError, UnavailableError
from pipeline.files import sha256
from pipeline.messages import masked
from pipeline.taxonomy import TASKS

if TYPE_CHECKING:
    import mlflow

ROOT: Final = Path("mlruns")
RETRAIN: Final = "CMG_RETRAIN"  # the parent's name; MLFLOW_RUN_ID would make every child resume it instead
PROMOTED: Final = "champion"

_DATABASES: Final = ("postgresql", "mysql", "mssql")  # beside SQLite, what MLflow knows
_WRONG_URI: Final = (
    "expected MLFLOW_TRACKING_URI to be http://host:port or DRIVER://user:password@host/database, "
    "received {}: {} Correct it, or unset it for the store of this folder."
)
_TRAINING: Final = {"mlflow.experimentKind": "custom_model_development"}  # opens on runs, not on LLM traces


def configure() -> Any:
    """Point MLflow at the project's store and create it if need be; return the module.

    ``MLFLOW_TRACKING_URI`` wins; without it the store is ``mlruns/mlflow.db`` with ``mlruns/artifacts``.
    A lock keeps two processes from creating the database at the same time.

    Raises
    ------
    CmgError
        No store can be there, or it is not this project's.
    UnavailableError
        It does not answer.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault(
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"
    )  # seven take minutes to say the server is gone
    import mlflow
    from filelock import FileLock
    from sqlalchemy.exc import SQLAlchemyError

    folder = project_root() / ROOT
    folder.mkdir(exist_ok=True)
    uri = os.environ.get("MLFLOW_TRACKING_URI") or _local_store()
    mlflow.set_tracking_uri(uri)
    with reachable():
        _check_uri(uri)
    try:
        with FileLock(folder / ".create.lock"), reachable():
            _create_experiments(mlflow)
    except (mlflow.exceptions.MlflowException, SQLAlchemyError) as error:
        raise CmgError(
            f"expected an MLflow store at {shown_uri()}, received {_first_line(error)} "
            "Start the server, or move mlruns/ away: `make registry` fills a new one."
        ) from None
    return mlflow


def _check_uri(uri: str) -> None:
    """Refuse an address at which no store can be, and connect to a database once.

    MLflow would try for minutes, with fifty lines for each time.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError
    from sqlalchemy.pool import NullPool

    try:
        parts = urlsplit(uri)
        is_wrong = parts.port == 0 or (parts.scheme in ("http", "https") and not parts.hostname)
        if parts.scheme.partition("+")[0] in _DATABASES:
            with create_engine(uri, poolclass=NullPool).connect():
                return
    except (ValueError, ImportError, ArgumentError) as error:
        raise CmgError(_WRONG_URI.format(masked(uri), _first_line(error))) from None
    if is_wrong:
        raise CmgError(_WRONG_URI.format(masked(uri), "no host, or port 0."))


def _first_line(error: Exception) -> str:
    return masked((str(error).splitlines() or [type(error).__name__])[0])


@contextmanager
def reachable() -> Iterator[None]:
    """Turn MLflow's connection errors within the block into an `UnavailableError`."""
    try:
        yield
    except Exception as error:
        if not _is_connection_error(error):
            raise
        raise UnavailableError(
            f"expected an MLflow store at {shown_uri()}, received {_first_line(error)} "
            "Start the server and run this again; what is finished stays."
        ) from None


def _is_connection_error(error: BaseException | None) -> bool:
    """Return whether the error, or one that it came from, says that no server answered, or a broken one."""
    import requests
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import OperationalError

    while error is not None:
        if isinstance(error, requests.ConnectionError | requests.Timeout | requests.exceptions.RetryError):
            return True
        if isinstance(error, MlflowException) and error.error_code == "TEMPORARILY_UNAVAILABLE":
            return True
        # SQLite refuses a file for good, but "database is locked" passes.
        is_file_fault = "sqlite3" in str(error) and "locked" not in str(error)
        if isinstance(error, OperationalError) and not is_file_fault:
            return True
        error = error.__cause__ or error.__context__
    return False


def shown_uri() -> str:
    """Return where the store is, without a password."""
    import mlflow

    return masked(mlflow.get_tracking_uri())


def _local_store() -> str:
    """Return the project's own store; absolute, since MLflow keeps connections by URI."""
    return f"sqlite:///{(project_root() / ROOT / 'mlflow.db').resolve().as_posix()}"


def project_root() -> Path:
    """Return the project's folder; within a temporary checkout, that of the project which it is of.

    ``dvc exp run --temp`` and queued experiments run in ``.dvc/tmp/exps/…``, which DVC deletes.
    """
    here = Path.cwd()
    for folder in here.parents:
        if here.relative_to(folder).parts[:3] == (".dvc", "tmp", "exps"):
            return folder
    return here


def is_temporary_checkout() -> bool:
    """Return whether this is a checkout that DVC makes for an experiment, and deletes."""
    return project_root() != Path.cwd()


def _create_experiments(mlflow: Any) -> None:
    own = mlflow.get_tracking_uri() == _local_store()
    location = (project_root() / ROOT / "artifacts").resolve().as_uri() if own else None
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
    """Open a run in the task's experiment, under the retrain that ``CMG_RETRAIN`` names, if any."""
    mlflow = configure()
    retrain = os.environ.get(RETRAIN)
    with reachable():
        mlflow.set_experiment(task)
        parent = ensure_parent(task, retrain) if retrain else None
        under = _marks(retrain) if retrain else {}
        said = {key: masked(value) for key, value in (versions() | under | tags).items()}
        with mlflow.start_run(run_name=name, tags=said, parent_run_id=parent) as active:
            if retrain:  # MLflow's comparison draws parameters, no tags, and of their values ten characters
                mlflow.log_param("retrain", retrain.removeprefix("retrain "))
            yield active


@contextmanager
def resume(task: str, run_id: str) -> Iterator[mlflow.ActiveRun]:
    """Reopen a run of the task's experiment."""
    mlflow = configure()
    with reachable():
        mlflow.set_experiment(task)  # MLflow refuses a run of another experiment than the active one
        with mlflow.start_run(run_id=run_id) as active:
            yield active


def _marks(retrain: str) -> dict[str, str]:
    return {"retrain": retrain, "checkout": _checkout()}


def ensure_parent(task: str, retrain: str) -> str:
    """Return the id of the run that a retrain's runs of one task lie under; open it if there is none."""
    client = configure().MlflowClient()
    experiment = client.get_experiment_by_name(task).experiment_id
    found = client.search_runs([experiment], f"tags.retrain = '{retrain}' AND tags.kind = 'retrain'")
    if found:
        return found[0].info.run_id
    tags = versions() | _marks(retrain) | {"kind": "retrain"}
    return client.create_run(experiment, run_name=retrain, tags=tags).info.run_id


def close_retrain(retrain: str, status: str, tags: dict[str, dict[str, str]]) -> None:
    """End the runs of a retrain, and call KILLED what a killed one of this checkout has left open.

    Parameters
    ----------
    retrain
        Its name; a checkout runs one at a time.
    status
        Of the parent: ``FINISHED``, ``FAILED`` or ``KILLED``. A child that is still open was killed.
    tags
        By task, what to say of the outcome on the parent.
    """
    client = configure().MlflowClient()
    with reachable():
        for task in TASKS:
            experiment = client.get_experiment_by_name(task).experiment_id
            own = f"tags.retrain = '{retrain}'"
            for mlflow_run in client.search_runs([experiment], own):
                _tag_lock(client, mlflow_run.info.run_id)
                for key, value in tags.get(task, {}).items() if _is_parent(mlflow_run) else ():
                    client.set_tag(mlflow_run.info.run_id, key, masked(value))
            left = f"tags.checkout = '{_checkout()}' AND attributes.status = 'RUNNING'"
            for mlflow_run in client.search_runs([experiment], left):
                is_own_parent = _is_parent(mlflow_run) and mlflow_run.data.tags["retrain"] == retrain
                client.set_terminated(mlflow_run.info.run_id, status if is_own_parent else "KILLED")


def _tag_lock(client: Any, run_id: str) -> None:
    """Say which ``dvc.lock`` a run and its versions are of, once the retrain's last entry is in it."""
    lock = lock_version()
    client.set_tag(run_id, "dvc_lock_sha256", lock)
    for version in client.search_model_versions(f"run_id = '{run_id}'"):
        client.set_model_version_tag(version.name, version.version, "dvc_lock_sha256", lock)


def _is_parent(run: Any) -> bool:
    return run.data.tags.get("kind") == "retrain"


def _checkout() -> str:
    """Return what tells this checkout from others that log to the same server."""
    return hashlib.sha256(f"{platform.node()}:{Path.cwd()}".encode()).hexdigest()[:16]


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


def card_tags(card: dict[str, Any]) -> dict[str, str]:
    """Return the MLflow tags that a model's card gives."""
    return {
        "task": card["task"],
        "model": card["model"],
        "protocol": card["protocol"],
        "leaky": str(card["leaky"]).lower(),
        "optimistic": str(card["optimistic"]).lower(),
        "dataset": card["dataset"]["name"],
        "synthetic": str(card["dataset"]["synthetic"]).lower(),
    }


def open_run(task: str, card: dict[str, Any]) -> AbstractContextManager[Any]:
    """Reopen the MLflow run that made a model's weights.

    Where the store has no such run (``dvc pull`` brought the weights) a new one is opened for them.
    """
    run_id = find_run(task, card["weights_sha256"])
    if run_id:
        return resume(task, run_id)
    tags = card_tags(card) | {"weights_sha256": card["weights_sha256"]}
    return run(task, f"{task} · {card['model']} · {card['protocol']}", tags)
