"""Processes that answer strangers' audio: one that takes too long or too much memory ends alone.

A thread that decodes cannot be stopped, and a decoder that runs out of memory takes its process along. So
each worker is a process with a time and a memory limit of its own, and only so many may wait for one.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final

from pipeline.errors import CmgError, DataError
from pipeline.messages import masked
from serving.champions import Champion
from serving.listener import Listener

MEMORY_BYTES: Final = 4 << 30  # address space of a worker; what it really uses is a quarter of that
_START_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 1.0  # between looks whether the server still runs

Job = Callable[..., Any]  # of a Listener and arguments that can be pickled


class BusyError(CmgError):
    """All workers work and enough requests wait already."""


class TooLongError(CmgError):
    """A job took longer than allowed, and was ended."""


class FailedError(CmgError):
    """A worker could not start, or failed for a reason that is not the audio's."""


class _GoneError(Exception):
    """The process ended before it had the job."""


class _Worker:
    def __init__(self, champions: dict[str, Champion]) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would take the server's threads' locks along
        self._connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=_work, args=(champions, theirs, os.getpid()), daemon=True
        )
        self.process.start()
        theirs.close()
        self._is_ready = False
        self.is_broken = False

    def do(self, job: Job, arguments: tuple[Any, ...], seconds: float) -> Any:
        """Return what a job returns, or raise what it raises."""
        if not self._is_ready:
            self._start()
        try:
            self._connection.send((job, arguments))
        except OSError:  # ended while it had nothing to do, by whatever ends processes
            self.is_broken = True
            raise _GoneError from None
        kind, value = self._receive(seconds)
        if kind == "error":
            raise value
        return value

    def _start(self) -> None:
        """Wait until the champions are opened."""
        try:
            kind, value = self._receive(_START_SECONDS)
        except CmgError:
            kind, value = "error", FailedError("expected a worker to start, received none; the log says more")
        if kind == "error":
            self.is_broken = True
            raise value
        self._is_ready = True

    def _receive(self, seconds: float) -> tuple[str, Any]:
        if not self._connection.poll(seconds):
            self.is_broken = True
            raise TooLongError(f"expected an answer within {seconds:g} s; the work was ended")
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            self.is_broken = True
            raise DataError(
                "expected audio that can be answered, received some that needs too much"
            ) from None

    def end(self) -> None:
        """End the process whatever it does."""
        self.process.kill()
        self.process.join()
        self._connection.close()


class Workers:
    """So many processes with the champions opened.

    Parameters
    ----------
    champions
        By task.
    number
        Of processes, each with one thread.
    waiting
        Most requests that wait for one.
    """

    def __init__(self, champions: dict[str, Champion], *, number: int, waiting: int) -> None:
        self._champions = champions
        self._held = [champion.hold() for champion in champions.values()]  # for workers that start later
        self._free: list[_Worker | None] = [_Worker(champions) for _ in range(number)]
        self._all = threading.BoundedSemaphore(number + waiting)
        self._turn = threading.Condition()
        self._is_closed = False
        self.number = number
        self.busy = 0

    def do(self, job: Job, *arguments: Any, seconds: float) -> Any:
        """Return what ``job(listener, *arguments)`` returns in a worker.

        Raises
        ------
        BusyError
            Too many wait already.
        TooLongError
            It took more than ``seconds``.
        DataError
            The worker died of it, mostly for lack of memory; or whatever the job raises.
        FailedError
            The worker could not start, or failed for a reason that is not the audio's.
        """
        if not self._all.acquire(blocking=False):
            raise BusyError("expected a free worker, received too many requests at once. Try again soon")
        try:
            # A worker may have been ended while it waited; the one that is started in its place has not.
            for _ in range(2):
                try:
                    return self._do(job, arguments, seconds)
                except _GoneError:
                    continue
            raise FailedError("expected a worker to stay, received two that were ended from outside")
        finally:
            self._all.release()

    def _do(self, job: Job, arguments: tuple[Any, ...], seconds: float) -> Any:
        with self._turn:
            self._turn.wait_for(lambda: self._free or self._is_closed)
            if self._is_closed:
                raise BusyError(
                    "expected a free worker, received none: another champion starts. Try again soon"
                )
            worker = self._free.pop()
            self.busy += 1
        try:
            worker = worker or _Worker(self._champions)
            return worker.do(job, arguments, seconds)
        finally:
            with self._turn:
                if worker and (worker.is_broken or self._is_closed):
                    worker.end()
                    worker = None  # the next one starts another
                self._free.append(worker)
                self.busy -= 1
                self._turn.notify()

    def is_ready(self) -> bool:
        """Return whether a worker could take a request now."""
        return self.busy < self.number

    def close(self) -> None:
        """End all processes; those that work end with their job, and who waits for one is told."""
        with self._turn:
            self._is_closed = True
            for worker in self._free:
                if worker:
                    worker.end()
            self._free.clear()
            for handle in self._held:
                os.close(handle)
            self._held.clear()
            self._turn.notify_all()


def _work(champions: dict[str, Champion], connection: Connection, parent: int) -> None:
    """Do jobs until the server is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY_BYTES if most == resource.RLIM_INFINITY else min(MEMORY_BYTES, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        listener = Listener(champions)
    except Exception as error:
        connection.send(("error", _failed(error)))
        return
    connection.send(("ready", None))
    while True:
        try:
            job, arguments = connection.recv()
        except EOFError:
            return
        connection.send(_answer(job, listener, arguments))


def _end_with(parent: int) -> None:
    """End the process once the server is gone, whatever the job does."""
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


def _answer(job: Job, listener: Listener, arguments: tuple[Any, ...]) -> tuple[str, Any]:
    try:
        return "value", job(listener, *arguments)
    except MemoryError:
        return "error", DataError(
            "expected audio that can be answered, received some that needs too much memory"
        )
    except CmgError as error:
        return "error", error
    except Exception as error:  # the worker is well, and the next job may be, too
        return "error", _failed(error)


def _failed(error: Exception) -> FailedError:
    """Print a traceback, and return what the caller is told."""
    print(masked("".join(traceback.format_exception(error))), file=sys.stderr, flush=True)
    said = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return FailedError(f"expected an answer, received a fault of the server ({said}); its log says more")
