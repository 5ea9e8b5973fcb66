"""When flows run: the deployments, served by ``python -m flows.deployments``.

``prefect.yaml`` says the same for work pools. A run that is still going holds its deployment's only slot: the
next scheduled one is cancelled, the next one asked for waits, and both say so in their state.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from typing import Any, Final

import psutil
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, StateType
from prefect.deployments.runner import RunnerDeployment
from prefect.runner import Runner
from prefect.schedules import Cron, Schedule
from prefect.states import Crashed

from flows.label_intake import label_intake
from flows.retrain import ensure_limits, retrain
from pipeline.errors import EXIT_TRY_LATER, UnavailableError, run_main

TIMEZONE: Final = "UTC"
NIGHTLY: Final = "0 1 * * *"
WEEKLY: Final = "0 3 * * 1"  # Mondays at three, when nobody needs the machine
_LOOK_SECONDS: Final = 10
_ANSWER_SECONDS: Final = 5
_SILENCES: Final = 3
_END_SECONDS: Final = 20
_SERVER_SECONDS: Final = 120  # a first start migrates a new database


def one_at_a_time(strategy: ConcurrencyLimitStrategy) -> ConcurrencyLimitConfig:
    """Return the limit of one run, and what becomes of the next."""
    return ConcurrencyLimitConfig(limit=1, collision_strategy=strategy)


def deployments(schedule: Schedule | None = None) -> list[RunnerDeployment]:
    """Return what is served.

    Parameters
    ----------
    schedule
        When the scheduled retrain runs; None: weekly.
    """
    weekly: Any = retrain.to_deployment(
        "weekly",
        schedule=schedule or Cron(WEEKLY, timezone=TIMEZONE),
        concurrency_limit=one_at_a_time(ConcurrencyLimitStrategy.CANCEL_NEW),
        description="Retrain once a week; skip what has not changed, promote the better model.",
        tags=["scheduled"],
    )
    on_demand: Any = retrain.to_deployment(
        "on-demand",
        concurrency_limit=one_at_a_time(ConcurrencyLimitStrategy.ENQUEUE),
        description="Retrain now, with parameters of your choice.",
        tags=["on-demand"],
    )
    nightly: Any = label_intake.to_deployment(
        "nightly",
        schedule=Cron(NIGHTLY, timezone=TIMEZONE),
        concurrency_limit=one_at_a_time(ConcurrencyLimitStrategy.CANCEL_NEW),
        description="Check and merge the label files in inbox/labels; retrain when enough tracks are new.",
        tags=["scheduled", "labels"],
    )
    return [weekly, on_demand, nightly]


def wait_for_server(seconds: float = _SERVER_SECONDS) -> None:
    """Return when the Prefect server answers.

    Raises
    ------
    UnavailableError
        It does not within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    with get_client(sync_client=True) as client:
        while (fault := client.api_healthcheck()) is not None:
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"expected a Prefect server at {client.api_url}, received {fault}. Start it: make up."
                )
            time.sleep(1)


def close_orphans() -> None:
    """Call crashed what a killed runner left in the state Running.

    Prefect has nobody who would: such a run would stand there for ever, and keep its deployment's slot.
    """
    names = DeploymentFilterName(any_=[one.name for one in deployments()])
    busy = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    in_flight = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=busy)))
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(
            flow_run_filter=in_flight, deployment_filter=DeploymentFilter(name=names)
        )
        for run in found:
            if run.work_pool_name is None and not _is_alive(str(run.id)):
                told = "Its process is gone: it was killed, or the machine stopped."
                client.set_flow_run_state(run.id, Crashed(message=told), force=True)


def _is_alive(run: str) -> bool:
    """Return whether a process of this machine works on a flow run."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it has ended meanwhile, or is another user's
            if process.environ().get("PREFECT__FLOW_RUN_ID") == run:
                return True
    return False


class StoppableRunner(Runner):
    """A runner that cancels its runs when it is terminated, and then ends.

    Prefect's own handler calls a coroutine that nobody awaits: the runs would go on without it.
    """

    def handle_sigterm(self, *_: Any) -> None:
        """Stop from within the event loop, which the signal may have found asleep."""
        loop = self._loop
        assert loop is not None
        loop.call_soon_threadsafe(lambda: setattr(self, "_ending", loop.create_task(self.astop())))


async def serve(served: list[RunnerDeployment]) -> None:
    """Register deployments and run what is due, until terminated or left alone by the server."""
    # Schedules stay active while the runner is down: a restart must not pause what a user has set up.
    runner = StoppableRunner(pause_on_shutdown=False)
    for one in served:
        await runner.aadd_deployment(one)
    watch = asyncio.create_task(_watch_server())
    await runner.start()
    watch.cancel()


async def _watch_server() -> None:
    """End the runs and this process once the server has been silent for half a minute.

    Prefect's runner would go on, but by then it has given up listening for cancellations, for good. It does
    not end by itself either, since that takes the server's word: the supervisor starts it anew.
    """
    silent = 0
    async with get_client() as client:
        while silent < _SILENCES:
            await asyncio.sleep(_LOOK_SECONDS)
            silent = 0 if await _answers(client) else silent + 1
        address = client.api_url
    runs = psutil.Process().children()
    for run in runs:
        run.terminate()
    await asyncio.to_thread(psutil.wait_procs, runs, _END_SECONDS)
    print(f"error: expected the Prefect server at {address} to answer, received silence.", flush=True)
    os._exit(EXIT_TRY_LATER)


async def _answers(client: PrefectClient) -> bool:
    """Return whether the server answers within five seconds; the client itself would try for minutes."""
    try:
        return await asyncio.wait_for(client.api_healthcheck(), _ANSWER_SECONDS) is None
    except TimeoutError:
        return False


def main() -> None:
    """Register the deployments and run what is due, until stopped."""
    wait_for_server()
    ensure_limits()
    close_orphans()
    asyncio.run(serve(deployments()))


if __name__ == "__main__":
    run_main(main)
