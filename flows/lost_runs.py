"""Prefect's automation that calls a run crashed once its heartbeats stop, wherever it ran.

`flows.server.close_orphans` acts at once, but only when the same machine comes back. This acts for a machine
that never does, after ten minutes; not for a run that was lost before its first heartbeat.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState

from flows.label_intake import REJECTED, label_intake
from flows.retrain import retrain

NAME: Final = "call lost runs crashed"
# Three heartbeats, one every three minutes. A server that is down hears none, so that no shorter outage than
# seven minutes calls a run crashed that goes on.
WITHIN: Final = timedelta(minutes=10)

_HEARTBEAT: Final = "prefect.flow-run.heartbeat"
_ENDED: Final = ("Completed", "Failed", "Cancelled", "Crashed", "TimedOut", REJECTED)


def ensure_automation() -> None:
    """Create the automation if the server lacks it; what a user changed of it stays."""
    trigger = EventTrigger(
        after={_HEARTBEAT},
        expect={_HEARTBEAT, *(f"prefect.flow-run.{state}" for state in _ENDED)},
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related={
            "prefect.resource.role": "flow",
            "prefect.resource.name": [retrain.name, label_intake.name],
        },
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=WITHIN,
    )
    crash = ChangeFlowRunState(
        name=None,
        state=StateType.CRASHED,
        message="No heartbeat for ten minutes: its machine is lost.",
        force=False,  # the server refuses it of a run that has ended
    )
    with get_client(sync_client=True) as client:
        if not client.read_automations_by_name(NAME):
            client.create_automation(
                AutomationCore(
                    name=NAME, description="Made by flows/lost_runs.py.", trigger=trigger, actions=[crash]
                )
            )
