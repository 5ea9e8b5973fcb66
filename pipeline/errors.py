"""Errors that a user can correct: one clear message, exit code 2 (75 if waiting helps), no traceback."""

from __future__ import annotations

import errno
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from pipeline.inference.errors import CmgError, DataError
from pipeline.messages import mask_logs, masked, print_masked
from pipeline.untrusted import visible

__all__ = [
    "EXIT_TRY_LATER",
    "EXIT_USER_ERROR",
    "CmgError",
    "DataError",
    "DiskFullError",
    "ParamsError",
    "QualityError",
    "UnavailableError",
    "run_main",
]

EXIT_USER_ERROR = 2
EXIT_TRY_LATER = 75  # EX_TEMPFAIL of sysexits.h


class ParamsError(CmgError):
    """A key of ``params.yaml`` is unknown, missing, mistyped or out of range."""


class QualityError(DataError):
    """A critical data-quality check failed; the message names the rows."""


class DiskFullError(CmgError):
    """A disk has no room for a file; waiting does not help."""


class UnavailableError(CmgError):
    """A server does not answer; the same command may work later."""


def run_main(main: Callable[[], None]) -> None:
    """Run a stage's ``main``; say a `CmgError` or a file that is not there in one line and exit with 2.

    An `UnavailableError` and a lack of memory exit with 75: a caller knows that trying again is worth it.
    A bug keeps its traceback. None of it, nor what is logged meanwhile, shows a password.
    """
    mask_logs()
    try:
        main()
    except UnavailableError as error:
        _exit(str(error), EXIT_TRY_LATER)
    except CmgError as error:
        _exit(str(error))
    except FileNotFoundError as error:
        _exit(f"expected {error.filename}, received no such file. Run `dvc repro`: it makes what is missing.")
    except OSError as error:
        if error.errno == errno.ENOMEM:
            _exit(f"expected enough memory, received: {error.strerror}. Try again later.", EXIT_TRY_LATER)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(Path()).free / 1e6
            name = error.filename or "a file of this command"
            _exit(f"{name}: expected room on the disk, received a full one: {free:.0f} MB are free here.")
        _exit(f"{error.filename or ''}: {error.strerror or error}. Correct the file or its permissions.")
    except Exception:
        sys.excepthook = print_masked
        raise


def _exit(message: str, code: int = EXIT_USER_ERROR) -> NoReturn:
    print(f"error: {visible(masked(message))}", file=sys.stderr)
    raise SystemExit(code) from None
