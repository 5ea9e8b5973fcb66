"""Notifications: a run failed, crashed, took too long, stopped at a data check, or rejected new labels.

``CMG_WEBHOOK=URL python -m flows.notifications`` posts ``{"subject": …, "text": …}`` there. The address is a
secret, as whoever knows it may post: everybody on the machine can read arguments, so it is none of them.
``--block sendgrid-email/ops`` uses a notification block made in the Prefect UI (e-mail, Slack, Teams, …).
It is a Prefect automation: it can be seen, changed and paused in the UI. Running this again changes it.
"""

from __future__ import annotations

import argparse
import os
from typing import Any, Final

import httpx
from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.blocks.abstract import NotificationError
from prefect.blocks.core import Block
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import get_client
from prefect.events.actions import SendNotification
from pydantic import HttpUrl, TypeAdapter, ValidationError

from flows.label_intake import REJECTED
from flows.server import wait_for_server
from pipeline.errors import CmgError, run_main

NAME: Final = "tell when a run fails"
WEBHOOK: Final = "CMG_WEBHOOK"  # the variable that holds its address
_BLOCK: Final = "run-failures"
_EVENTS: Final = ("Failed", "Crashed", "TimedOut", REJECTED)
_SUBJECT: Final = "{{ flow.name }} {{ flow_run.state.name | lower }}: {{ flow_run.name }}"
_BODY: Final = "{{ flow_run.state.message }}\n\n{{ flow_run | ui_url }}"


def webhook_address() -> str:
    """Return the address in ``CMG_WEBHOOK``.

    Raises
    ------
    CmgError
        It is no address on the web.
    """
    url = os.environ.get(WEBHOOK, "")
    try:
        TypeAdapter(HttpUrl).validate_python(url)
    except ValidationError:
        received = f"{len(url)} letters that are not" if url else "none"
        raise CmgError(
            f"expected {WEBHOOK} to be http://… or https://… with a host, received {received}. "
            "Set it, or give --block TYPE/NAME."
        ) from None
    return url


def webhook(url: str) -> str:
    """Save a block that posts to ``url``; return its slug."""
    make: Any = CustomWebhookNotificationBlock  # its optional fields look required to a type checker
    block = make(
        name="run failures",
        url="{{address}}",
        secrets={"address": url},
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
            f"Make it in the UI under Blocks, or set {WEBHOOK}."
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


def send_test(slug: str) -> None:
    """Send a message by a block now.

    Raises
    ------
    CmgError
        It did not arrive.
    """
    block: Any = Block.load(slug)
    try:
        block.notify("Runs that fail will be told here.", "A test of composite-mood-genre's notifications")
    except (httpx.HTTPError, NotificationError) as error:
        raise CmgError(
            f"expected the test message to be taken, received {_without_address(error)}. Correct the address."
        ) from None


def _without_address(error: Exception) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"status {error.response.status_code}"
    return type(error).__name__


def main() -> None:
    """Set up the notification: by the webhook in ``CMG_WEBHOOK``, or by a block."""
    parser = argparse.ArgumentParser(prog="python -m flows.notifications", description=main.__doc__)
    parser.add_argument("--block", metavar="TYPE/NAME", help="a notification block of the Prefect server")
    parser.add_argument("--test", action="store_true", help="send a message now")
    args = parser.parse_args()
    address = "" if args.block else webhook_address()
    wait_for_server()
    slug = args.block or webhook(address)
    notify_by(slug)
    print(f"automation {NAME!r} is active")
    if args.test:
        send_test(slug)
        print("a test message was sent")


if __name__ == "__main__":
    run_main(main)
