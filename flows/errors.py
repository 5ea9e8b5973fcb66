"""Why a stage did not end well, and whether trying again may help."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, ParamSpec, TypeVar

from flows.markdown import message
from pipeline.errors import EXIT_TRY_LATER, EXIT_USER_ERROR
from pipeline.messages import mask_logs, masked

_P = ParamSpec("_P")
_R = TypeVar("_R")

_TAIL: Final = 15  # lines shown of a failure that explains itself nowhere else
_EXITED: Final = re.compile(r"exited with (-?\d+)")
_KILLED: Final = (-9, 137)  # what the kernel does to a process when memory runs out

# DVC's two locks; what TensorFlow, JAX, CUDA, C++ and Python say when no memory is left.
_PASSING: Final = re.compile(
    r"Unable to acquire lock|is busy, it is being blocked by|ResourceExhaustedError|OOM when allocating"
    r"|RESOURCE_EXHAUSTED|CUDA_ERROR_OUT_OF_MEMORY|std::bad_alloc|MemoryError"
)


class StageError(Exception):
    """A stage failed for a reason that stays: bad data, a failed check, a wrong parameter, a bug."""


class InfrastructureError(StageError):
    """A stage failed for a reason that passes: a lock is held, memory ran out, a server is away."""


@contextmanager
def masked_secrets() -> Iterator[None]:
    """Mask what is logged within the block, and what an exception that leaves it tells the state."""
    mask_logs()
    try:
        yield
    except Exception as error:
        if all(masked(said) == said for said in _chain(error)):
            raise
        kind = InfrastructureError if isinstance(error, InfrastructureError) else StageError
        raise kind(f"{type(error).__name__}: {masked(str(error))}") from None


def without_secrets(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Run a flow or a task within `masked_secrets`."""

    @functools.wraps(function)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with masked_secrets():
            return function(*args, **kwargs)

    # Prefect makes its form from the types, which it would look up in this module.
    guarded.__signature__ = inspect.signature(function, eval_str=True)  # type: ignore[attr-defined]
    return guarded


def _chain(error: BaseException | None) -> Iterator[str]:
    """Yield what an exception says, and those that it came from: a traceback prints them all."""
    while error is not None:
        yield str(error)
        error = error.__cause__ or error.__context__


def failure(stage: str, code: int, lines: Sequence[str]) -> StageError:
    """Return the error that a stage's exit code and output amount to.

    Parameters
    ----------
    stage
        Its name.
    code
        Exit code of DVC; the stage's own is in its last words.
    lines
        What both printed.
    """
    text = "\n".join(lines)
    own = _EXITED.search(text)
    code = int(own[1]) if own else code
    said = message(f"{stage}: {_explanation(lines)}")
    if code == EXIT_TRY_LATER or code in _KILLED:
        return InfrastructureError(said)
    if code != EXIT_USER_ERROR and _PASSING.search(text):
        return InfrastructureError(said)
    return StageError(said)


def _explanation(lines: Sequence[str]) -> str:
    """Return what follows ``error:`` (findings are listed below it), else the last lines."""
    # DVC's own last word only names the command.
    spoken = [line for line in lines if not line.startswith("ERROR: failed to reproduce")]
    start = next((n for n, line in enumerate(spoken) if line.startswith("error: ")), None)
    if start is None:
        return "\n".join(lines[-_TAIL:])
    return "\n".join(spoken[start:]).removeprefix("error: ").strip()
