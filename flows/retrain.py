"""The flow ``retrain``: every stage of ``dvc.yaml`` as a task, then which version is champion, and why.

``python -m flows.retrain`` runs it once, here and now; the server at ``PREFECT_API_URL`` shows it.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx
from prefect import flow, get_run_logger, task
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.runtime import flow_run
from prefect.states import Completed, State

from flows import artifacts, form, graph, processes, server
from flows.errors import without_secrets
from flows.graph import Stage
from flows.overrides import overridden
from flows.retries import may_pass
from flows.server import label_machine
from flows.stages import LIMITS, RETRY_SECONDS, Outcome, moved, run_stage
from pipeline import params, tracking
from pipeline.errors import CmgError, run_main
from pipeline.params import ModelName, Task
from pipeline.workspace_lock import CACHE, LOCK, waiting_lock

TIMEOUT_SECONDS: Final = 12 * 3600


def ensure_limits() -> None:
    """Create the concurrency limits that the server lacks, with one slot each; a user's number stays."""
    with get_client(sync_client=True) as client:
        for limit in LIMITS.values():
            try:
                client.read_global_concurrency_limit_by_name(limit)
            except ObjectNotFound:
                client.upsert_global_concurrency_limit_by_name(limit, 1)


def overrides_of(
    tasks: list[Task], models: list[ModelName], protocol: str, overrides: dict[str, Any]
) -> dict[str, Any]:
    """Return what differs from ``params.yaml``, by dotted key."""
    chosen: dict[str, Any] = dict(overrides)
    chosen |= {"tasks": tasks} if tasks else {}
    chosen |= {"models": models} if models else {}
    chosen |= {} if protocol == form.AS_IN_PARAMS else {"split.protocol": protocol}
    return chosen


def _run_name() -> str:
    return f"retrain {datetime.datetime.now().astimezone():%Y-%m-%d %H:%M:%S}"


@flow(name="retrain", flow_run_name=_run_name, timeout_seconds=TIMEOUT_SECONDS, log_prints=True)
@without_secrets
def retrain(
    tasks: form.Tasks = [],  # noqa: B006 - Prefect shows it in the form, and validates a copy
    models: form.Models = [],  # noqa: B006
    protocol: form.ProtocolChoice = "params.yaml",
    force: form.Force = False,
    overrides: form.Overrides = {},  # noqa: B006
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
    label_machine()
    ensure_limits()
    changes = overrides_of(tasks, models, protocol, overrides)
    with waiting_lock(CACHE / LOCK):
        # We hold the checkout's lock, so that a stage which still runs here has lost its flow.
        processes.end_stages(tracking.RETRAIN)
        with overridden(changes) as chosen:
            outcomes = run_stages(force)
            # By now the better model serves, whether it is shown or not.
            with _not_worth_a_run("The run's page lacks scores or links"):
                artifacts.publish(chosen, outcomes)
            return _summary(chosen, outcomes)


@task(
    task_run_name="plan",
    retries=len(RETRY_SECONDS),
    retry_delay_seconds=RETRY_SECONDS,
    retry_condition_fn=may_pass,
)
@without_secrets
def plan() -> list[Stage]:
    """Ask DVC for the stages, upstream first, and which of them changed; DVC's lock may be held."""
    return graph.read(Path.cwd())


def run_stages(force: bool) -> dict[str, Outcome]:
    """Run the stages one after the other, upstream first; return what came of each.

    One after the other, since DVC's locks are not waited for, and two trainings share one device.
    """
    at = "plan"
    outcomes: dict[str, Outcome] = {}
    states: dict[str, State[Outcome]] = {}
    try:
        planned: Any = plan(return_state=True)
        # Copies, since Prefect draws an edge from the plan to every task that is given a part of it.
        stages = [replace(stage) for stage in planned.result()]
        for stage in stages:
            at = stage.name
            stale = stage.changed or not moved(outcomes).isdisjoint(_upstream(stage, stages))
            before = [states[name] for name in stage.after] or [planned]
            states[at] = _call(stage, stale, force, before)
            outcomes[at] = states[at].result()
    except BaseException as error:  # a cancelled run, too, must not leave open what it has opened
        is_failure = isinstance(error, Exception)
        _close("FAILED" if is_failure else "KILLED", {})
        if is_failure:
            # The failure must come through, not that a server is silent.
            with _not_worth_a_run("The failure is not on the run's page"):
                artifacts.publish_failure(at, str(error))
        raise
    if moved(outcomes):
        _close("FINISHED", artifacts.decisions(params.read()) if outcomes["promote"] == "ran" else {})
    return outcomes


@contextmanager
def _not_worth_a_run(consequence: str) -> Iterator[None]:
    """Log a fault of the two servers, instead of failing a run or hiding why it failed."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (httpx.HTTPError, PrefectException, MlflowException, CmgError) as error:
        get_run_logger().warning("%s: %s", consequence, error)


def _call(stage: Stage, stale: bool, force: bool, before: list[State[Any]]) -> State[Outcome]:
    """Run a stage's task; the run's graph shows what it waited for."""
    environment = {tracking.RETRAIN: f"{flow_run.name}"}
    # The task is named by kind and its run by the stage, as the server's pages group them.
    one = run_stage.with_options(name=stage.kind, task_run_name=stage.name)
    state: Any = one(stage, stale, force, environment, return_state=True, wait_for=before)
    return state


def _upstream(stage: Stage, stages: list[Stage]) -> set[str]:
    """Return the names of all stages before one, near and far."""
    by_name = {other.name: other for other in stages}
    near = set(stage.after)
    return near.union(*(_upstream(by_name[name], stages) for name in near))


def _close(status: str, decisions: dict[str, str]) -> None:
    """End this retrain's MLflow runs; say on the parents what was decided."""
    with _not_worth_a_run("The MLflow runs of this retrain stay open"):
        tags = {task: {"decision": said} for task, said in decisions.items()}
        tracking.close_retrain(f"{flow_run.name}", status, tags)


def _summary(chosen: params.Params, outcomes: dict[str, Outcome]) -> State[dict[str, str]]:
    """Return the run's last state: what was decided, and how much really ran."""
    if outcomes["promote"] == "ran":
        said = artifacts.decisions(chosen)
        with _not_worth_a_run("The decisions are not on the run's page"):
            artifacts.publish_decisions(chosen)
    else:
        said = artifacts.standing(chosen)
    text = "; ".join(f"{task}: {decision}" for task, decision in said.items())
    ran = sum(outcome == "ran" for outcome in outcomes.values())
    return Completed(message=f"{text}. {ran} stages ran.", data=said)


def main() -> None:
    """Run the flow once, with what ``params.yaml`` says."""
    server.wait_for_server()
    retrain()


if __name__ == "__main__":
    run_main(main)
