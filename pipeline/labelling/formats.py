"""What people drop into the inbox, read into one table: text, workbooks, JSON, exports of Label Studio.

Reading normalises what carries no meaning (byte order mark, separators, blanks, ``2,0`` for ``2``), takes
columns by the names that people give them, fills in an annotator and a time that a file has for all of its
rows, and keeps each row's position. What was taken for what is in the batch's ``notes``. Whether a row is
valid is not decided here; a file that cannot be read row by row is a `FileFaultError`. A file is measured
before it is parsed: parsing anything that passes takes a second or two.
"""

from __future__ import annotations

import csv
import gc
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pandas as pd

from pipeline import identity
from pipeline.errors import DataError
from pipeline.labelling import columns, dates, label_maps, label_studio, workbook
from pipeline.labelling.columns import column_name
from pipeline.labelling.file_limits import FileFaultError, Limits, check_size, check_values
from pipeline.labelling.label_maps import LabelMap
from pipeline.labelling.label_studio import CONFIDENCE
from pipeline.tables.mood_labels import LABEL_COLUMNS, csv_records
from pipeline.tables.text_csv import decoded, delimiter
from pipeline.taxonomy import canonical_mood
from pipeline.untrusted import few, visible, without_mark

TABLES: Final = (".csv", ".tsv", ".txt")
WORKBOOKS: Final = (".xlsx",)
SUFFIXES: Final = (*TABLES, ".json", ".jsonl", *WORKBOOKS)
COLUMNS: Final = (*LABEL_COLUMNS, CONFIDENCE)

# Without these a file says nothing; the others may be the same for all of its rows.
_NEEDED: Final = ("track_id", "mood")
# A line in which nobody has filled in any of these is an open question, not a wrong answer.
_ANSWER: Final = ("mood", "annotator", "labelled_at")
_SEPARATOR: Final = re.compile(r"\Asep=.[^\S\r\n]*(?=[\r\n])")  # Excel's own first line
# Lists and objects need more memory than values. An annotation of Label Studio's JSON has about 45 commas,
# 43 colons, and ten of them.
_VALUES_PER_OBJECT: Final = 3
_DECIMAL: Final = re.compile(r"^([123])[.,]0*$")


@dataclass(frozen=True)
class Batch:
    """The rows of one file.

    Parameters
    ----------
    rows
        `COLUMNS` as text, ``""`` where blank; the order is the file's.
    positions
        Where each row stood, unique: ``"line 17"``, or ``"task 17, annotation 3"``.
    dropped
        The file's other columns, which are not kept.
    extra
        By position, the cells of a row that lie beyond the header.
    notes
        What was taken for what, in words.
    hints
        By column, and by the text of a cell that has two readings: these.
    from_audio
        The tracks are addresses of audio, which no person wrote.
    of_data_set
        The rows are a whole data set's: those of tracks that are not here are no faults.
    """

    rows: pd.DataFrame
    positions: list[str]
    dropped: tuple[str, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    hints: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    from_audio: bool = False
    of_data_set: bool = False


@dataclass(frozen=True)
class Source:
    """What is known of a file beside its content.

    Parameters
    ----------
    name
        The suffix tells the format; the rest is the annotator where the file and the user name none.
    annotator
        Who gave the labels of rows that name nobody; blank if the user did not say.
    modified
        When the file was last written to, with its UTC offset: the time of rows in a file without times.
        None if it is not known; then the file must say.
    label_map
        What the columns of a data set that others made mean; see `label_maps`.
    """

    name: str
    annotator: str = ""
    modified: datetime | None = None
    label_map: LabelMap | None = None


@dataclass(frozen=True)
class _Table:
    """The cells of a file, before anything is made of them."""

    cells: pd.DataFrame
    positions: pd.Series
    beyond: Mapping[str, Sequence[str]] = field(default_factory=dict)
    of_tasks: bool = False
    notes: tuple[str, ...] = ()


def read(content: bytes, *, source: Source, limits: Limits) -> Batch:
    r"""Read a file's content.

    Parameters
    ----------
    content
        The bytes of the file.
    source
        Its name, and what else is known of it.
    limits
        What goes beyond is a fault, found before it is all read.

    Raises
    ------
    FileFaultError
        The suffix is unknown, the text is not Unicode, there is too much in it (open questions count), the
        table has no header, no rows, or lacks a column, or has two that may be the same, or the JSON holds
        neither rows nor tasks of Label Studio.

    Examples
    --------
    >>> content = b"filename;mood\nblues.00042.wav;calm but warm\n"
    >>> written = datetime.fromisoformat("2026-11-25T14:00:00+00:00")
    >>> source, limits = Source("ann.csv", modified=written), Limits(10, 10, 100)
    >>> batch = read(content, source=source, limits=limits)
    >>> batch.positions, batch.rows.loc[0, "annotator"]
    (['line 2'], 'ann')
    >>> batch.notes[0]
    'columns: filename is track_id'
    """
    suffix = Path(source.name).suffix.lower()
    if suffix not in SUFFIXES:
        raise FileFaultError(
            f"{source.name}: expected {', '.join(SUFFIXES)}, received {few([suffix]) or 'no suffix'}. "
            "Export it as one of these."
        )
    with _uncollected():
        if suffix in WORKBOOKS:
            return _batch(_of_workbook(content, name=source.name, limits=limits), source, limits=limits)
        text = _text(content, name=source.name)
        if suffix in TABLES:
            return _batch(_of_text(text, name=source.name, limits=limits), source, limits=limits)
        is_lines = suffix == ".jsonl"
        return _batch(
            _of_json(text, name=source.name, limits=limits, is_lines=is_lines), source, limits=limits
        )


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep Python's garbage collector out: it would go through a million new lists again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _text(content: bytes, *, name: str) -> str:
    try:
        return decoded(content)
    except UnicodeDecodeError as error:
        raise FileFaultError(
            f"{name}: expected UTF-8 text, received {error.reason} at byte {error.start}. Save it as UTF-8."
        ) from None


def _of_text(text: str, *, name: str, limits: Limits) -> _Table:
    """Read text separated by commas, semicolons or tabs."""
    text = _SEPARATOR.sub("", text)
    mark = delimiter(text)
    n_lines = text.count("\n") + text.count("\r")
    check_values(text.count(mark) + n_lines, name=name, limits=limits)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    found = csv_records(reader, path=Path(name), even=False)
    try:
        header = [column_name(cell) for cell in next(found, [0])[1:]]
        _check_header(header, name=name, limits=limits)
        records = list(islice(found, limits.max_rows + 1))
    except DataError as error:
        raise FileFaultError(str(error)) from None
    check_size(len(records), name=name, limits=limits)
    lines = [f"line {record[0]}" for record in records]
    return _table(header, [record[1:] for record in records], lines, name=name, limits=limits)


def _of_workbook(content: bytes, *, name: str, limits: Limits) -> _Table:
    """Read the one sheet of a workbook."""
    found = workbook.read(content, name=name, limits=limits)
    header = [column_name(cell) for cell in found[0][1]] if found else []
    _check_header(header, name=name, limits=limits)
    lines = [f"row {number}" for number, _ in found[1:]]
    return _table(header, [cells for _, cells in found[1:]], lines, name=name, limits=limits)


def _table(
    header: list[str], records: Sequence[Sequence[Any]], lines: list[str], *, name: str, limits: Limits
) -> _Table:
    """Bring records of any length under their header; what lies beyond it is kept by row."""
    width = len(header)
    check_values(len(records) * width, name=name, limits=limits)
    rows = [[*record, *[""] * width][:width] for record in records]  # a spreadsheet drops blank ends
    table = pd.DataFrame(rows, columns=_named(header), dtype="str")  # (n_rows, n_columns)
    ends = {line: record[width:] for line, record in zip(lines, records, strict=True)}
    beyond = {line: end for line, end in ends.items() if any(end)}
    return _Table(_without_empty(table, header), pd.Series(lines, dtype="str"), beyond)


def _named(header: Sequence[str]) -> list[str]:
    """Return the header with a name for every column."""
    return [name or f"column {number}" for number, name in enumerate(header, 1)]


def _without_empty(table: pd.DataFrame, header: Sequence[str]) -> pd.DataFrame:
    """Leave out columns with neither name nor content, which spreadsheets add at the end."""
    kept = [bool(name) or bool((table.iloc[:, at] != "").any()) for at, name in enumerate(header)]
    return table.loc[:, kept]


def _check_header(header: Sequence[str], *, name: str, limits: Limits) -> None:
    """Raise `FileFaultError` on an empty file, too many columns, and a column that is named twice."""
    if not any(header):
        raise FileFaultError(
            f"{name}: expected a header {', '.join(LABEL_COLUMNS)}, received an empty file. Export it again."
        )
    if len(header) > limits.max_columns:
        raise FileFaultError(
            f"{name}: expected at most {limits.max_columns} columns, received {len(header):,}: "
            f"{few(header)}. Take out what is not needed, or raise intake.max_columns."
        )
    twice = sorted(column for column, times in Counter(header).items() if column and times > 1)
    if twice:
        raise FileFaultError(f"{name}: expected each column once, received {few(twice)} twice. Rename one.")


def _of_json(text: str, *, name: str, limits: Limits, is_lines: bool) -> _Table:
    """Read JSON, or JSON lines: rows that name their columns, or tasks of Label Studio."""
    n_objects = text.count("[") + text.count("{")
    n_values = text.count(",") + text.count(":") + _VALUES_PER_OBJECT * n_objects
    check_values(n_values, name=name, limits=limits)
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if is_lines and line.strip()]
    try:
        items = [json.loads(line) for _, line in lines] if is_lines else json.loads(text)
        if isinstance(items, list) and label_studio.is_tasks(items):
            return _of_tasks(items, name=name, limits=limits)
    except (ValueError, RecursionError) as error:
        raise FileFaultError(f"{name}: expected JSON, received {error}. Export it again.") from None
    if not isinstance(items, list):
        raise FileFaultError(
            f"{name}: expected a list of tasks or of rows, received {type(items).__name__}. "
            "Export the project from Label Studio as JSON (or as CSV), or put the rows into a list."
        )
    where = [f"line {number}" for number, _ in lines] or [f"item {n}" for n in range(1, len(items) + 1)]
    return _of_rows(items, where, name=name, limits=limits)


def _of_tasks(tasks: list[Any], *, name: str, limits: Limits) -> _Table:
    """Bring the tasks of an export into a table."""
    records = label_studio.task_records(tasks, name=name, limits=limits)
    table = pd.DataFrame([row for _, row in records], columns=list(label_studio.CELLS)).astype("str")
    where = pd.Series([position for position, _ in records], dtype="str")
    return _Table(table, where, of_tasks=True, notes=label_studio.parts_note(tasks))


def _of_rows(items: list[dict[str, Any]], where: list[str], *, name: str, limits: Limits) -> _Table:
    """Bring JSON objects, each of which names its columns, into a table."""
    check_size(len(items), name=name, limits=limits)
    header = list(dict.fromkeys(column_name(key) for item in items for key in item))
    _check_header(header, name=name, limits=limits)
    rows = [{column_name(key): _cell(value) for key, value in item.items()} for item in items]
    return _table(
        header, [[row.get(key, "") for key in header] for row in rows], where, name=name, limits=limits
    )


def _cell(value: Any) -> str:
    """Return a JSON value as the text of a cell; what has parts as JSON."""
    if value is None or isinstance(value, str):
        return label_studio.encodable(value or "").strip()
    return json.dumps(value)


def _batch(found: _Table, source: Source, *, limits: Limits) -> Batch:
    """Bring a table of text, by whomever, into the one form."""
    if source.label_map:
        found = _mapped(found, source.label_map, name=source.name, limits=limits)
    table, positions, notes, from_audio = found.cells, found.positions, [*found.notes], found.of_tasks
    if label_studio.is_export(list(table)):
        kept = label_studio.finished(table)
        table, positions = label_studio.from_export(table[kept]), positions[kept]
        from_audio = True
    names = columns.renamed(
        [column for column in table if not from_audio or column not in label_studio.EXPORT_COLUMNS],
        name=source.name,
    )
    notes += [f"columns: {', '.join(f'{old} is {new}' for old, new in names.items())}"] if names else []
    table = table.rename(columns=names)
    _check_columns(table, source)
    answered = table[[column for column in _ANSWER if column in table]].ne("").any(axis=1)
    _check_any(len(found.cells), int(answered.sum()), name=source.name)
    table, positions = table[answered].reset_index(drop=True), positions[answered]
    dropped = tuple(
        column for column in table if column not in COLUMNS and column not in label_studio.EXPORT_COLUMNS
    )
    table, said = _completed(table, source)
    rows = _plain(table.reindex(columns=list(COLUMNS), fill_value=""))
    read_as = dates.read(rows["labelled_at"])
    rows["labelled_at"] = read_as.times
    return Batch(
        rows,
        _unique(positions),
        dropped,
        extra={} if source.label_map else {line: few(list(end)) for line, end in found.beyond.items()},
        notes=tuple(map(visible, (*notes, *said, *read_as.notes))),
        hints={"labelled_at": read_as.hints},
        from_audio=from_audio,
        of_data_set=source.label_map is not None,
    )


def _mapped(found: _Table, label_map: LabelMap, *, name: str, limits: Limits) -> _Table:
    """Return the labels that a data set's rows stand for."""
    mapped = label_maps.apply(
        found.cells, found.positions.tolist(), found.beyond, label_map, name=name, limits=limits
    )
    return _Table(mapped.cells, pd.Series(mapped.positions, dtype="str"), of_tasks=True, notes=mapped.notes)


def _plain(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the cells without a spreadsheet's marks, and single blanks in names."""
    rows[CONFIDENCE] = rows[CONFIDENCE].str.replace(_DECIMAL, r"\1", regex=True)
    for column in LABEL_COLUMNS:
        rows[column] = rows[column].map(without_mark).astype("str")
    rows["annotator"] = rows["annotator"].map(identity.single_blanks).astype("str")
    return rows


def _check_columns(table: pd.DataFrame, source: Source) -> None:
    """Raise `FileFaultError` on a table that lacks a column which nothing stands in for."""
    needed = (*_NEEDED, "labelled_at") if source.modified is None else _NEEDED
    missing = [column for column in needed if column not in table]
    if not missing:
        return
    advice = "Name the columns in line 1."
    if any(canonical_mood(str(cell)) for cell in table):
        advice = "Line 1 holds a label: put a line with the columns' names above it."
    raise FileFaultError(
        f"{source.name}: expected at least the columns track_id (or filename) and mood (or label), "
        f"received {few(list(table))}; {', '.join(missing)} is missing. {advice}"
    )


def _completed(table: pd.DataFrame, source: Source) -> tuple[pd.DataFrame, list[str]]:
    """Fill in who and when: as the user said, or as the file says for all of its rows; say so."""
    notes = []
    empty = pd.Series("", index=table.index, dtype="str")
    people, times = table.get("annotator", empty), table.get("labelled_at", empty)
    nobody = people == ""
    if nobody.any() and source.annotator:
        table = table.assign(annotator=people.mask(nobody, source.annotator))
        notes.append(f"annotator: {source.annotator}, as you said, of {int(nobody.sum())} rows")
    elif nobody.all():
        name = Path(source.name).stem
        table = table.assign(annotator=name)
        notes.append(f"annotator: {name}, from the file's name (--annotator or ANNOTATOR= says otherwise)")
    if source.modified is not None and (times == "").all():
        written = source.modified.isoformat(timespec="seconds")
        table = table.assign(labelled_at=written)
        notes.append(f"labelled_at: {written}, when the file was last written to")
    return table, notes


def _check_any(n_read: int, n_answers: int, *, name: str) -> None:
    """Raise `FileFaultError` on a file without answers, and say whether it has questions."""
    if n_answers:
        return
    received = f"{n_read} lines without one" if n_read else "none (no rows below the header)"
    advice = "Fill in mood." if n_read else "Export it again."
    raise FileFaultError(f"{name}: expected labels, received {received}. {advice}")


def _unique(positions: pd.Series) -> list[str]:
    """Return the positions; one that stands twice (two exports in one file) gets its number too."""
    twice = positions.duplicated(keep=False).to_numpy()
    return [
        f"{one} (row {number})" if again else one
        for number, (one, again) in enumerate(zip(positions, twice, strict=True), 1)
    ]
