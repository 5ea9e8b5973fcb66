"""A library's answers in one SQLite file, keyed by content.

A moved file costs nothing, a new champion only its own rows. Every write is one transaction, so that two
processes may fill it and either may be killed.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipeline.errors import DataError
from serving.champions import Champion, project
from serving.listener import Heard, Listener, UnreadableError, sha256

FILE: Final = "CMG_LIBRARY"  # the variable that names another file

_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE track(path TEXT PRIMARY KEY, sha256 TEXT NOT NULL, size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL);
CREATE TABLE heard(sha256 TEXT PRIMARY KEY, seconds REAL NOT NULL);
CREATE TABLE prediction(sha256 TEXT NOT NULL, task TEXT NOT NULL, model TEXT NOT NULL, slices BLOB NOT NULL,
    PRIMARY KEY(sha256, task, model)) WITHOUT ROWID;
CREATE TABLE fault(path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    reason TEXT NOT NULL);
"""


def library_file() -> Path:
    """Return the file that is used where none is named."""
    return Path(os.environ.get(FILE) or project() / "library.sqlite")


@dataclass(frozen=True)
class Outcome:
    """What became of a file: its answer, or why there is none."""

    path: Path
    heard: Heard | None
    reason: str = ""
    computed: bool = False


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
        file.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(file, timeout=60, isolation_level=None)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            with self._writing():
                if self._value("PRAGMA user_version") == 0:
                    for statement in _SCHEMA.split(";"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version={_VERSION}")
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"{file}: expected a library index, received {error}. Name another file."
            ) from None
        if self._value("PRAGMA user_version") != _VERSION:
            raise DataError(
                f"{file}: expected an index of version {_VERSION}, received a later one. Update cmg."
            )

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
        models = {task: champion.name for task, champion in listener.champions.items()}
        pool, waiting = ThreadPoolExecutor(workers), {}
        try:
            for path in files:
                known = self._known(path, models)
                if known:
                    yield known
                else:
                    waiting[pool.submit(_answer, path, listener)] = path
            for done in as_completed(waiting):
                yield self._keep(waiting[done], *done.result(), models)
        finally:
            pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for a whole library

    def _known(self, path: Path, models: Mapping[str, str]) -> Outcome | None:
        """Return what is kept of an unchanged file, by every champion; None if something is missing."""
        try:
            stat = path.stat()
        except OSError:
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
        heard = self._heard(digest, models)
        if heard and not row:  # moved, or touched
            with self._writing():
                self._db.execute("INSERT OR REPLACE INTO track VALUES(?,?,?,?)", (at[0], digest, *at[1:]))
        return Outcome(path, heard) if heard else None

    def _heard(self, digest: str, models: Mapping[str, str]) -> Heard | None:
        seconds = self._db.execute("SELECT seconds FROM heard WHERE sha256=?", (digest,)).fetchone()
        slices = {}
        for task, model in models.items():
            asked = "SELECT slices FROM prediction WHERE sha256=? AND task=? AND model=?"
            row = self._db.execute(asked, (digest, task, model)).fetchone()
            if row:
                slices[task] = row[0]
        if not seconds or len(slices) < len(models):
            return None
        return Heard(seconds[0], {task: _array(blob) for task, blob in slices.items()})

    def _keep(
        self,
        path: Path,
        at: tuple[int, int],
        digest: str,
        heard: Heard | None,
        reason: str,
        models: Mapping[str, str],
    ) -> Outcome:
        with self._writing():
            if heard is None:
                self._db.execute("DELETE FROM track WHERE path=?", (str(path),))
                self._db.execute("INSERT OR REPLACE INTO fault VALUES(?,?,?,?)", (str(path), *at, reason))
                return Outcome(path, None, reason, computed=True)
            self._db.execute("DELETE FROM fault WHERE path=?", (str(path),))
            self._db.execute("INSERT OR REPLACE INTO track VALUES(?,?,?,?)", (str(path), digest, *at))
            self._db.execute("INSERT OR REPLACE INTO heard VALUES(?,?)", (digest, heard.seconds))
            for task, slices in heard.slices.items():
                row = (digest, task, models[task], _blob(slices))
                self._db.execute("INSERT OR REPLACE INTO prediction VALUES(?,?,?,?)", row)
        return Outcome(path, heard, computed=True)

    def tracks(self, champions: Mapping[str, Champion]) -> tuple[list[str], dict[str, np.ndarray], list[str]]:
        """Return what the present champions have answered.

        Returns
        -------
        paths : list of str
            Of each distinct content the first by name: copies are one track.
        means : dict
            By task, float32 (n_tracks, n_classes): the mean over a track's slices.
        digests : list of str
            Each content's SHA-256.
        """
        asked = " ".join(
            f"JOIN prediction AS p{n} ON p{n}.sha256=track.sha256 AND p{n}.task=? AND p{n}.model=?"
            for n in range(len(champions))
        )
        columns = ", ".join(f"p{n}.slices" for n in range(len(champions)))
        values = [value for task, champion in champions.items() for value in (task, champion.name)]
        rows = self._db.execute(
            f"SELECT min(path), track.sha256, {columns} FROM track {asked} GROUP BY track.sha256 ORDER BY 1",
            values,
        ).fetchall()
        means = {
            task: np.array([_array(row[2 + n]).mean(axis=0) for row in rows], np.float32)
            for n, task in enumerate(champions)
        }
        return [row[0] for row in rows], means, [row[1] for row in rows]

    def slices(self, digest: str, champion: Champion) -> np.ndarray | None:
        """Return a champion's answers to a content, float32 (n_slices, n_classes); None if there are none."""
        heard = self._heard(digest, {champion.task: champion.name})
        return heard.slices[champion.task] if heard else None

    def status(self) -> dict[str, Any]:
        """Return counts of tracks, distinct contents and unreadable files, and answers by model."""
        by_model = dict(
            self._db.execute("SELECT model, count(*) FROM prediction GROUP BY model ORDER BY model")
        )
        counts = {
            "tracks": self._value("SELECT count(*) FROM track"),
            "contents": self._value("SELECT count(DISTINCT sha256) FROM track"),
            "unreadable": self._value("SELECT count(*) FROM fault"),
        }
        return counts | {"answers": by_model, "file": str(self.file), "bytes": self.file.stat().st_size}

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
            for table in ("heard", "prediction"):
                self._db.execute(f"DELETE FROM {table} WHERE sha256 NOT IN (SELECT sha256 FROM track)")
        self._db.execute("VACUUM")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _value(self, statement: str) -> Any:
        return self._db.execute(statement).fetchone()[0]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _answer(path: Path, listener: Listener) -> tuple[tuple[int, int], str, Heard | None, str]:
    try:
        stat = path.stat()
    except OSError as error:
        return (0, 0), "", None, error.strerror or str(error)
    at = (stat.st_size, stat.st_mtime_ns)
    try:
        return at, sha256(path), listener.hear(path), ""
    except UnreadableError as error:
        return at, "", None, str(error)


def _blob(slices: np.ndarray) -> bytes:
    """Return float32 (n_slices, n_classes) with its number of classes in front."""
    return len(slices[0]).to_bytes(2, "little") + slices.astype("<f4").tobytes()


def _array(blob: bytes) -> np.ndarray:
    return np.frombuffer(blob, "<f4", offset=2).reshape(-1, int.from_bytes(blob[:2], "little"))


def audio_files(named: Sequence[Path]) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Return the audio files named or below folders, absolute and sorted, and what is not there and why."""
    from pipeline.inference.audio import SUFFIXES

    found, missing = set(), []
    for path in named:
        if path.is_dir():
            found |= {
                one.absolute()
                for one in path.rglob("*")
                if one.suffix.lower() in SUFFIXES and not one.is_dir()
            }
        elif path.exists() or path.is_symlink():
            found.add(path.absolute())
        else:
            missing.append((path, "no such file or folder"))
    return sorted(found), missing
