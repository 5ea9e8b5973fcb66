"""What the server knows: the champions, the library, the workers; one object for all requests."""

from __future__ import annotations

import logging
import tempfile
import threading
import uuid
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

from pipeline.errors import CmgError, ParamsError
from serving import champions as kept
from serving import jobs
from serving.champions import Champion, project
from serving.limits import UploadLimits
from serving.listener import Listener
from serving.mix import Mix, Wanted, choose, highlight
from serving.track_index import Library, Tracks, audio_files
from serving.workers import BusyError, Job, Workers

_LOG: Final = logging.getLogger(__name__)
_AGAIN_SECONDS: Final = 60.0  # after which a library that could not be filled is tried again
_COPIES: Final = 20  # of tracks that browsers cannot play, and of what decided: about 3 MB a minute each


class UnknownTrackError(CmgError):
    """The library has no track with this id, or its file is gone."""


class Service:
    """Champions, library and workers.

    Parameters
    ----------
    file
        The library's index.
    limits
        Of each request.
    """

    def __init__(self, file: Path, limits: UploadLimits) -> None:
        self.file, self.limits = file, limits
        self.champions: dict[str, Champion] = kept.champions()
        listener = Listener(self.champions)
        self.classes = listener.classes
        self._listener = listener
        self.workers = Workers(self.champions, number=limits.workers, waiting=limits.waiting)
        self._library = Library(file)
        self._lock, self._pulling = threading.RLock(), threading.Lock()
        self._known: tuple[tuple[int, int], Tracks] | None = None
        self._described: tuple[Tracks, Any] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="cmg-")
        self._copies: OrderedDict[tuple[Any, ...], Path] = OrderedDict()
        self.remaining = 0  # tracks that are still to be answered by the present champions
        self.fault = ""  # why the library could not be filled, as long as that is so
        self._closing = threading.Event()
        self._start_filler()

    def _start_filler(self) -> None:
        self._closing.clear()
        self._filler = threading.Thread(target=self._keep_filled, daemon=True)
        self._filler.start()

    def _keep_filled(self) -> None:
        """Fill the library; what goes wrong is said, and tried again later."""
        while not self._closing.is_set():
            try:
                self._fill()
                self.fault = ""
                return
            except Exception as error:  # a full disk, an index that was replaced: whatever ends a thread
                self.fault = f"{type(error).__name__}: {error}"
                _LOG.exception("the library could not be filled; trying again in %g s", _AGAIN_SECONDS)
            self._closing.wait(_AGAIN_SECONDS)

    def _fill(self) -> None:
        """Answer what the champions have not answered: all of it, once another version serves."""
        own = project() / "data" / "gtzan"
        library = Library(self.file)
        try:
            paths = library.paths() or (audio_files([own])[0] if own.is_dir() else [])
            self.remaining = len(paths)
            for _ in library.add(paths, self._listener, workers=1):
                self.remaining -= 1
                if self._closing.is_set():
                    return
        finally:
            self.remaining = 0
            library.close()

    def tracks(self) -> Tracks:
        """Return the library as it is now; read anew only after somebody wrote."""
        with self._lock:
            version = self._library.version()
            if self._known is None or self._known[0] != version:
                self._known = version, self._library.tracks(self.champions)
            return self._known[1]

    def mix(self, wanted: Wanted) -> tuple[Mix, Tracks]:
        """Choose tracks; see `serving.mix.choose`."""
        tracks = self.tracks()
        if not tracks.paths:
            raise ParamsError(
                "expected tracks in the library, received none. `cmg classify --index FOLDER` adds them."
            )
        embeddings = self._embeddings(tracks) if wanted.like or wanted.unlike else None
        return choose(wanted, tracks, self.classes, embeddings), tracks

    def _embeddings(self, tracks: Tracks) -> Any:
        """Return the tracks' embeddings, read anew only after somebody wrote; None if there are none."""
        with self._lock:
            if self._described is None or self._described[0] is not tracks:
                self._described = tracks, self._library.embeddings(tracks, self.champions)
            return self._described[1]

    def highlights(self, mix: Mix, tracks: Tracks) -> list[tuple[float, float]]:
        """Return for each chosen track start and end, in seconds, of the part that fits best."""
        found = []
        for n in mix.chosen:
            slices = self._slices(tracks.digests[n])
            length = float(tracks.seconds[n]) / len(next(iter(slices.values())))
            best = highlight(mix.query, slices, self.classes)
            found.append((round(best * length, 1), round((best + 1) * length, 1)))
        return found

    def _slices(self, digest: str) -> dict[str, Any]:
        with self._lock:
            found = {task: self._library.slices(digest, one) for task, one in self.champions.items()}
        if any(slices is None for slices in found.values()):
            raise UnknownTrackError(f"expected the id of a track of the library, received {digest[:80]!r}")
        return found

    def place(self, digest: str) -> int:
        """Return where a track stands in `tracks`."""
        place = self.tracks().places.get(digest)
        if place is None:
            raise UnknownTrackError(f"expected the id of a track of the library, received {digest[:80]!r}")
        return place

    def track(self, digest: str) -> dict[str, Any]:
        """Return a track's record, as `cmg classify --json` has it, with artist and title."""
        return self.tracks().record(self.place(digest), self._listener)

    def timeline(self, digest: str) -> dict[str, Any]:
        """Return the answers to each ten seconds of a track, by task."""
        slices = self._slices(digest)
        seconds = float(self.tracks().seconds[self.place(digest)])
        return windows(slices, self.classes, seconds)

    def own_file(self, digest: str) -> Path:
        """Return a track's own file."""
        path = Path(self.tracks().paths[self.place(digest)])
        if not path.is_file():
            raise UnknownTrackError(f"expected {path.name} where it was, received nothing: it has been moved")
        return path

    def audio(self, digest: str) -> Path:
        """Return a file that browsers play: the track's own, or a WAV copy of an AU or AIFF file."""
        path = self.own_file(digest)
        return path if path.suffix.lower() in jobs.PLAYABLE else self._copy((digest,), jobs.playable, path)

    def part(self, digest: str, question: jobs.Question, part: str) -> Path:
        """Return a WAV of what decided in a track, or of the rest; see `serving.jobs.why_audio`."""
        version = self.champions[question.task].key if question.task in self.champions else ""
        key = (digest, version, question, part)
        return self._copy(key, jobs.why_audio, self.own_file(digest), question, part)

    def _copy(self, key: tuple[Any, ...], job: Job, *arguments: Any) -> Path:
        """Return the WAV that a job writes; the last ones are kept, since browsers ask for them in parts."""
        with self._lock:
            if key in self._copies:
                self._copies.move_to_end(key)
                return self._copies[key]
        target = self.new_file()
        self.work(job, *arguments, target)
        with self._lock:
            self._copies[key] = target
            while len(self._copies) > _COPIES:
                self._copies.popitem(last=False)[1].unlink(missing_ok=True)
        return target

    def new_file(self) -> Path:
        """Return the name of a new WAV, in a folder that goes with the server."""
        return Path(self._folder.name) / f"{uuid.uuid4().hex}.wav"

    def work(self, job: Job, *arguments: Any) -> Any:
        """Return what a job returns in a worker; see `serving.workers.Workers.do`."""
        return self.workers.do(job, *arguments, seconds=self.limits.seconds)

    def waveform(self, digest: str) -> list[float]:
        """Return a track's loudness over time; see `serving.jobs.waveform`."""
        return self.work(jobs.waveform, self.own_file(digest))

    def pull(self) -> bool:
        """Fetch the champions that serve now, and answer the library anew; return whether they are others.

        Raises
        ------
        BusyError
            They are being fetched. Requests that waited for it would keep all threads from others.
        """
        if not self._pulling.acquire(blocking=False):
            raise BusyError(
                "expected to fetch the champions, received such a request a moment ago. Wait for it"
            )
        try:
            return self._pull()
        finally:
            self._pulling.release()

    def _pull(self) -> bool:
        kept.pull_apart()
        fresh = kept.champions()
        if fresh == self.champions:
            return False
        listener = Listener(fresh)  # before anything is given up: a version may not open
        workers = Workers(fresh, number=self.limits.workers, waiting=self.limits.waiting)
        self._closing.set()
        self._filler.join()
        with self._lock:
            old, self.workers = self.workers, workers
            self.champions, self._listener, self._known = fresh, listener, None
            self.classes = self._listener.classes
        old.close()
        self._start_filler()
        return True

    def changes(self) -> list[dict[str, str]]:
        """Return the tracks whose class is another since the version before, by task."""
        with self._lock:
            found = []
            for task, champion in self.champions.items():
                for path, digest, model, before, now in self._library.changed(champion):
                    names = self.classes[task]
                    if max(before, now) < len(names):
                        facts = {"id": digest, "path": path, "task": task, "since": model}
                        found.append(facts | {"before": names[before], "now": names[now]})
            return found

    def close(self) -> None:
        """End the workers and remove the playable copies."""
        self._closing.set()
        self.workers.close()
        self._filler.join()
        self._library.close()
        self._folder.cleanup()


def windows(slices: dict[str, Any], classes: dict[str, list[str]], seconds: float) -> dict[str, Any]:
    """Return answers over time as plain JSON types: by task the classes, and start, end and probabilities."""
    found: dict[str, Any] = {"seconds": round(seconds, 3), "tasks": {}}
    for task, answers in slices.items():
        length = seconds / len(answers)
        found["tasks"][task] = {
            "classes": classes[task],
            "windows": [
                {
                    "start": round(n * length, 2),
                    "end": round((n + 1) * length, 2),
                    "probabilities": [round(float(value), 4) for value in shares],
                }
                for n, shares in enumerate(answers)
            ],
        }
    return found
