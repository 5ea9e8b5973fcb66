"""The inbox: every file that waits in it is checked, its good rows are merged, its bad rows put aside.

Files are dropped in ``inbox/labels/``. ``inbox/done/`` keeps them as they came, ``inbox/rejected/`` the rows
that were not taken, each with its reason, or the whole file and the reason beside it.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pandas as pd

from pipeline import data_folder, identity
from pipeline.errors import DataError
from pipeline.files import write_text
from pipeline.inference import audio
from pipeline.labelling import dropped, formats, journal, label_maps, merging, next_tracks
from pipeline.labelling.file_limits import FileFaultError, Limits
from pipeline.labelling.track_names import TrackNames
from pipeline.params import IntakeParams
from pipeline.quality import intake as checks
from pipeline.quality.findings import Finding
from pipeline.quality.suites import DATA_DOCS
from pipeline.tables import held_out
from pipeline.tables.audio_files import find_audio
from pipeline.tables.index import sources_of
from pipeline.tables.label_history import read_history
from pipeline.tables.mood_labels import LABEL_COLUMNS, LINE, csv_records, require_readable
from pipeline.tables.text_csv import csv_text
from pipeline.untrusted import few, for_spreadsheet, visible, without_mark
from pipeline.workspace_lock import CACHE, LOCK, waiting_lock

INBOX: Final = Path("inbox")
# A writer that pauses longer in the middle of a file is rare; waiting so long once a run does not hurt.
SETTLE_SECONDS: Final = 5.0

_UNFINISHED: Final = (".part", ".partial", ".crdownload", ".download", ".tmp", ".swp", "~")
_FAULT_SHOWN: Final = 300  # characters in the history; the reason beside the file is whole
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_LONGEST_NAME: Final = 1000  # characters of a name that may be a track's
_SUGGESTIONS: Final = 50  # names of a file for which the nearest track is looked for
_PASSED_OVER_SHOWN: Final = 20  # of what lies in the inbox and is no file, each by name


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
        Accepted rows whose spelling was normalised, as the history's column is called.
    annotators, new_tracks
        Of the accepted rows; a new track had no label before.
    alpha
        Krippendorff's alpha of all labels after the merge, at most 1; NaN where it is not defined.
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
    notes
        What of the file was taken for what: columns, the annotator, dates.
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
    notes: tuple[str, ...] = ()

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
class _Received:
    """A file that was read, once, and what is known of it without the labels that are there.

    Parameters
    ----------
    intake
        Without rows; it has a ``fault`` if the file cannot be taken in part.
    content
        None of a file that was not read, or not to its end: it stays where it is.
    batch
        Its rows; None if there is a fault.
    """

    intake: Intake
    now: datetime
    content: dropped.Content | None = None
    batch: formats.Batch | None = None


@dataclass(frozen=True)
class _Examined:
    """An intake that has not happened yet, and the labels as they would be; None if they do not change."""

    intake: Intake
    labels: pd.DataFrame | None = None


@dataclass(frozen=True)
class _Against:
    """What a batch is checked against: the labels that are there, and the tracks."""

    labels: pd.DataFrame
    tracks: TrackNames

    @classmethod
    def read(cls, data: Path) -> _Against:
        """Read them; a history or a record that cannot be read is an error now, before anything is done."""
        read_history(data)
        held_out.require_readable(data)
        return cls(merging.read(data), TrackNames(_known_tracks(data)))


def check(
    file: Path,
    *,
    settings: IntakeParams,
    annotator: str = "",
    label_map: str = "",
    data: Path = data_folder.DATA,
    docs: Path | None = None,
) -> Intake:
    """Say what an intake of ``file`` would do; nothing is changed.

    Parameters
    ----------
    annotator
        Who gave the labels of rows that name nobody; blank: the file's columns or its name say.
    label_map
        What the columns of a data set that others made mean; see `label_maps.load`.

    Raises
    ------
    DataError
        The file is not there, or the labels that are there cannot be read.
    """
    received = _received_from(file, settings=settings, annotator=annotator, label_map=label_map)
    return _examine(received, _Against.read(data), settings=settings, docs=docs).intake


def read_first(
    file: Path, *, tracks: TrackNames, settings: IntakeParams, annotator: str = "", label_map: str = ""
) -> tuple[Intake, str]:
    """Check the labels of a library that has none yet; nothing is changed.

    Returns
    -------
    intake
        What was found; some rows may be rejected.
    text
        The library's ``mood_labels.csv``.

    Raises
    ------
    DataError
        The file is not there or cannot be read, or not one of its rows is good.
    """
    received = _received_from(file, settings=settings, annotator=annotator, label_map=label_map)
    nothing = pd.DataFrame(columns=[LINE, *LABEL_COLUMNS], dtype="str")
    examined = _examine(received, _Against(nothing, tracks), settings=settings, docs=None)
    intake, text = examined.intake, _labels_text(examined.labels)
    if intake.fault:
        raise DataError(intake.fault)
    if text is None:
        raise DataError(_none_good(file, intake))
    return intake, text


def _none_good(file: Path, intake: Intake) -> str:
    """Return why not one row of a file was taken: the first row's reason, and how many reasons there are."""
    first, n_reasons = intake.rejected_rows[0], len({row.reason for row in intake.rejected_rows})
    rows = "1 row" if intake.rows == 1 else f"{intake.rows} rows"
    others = f" Other rows have other reasons, {n_reasons - 1} in all." if n_reasons > 1 else ""
    return (
        f"{file}: expected labels of this library's tracks, received {rows}, none valid; "
        f"{first.position}: {first.reason}.{others}"
    )


def put_aside(intake: Intake, *, inbox: Path = INBOX) -> Path | None:
    """Write the rejected rows of an intake that merged the others, each with its reason; return where."""
    if not intake.rejected_rows:
        return None
    path = journal.unique_path(inbox / journal.REJECTED / f"{Path(intake.file).stem}.csv")
    write_text(path, _beside_text(intake))
    return path


def record(intake: Intake) -> dict[str, str]:
    """Return the intake's row of the history."""
    return _record(intake)


def run(
    *,
    settings: IntakeParams,
    inbox: Path = INBOX,
    data: Path = data_folder.DATA,
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
        One for each file; a file that is still being written is left for the next run, and so is what cannot
        be read, is larger than allowed, or is no regular file: it has a ``fault`` and no ``moved_to``.

    Raises
    ------
    DataError
        The labels or their history cannot be read, or a folder of the inbox is a link; the files stay
        where they are.
    """
    with alone(inbox, data=data) as done:
        pass
    names, passed_over = _waiting(inbox)
    for name in _settled(names, inbox=inbox):
        # Outside the lock: a file that takes long to read keeps nobody waiting.
        received = _receive(name, inbox=inbox, settings=settings)
        if received is None:
            continue
        with alone(inbox, data=data) as finished:
            done += finished
            done += _take(received, name, inbox=inbox, data=data, settings=settings, docs=docs)
    return done + passed_over


def add(
    file: Path,
    *,
    settings: IntakeParams,
    annotator: str = "",
    label_map: str = "",
    inbox: Path = INBOX,
    data: Path = data_folder.DATA,
    docs: Path = DATA_DOCS,
) -> Intake:
    """Copy ``file`` into the inbox and take it; other files that wait there stay.

    An error before the intake is certain takes the copy away again. A kill there leaves it in the inbox,
    where the next run takes it as any file. With an ``annotator`` or a ``label_map``, of which that run would
    know nothing, the copy is hidden and no run takes it.

    Raises
    ------
    DataError
        The file is not there, or the labels or their history cannot be read.
    """
    received = _received_from(file, settings=settings, annotator=annotator, label_map=label_map)
    with alone(inbox, data=data) as finished:
        for earlier in finished:
            print(f"{earlier.file}: an intake that was cut short is finished; see {inbox / earlier.moved_to}")
        _Against.read(data)  # raises while nothing has been copied yet
        if received.content is None:
            return received.intake
        name = f".{received.intake.file}" if annotator or label_map else received.intake.file
        with _copied(received.content, name=name, inbox=inbox) as copy:
            (intake,) = _take(received, copy.name, inbox=inbox, data=data, settings=settings, docs=docs)
            return intake


@contextmanager
def alone(inbox: Path, *, data: Path) -> Iterator[list[Intake]]:
    """Keep out other intakes, and who replaces the data folder; yield what a kill had left undone."""
    with waiting_lock(data.parent / CACHE / LOCK):
        journal.require_folders(inbox)
        yield _finish(inbox, data=data)


@contextmanager
def _copied(content: dropped.Content, *, name: str, inbox: Path) -> Iterator[Path]:
    """Copy a file into the inbox; take the copy away if the block fails before there is a plan.

    Where a kill has left a copy of it, that is the one.
    """
    wanted = inbox / journal.LABELS / name
    if dropped.holds(wanted, content.sha256, size=len(content.data)):
        yield wanted
        return
    copy = journal.unique_path(wanted)
    try:
        with dropped.opened(copy.parent) as folder:
            dropped.put(copy.name, content, folder=folder)
        yield copy
    except BaseException:
        if not journal.is_committed(inbox):
            copy.unlink(missing_ok=True)
        raise


def _waiting(inbox: Path) -> tuple[list[str], list[Intake]]:
    """Return the files in ``inbox/labels/`` by name, and what lies there and is not taken.

    Hidden files and those being downloaded are neither.
    """
    names, passed_over = [], []
    with dropped.opened(inbox / journal.LABELS) as folder:
        for name in sorted(os.listdir(folder)):  # noqa: PTH208 - no path of a descriptor
            if name.startswith((".", "~")) or name.endswith(_UNFINISHED):
                continue
            with suppress(FileNotFoundError):  # somebody has taken it away meanwhile
                obstacle = dropped.obstacle(dropped.look(name, folder=folder))
                passed_over.append((name, obstacle)) if obstacle else names.append(name)
    return names, _passed_over(passed_over)


def _passed_over(found: Sequence[tuple[str, str]]) -> list[Intake]:
    """Return an intake, which did not happen, for each thing that is no file; of very many for the rest."""
    received_at = merging.timestamp(datetime.now(UTC))
    shown = found[:_PASSED_OVER_SHOWN]
    refused = [(journal.plain_name(name), dropped.refusal(kind)) for name, kind in shown]
    if rest := found[_PASSED_OVER_SHOWN:]:
        refused.append((f"{len(rest):,} others", dropped.refusal(few([kind for _, kind in rest]))))
    return [
        Intake(file=name, sha256="", received_at=received_at, fault=f"{name}: {why}. {_STAYS}")
        for name, why in refused
    ]


def _settled(names: list[str], *, inbox: Path) -> list[str]:
    """Return the files that nobody writes to: untouched for five seconds, or while we wait so long."""
    with dropped.opened(inbox / journal.LABELS) as folder:
        before = {name: _state(name, folder=folder) for name in names}
        if any(state and abs(time.time() - state[-1] / 1e9) < SETTLE_SECONDS for state in before.values()):
            time.sleep(SETTLE_SECONDS)
        after = {name: _state(name, folder=folder) for name in names}
    for name in sorted(name for name in names if after[name] and after[name] != before[name]):
        print(f"{journal.plain_name(name)} is still being written; it is left for the next run")
    return [name for name in names if after[name] and after[name] == before[name]]


def _state(name: str, *, folder: int) -> tuple[int, ...]:
    """Return by what a file is known again, its last change last; nothing if it is gone."""
    try:
        return dropped.state(dropped.look(name, folder=folder))
    except FileNotFoundError:
        return ()


def _known_tracks(data: Path) -> dict[str, str]:
    """Return the tracks in the data folder by id, each with its file in the library it comes from.

    100,000 take a second. Not from the catalogue: DVC deletes that while it is made again.
    """
    root = data / data_folder.AUDIO_FOLDER
    paths = (Path(entry.path) for folder in sorted(root.glob("*/")) for entry in os.scandir(folder))
    places = {
        path.stem: f"{path.parent.name}/{path.name}"
        for path in paths
        if path.suffix.lower() in audio.SUFFIXES
    }
    if not places:
        find_audio(root)
    return places | {track: place for track, place in sources_of(data).items() if track in places}


def _take(
    received: _Received, name: str, *, inbox: Path, data: Path, settings: IntakeParams, docs: Path
) -> list[Intake]:
    """Check one file of the inbox, write down what is to be done, and do it.

    Nothing is done, or returned, if it is not there as it was read: another intake has taken it, or it is
    being written again.
    """
    if received.content is None:
        return [received.intake]
    content = received.content
    if not dropped.holds(inbox / journal.LABELS / name, content.sha256, size=len(content.data)):
        return []
    before = journal.labels_hash(data)
    examined = _examine(received, _Against.read(data), settings=settings, docs=docs)
    text = _labels_text(examined.labels)
    intake = _destined(examined.intake, inbox=inbox)
    plan = journal.Plan(
        file=name,
        sha256=intake.sha256,
        store_before=before,
        store_after=before if text is None else hashlib.sha256(text.encode()).hexdigest(),
        moves_to=intake.moved_to,
        beside=intake.rejected_to,
        record=_record(intake),
        docs=intake.docs,
        fault=intake.fault,
        size=len(content.data),
    )
    beside = _beside_text(intake)
    journal.commit(plan, inbox=inbox, content=content.data, labels_text=text, beside_text=beside)
    journal.carry_out(plan, inbox=inbox, data=data)
    checks.forget_old_pages(docs)
    return [intake]


def _labels_text(table: pd.DataFrame | None) -> str | None:
    """Return the text of the new ``mood_labels.csv``, known to be readable; None if unchanged."""
    if table is None:
        return None
    text = csv_text(table)
    require_readable(text, table)
    return text


def _finish(inbox: Path, *, data: Path) -> list[Intake]:
    """Finish the intake that a kill has left undone, if there is one."""
    plan = journal.pending(inbox, data=data)
    if plan is None:
        return []
    journal.carry_out(plan, inbox=inbox, data=data)
    if plan.changes:
        return []
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
            _, *rows = csv_records(csv.reader(stream, strict=True), path=path)
    except DataError:
        return ()
    return tuple(RejectedRow(*(without_mark(str(cell)) for cell in row[1:])) for row in rows)


_STAYS: Final = "It stays where it is."
_COUNTS: Final = ("rows", "accepted", "rejected", "mended", "annotators", "new_tracks")


def _receive(name: str, *, inbox: Path, settings: IntakeParams) -> _Received | None:
    """Read a file of the inbox; None if another intake has taken it meanwhile."""
    now, plain = datetime.now(UTC), journal.plain_name(name)
    try:
        with dropped.opened(inbox / journal.LABELS) as folder:
            content = dropped.read(name, folder=folder, max_megabytes=settings.max_megabytes)
    except FileNotFoundError:
        return None
    except (dropped.PassedOverError, OSError) as error:
        return _unread(plain, error, now=now)
    return _parsed(formats.Source(plain), content, now=now, settings=settings)


def _received_from(file: Path, *, settings: IntakeParams, annotator: str, label_map: str) -> _Received:
    """Read a file that the user has named.

    Raises
    ------
    DataError
        There is no such file.
    """
    if not file.is_file():
        what = "a folder" if file.is_dir() else "no such file"
        raise DataError(f"expected a file of labels at {file}, received {what}. Name the file.")
    now, plain = datetime.now(UTC), journal.plain_name(file.name)
    try:
        content = dropped.read_chosen(file, max_megabytes=settings.max_megabytes)
    except (dropped.PassedOverError, OSError) as error:
        return _unread(plain, error, now=now)
    meaning = label_maps.load(label_map) if label_map else None
    source = formats.Source(plain, identity.single_blanks(annotator), label_map=meaning)
    return _parsed(source, content, now=now, settings=settings)


def _parsed(
    source: formats.Source, content: dropped.Content, *, now: datetime, settings: IntakeParams
) -> _Received:
    """Return what was read, and its rows, or why it cannot be taken in part."""
    intake = Intake(file=source.name, sha256=content.sha256, received_at=merging.timestamp(now))
    limits = Limits(settings.max_rows, settings.max_columns, settings.max_values)
    source = replace(source, modified=datetime.fromtimestamp(content.modified, UTC))
    try:
        batch = formats.read(content.data, source=source, limits=limits)
    except FileFaultError as fault:
        return _Received(replace(intake, fault=str(fault)), now, content)
    return _Received(replace(intake, notes=batch.notes), now, content, batch)


def _unread(name: str, error: Exception, *, now: datetime) -> _Received:
    """Return what is said of a file that stays where it is."""
    said = str(error)
    if isinstance(error, OSError):
        reason = error.strerror or type(error).__name__
        said = (
            f"expected a file that can be read, received {reason}. Correct its permissions, or take it away"
        )
    fault = f"{name}: {said}. {_STAYS}"
    return _Received(Intake(file=name, sha256="", received_at=merging.timestamp(now), fault=fault), now)


def _examine(
    received: _Received, against: _Against, *, settings: IntakeParams, docs: Path | None
) -> _Examined:
    """Check what was read against the labels that are there."""
    intake = received.intake
    if received.batch is not None:
        return _checked(received.batch, intake, against, now=received.now, settings=settings, docs=docs)
    if received.content is not None:
        intake = replace(intake, alpha=merging.alpha(against.labels))
        intake = replace(intake, docs=_fault_page(intake, now=received.now, docs=docs))
    return _Examined(intake)


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
    """Check a file's rows, and merge the valid rows into a copy of the labels."""
    if batch.of_data_set:
        batch, n_elsewhere = _of_library(batch, against.tracks)
        said = f"labels of tracks that are not in this library, left out: {n_elsewhere}"
        nothing = replace(nothing, notes=(*nothing.notes, *([said] if n_elsewhere else ())))
        if batch.rows.empty:
            fault = f"{nothing.file}: expected tracks of this library, received none of them. {said}"
            return _Examined(replace(nothing, fault=fault, alpha=merging.alpha(against.labels)))
    rows, respelled, track_hints = _as_known(batch, against)
    page = checks.page_name(nothing.file, now)
    verdict = checks.check_batch(
        rows,
        batch.positions,
        labels=against.labels,
        known_tracks=against.tracks.places.keys(),
        now=now,
        settings=settings,
        dropped=[column for column in batch.dropped if column not in next_tracks.FACT_COLUMNS],
        extra=batch.extra,
        respelled=respelled,
        hints={**batch.hints, "track_id": track_hints},
        docs=docs,
        page=page,
    )
    found = replace(
        nothing,
        rows=len(rows),
        findings=verdict.findings,
        docs=checks.keep_pages(docs, page) if docs else (),
    )
    if verdict.fault:
        alpha = merging.alpha(against.labels)
        return _Examined(replace(found, fault=verdict.fault, rejected=found.rows, alpha=alpha))
    is_bad = pd.Series(batch.positions).isin(list(verdict.reasons)).to_numpy()
    good, bad = rows[~is_bad], batch.rows[is_bad]  # those put aside as they came
    table = merging.merged(against.labels, good)
    intake = replace(
        found,
        accepted=len(good),
        rejected=len(bad),
        mended=len(verdict.normalised),
        annotators=good["annotator"].nunique(),
        new_tracks=len(set(good["track_id"]) - set(against.labels["track_id"])),
        alpha=merging.alpha(table),
        rejected_rows=_rejected(bad, batch.positions, verdict.reasons),
    )
    return _Examined(intake, None if good.empty else table)


def _of_library(batch: formats.Batch, tracks: TrackNames) -> tuple[formats.Batch, int]:
    """Return the rows of a data set that name a track of this library, and how many do not."""
    meant = {name: bool(tracks.meant(name)) for name in batch.rows["track_id"].unique()}
    is_here = batch.rows["track_id"].map(meant).astype(bool)
    positions = [where for where, here in zip(batch.positions, is_here, strict=True) if here]
    rows = batch.rows[is_here].reset_index(drop=True)
    return replace(batch, rows=rows, positions=positions), int((~is_here).sum())


def _as_known(batch: formats.Batch, against: _Against) -> tuple[pd.DataFrame, dict[str, str], dict[str, str]]:
    """Spell tracks as the library does, annotators as they were first spelled, moods without what is unseen.

    Returns
    -------
    rows
        The batch's.
    respelled
        By position, what is another spelling than an accent or a blank makes: ``"annotator bob → Bob"``.
    track_hints
        By a name that is no track's, or may be several tracks': which are meant, perhaps.
    """
    track_ids, track_hints = _as_in_library(batch.rows["track_id"], against.tracks)
    rows = batch.rows.assign(
        track_id=track_ids,
        annotator=_as_first_spelled(batch.rows["annotator"], against.labels["annotator"]),
        mood=batch.rows["mood"].map(identity.without_invisible).astype("str"),
    )
    respelled: dict[str, list[str]] = {}
    for column in ("mood", "annotator") if batch.from_audio else ("track_id", "mood", "annotator"):
        given, kept = batch.rows[column], rows[column]
        is_other = given.map(identity.single_blanks) != kept.map(identity.single_blanks)
        for at in is_other.to_numpy().nonzero()[0]:
            said = f"{column} {visible(given.iloc[at])} → {kept.iloc[at]}"
            respelled.setdefault(batch.positions[at], []).append(said)
    said_of = {position: ", ".join(several) for position, several in respelled.items()}
    return rows, said_of, track_hints


def _as_in_library(track_ids: pd.Series, tracks: TrackNames) -> tuple[pd.Series, dict[str, str]]:
    """Return the tracks' ids for the names that mean one track, and hints at what the others may mean."""
    others = sorted(set(track_ids) - tracks.places.keys())
    found = {name: tracks.meant(name) for name in others if len(name) <= _LONGEST_NAME}
    hints = {name: f"{' or '.join(several[:3])}?" for name, several in found.items() if len(several) > 1}
    for name in [name for name, meant in found.items() if name and not meant][:_SUGGESTIONS]:
        if nearest := tracks.suggestion(name):
            hints[name] = f"did you mean {nearest}?"
    known = {name: meant[0] for name, meant in found.items() if len(meant) == 1}
    return track_ids.map(lambda name: known.get(name, name)).astype("str"), hints


def _as_first_spelled(names: pd.Series, before: pd.Series) -> pd.Series:
    """Spell annotators as the labels, or else the batch, have them first."""
    return (
        identity.first_spellings(pd.concat([before, names], ignore_index=True))
        .tail(len(names))
        .set_axis(names.index)
    )


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
        moved_to = journal.unique_path(inbox / journal.REJECTED / intake.file).relative_to(inbox).as_posix()
        return replace(intake, moved_to=moved_to, rejected_to=f"{moved_to}.reason.txt")
    moved_to = journal.unique_path(inbox / journal.DONE / intake.file).relative_to(inbox).as_posix()
    if not intake.rejected:
        return replace(intake, moved_to=moved_to)
    beside = journal.unique_path(inbox / journal.REJECTED / f"{Path(intake.file).stem}.csv")
    return replace(intake, moved_to=moved_to, rejected_to=beside.relative_to(inbox).as_posix())


def _beside_text(intake: Intake) -> str:
    """Return the reason of a rejected file, or the table of rejected rows."""
    if intake.fault:
        return intake.fault + "\n"
    return csv_text(for_spreadsheet(pd.DataFrame([asdict(row) for row in intake.rejected_rows])))


def _record(intake: Intake) -> dict[str, str]:
    """Return the intake's row of the history."""
    names = ("file", "sha256", "received_at", *_COUNTS)
    fields = {name: str(getattr(intake, name)) for name in names}
    return fields | {
        "alpha": merging.alpha_text(intake.alpha),
        "fault": _CONTROL.sub(" ", intake.fault)[:_FAULT_SHOWN],
    }
