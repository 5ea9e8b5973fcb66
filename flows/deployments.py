"""When flows run: the deployments, served by ``python -m flows.deployments``.

``prefect.yaml`` says the same for work pools. A run that is still going holds its deployment's only slot: the
next scheduled one is cancelled, the next one asked for waits, and both say so in their state.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.runner import Runner
from prefect.schedules import Cron

from flows import schedules, server
from flows.label_intake import label_intake
from flows.retrain import ensure_limits, retrain
from pipeline.errors import run_main

TIMEZONE: Final = "UTC"
NIGHTLY: Final = "0 1 * * *"
WEEKLY: Final = "0 3 * * 1"  # Mondays at three, when nobody needs the machine


def one_at_a_time(strategy: ConcurrencyLimitStrategy) -> ConcurrencyLimitConfig:
    """Return the limit of one run, and what becomes of the next."""
    return ConcurrencyLimitConfig(limit=1, collision_strategy=strategy)


def address(deployment: RunnerDeployment) -> str:
    """Return what Prefect calls a deployment: ``retrain/weekly``."""
    return f"{deployment.flow_name}/{deployment.name}"


def deployments() -> list[RunnerDeployment]:
    """Return what is served; by its slug a schedule is known again (`flows.schedules`)."""
    weekly: Any = retrain.to_deployment(
        "weekly",
        schedule=Cron(WEEKLY, timezone=TIMEZONE, slug="weekly"),
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
        schedule=Cron(NIGHTLY, timezone=TIMEZONE, slug="nightly"),
        concurrency_limit=one_at_a_time(ConcurrencyLimitStrategy.CANCEL_NEW),
        description="Check and merge the label files in inbox/labels; retrain when enough tracks are new.",
        tags=["scheduled", "labels"],
    )
    return [weekly, on_demand, nightly]


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
    runner = StoppableRunner(pause_on_shutdown=False)  # schedules stay active while it is down
    with schedules.kept(address(deployment) for deployment in served):
        for deployment in served:
            await runner.aadd_deployment(deployment)
    print(server.READY, flush=True)
    watch = asyncio.create_task(server.watch_server())
    await runner.start()
    watch.cancel()


def main() -> None:
    """Register the deployments and run what is due, until stopped."""
    server.wait_for_server(server.START_SECONDS)
    ensure_limits()
    server.close_orphans(deployment.name for deployment in deployments())
    asyncio.run(serve(deployments()))


if __name__ == "__main__":
    run_main(main)
