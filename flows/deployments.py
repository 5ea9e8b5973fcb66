"""When flows run: the deployments, served by ``python -m flows.deployments``.

``prefect.yaml`` says the same for work pools. A run that is still going holds its deployment's only slot: the
next scheduled one is cancelled, the next one asked for waits, and both say so in their state.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import psutil
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.runner import Runner
from prefect.schedules import Cron, Schedule

from flows.retrain import ensure_limits, retrain
from pipeline.errors import UnavailableError, run_main

TIMEZONE: Final = "UTC"
WEEKLY: Final = "0 3 * * 1"  # Mondays at three, when nobody needs the machine
_LOOK_SECONDS: Final = 10
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
    return [weekly, on_demand]


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
    """Register deployments and run what is due, until terminated or left alone by the server.

    Raises
    ------
    UnavailableError
        The server went away.
    """
    # Schedules stay active while the runner is down: a restart must not pause what a user has set up.
    runner = StoppableRunner(pause_on_shutdown=False)
    for one in served:
        await runner.aadd_deployment(one)
    tasks = {asyncio.create_task(runner.start()), asyncio.create_task(_watch_server())}
    done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    await asyncio.wait(rest, timeout=_END_SECONDS)
    for task in done:
        task.result()


async def _watch_server() -> None:
    """Raise `UnavailableError`, after ending the runs, once the server has been silent for half a minute.

    Prefect's runner goes on without it, but by then it has given up listening for cancellations, for good.
    The supervisor starts it anew.
    """
    silent = 0
    async with get_client() as client:
        while silent < _SILENCES:
            await asyncio.sleep(_LOOK_SECONDS)
            silent = silent + 1 if await client.api_healthcheck() else 0
        address = client.api_url
    for run in psutil.Process().children():
        run.terminate()
    raise UnavailableError(f"expected the Prefect server at {address} to answer, received silence. Start it.")


def main() -> None:
    """Register the deployments and run what is due, until stopped."""
    wait_for_server()
    ensure_limits()
    asyncio.run(serve(deployments()))


if __name__ == "__main__":
    run_main(main)
