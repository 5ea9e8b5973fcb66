"""Notifications: a run failed, crashed, took too long, stopped at a data check, or rejected new labels.

``python -m flows.notifications --webhook URL`` posts ``{"subject": …, "text": …}`` there;
``--block sendgrid-email/ops`` uses a notification block made in the Prefect UI (e-mail, Slack, Teams, …).
It is a Prefect automation: it can be seen, changed and paused in the UI. Running this again changes it.
"""

from __future__ import annotations

import argparse
from typing import Any, Final

from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.blocks.core import Block
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import get_client
from prefect.events.actions import SendNotification

from flows.label_intake import REJECTED
from flows.server import wait_for_server
from pipeline.errors import CmgError, run_main

NAME: Final = "tell when a run fails"
_BLOCK: Final = "run-failures"
_EVENTS: Final = ("Failed", "Crashed", "TimedOut", REJECTED)
_SUBJECT: Final = "{{ flow.name }} {{ flow_run.state.name | lower }}: {{ flow_run.name }}"
_BODY: Final = "{{ flow_run.state.message }}\n\n{{ flow_run | ui_url }}"


def webhook(url: str) -> str:
    """Save a block that posts to ``url``; return its slug."""
    make: Any = CustomWebhookNotificationBlock  # its optional fields look required to a type checker
    block = make(
        name="run failures",
        url=url,
        method="POST",
        json_data={"subject": "{{subject}}", "text": "{{body}}"},
    )
    block.save(_BLOCK, overwrite=True)
    return f"{CustomWebhookNotificationBlock.get_block_type_slug()}/{_BLOCK}"


def notify_by(slug: str) -> None:
    """Make, or change, the automation that tells of failures by the block ``TYPE/NAME``.

    Raises
    ------
    CmgError
        There is no such block.
    """
    try:
        block: Any = Block.load(slug)
    except ValueError as error:
        raise CmgError(
            f"expected a notification block TYPE/NAME of the Prefect server, received {slug}: {error}. "
            "Make it in the UI under Blocks, or give --webhook URL."
        ) from None
    action = SendNotification(block_document_id=block._block_document_id, subject=_SUBJECT, body=_BODY)
    with get_client(sync_client=True) as client:
        for old in client.read_automations_by_name(NAME):
            client.delete_automation(old.id)
        client.create_automation(_automation(action))


def _automation(action: SendNotification) -> AutomationCore:
    trigger = EventTrigger(
        expect={f"prefect.flow-run.{state}" for state in _EVENTS},
        match={"prefect.resource.id": "prefect.flow-run.*"},
        for_each={"prefect.resource.id"},
        posture=Posture.Reactive,
        threshold=1,
    )
    return AutomationCore(
        name=NAME,
        description="Made by flows/notifications.py.",
        trigger=trigger,
        actions=[action],
    )


def main() -> None:
    """Set up the notification named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m flows.notifications", description=main.__doc__)
    by = parser.add_mutually_exclusive_group(required=True)
    by.add_argument("--webhook", metavar="URL", help="post subject and text there as JSON")
    by.add_argument("--block", metavar="TYPE/NAME", help="a notification block of the Prefect server")
    args = parser.parse_args()
    wait_for_server()
    notify_by(webhook(args.webhook) if args.webhook else args.block)
    print(f"automation {NAME!r} is active")


if __name__ == "__main__":
    run_main(main)
