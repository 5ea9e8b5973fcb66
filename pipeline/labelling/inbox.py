"""The inbox: every file that waits in it is checked, its good rows are merged, its bad rows put aside.

Files are dropped in ``inbox/labels/``. ``inbox/done/`` keeps them as they came, ``inbox/rejected/`` the rows
that were not taken, each with its reason, or the whole file and the reason beside it.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import shutil
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pandas as pd

from pipeline import files
from pipeline.errors import DataError
from pipeline.inference import audio
from pipeline.labelling import formats, journal, next_tracks, store
from pipeline.params import IntakeParams
from pipeline.quality import intake as checks
from pipeline.quality import labels as store_checks
from pipeline.quality.findings import Finding
from pipeline.quality.suites import DATA_DOCS
from pipeline.sources import library
from pipeline.tables.audio_files import find_audio

INBOX: Final = Path("inbox")
# A writer that pauses longer in the middle of a file is rare; waiting so long once a run does not hurt.
SETTLE_SECONDS: Final = 5.0

_UNFINISHED: Final = (".part", ".partial", ".crdownload", ".download", ".tmp", ".swp", "~")
_FAULT_SHOWN: Final = 300  # characters in the history; the reason beside the file is whole
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_MEGABYTE: Final = 10**6


@dataclass(frozen=True)
class RejectedRow:
    """A row that was not taken: where it stood, what it held, and why."""

    position: str
    track_id: str
    mood: str
    annotator: str
    labelled_at: str
    confidence: str
    reason: str


@dataclass(frozen=True)
class Intake:
    """What became, or would become, of one file.

    Parameters
    ----------
    file, sha256
        Name and hash of the file.
    received_at
        Time of the intake, UTC ISO 8601.
    rows, accepted, rejected
        Number of rows; all zero if the file could not be read, all rejected if a check rejects it whole.
    mended
        Accepted rows whose mood was spelled otherwise.
    annotators, new_tracks
        Of the accepted rows; a new track had no label before.
    alpha
        Krippendorff's alpha of the store after the merge, at most 1; NaN where it is not defined.
    fault
        Why the whole file was rejected; blank if it was not.
    findings
        Every failed check, warnings too.
    rejected_rows
        The rows that were not taken.
    moved_to, rejected_to
        Where the file went, and where the rejected rows or the reason are; blank in a dry run.
    docs
        Pages of the Data Docs, relative to their folder; none in a dry run.
    recovered
        The intake was cut short before, and has been finished now; its warnings are in the Data Docs.
    """

    file: str
    sha256: str
    received_at: str
    rows: int = 0
    accepted: int = 0
    rejected: int = 0
    mended: int = 0
    annotators: int = 0
    new_tracks: int = 0
    alpha: float = float("nan")
    fault: str = ""
    findings: tuple[Finding, ...] = ()
    rejected_rows: tuple[RejectedRow, ...] = ()
    moved_to: str = ""
    rejected_to: str = ""
    docs: tuple[str, ...] = ()
    recovered: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether every row was, or would be, merged."""
        return not self.fault and not self.rejected

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types; an alpha that is not defined is None."""
        return asdict(self) | {
            "alpha": None if pd.isna(self.alpha) else self.alpha,
            "findings": [finding.as_dict() for finding in self.findings],
        }


@dataclass(frozen=True)
class _Examined:
    """An intake that has not happened yet, and the store it would leave; None if that does not change.

    A file that cannot even be read cannot be moved either: it stays where it is.
    """

    intake: Intake
    store: pd.DataFrame | None = None
    is_readable: bool = True


@dataclass(frozen=True)
class _Against:
    """What a batch is checked against: the labels that are there, and the ids of the tracks."""

    store: pd.DataFrame
    known_tracks: frozenset[str]

    @classmethod
    def read(cls, data: Path) -> _Against:
        """Read them; a history that cannot be read is an error now, before anything is done."""
        store.read_history(data)
        return cls(store.read(data), _known_tracks(data))


def check(
    file: Path, *, settings: IntakeParams, data: Path = library.DATA, docs: Path | None = None
) -> Intake:
    """Say what an intake of ``file`` would do; nothing is changed.

    Raises
    ------
    DataError
        The file is not there, or the labels that are there cannot be read.
    """
    _require_file(file)
    return _examine(file, _Against.read(data), settings=settings, docs=docs).intake


def run(
    *,
    settings: IntakeParams,
    inbox: Path = INBOX,
    data: Path = library.DATA,
    docs: Path = DATA_DOCS,
) -> list[Intake]:
    """Take every file that waits in ``inbox/labels/``, by name; finish first what a kill has left undone.

    Parameters
    ----------
    settings
        Sane sizes, thresholds and severities.
    inbox
        Holds ``labels/``; ``done/`` and ``rejected/`` are made when needed.
    data
        The data folder; another process that publishes data or takes labels is waited for.
    docs
        Folder of the Data Docs.

    Returns
    -------
    list of Intake
        One a file; a file that is still being written is left for the next run, and so is one that
        cannot be read, which has a ``fault`` and no ``moved_to``.

    Raises
    ------
    DataError
        The labels or their history cannot be read; the files stay where they are.
    """
    with _alone(data):
        done = _finish(inbox, data=data)
        for path in _settled(_waiting(inbox)):
            done.append(_take(path, inbox=inbox, data=data, settings=settings, docs=docs))
    return done


def add(
    file: Path,
    *,
    settings: IntakeParams,
    inbox: Path = INBOX,
    data: Path = library.DATA,
    docs: Path = DATA_DOCS,
) -> Intake:
    """Copy ``file`` into the inbox and take it; other files that wait there stay.

    An error before the intake is certain takes the copy away again. A kill there leaves it in the inbox,
    where the next run takes it as any file.

    Raises
    ------
    DataError
        The file is not there, or the labels or their history cannot be read.
    """
    _require_file(file)
    with _alone(data):
        for earlier in _finish(inbox, data=data):
            print(f"{earlier.file}: an intake that was cut short is finished; see {inbox / earlier.moved_to}")
        _Against.read(data)  # raises while nothing has been copied yet
        with _copied(file, inbox=inbox) as copy:
            return _take(copy, inbox=inbox, data=data, settings=settings, docs=docs)


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Keep out other intakes, and who replaces the data folder."""
    with library.waiting_lock(data.parent / library.CACHE / library.LOCK):
        yield


def _require_file(file: Path) -> None:
    if not file.is_file():
        raise DataError(f"expected a file of labels at {file}, received no such file. Name another.")


@contextmanager
def _copied(file: Path, *, inbox: Path) -> Iterator[Path]:
    """Copy a file into the inbox; take the copy away if the block fails before there is a plan.

    Where a kill has left a copy of it, that is the one.
    """
    wanted = inbox / journal.LABELS / journal.plain_name(file.name)
    if wanted.is_file() and files.sha256(wanted) == files.sha256(file):
        yield wanted
        return
    copy = journal.free(wanted)
    try:
        with files.replacing(copy) as temporary:
            shutil.copyfile(file, temporary)
        yield copy
    except BaseException:
        if not journal.is_committed(inbox):
            copy.unlink(missing_ok=True)
        raise


def _waiting(inbox: Path) -> list[Path]:
    """Return the files in ``inbox/labels/`` by name, without hidden ones and those being downloaded."""
    folder = inbox / journal.LABELS
    folder.mkdir(parents=True, exist_ok=True)
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and not path.name.startswith((".", "~")) and not path.name.endswith(_UNFINISHED)
    )


def _settled(paths: list[Path]) -> list[Path]:
    """Return the files that nobody writes to: untouched for five seconds, or while we wait so long."""
    before = {path: _state(path) for path in paths}
    if any(abs(time.time() - modified) < SETTLE_SECONDS for _, modified in before.values()):
        time.sleep(SETTLE_SECONDS)
    settled = [path for path in paths if path.exists() and _state(path) == before[path]]
    for path in sorted(set(paths) - set(settled)):
        print(f"{journal.plain_name(path.name)} is still being written; it is left for the next run")
    return settled


def _state(path: Path) -> tuple[int, float]:
    """Return a file's size in bytes and when it was last written to, in seconds since 1970."""
    facts = path.stat()
    return facts.st_size, facts.st_mtime


def _known_tracks(data: Path) -> frozenset[str]:
    """Return the ids of the tracks in the data folder; 100,000 in 0.2 s.

    Not from the catalogue: DVC deletes that while it is made anew.
    """
    root = data / library.AUDIO_FOLDER
    names = (Path(entry.name) for folder in root.glob("*/") for entry in os.scandir(folder))
    known = frozenset(path.stem for path in names if path.suffix.lower() in audio.SUFFIXES)
    if not known:
        find_audio(root)
    return known


def _take(path: Path, *, inbox: Path, data: Path, settings: IntakeParams, docs: Path) -> Intake:
    """Check one file of the inbox, write down what is to be done, and do it."""
    before = journal.store_hash(data)
    examined = _examine(path, _Against.read(data), settings=settings, docs=docs)
    if not examined.is_readable:
        return examined.intake
    text = _store_text(examined.store)
    intake = _destined(examined.intake, inbox=inbox)
    plan = journal.Plan(
        file=path.name,
        sha256=intake.sha256,
        store_before=before,
        store_after=before if text is None else hashlib.sha256(text.encode()).hexdigest(),
        moves_to=intake.moved_to,
        beside=intake.rejected_to,
        record=_record(intake),
        docs=intake.docs,
        fault=intake.fault,
    )
    journal.commit(plan, inbox=inbox, store_text=text, beside_text=_beside_text(intake))
    journal.carry_out(plan, inbox=inbox, data=data)
    checks.forget_old_pages(docs)
    return intake


def _store_text(table: pd.DataFrame | None) -> str | None:
    """Return the text that is to become the store, once it is certain that it can be read; None for none."""
    if table is None:
        return None
    text = store.csv_text(table)
    store.require_readable(text, table)
    return text


def _finish(inbox: Path, *, data: Path) -> list[Intake]:
    """Finish the intake that a kill has left undone, if there is one."""
    plan = journal.pending(inbox, data=data)
    if plan is None:
        return []
    journal.carry_out(plan, inbox=inbox, data=data)
    intake = Intake(
        file=plan.record["file"],
        sha256=plan.sha256,
        received_at=plan.record["received_at"],
        alpha=float(plan.record["alpha"] or "nan"),
        moved_to=plan.moves_to,
        rejected_to=plan.beside,
        docs=plan.docs,
        fault=plan.fault,
        rejected_rows=_read_rejected(inbox / plan.beside) if plan.beside and not plan.fault else (),
        recovered=True,
    )
    return [replace(intake, **{name: int(plan.record[name]) for name in _COUNTS})]  # type: ignore[arg-type]


def _read_rejected(path: Path) -> tuple[RejectedRow, ...]:
    """Read rejected rows back; none if a cell is too long for the csv module (128 KiB)."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            _, *rows = store_checks.records(csv.reader(stream, strict=True), path=path)
    except DataError:
        return ()
    return tuple(RejectedRow(*(formats.without_mark(str(cell)) for cell in row[1:])) for row in rows)


_COUNTS: Final = ("rows", "accepted", "rejected", "mended", "annotators", "new_tracks")


def _examine(path: Path, against: _Against, *, settings: IntakeParams, docs: Path | None) -> _Examined:
    """Read and check a file; a file that cannot be taken in part has a ``fault``."""
    now, name = datetime.now(UTC), journal.plain_name(path.name)
    nothing = Intake(file=name, sha256="", received_at=store.timestamp(now))
    try:
        megabytes = path.stat().st_size / _MEGABYTE
        content = path.read_bytes() if megabytes <= settings.max_megabytes else None
        digest = files.sha256(path) if content is None else hashlib.sha256(content).hexdigest()
    except OSError as error:
        return _Examined(replace(nothing, fault=_unreadable(name, error)), is_readable=False)
    nothing = replace(nothing, sha256=digest)
    try:
        batch = _batch(content, megabytes, name=name, settings=settings)
    except formats.FileFaultError as fault:
        nothing = replace(nothing, fault=str(fault), alpha=store.alpha(against.store))
        return _Examined(replace(nothing, docs=_fault_page(nothing, now=now, docs=docs)))
    return _checked(batch, nothing, against, now=now, settings=settings, docs=docs)


def _unreadable(name: str, error: OSError) -> str:
    return (
        f"{name}: expected a file that can be read, received {error.strerror or type(error).__name__}. "
        "It stays where it is; mend its permissions, or take it away."
    )


def _batch(content: bytes | None, megabytes: float, *, name: str, settings: IntakeParams) -> formats.Batch:
    """Read a file's rows; a file that is too large has no ``content``."""
    if content is None:
        raise formats.FileFaultError(
            f"{name}: expected at most {settings.max_megabytes} MB, received {megabytes:.0f} MB. "
            "Split the file, or raise intake.max_megabytes."
        )
    return formats.read(content, name=name, max_rows=settings.max_rows)


def _fault_page(intake: Intake, *, now: datetime, docs: Path | None) -> tuple[str, ...]:
    """Write the page of a file that is rejected whole before its rows are checked; none in a dry run."""
    if docs is None:
        return ()
    page = checks.page_name(intake.file, now)
    checks.report_fault(intake.file, intake.fault, docs=docs, page=page)
    return checks.keep_pages(docs, page)


def _checked(
    batch: formats.Batch,
    nothing: Intake,
    against: _Against,
    *,
    now: datetime,
    settings: IntakeParams,
    docs: Path | None,
) -> _Examined:
    """Check a file's rows, and merge what is good into a copy of the store."""
    batch = replace(batch, rows=_as_in_library(batch.rows, against.known_tracks))
    page = checks.page_name(nothing.file, now)
    verdict = checks.check_batch(
        batch.rows,
        batch.positions,
        store=against.store,
        known_tracks=against.known_tracks,
        now=now,
        settings=settings,
        dropped=[column for column in batch.dropped if column not in next_tracks.FACT_COLUMNS],
        extra=batch.extra,
        docs=docs,
        page=page,
    )
    found = replace(
        nothing,
        rows=len(batch.rows),
        findings=verdict.findings,
        docs=checks.keep_pages(docs, page) if docs else (),
    )
    if verdict.fault:
        alpha = store.alpha(against.store)
        return _Examined(replace(found, fault=verdict.fault, rejected=found.rows, alpha=alpha))
    is_bad = pd.Series(batch.positions).isin(list(verdict.reasons)).to_numpy()
    good, bad = batch.rows[~is_bad], batch.rows[is_bad]
    table = store.merged(against.store, good)
    intake = replace(
        found,
        accepted=len(good),
        rejected=len(bad),
        mended=len(verdict.mended),
        annotators=good["annotator"].nunique(),
        new_tracks=len(set(good["track_id"]) - set(against.store["track_id"])),
        alpha=store.alpha(table),
        rejected_rows=_rejected(bad, batch.positions, verdict.reasons),
    )
    return _Examined(intake, None if good.empty else table)


def _as_in_library(rows: pd.DataFrame, known_tracks: frozenset[str]) -> pd.DataFrame:
    """Write accents in track ids as the library's files do: in one character, or (from macOS) in two."""
    spelled = {unicodedata.normalize("NFC", one): one for one in known_tracks}
    composed = rows["track_id"].map(lambda one: unicodedata.normalize("NFC", one))
    is_other = ~rows["track_id"].isin(known_tracks) & composed.isin(spelled)
    return rows.assign(track_id=rows["track_id"].mask(is_other, composed.map(spelled)))


def _rejected(bad: pd.DataFrame, positions: list[str], reasons: dict[str, str]) -> tuple[RejectedRow, ...]:
    """Return the rejected rows in the file's order; ``bad`` is numbered as ``positions`` are."""
    rows = bad.to_dict("index")
    return tuple(
        RejectedRow(position=positions[at], reason=reasons[positions[at]], **cells)
        for at, cells in rows.items()
    )


def _destined(intake: Intake, *, inbox: Path) -> Intake:
    """Say where the file goes and what lies beside it; earlier files of the same name stay."""
    if intake.fault:
        moved_to = journal.free(inbox / journal.REJECTED / intake.file).relative_to(inbox).as_posix()
        return replace(intake, moved_to=moved_to, rejected_to=f"{moved_to}.reason.txt")
    moved_to = journal.free(inbox / journal.DONE / intake.file).relative_to(inbox).as_posix()
    if not intake.rejected:
        return replace(intake, moved_to=moved_to)
    beside = journal.free(inbox / journal.REJECTED / f"{Path(intake.file).stem}.csv")
    return replace(intake, moved_to=moved_to, rejected_to=beside.relative_to(inbox).as_posix())


def _beside_text(intake: Intake) -> str:
    """Return the reason of a rejected file, or the table of rejected rows."""
    if intake.fault:
        return intake.fault + "\n"
    return store.csv_text(pd.DataFrame([asdict(row) for row in intake.rejected_rows]).map(formats.marked))


def _record(intake: Intake) -> dict[str, str]:
    """Return the intake's row of the history."""
    names = ("file", "sha256", "received_at", *_COUNTS)
    facts = {name: str(getattr(intake, name)) for name in names}
    return facts | {
        "alpha": store.alpha_text(intake.alpha),
        "fault": _CONTROL.sub(" ", intake.fault)[:_FAULT_SHOWN],
    }
