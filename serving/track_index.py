"""A library's answers in one SQLite file, keyed by content.

A moved file costs nothing, a new champion only its own rows. Every write is one transaction, so that two
processes may fill it and either may be killed.
"""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from stat import S_ISREG
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np

from pipeline.errors import DataError
from pipeline.files import replacing
from serving.champions import Champion, project
from serving.listener import Heard, Listener, UnreadableError, sha256, track_record

FILE: Final = "CMG_LIBRARY"  # the variable that names another file

_VERSION: Final = 3
_BUSY_SECONDS: Final = 60.0  # that a writer waits for another
_MOST_AT_ONCE: Final = 2_000  # tracks that are read so fast that a copy of what is read would not be
_SCHEMA: Final = """
CREATE TABLE track(path TEXT PRIMARY KEY, sha256 TEXT NOT NULL, size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL);
CREATE TABLE heard(sha256 TEXT PRIMARY KEY, seconds REAL NOT NULL);
CREATE TABLE prediction(sha256 TEXT NOT NULL, task TEXT NOT NULL, model TEXT NOT NULL, slices BLOB NOT NULL,
    PRIMARY KEY(sha256, task, model)) WITHOUT ROWID;
CREATE TABLE fault(path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    reason TEXT NOT NULL);
"""
# Version 2: a content's own tags, and the mean over its slices in an index, from which a query is answered
# without a look at the slices.
_SECOND: Final = """
ALTER TABLE heard ADD COLUMN artist TEXT NOT NULL DEFAULT '';
ALTER TABLE heard ADD COLUMN title TEXT NOT NULL DEFAULT '';
ALTER TABLE prediction ADD COLUMN mean BLOB NOT NULL DEFAULT x'';
CREATE INDEX prediction_mean ON prediction(task, model, sha256, mean);
CREATE INDEX track_sha256 ON track(sha256, path);
"""
# Version 3: a number that every write raises, and embeddings, by the network that gives them.
_THIRD: Final = """
CREATE TABLE embedding(sha256 TEXT NOT NULL, model TEXT NOT NULL, numbers BLOB NOT NULL,
    PRIMARY KEY(sha256, model)) WITHOUT ROWID;
CREATE TABLE state(writes INTEGER NOT NULL);
INSERT INTO state VALUES(0);
"""


_TEXTS: Final = ("paths", "digests", "artists", "titles")  # lists of `Tracks`


def library_file() -> Path:
    """Return the file that is used where none is named."""
    return Path(os.environ.get(FILE) or project() / "library.sqlite")


@dataclass(frozen=True)
class Tracks:
    """The tracks that the champions have answered, of each distinct content the first by name.

    Parameters
    ----------
    paths, digests, artists, titles
        Artist and title are blank where neither the file's tags nor the project's index has them.
    seconds
        float64 (n_tracks,).
    means
        By task, float32 (n_tracks, n_classes): the mean over a track's slices.
    """

    paths: list[str]
    digests: list[str]
    seconds: np.ndarray
    artists: list[str]
    titles: list[str]
    means: dict[str, np.ndarray]

    @cached_property
    def places(self) -> dict[str, int]:
        """Return by digest where a track stands."""
        return {digest: n for n, digest in enumerate(self.digests)}

    def record(self, n: int, listener: Listener) -> dict[str, Any]:
        """Return a track's record, as `cmg classify --json` has it, with id, artist and title."""
        means = {task: values[n] for task, values in self.means.items()}
        return track_record(
            means,
            listener.classes,
            listener.champions,
            {task: listener.is_sure(task, mean) for task, mean in means.items()},
            id=self.digests[n],
            path=self.paths[n],
            artist=self.artists[n],
            title=self.titles[n],
            seconds=round(float(self.seconds[n]), 3),
        )


@dataclass(frozen=True)
class _Answer:
    """What a worker found out about a file: size and time, content, answers or a reason, its tags."""

    at: tuple[int, int]
    sha256: str = ""
    heard: Heard | None = None
    reason: str = ""
    artist: str = ""
    title: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a file: its answer, or why there is none; and the digest of its content."""

    path: Path
    heard: Heard | None
    reason: str = ""
    computed: bool = False
    sha256: str = ""


class Library:
    """An index of tracks.

    Parameters
    ----------
    file
        Made if it is not there.

    Raises
    ------
    DataError
        The file is no index, or one of a later version.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._has_file = str(file) != ":memory:"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            # The server's threads share a connection, one at a time.
            self._db = sqlite3.connect(
                file, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._log_ahead()
            if self._value("PRAGMA user_version") < _VERSION:
                self._bring_up_to_date()
        except (sqlite3.Error, OSError) as error:
            said = error.strerror if isinstance(error, OSError) else error
            raise DataError(
                f"{file}: expected a library index, received {said}. Name another file."
            ) from None
        if self._value("PRAGMA user_version") != _VERSION:
            raise DataError(
                f"{file}: expected an index of version {_VERSION}, received a later one. Update cmg."
            )

    def _log_ahead(self) -> None:
        """Turn write-ahead logging on; SQLite does not wait for the lock that this needs."""
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(0.05)

    def _bring_up_to_date(self) -> None:
        with self._transaction():
            version = self._value("PRAGMA user_version")  # another process may have done it meanwhile
            for statement in (_SCHEMA if version == 0 else "").split(";"):
                self._db.execute(statement)
            for statement in (_SECOND if version < 2 else "").split(";"):
                self._db.execute(statement)
            for statement in (_THIRD if version < 3 else "").split(";"):
                self._db.execute(statement)
            for sha256, task, model, slices in self._db.execute(
                "SELECT sha256, task, model, slices FROM prediction WHERE mean=x''"
            ).fetchall():
                where = "UPDATE prediction SET mean=? WHERE sha256=? AND task=? AND model=?"
                self._db.execute(where, (_mean(_array(slices)), sha256, task, model))
            self._db.execute(f"PRAGMA user_version={max(version, _VERSION)}")

    def add(self, files: Iterable[Path], listener: Listener, *, workers: int) -> Iterator[Outcome]:
        """Answer files, those that are known from what is kept; yield each as it is done.

        Parameters
        ----------
        files
            Absolute paths.
        listener
            The champions; answers of earlier ones are computed anew.
        workers
            Files at a time.
        """
        models = {task: champion.key for task, champion in listener.champions.items()}
        pool, waiting = ThreadPoolExecutor(workers), {}
        try:
            for path in files:
                known = self._known(path, models, listener.embedding)
                if known:
                    yield known
                else:
                    waiting[pool.submit(_answer, path, listener, has_tags=self._has_file)] = path
            for done in as_completed(waiting):
                yield self._keep(waiting[done], done.result(), models, listener.embedding)
        finally:
            pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for a whole library

    def _known(self, path: Path, models: Mapping[str, str], embedding: str) -> Outcome | None:
        """Return what is kept of an unchanged file, by every champion; None if something is missing."""
        try:
            stat = path.stat()
        except OSError:
            return None
        if not S_ISREG(stat.st_mode):
            return None
        at = (str(path), stat.st_size, stat.st_mtime_ns)
        fault = self._db.execute(
            "SELECT reason FROM fault WHERE path=? AND size=? AND mtime_ns=?", at
        ).fetchone()
        if fault:
            return Outcome(path, None, fault[0])
        row = self._db.execute(
            "SELECT sha256 FROM track WHERE path=? AND size=? AND mtime_ns=?", at
        ).fetchone()
        digest = row[0] if row else None
        if digest is None:
            try:
                digest = sha256(path)
            except UnreadableError:
                return None
        heard = self._heard(digest, models, embedding)
        if heard and not row:  # moved, or touched
            with self._writing():
                self._db.execute("INSERT OR REPLACE INTO track VALUES(?,?,?,?)", (at[0], digest, *at[1:]))
        return Outcome(path, heard, sha256=digest) if heard else None

    def _heard(self, digest: str, models: Mapping[str, str], embedding: str = "") -> Heard | None:
        seconds = self._db.execute("SELECT seconds FROM heard WHERE sha256=?", (digest,)).fetchone()
        slices = {}
        for task, model in models.items():
            asked = "SELECT slices FROM prediction WHERE sha256=? AND task=? AND model=?"
            row = self._db.execute(asked, (digest, task, model)).fetchone()
            if row:
                slices[task] = row[0]
        asked = "SELECT numbers FROM embedding WHERE sha256=? AND model=?"
        numbers = self._db.execute(asked, (digest, embedding)).fetchone() if embedding else None
        if not seconds or len(slices) < len(models) or bool(numbers) != bool(embedding):
            return None
        answers = {task: _array(blob) for task, blob in slices.items()}
        return Heard(seconds[0], answers, np.frombuffer(numbers[0], "<f2") if numbers else None)

    def _keep(self, path: Path, answer: _Answer, models: Mapping[str, str], embedding: str) -> Outcome:
        digest, heard = answer.sha256, answer.heard
        with self._writing():
            if heard is None:
                self._db.execute("DELETE FROM track WHERE path=?", (str(path),))
                fault = (str(path), *answer.at, answer.reason)
                self._db.execute("INSERT OR REPLACE INTO fault VALUES(?,?,?,?)", fault)
                return Outcome(path, None, answer.reason, computed=True)
            self._db.execute("DELETE FROM fault WHERE path=?", (str(path),))
            row = (str(path), digest, *answer.at)
            self._db.execute("INSERT OR REPLACE INTO track VALUES(?,?,?,?)", row)
            facts = (digest, heard.seconds, answer.artist, answer.title)
            self._db.execute("INSERT OR REPLACE INTO heard VALUES(?,?,?,?)", facts)
            for task, slices in heard.slices.items():
                given = (digest, task, models[task], _blob(slices), _mean(slices))
                self._db.execute("INSERT OR REPLACE INTO prediction VALUES(?,?,?,?,?)", given)
            if heard.embedding is not None:
                described = (digest, embedding, heard.embedding.astype("<f2").tobytes())
                self._db.execute("INSERT OR REPLACE INTO embedding VALUES(?,?,?)", described)
        return Outcome(path, heard, computed=True, sha256=digest)

    def tracks(self, champions: Mapping[str, Champion], *, keep: bool = False) -> Tracks:
        """Return what the present champions have answered.

        Parameters
        ----------
        champions
            By task.
        keep
            Keep what is read of a large index in a file beside it, from which it is read ten times as fast
            until somebody writes: for commands, each of which would read the index anew.
        """
        with self._transaction("DEFERRED"):  # all of one moment
            key = self._key(champions)
            copy = self.file.with_name(self.file.name + ".tracks")
            if keep and (found := _unpacked(copy, key)):
                return found
            found = self._read(champions)
        if keep and len(found.paths) > _MOST_AT_ONCE:
            _pack(found, copy, key)
        return found

    def _key(self, champions: Mapping[str, Champion]) -> str:
        """Return what changes whenever the tracks do."""
        own = _own_index()
        names = {task: champion.key for task, champion in champions.items()}
        changed = own.stat().st_mtime_ns if own.is_file() else 0
        return json.dumps([_VERSION, self._value("SELECT writes FROM state"), names, str(own), changed])

    def _read(self, champions: Mapping[str, Champion]) -> Tracks:
        rows = self._db.execute(
            "SELECT first, track.sha256, seconds, artist, title FROM "
            "(SELECT min(path) AS first, sha256 FROM track GROUP BY sha256) AS track "
            "JOIN heard ON heard.sha256=track.sha256"
        ).fetchall()
        answered = {}
        for task, champion in champions.items():
            asked = "SELECT sha256, mean FROM prediction WHERE task=? AND model=?"
            answered[task] = dict(self._db.execute(asked, (task, champion.key)).fetchall())
        rows = sorted(row for row in rows if all(row[1] in known for known in answered.values()))
        digests = [row[1] for row in rows]
        named = _named(rows)
        return Tracks(
            paths=[row[0] for row in rows],
            digests=digests,
            seconds=np.array([row[2] for row in rows]),
            artists=[artist for artist, _ in named],
            titles=[title for _, title in named],
            means={
                task: np.frombuffer(b"".join(known[digest] for digest in digests), "<f4").reshape(
                    len(rows), -1
                )
                if rows
                else np.empty((0, 0), np.float32)
                for task, known in answered.items()
            },
        )

    def embeddings(self, tracks: Tracks, champions: Mapping[str, Champion]) -> np.ndarray | None:
        """Return float16 (n_tracks, n_numbers); None if the champions give none, or a track lacks its own."""
        name = next(filter(None, (champion.embedding for champion in champions.values())), "")
        asked = "SELECT sha256, numbers FROM embedding WHERE model=?"
        known = dict(self._db.execute(asked, (name,)).fetchall())
        if not known or any(digest not in known for digest in tracks.digests):
            return None
        whole = b"".join(known[digest] for digest in tracks.digests)
        return np.frombuffer(whole, "<f2").reshape(len(tracks.digests), -1)

    def is_empty(self) -> bool:
        """Return whether there is no track."""
        return self._db.execute("SELECT 1 FROM track LIMIT 1").fetchone() is None

    def paths(self) -> list[Path]:
        """Return every file of the index."""
        return [Path(row[0]) for row in self._db.execute("SELECT path FROM track ORDER BY path")]

    def changed(self, champion: Champion) -> list[tuple[str, str, str, int, int]]:
        """Return what a champion calls otherwise than the version before: path, content, version, classes."""
        models = self._db.execute(
            "SELECT DISTINCT model FROM prediction WHERE task=? AND model<>?", (champion.task, champion.key)
        )
        version = {key: _named_model(key).rpartition("/")[2] for (key,) in models}
        number = {key: int(one) for key, one in version.items() if one.isdigit() and one != champion.version}
        if not number:
            return []
        before = max(number, key=lambda key: number[key])
        rows = self._db.execute(
            "SELECT min(path), new.sha256, old.mean, new.mean FROM track "
            "JOIN prediction AS new ON new.sha256=track.sha256 AND new.task=?1 AND new.model=?2 "
            "JOIN prediction AS old ON old.sha256=track.sha256 AND old.task=?1 AND old.model=?3 "
            "GROUP BY new.sha256 ORDER BY 1",
            (champion.task, champion.key, before),
        ).fetchall()
        rows = [row for row in rows if len(row[2]) == len(row[3])]  # else it knew other classes
        tops = [[int(np.frombuffer(mean, "<f4").argmax()) for mean in row[2:]] for row in rows]
        return [
            (row[0], row[1], _named_model(before), *top)
            for row, top in zip(rows, tops, strict=True)
            if top[0] != top[1]
        ]

    def version(self) -> tuple[int, int]:
        """Return numbers of which one changes whenever anybody writes."""
        return self._value("PRAGMA data_version"), self._db.total_changes

    def slices(self, digest: str, champion: Champion) -> np.ndarray | None:
        """Return a champion's answers to a content, float32 (n_slices, n_classes); None if there are none."""
        heard = self._heard(digest, {champion.task: champion.key})
        return heard.slices[champion.task] if heard else None

    def status(self) -> dict[str, Any]:
        """Return counts of tracks, distinct contents and unreadable files, and answers by model."""
        by_model: Counter[str] = Counter()
        for key, number in self._db.execute("SELECT model, count(*) FROM prediction GROUP BY model"):
            by_model[_named_model(key)] += number
        counts = {
            "tracks": self._value("SELECT count(*) FROM track"),
            "contents": self._value("SELECT count(DISTINCT sha256) FROM track"),
            "unreadable": self._value("SELECT count(*) FROM fault"),
        }
        return counts | {
            "answers": dict(sorted(by_model.items())),
            "file": str(self.file),
            "bytes": self.file.stat().st_size,
        }

    def faults(self) -> list[tuple[str, str]]:
        """Return path and reason of every file that could not be answered."""
        return self._db.execute("SELECT path, reason FROM fault ORDER BY path").fetchall()

    def forget(self, folder: Path) -> int:
        """Forget a file, or all that are below a folder; return how many tracks that were."""
        below = str(folder).rstrip("/") + "/"
        with self._writing():
            gone = 0
            for table in ("track", "fault"):
                where = f"DELETE FROM {table} WHERE path=? OR substr(path, 1, ?)=?"
                gone += self._db.execute(where, (str(folder), len(below), below)).rowcount
        return gone

    def vacuum(self) -> None:
        """Remove answers of no track, and give the space back."""
        with self._writing():
            for table in ("heard", "prediction", "embedding"):
                self._db.execute(f"DELETE FROM {table} WHERE sha256 NOT IN (SELECT sha256 FROM track)")
        self._db.execute("VACUUM")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _value(self, statement: str) -> Any:
        return self._db.execute(statement).fetchone()[0]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._transaction():
            yield
            self._db.execute("UPDATE state SET writes=writes+1")

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        try:
            self._db.execute(f"BEGIN {kind}")
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise DataError(f"{self.file}: expected an index to read and write, received: {error}.") from None
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")


def _named_model(key: str) -> str:
    """Return the registered model and version of a `Champion.key`; earlier releases kept those alone."""
    return key.partition("@")[0]


def _answer(path: Path, listener: Listener, *, has_tags: bool) -> _Answer:
    try:
        stat = path.stat()
    except OSError as error:
        return _Answer((0, 0), reason=error.strerror or str(error))
    at = (stat.st_size, stat.st_mtime_ns)
    if not S_ISREG(stat.st_mode):  # a pipe or a device has no end
        return _Answer(at, reason="not a regular file")
    try:
        digest, heard = sha256(path), listener.hear(path)
    except UnreadableError as error:
        return _Answer(at, reason=str(error))
    if not has_tags:
        return _Answer(at, digest, heard)
    from pipeline.sources import tags

    found = tags.read(path)
    return _Answer(at, digest, heard, artist=found.artist, title=found.title)


def _named(rows: Sequence[Sequence[Any]]) -> list[tuple[str, str]]:
    """Return artist and title of each row, from ``data/index.csv`` where a file's tags do not say them."""
    known: dict[str, tuple[str, str]] = {}
    path = _own_index()
    if path.is_file() and any(not (row[3] and row[4]) for row in rows):
        with path.open(encoding="utf-8", newline="") as stream:
            known = {
                line.get("sha256") or "": (line.get("artist") or "", line.get("title") or "")
                for line in csv.DictReader(stream)
            }
    return [(row[3], row[4]) if row[3] and row[4] else known.get(row[1], (row[3], row[4])) for row in rows]


def _own_index() -> Path:
    return project() / "data" / "index.csv"


def _pack(tracks: Tracks, path: Path, key: str) -> None:
    """Keep tracks in a file; where it cannot be written, they are read from the index again."""
    texts = {name: "\0".join(getattr(tracks, name)).encode() for name in _TEXTS}
    arrays: dict[str, Any] = {name: np.frombuffer(text, np.uint8) for name, text in texts.items()}
    arrays |= {f"mean_{task}": values for task, values in tracks.means.items()}
    with suppress(OSError), replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, key=np.array(key), seconds=tracks.seconds, **arrays)


def _unpacked(path: Path, key: str) -> Tracks | None:
    """Return the tracks of a file; None if it is not there, or of another time."""
    try:
        with np.load(path) as packed:
            if packed["key"] != key:
                return None
            texts = {name: packed[name].tobytes().decode().split("\0") for name in _TEXTS}
            tasks = [name.removeprefix("mean_") for name in packed if name.startswith("mean_")]
            means = {task: packed[f"mean_{task}"] for task in tasks}
            return Tracks(seconds=packed["seconds"], means=means, **texts)
    except (OSError, ValueError, KeyError, BadZipFile):
        return None


def _blob(slices: np.ndarray) -> bytes:
    """Return float32 (n_slices, n_classes) with its number of classes in front."""
    return len(slices[0]).to_bytes(2, "little") + slices.astype("<f4").tobytes()


def _mean(slices: np.ndarray) -> bytes:
    return slices.mean(axis=0).astype("<f4").tobytes()


def _array(blob: bytes) -> np.ndarray:
    return np.frombuffer(blob, "<f4", offset=2).reshape(-1, int.from_bytes(blob[:2], "little"))


def audio_files(named: Sequence[Path]) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Return the audio files named or below folders, absolute and sorted, and what is not there and why."""
    from pipeline.inference.audio import SUFFIXES

    found: set[Path] = set()
    missing: list[tuple[Path, str]] = []
    for path in named:
        if path.is_dir():
            below = path.rglob("*")
            found |= {one for one in below if one.suffix.lower() in SUFFIXES and not one.is_dir()}
        elif path.exists() or path.is_symlink():
            found.add(path)
        else:
            missing.append((path if _is_text(path) else _printable(path), "no such file or folder"))
    # Neither the index nor JSON nor a playlist can hold names that are no text.
    odd = sorted(path for path in found if not _is_text(path))
    missing += [(_printable(path), "the name is not UTF-8: rename it") for path in odd]
    return sorted(path.absolute() for path in found.difference(odd)), missing


def _is_text(path: Path) -> bool:
    return _printable(path) == path.absolute()


def _printable(path: Path) -> Path:
    """Return an absolute path in which bytes that are no UTF-8 are written as Python does."""
    return Path(os.fsencode(path.absolute()).decode("utf-8", "backslashreplace"))
