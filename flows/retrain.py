"""The flow ``retrain``: every stage of ``dvc.yaml`` as a task, then who serves, and why.

``python -m flows.retrain`` runs it once, with a temporary Prefect server where none is configured.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, Final, Literal

from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Completed, State

from flows import artifacts, graph, server, settings
from flows.graph import Stage
from flows.stages import GPU, run_stage
from pipeline import params, tracking
from pipeline.errors import CmgError
from pipeline.params import ModelName, Protocol, Task
from pipeline.sources import library

TIMEOUT_SECONDS: Final = 12 * 3600
_AS_IN_PARAMS: Final = "params.yaml"


def ensure_limits() -> None:
    """Create the concurrency limit that trainings share, if the server lacks it: one training at a time."""
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(GPU)
        except ObjectNotFound:
            client.upsert_global_concurrency_limit_by_name(GPU, 1)


def overrides_of(
    tasks: list[Task], models: list[ModelName], protocol: str, overrides: dict[str, Any]
) -> dict[str, Any]:
    """Return what differs from ``params.yaml``, by dotted key."""
    chosen: dict[str, Any] = dict(overrides)
    chosen |= {"tasks": tasks} if tasks else {}
    chosen |= {"models": models} if models else {}
    chosen |= {} if protocol == _AS_IN_PARAMS else {"split.protocol": protocol}
    return chosen


def _run_name() -> str:
    return f"retrain {datetime.datetime.now().astimezone():%Y-%m-%d %H:%M:%S}"


@flow(name="retrain", flow_run_name=_run_name, timeout_seconds=TIMEOUT_SECONDS, log_prints=True)
def retrain(
    tasks: list[Task] = [],  # noqa: B006 - Prefect shows it in the form, and validates a copy
    models: list[ModelName] = [],  # noqa: B006
    protocol: Literal["params.yaml"] | Protocol = "params.yaml",
    force: bool = False,
    overrides: dict[str, Any] = {},  # noqa: B006
) -> State[dict[str, str]]:
    """Run the pipeline's stages, skip what has not changed, and promote the better model.

    Parameters
    ----------
    tasks
        What to learn; none: as in params.yaml.
    models
        Which networks; none: as in params.yaml.
    protocol
        Who is held out; a leaky protocol is never promoted.
    force
        Run every stage although nothing has changed.
    overrides
        Other parameters for this run only, by dotted key: {"train.models.cnn64.epochs": 10}.
    """
    server.sign()
    ensure_limits()
    changes = overrides_of(tasks, models, protocol, overrides)
    with library.waiting_lock(library.CACHE / library.LOCK), settings.lent(changes) as chosen:
        ran = run_stages(graph.read(Path.cwd()), force)
        artifacts.publish(chosen, sorted(_pair(name) for name in ran if name.startswith("evaluate@")))
        return _summary(chosen, ran)


def run_stages(stages: list[Stage], force: bool) -> set[str]:
    """Run the stages one after the other, upstream first; return the names of those that really ran.

    One after the other, since DVC's locks are not waited for, and two trainings share one device.
    """
    environment = {tracking.RETRAIN: f"{flow_run.name}"}
    states: dict[str, State[bool]] = {}
    ran: set[str] = set()
    try:
        for stage in stages:
            stale = stage.changed or not ran.isdisjoint(_upstream(stage, stages))
            states[stage.name] = _call(stage, stale, force, environment, states)
            ran |= {stage.name} if states[stage.name].result() else set()
    except Exception as error:
        artifacts.publish_failure(stage.name, str(error))
        _close("FAILED", ran | {stage.name})
        raise
    _close("FINISHED", ran)
    return ran


def _call(
    stage: Stage, stale: bool, force: bool, environment: dict[str, str], states: dict[str, State[bool]]
) -> State[bool]:
    """Run a stage's task; the run's graph shows what it waited for."""
    one = run_stage.with_options(name=stage.kind, task_run_name=stage.name)
    before = [states[name] for name in stage.after]
    state: Any = one(stage, stale, force, environment, return_state=True, wait_for=before)
    return state


def _upstream(stage: Stage, stages: list[Stage]) -> set[str]:
    """Return the names of all stages before one, near and far."""
    by_name = {one.name: one for one in stages}
    near = set(stage.after)
    return near.union(*(_upstream(by_name[name], stages) for name in near))


def _close(status: str, ran: set[str]) -> None:
    """End the MLflow runs under which this retrain's models lie, if it trained any."""
    if not any(name.startswith("train@") for name in ran):
        return
    told = {task: {"decision": said} for task, said in artifacts.decisions(params.read()).items()}
    try:
        tracking.close_parents(f"{flow_run.name}", status, told if status == "FINISHED" else {})
    except CmgError as error:
        get_run_logger().warning("The MLflow runs of this retrain stay open: %s", error)


def _pair(name: str) -> tuple[str, str]:
    """Return task and model of a stage: ``evaluate@genre-cnn64``."""
    task, _, model = name.split("@")[1].partition("-")
    return task, model


def _summary(chosen: params.Params, ran: set[str]) -> State[dict[str, str]]:
    """Return the run's last state: what was decided, and how much really ran."""
    said = artifacts.decisions(chosen)
    if "promote" in ran:
        artifacts.publish_decisions(chosen)
    else:
        said = artifacts.standing(chosen)
    told = "; ".join(f"{task}: {one}" for task, one in said.items())
    return Completed(message=f"{told}. {len(ran)} stages ran.", data=said)


if __name__ == "__main__":
    retrain()
