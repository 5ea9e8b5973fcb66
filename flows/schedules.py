"""What users do to schedules in the UI outlives a restart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.exceptions import ObjectNotFound


@contextmanager
def kept(deployments: Iterable[str]) -> Iterator[None]:
    """Keep pauses and added schedules while the block declares deployments again.

    When a declared schedule runs is the declaration's to say; whether it does, and what else, the user's.

    Parameters
    ----------
    deployments
        Their names with their flow's: ``retrain/weekly``.
    """
    with get_client(sync_client=True) as client:
        before = {name: _read(client, name) for name in deployments}
        # No `finally`: where declaring fails, the schedules are as they were.
        yield
        for name, schedules in before.items():
            _restore(client, name, schedules)


def _read(client: SyncPrefectClient, name: str) -> list[DeploymentSchedule]:
    """Return a deployment's schedules; none if the server does not know it."""
    try:
        return client.read_deployment_by_name(name).schedules
    except ObjectNotFound:
        return []


def _restore(client: SyncPrefectClient, name: str, before: list[DeploymentSchedule]) -> None:
    deployment = client.read_deployment_by_name(name)
    declared = {schedule.slug: schedule for schedule in deployment.schedules}
    for schedule in before:
        if schedule.slug not in declared:
            kept_fields = schedule.model_dump(include=set(DeploymentScheduleCreate.model_fields))
            client.create_deployment_schedules(deployment.id, [DeploymentScheduleCreate(**kept_fields)])
        # What was active stays so by default; its times are the declaration's.
        elif not schedule.active:
            client.update_deployment_schedule(deployment.id, declared[schedule.slug].id, active=False)
