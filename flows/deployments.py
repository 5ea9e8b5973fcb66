"""Serve the deployments that ``prefect.yaml`` declares: ``python -m flows.deployments``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.deployments.runner import RunnerDeployment
from prefect.flows import load_flow_from_entrypoint
from prefect.runner import Runner
from prefect.schedules import Cron
from ruamel.yaml import YAML

from flows import lost_runs, schedules, server
from flows.retrain import ensure_limits
from pipeline.errors import run_main

DECLARED: Final = Path("prefect.yaml")


def address(deployment: RunnerDeployment) -> str:
    """Return what Prefect calls a deployment: ``retrain/weekly``."""
    return f"{deployment.flow_name}/{deployment.name}"


def deployments() -> list[RunnerDeployment]:
    """Return what ``prefect.yaml`` declares, to be served by this machine.

    `prefect deploy` reads that file for work pools only; what is served would be declared once more in code.
    """
    return [_deployment(entry) for entry in YAML(typ="safe").load(DECLARED)["deployments"]]


def _deployment(declared: dict[str, Any]) -> RunnerDeployment:
    flow: Any = load_flow_from_entrypoint(declared["entrypoint"])
    return flow.to_deployment(
        declared["name"],
        # By its slug a schedule is known again (`flows.schedules`).
        schedules=[
            Cron(schedule["cron"], timezone=schedule["timezone"], slug=schedule["slug"])
            for schedule in declared.get("schedules", [])
        ],
        concurrency_limit=ConcurrencyLimitConfig(**declared["concurrency_limit"]),
        description=declared["description"],
        tags=declared["tags"],
    )


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
    # Prefect's runner itself goes on without a server, deaf to cancellations.
    watch = asyncio.create_task(server.watch_server())
    await runner.start()
    watch.cancel()


def main() -> None:
    """Register the deployments and run what is due, until stopped."""
    server.wait_for_server(server.START_SECONDS)
    ensure_limits()
    lost_runs.ensure_automation()
    # Before new runs begin: an orphan still holds its deployment's only slot.
    server.close_orphans(deployment.name for deployment in deployments())
    asyncio.run(serve(deployments()))


if __name__ == "__main__":
    run_main(main)
