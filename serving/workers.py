"""Processes that answer strangers' audio: one that takes too long or too much memory ends alone.

A thread that decodes cannot be stopped, and a decoder that runs out of memory takes its process along. So
each worker is a process with a time and a memory limit of its own, and only so many may wait for one.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final

from pipeline.errors import CmgError, DataError
from serving.champions import Champion
from serving.listener import Listener

MEMORY_BYTES: Final = 4 << 30  # address space of a worker; what it really uses is a quarter of that
_START_SECONDS: Final = 60.0

Job = Callable[..., Any]  # of a Listener and arguments that can be pickled


class BusyError(CmgError):
    """All workers work and enough requests wait already."""


class TooLongError(CmgError):
    """A job took longer than allowed, and was ended."""


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
            self._receive(_START_SECONDS)
            self._is_ready = True
        self._connection.send((job, arguments))
        kind, value = self._receive(seconds)
        if kind == "error":
            raise value
        return value

    def _receive(self, seconds: float) -> tuple[str, Any]:
        if not self._connection.poll(seconds):
            self.is_broken = True
            raise TooLongError(f"expected an answer within {seconds:g} s; the work was ended")
        try:
            return self._connection.recv()
        except EOFError:
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
        self._free: list[_Worker | None] = [_Worker(champions) for _ in range(number)]
        self._all = threading.BoundedSemaphore(number + waiting)
        self._turn = threading.Condition()
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
        """
        if not self._all.acquire(blocking=False):
            raise BusyError("expected a free worker, received too many requests at once. Try again soon")
        try:
            with self._turn:
                self._turn.wait_for(lambda: self._free)
                worker = self._free.pop()
                self.busy += 1
            try:
                worker = worker or _Worker(self._champions)
                return worker.do(job, arguments, seconds)
            finally:
                if worker and worker.is_broken:
                    worker.end()
                    worker = None  # the next one starts another
                with self._turn:
                    self._free.append(worker)
                    self.busy -= 1
                    self._turn.notify()
        finally:
            self._all.release()

    def is_ready(self) -> bool:
        """Return whether a worker could take a request now."""
        return self.busy < self.number

    def close(self) -> None:
        """End all processes."""
        with self._turn:
            for worker in self._free:
                if worker:
                    worker.end()
            self._free.clear()


def _work(champions: dict[str, Champion], connection: Connection, parent: int) -> None:
    """Do jobs until the server is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY_BYTES if most == resource.RLIM_INFINITY else min(MEMORY_BYTES, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))
    listener = Listener(champions)
    connection.send(("ready", None))
    while os.getppid() == parent:
        if not connection.poll(1.0):
            continue
        try:
            job, arguments = connection.recv()
            value = ("value", job(listener, *arguments))
        except EOFError:
            return
        except MemoryError:
            words = "expected audio that can be answered, received some that needs too much memory"
            value = ("error", DataError(words))
        except CmgError as error:
            value = ("error", error)
        connection.send(value)
