"""One promotion at a time: a lease on a registered model, for all who reach its registry by whatever address.

MLflow has no compare-and-swap, but no two registered models of one name: whoever creates the model
``<name>-lease`` holds the lease, on SQLite, on PostgreSQL and behind an MLflow server alike. The holder
renews a tag; a waiter who sees it unchanged for `STALE` seconds of its own clock, or knows that the process
is gone, takes the holder for dead and retires the lease.

To retire a lease is to rename it to a name that belongs to its owner. MLflow refuses a name that is taken, so
of several waiters who believe the same holder dead one succeeds, and a late one cannot hit the lease of
whoever came next, as deleting would. Retired leases are deleted with the next release.

What remains: whoever moves the alias by hand, or by an earlier release, asks for no lease; and a waiter that
stalls right before renaming, for as long as others need to retire, hold and release. `Lease.check`, right
before the alias is set, finds out about either but for milliseconds.
"""

from __future__ import annotations

import hashlib
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.errors import UnavailableError

BEAT: Final = 5.0  # seconds between two renewals
STALE: Final = 60.0  # a holder that is silent for so long is dead: twelve renewals missed
PATIENCE: Final = 900.0  # seconds until a waiter gives up; a promotion takes seconds, a registration a minute

_POLL: Final = 0.5  # seconds
_OWNER: Final = "owner"
_RENEWED: Final = "renewed"
_RETIRED: Final = "-of-"
_DESCRIPTION: Final = "Somebody registers or promotes a model now. Goes by itself."


class LeaseLostError(Exception):
    """Another process took the lease for abandoned: start over."""


@dataclass(frozen=True)
class Lease:
    """A lease that is held; ``owner`` is unique to this holder."""

    client: Any
    name: str
    owner: str

    def check(self) -> None:
        """Raise `LeaseLostError` unless the lease is still this holder's."""
        if _tags(self.client, self.name).get(_OWNER) != self.owner:
            raise LeaseLostError(self.name)


@contextmanager
def hold(client: Any, model: str) -> Iterator[Lease]:
    """Hold the lease on a registered model within the block.

    Parameters
    ----------
    client
        MLflow's.
    model
        The registered model's name; it need not exist yet.

    Raises
    ------
    UnavailableError
        Others held it for `PATIENCE` seconds.
    """
    owner = f"{_machine()}|{os.getpid()}|{_started(os.getpid())}|{uuid.uuid4().hex}"
    lease = Lease(client, f"{model}-lease", owner)
    _acquire(lease)
    done = threading.Event()
    beat = threading.Thread(target=_renew, args=(lease, done), daemon=True)
    beat.start()
    try:
        yield lease
    finally:
        done.set()
        beat.join()
        _release(lease)


def _acquire(lease: Lease) -> None:
    """Wait until the lease is this holder's."""
    deadline, last, changed = time.monotonic() + PATIENCE, None, time.monotonic()
    while not _create(lease):
        seen = _tags(lease.client, lease.name)
        if seen.get(_OWNER) == lease.owner:  # the answer to our own request was lost on the way
            return
        now = time.monotonic()
        if seen != last:
            last, changed = seen, now
        if seen and (now - changed > STALE or _is_gone(seen.get(_OWNER, ""))):
            _retire(lease, seen.get(_OWNER, ""))
        elif now > deadline:
            raise UnavailableError(
                f"{lease.name}: expected the lease within {PATIENCE:.0f} s, received "
                f"{seen.get(_OWNER)} as its holder all the time. Try again later."
            )
        else:
            time.sleep(_POLL)


def _create(lease: Lease) -> bool:
    """Create the lease; False if it exists."""
    from mlflow.exceptions import MlflowException

    tags = {_OWNER: lease.owner, _RENEWED: "0"}
    try:
        lease.client.create_registered_model(lease.name, tags=tags, description=_DESCRIPTION)
    except MlflowException as error:
        # Does not exist: its holder released it between MLflow's insert and the message about it.
        if error.error_code in ("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST") or _is_busy(error):
            return False
        raise
    return True


def _is_busy(error: Exception) -> bool:
    """Return whether SQLite was being written to for longer than MLflow waits."""
    return "database is locked" in str(error)


def _tags(client: Any, name: str) -> dict[str, str]:
    """Return a lease's tags; empty if nobody holds it."""
    from mlflow.exceptions import MlflowException

    try:
        return dict(client.get_registered_model(name).tags)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST" or _is_busy(error):
            return {}
        raise


def _renew(lease: Lease, done: threading.Event) -> None:
    """Say every few seconds that the holder lives; a renewal that fails is made up for by the next."""
    count = 0
    while not done.wait(BEAT):
        count += 1
        with suppress(Exception):
            lease.check()  # another's lease must not be renewed
            lease.client.set_registered_model_tag(lease.name, _RENEWED, str(count))


def _retire(lease: Lease, owner: str) -> None:
    """Rename the lease of ``owner``; nothing happens where somebody else has done so."""
    if _tags(lease.client, lease.name).get(_OWNER, "") == owner:
        unique = hashlib.sha256(owner.encode()).hexdigest()[:16]
        with suppress(Exception):
            lease.client.rename_registered_model(lease.name, f"{lease.name}{_RETIRED}{unique}")


def _release(lease: Lease) -> None:
    """Retire the holder's own lease; delete it, and those that it or others before it have retired."""
    _retire(lease, lease.owner)
    with suppress(Exception):  # the next release deletes what stays
        for model in lease.client.search_registered_models(f"name LIKE '{lease.name}{_RETIRED}%'"):
            lease.client.delete_registered_model(model.name)


def _started(pid: int) -> str:
    """Return when a process of this machine was started, for numbers are used again; blank if it is gone."""
    import psutil

    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.NoSuchProcess:
        return ""


def _is_gone(owner: str) -> bool:
    """Return whether ``owner`` is a process of this machine that has ended."""
    machine, pid, started, *_ = [*owner.split("|"), "", ""]
    return machine == _machine() and pid.isdigit() and _started(int(pid)) != started


def _machine() -> str:
    """Return this machine's name and, on Linux, what tells its containers' process numbers apart."""
    try:
        return f"{platform.node()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return platform.node()
