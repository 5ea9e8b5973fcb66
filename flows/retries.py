"""Which failures are worth another try, and after how long."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

from flows.errors import InfrastructureError
from pipeline.errors import CmgError

if TYPE_CHECKING:  # make up and make status ask for the seconds, and need no Prefect, which takes one to load
    from prefect.states import State


def retry_seconds() -> list[float]:
    """Return the delay before each new try: a lock is soon free, a server takes longer.

    ``CMG_RETRY_SECONDS`` holds it. Prefect's own setting reaches a flow's process sorted as text: 120, 30.

    Raises
    ------
    CmgError
        It holds something else.
    """
    text = os.environ.get("CMG_RETRY_SECONDS", "30,120")
    try:
        seconds = [float(delay) for delay in text.split(",")]
    except ValueError:
        seconds = [-1.0]
    # float() takes "nan" and "inf" as well.
    if not all(0 <= delay < math.inf for delay in seconds):
        raise CmgError(f"expected CMG_RETRY_SECONDS to be seconds with commas: 30,120; received {text!r}.")
    return seconds


def may_pass(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Return whether a failed task is worth another try; Prefect's ``retry_condition_fn``."""
    return isinstance(state.result(raise_on_failure=False), InfrastructureError)
