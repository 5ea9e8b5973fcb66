"""A machine that trains for a team: ``make worker`` runs what the work pool hands out.

The pool and the deployments of ``prefect.yaml`` are put in place first, so that it takes only the address of
the Prefect server: ``PREFECT_API_URL``. Told to stop, it ends its run, a training included. When the server
is gone it ends with exit code 75: what keeps it (``make up``, systemd, a container's restart policy) starts
it anew.
"""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.workers.process import ProcessWorker

from flows import lost_runs, processes, schedules, server
from flows.deployments import address, deployments
from flows.retrain import ensure_limits
from pipeline.errors import UnavailableError, run_main

POOL: Final = "pipeline"
PROJECT: Final = "CMG_PROJECT"  # where prefect.yaml sends a run


def ensure_pool() -> None:
    """Create the process pool, if the server lacks it."""
    template = ProcessWorker.get_default_base_job_template()
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))


def deploy() -> None:
    """Declare the deployments of ``prefect.yaml``.

    Raises
    ------
    UnavailableError
        Prefect could not.
    """
    # By Prefect's command, which fills in pull steps and work pool as prefect.yaml has them.
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    # Prefect would write this machine's folder into the deployment; left open, each worker fills in its own.
    open_place = {name: value for name, value in os.environ.items() if name != PROJECT}
    done = subprocess.run(command, env=open_place, capture_output=True, text=True, check=False)
    if done.returncode:
        said = f"{done.stdout}{done.stderr}"
        raise UnavailableError(
            f"expected prefect deploy to declare prefect.yaml's deployments, received:\n{said}"
        )


async def work() -> None:
    """Run what the pool hands out, one run at a time, until terminated or left alone by the server."""
    # One run at a time: within a checkout the others would only wait for its lock.
    worker = ProcessWorker(name=platform.node(), work_pool_name=POOL, limit=1)
    working = asyncio.create_task(worker.start())
    print(server.READY, flush=True)
    watch = asyncio.create_task(server.watch_server())
    stopping: list[asyncio.Task[None]] = []

    async def stop() -> None:
        await asyncio.to_thread(processes.end_runs)
        working.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(
            number, lambda: stopping.append(asyncio.create_task(stop()))
        )
    with suppress(asyncio.CancelledError):
        await working
    watch.cancel()


def main() -> None:
    """Put pool and deployments in place, then work until stopped."""
    server.wait_for_server(server.START_SECONDS)
    ensure_limits()
    lost_runs.ensure_automation()
    ensure_pool()
    declared = deployments()
    with schedules.kept(address(deployment) for deployment in declared):
        deploy()
    server.close_orphans(deployment.name for deployment in declared)
    os.environ[PROJECT] = str(Path.cwd())
    asyncio.run(work())


if __name__ == "__main__":
    run_main(main)
