"""Errors that a user can mend: one clear message, exit code 2, no traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

EXIT_USER_ERROR = 2


class CmgError(Exception):
    """Say what was expected, what came, where, and what to do about it."""


class ParamsError(CmgError):
    """A key of ``params.yaml`` is unknown, missing, mistyped or out of range."""


class DataError(CmgError):
    """The data on disk is not what the contract promises."""


class QualityError(DataError):
    """A critical data-quality check failed; the message names the rows."""


def run_main(main: Callable[[], None]) -> None:
    """Run a stage's ``main``; print a `CmgError` as one line and exit with 2."""
    try:
        main()
    except CmgError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(EXIT_USER_ERROR) from None
