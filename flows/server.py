"""What a machine that runs flows asks the Prefect server: is it there, and what does it think that we run."""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from prefect.client.orchestration import PrefectClient, SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import PrefectHTTPStatusError
from prefect.runtime import flow_run
from prefect.settings import get_current_settings
from prefect.states import Crashed

from flows import processes
from pipeline.errors import EXIT_TRY_LATER, CmgError, UnavailableError
from pipeline.messages import masked
from serving import password

READY: Final = "ready: the deployments are declared, and what is due is run"
MACHINE: Final = "machine"  # the label of a run that says where it runs
_LOOK_SECONDS: Final = 10
_ANSWER_SECONDS: Final = 5
_SILENCES: Final = 3  # in a row
START_SECONDS: Final = 120  # a first start migrates a new database


def wait_for_server(seconds: float = 0) -> None:
    """Return when the Prefect server answers, and takes our password.

    Parameters
    ----------
    seconds
        How long to wait for it to start: what is started together with it allows `START_SECONDS`.

    Raises
    ------
    CmgError
        Nobody said where it is, the address is not that of its API, or it asks for another password.
    UnavailableError
        It does not within ``seconds``.
    """
    _require_address()
    asyncio.run(_wait(seconds))
    with get_client(sync_client=True) as client:
        _require_password(client)


async def _wait(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    async with get_client() as client:
        while (fault := await _fault(client)) is not None:
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"expected a Prefect server at {client.api_url}, received {fault}. Start it: make up."
                )
            await asyncio.sleep(1)


def _require_address() -> None:
    """Raise `CmgError` if no API can be at ``PREFECT_API_URL``: the pages' address answers any path."""
    example = "After make up on this machine: export PREFECT_API_URL=http://127.0.0.1:4200/api."
    url = get_current_settings().api.url
    if not url:
        raise CmgError(
            f"expected PREFECT_API_URL to hold the Prefect server's address, received none. {example}"
        )
    if "api" not in urlsplit(url).path.split("/"):
        raise CmgError(
            f"expected PREFECT_API_URL to hold the address of the server's API, which ends in /api, "
            f"received {url}. {example}"
        )


def _require_password(client: SyncPrefectClient) -> None:
    """Raise `CmgError` if the server, whose health is open to all, does not know us."""
    try:
        client.api_version()
    except PrefectHTTPStatusError as error:
        if error.response.status_code not in (401, 403):
            raise
        raise CmgError(
            f"expected the Prefect server at {client.api_url} to take our password, received "
            f"{error.response.status_code}. make password prints it there: export {password.CLIENTS}."
        ) from None


async def watch_server() -> None:
    """End the runs and this process once the server has been silent for half a minute.

    Prefect's runner would go on, but by then it has given up listening for cancellations, for good. It does
    not end by itself either, since that takes the server's word: the supervisor restarts it.
    """
    silent = 0
    async with get_client() as client:
        while silent < _SILENCES:
            await asyncio.sleep(_LOOK_SECONDS)
            silent = 0 if await _fault(client) is None else silent + 1
        address = client.api_url
    # First the runs: left alone they would go on beside those of the next runner.
    await asyncio.to_thread(processes.end_runs)
    print(
        f"error: expected the Prefect server at {masked(str(address))} to answer, received silence.",
        flush=True,
    )
    os._exit(EXIT_TRY_LATER)  # an orderly exit would wait for the server


async def _fault(client: PrefectClient) -> Exception | str | None:
    """Return why the server is not healthy; the client itself would wait for a minute."""
    try:
        return await asyncio.wait_for(client.api_healthcheck(), _ANSWER_SECONDS)
    except TimeoutError:
        return f"no answer within {_ANSWER_SECONDS} s"


def label_machine() -> None:
    """Write into the present flow run on which machine it runs."""
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(flow_run.id, {MACHINE: platform.node()})


def close_orphans(deployments: Iterable[str]) -> None:
    """Call crashed what a killed runner or worker of this machine left in the state Running.

    Prefect has nobody who would: such a run would stand there for ever, and keep its deployment's slot.

    Parameters
    ----------
    deployments
        Names of the deployments to look at.
    """
    # Pending, too: a run may die before its flow begins, and holds its slot as well.
    busy = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    in_flight = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=busy)))
    names = DeploymentFilter(name=DeploymentFilterName(any_=list(deployments)))
    message = "Its process is gone: it was killed, or the machine stopped."
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=in_flight, deployment_filter=names):
            if _is_ours(run) and not processes.is_alive(str(run.id)):
                client.set_flow_run_state(run.id, Crashed(message=message), force=True)


def _is_ours(run: FlowRun) -> bool:
    """Return whether this machine worked on a run; before a run signs, only those of no pool are ours."""
    return run.labels.get(MACHINE, platform.node() if run.work_pool_name is None else None) == platform.node()
