"""What people drop into the inbox, read into one table: plain CSV, and Label Studio's CSV and JSON exports.

Reading normalises what carries no meaning (byte order mark, separators, blanks, ``2,0`` for ``2``) and keeps
each row's position. Whether a row is valid is not decided here; a file that cannot be read row by row is a
`FileFaultError`. A file is measured before it is parsed: parsing anything that passes takes a second or two.
"""

from __future__ import annotations

import codecs
import csv
import gc
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeGuard
from urllib.parse import parse_qs, unquote, urlsplit

import pandas as pd

from pipeline import identity
from pipeline.errors import DataError
from pipeline.inference import audio
from pipeline.tables.mood_labels import LABEL_COLUMNS, csv_records
from pipeline.taxonomy import canonical_mood
from pipeline.untrusted import few, visible, without_mark

SUFFIXES: Final = (".csv", ".json")
CONFIDENCE: Final = "confidence"
COLUMNS: Final = (*LABEL_COLUMNS, CONFIDENCE)

# A line in which nobody has filled in any of these is an open question, not a wrong answer.
_ANSWER: Final = ("mood", "annotator", "labelled_at")
# Label Studio's own columns (label-studio-converter, csv2.py), beside the task's data and the answers.
_EXPORT_COLUMNS: Final = frozenset(
    (
        "id",
        "annotation_id",
        "annotator",
        "created_at",
        "updated_at",
        "lead_time",
        "was_cancelled",
        "agreement",
    )
)
# Label Studio puts eight random digits before the name of an uploaded file.
_UPLOADED: Final = re.compile(r"^[0-9a-f]{8}-")
_SEPARATOR: Final = re.compile(rb"\Asep=.[^\S\r\n]*(?=[\r\n])")  # Excel's own first line
_FIRST_LINE: Final = re.compile(rb"\S[^\r\n]*")
# Lists and objects need more memory than values. An annotation of Label Studio's JSON has about 45 commas,
# 43 colons, and ten of them.
_VALUES_PER_OBJECT: Final = 3
_POSITION_SHOWN: Final = 40  # characters of an id
_DECIMAL: Final = re.compile(r"^([123])[.,]0*$")


class FileFaultError(DataError):
    """A file that cannot be taken in part: the message says what was expected, what came, what to do."""


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
    """

    rows: pd.DataFrame
    positions: list[str]
    dropped: tuple[str, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """How much a file may hold: rows, columns, and cells of a table or values of a JSON document."""

    max_rows: int
    max_columns: int
    max_values: int


def read(content: bytes, *, name: str, limits: Limits) -> Batch:
    r"""Read a file's content.

    Parameters
    ----------
    content
        The bytes of the file.
    name
        Its name; the suffix tells the format.
    limits
        What goes beyond is a fault, found before it is all read.

    Raises
    ------
    FileFaultError
        The suffix is unknown, the text is not UTF-8, there is too much in it (open questions count), the
        table has no header, no rows, or lacks a column, or the JSON is no Label Studio export.

    Examples
    --------
    >>> content = b"track_id;mood;annotator;labelled_at\nblues.00042;calm but warm;Ann ;2024-03-05T14:00Z\n"
    >>> batch = read(content, name="monday.csv", limits=Limits(max_rows=10, max_columns=10, max_values=100))
    >>> batch.positions, batch.rows.loc[0, "annotator"]
    (['line 2'], 'Ann')
    """
    suffix = Path(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise FileFaultError(
            f"{name}: expected a .csv or .json file, received {few([suffix]) or 'no suffix'}. "
            "Export it as one."
        )
    content = content.removeprefix(codecs.BOM_UTF8)
    with _uncollected():
        return (_read_csv if suffix == ".csv" else _read_json)(content, name=name, limits=limits)


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


def _decoded(content: bytes, *, name: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise FileFaultError(
            f"{name}: expected UTF-8 text, received {error.reason} at byte {error.start}. Save it as UTF-8."
        ) from None


def _read_csv(content: bytes, *, name: str, limits: Limits) -> Batch:
    """Read text separated by commas, semicolons or tabs: our columns, or Label Studio's."""
    _decoded(content, name=name)
    header, records = _records(_SEPARATOR.sub(b"", content), name=name, limits=limits)
    width = len(header)
    rows = [[*record[1:], *[""] * width][:width] for record in records]  # a spreadsheet drops blank ends
    table = pd.DataFrame(rows, columns=_named(header), dtype="str")  # (n_rows, n_columns)
    positions = pd.Series([f"line {record[0]}" for record in records], dtype="str")
    batch = _batch(_without_empty(table, header), positions, name=name)
    ends = {f"line {record[0]}": record[1 + width :] for record in records}
    return replace(batch, extra={line: few(end) for line, end in ends.items() if any(end)})


def _records(content: bytes, *, name: str, limits: Limits) -> tuple[list[str], list[list[str | int]]]:
    """Return the header's names, and each further record after the line it starts on."""
    delimiter = _delimiter(content)
    n_lines = content.count(b"\n") + content.count(b"\r")
    _check_values(content.count(delimiter.encode()) + n_lines, name=name, limits=limits)
    lines = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline="")
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    found = csv_records(reader, path=Path(name), even=False)
    try:
        header = [_column_name(cell) for cell in next(found, [0])[1:]]
        _check_header(header, name=name, limits=limits)
        records = list(islice(found, limits.max_rows + 1))
    except DataError as error:
        raise FileFaultError(str(error)) from None
    _check_size(len(records), name=name, limits=limits)
    _check_values(len(records) * len(header), name=name, limits=limits)
    return header, records


def _check_size(n_rows: int, *, name: str, limits: Limits) -> None:
    """Raise `FileFaultError` on more rows than allowed, before any of them is left out."""
    if n_rows > limits.max_rows:
        raise FileFaultError(
            f"{name}: expected at most {limits.max_rows} rows, received more. "
            "Split the file, or raise intake.max_rows."
        )


def _check_values(n_values: int, *, name: str, limits: Limits) -> None:
    """Raise `FileFaultError` on more cells or values than can be read in a second or two."""
    if n_values > limits.max_values:
        raise FileFaultError(
            f"{name}: expected at most {limits.max_values:,} cells or values, received {n_values:,}. "
            "Take out what is not needed, split the file, or raise intake.max_values."
        )


def _delimiter(content: bytes) -> str:
    """Return the separator that the first line with text uses most; a comma if none."""
    header = _FIRST_LINE.search(content)
    return max(",;\t", key=lambda delimiter: header[0].count(delimiter.encode()) if header else 0)


def _column_name(cell: object) -> str:
    """Return a header cell as the contract spells it: ``" Track ID"`` → ``"track_id"``."""
    return re.sub(r"[ -]+", "_", str(cell).strip().lower())


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


def _batch(table: pd.DataFrame, positions: pd.Series, *, name: str) -> Batch:
    """Bring a table of text, of ours or of Label Studio's columns, into the one form."""
    n_read = len(table)
    if "labelled_at" not in table and {"created_at", "updated_at"} & set(table):
        kept = _finished(table)
        table, positions = _from_export(table[kept]), positions[kept]
    missing = [column for column in LABEL_COLUMNS if column not in table]
    if missing:
        raise FileFaultError(
            f"{name}: expected the columns {', '.join(LABEL_COLUMNS)}, received {few(list(table))}; "
            f"{', '.join(missing)} is missing. Name the columns in line 1."
        )
    answered = table[list(_ANSWER)].ne("").any(axis=1)
    _check_any(n_read, int(answered.sum()), name=name)
    table, positions = table[answered], positions[answered]
    rows = table.reindex(columns=list(COLUMNS), fill_value="").reset_index(drop=True)
    rows[CONFIDENCE] = rows[CONFIDENCE].str.replace(_DECIMAL, r"\1", regex=True)
    for column in LABEL_COLUMNS:
        rows[column] = rows[column].map(without_mark).astype("str")
    rows["annotator"] = rows["annotator"].map(identity.single_blanks).astype("str")
    dropped = tuple(column for column in table if column not in COLUMNS and column not in _EXPORT_COLUMNS)
    return Batch(rows, _unique(positions), dropped)


def _check_any(n_read: int, n_answers: int, *, name: str) -> None:
    """Raise `FileFaultError` on a file without answers, and say whether it has questions."""
    if n_answers:
        return
    received = f"{n_read} lines without one" if n_read else "none (no rows below the header)"
    advice = "Fill in mood, annotator and labelled_at." if n_read else "Export it again."
    raise FileFaultError(f"{name}: expected labels, received {received}. {advice}")


def _unique(positions: pd.Series) -> list[str]:
    """Return the positions; one that stands twice (two exports in one file) gets its number too."""
    twice = positions.duplicated(keep=False).to_numpy()
    return [
        f"{one} (row {number})" if again else one
        for number, (one, again) in enumerate(zip(positions, twice, strict=True), 1)
    ]


def _finished(table: pd.DataFrame) -> pd.Series:
    """Tell which rows of an export were not cancelled by their annotator."""
    if "was_cancelled" not in table:
        return pd.Series(True, index=table.index)
    return ~table["was_cancelled"].str.lower().isin(("true", "1"))


def _from_export(table: pd.DataFrame) -> pd.DataFrame:
    """Rename Label Studio's columns: the last change is the time, the audio's file name the track."""
    times = [column for column in ("updated_at", "created_at") if column in table]
    labelled_at = table[times[0]].where(table[times[0]] != "", table[times[-1]])
    table = table.assign(labelled_at=labelled_at)
    source = None if "track_id" in table else _audio_column(table)
    if source is not None:
        table = table.assign(track_id=table[source].map(track_of_audio)).drop(columns=source)
    for column in table.columns.difference(_EXPORT_COLUMNS):
        table[column] = table[column].map(_unpacked).astype("str")
    choice = None if "mood" in table else _mood_column(table)
    return table if choice is None else table.rename(columns={choice: "mood"})


def _audio_column(table: pd.DataFrame) -> str | None:
    """Return the column that holds the addresses of audio: ``audio``, or the only one that does."""
    if "audio" in table:
        return "audio"
    found = [
        column
        for column in table.columns.difference(_EXPORT_COLUMNS)
        if len(table) and table[column].str.lower().str.endswith(audio.SUFFIXES).all()
    ]
    return found[0] if len(found) == 1 else None


def _unpacked(cell: str) -> str:
    """Return the answer in a cell that Label Studio exports as JSON; other cells as they are.

    It does so for ratings, and for several choices (label-studio-converter, ``prettify_result``).

    Examples
    --------
    >>> _unpacked('[{"rating": 3}]')
    '3'
    """
    if not cell.startswith(("[", "{")):
        return cell
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    results = found if isinstance(found, list) else [found]
    return _joined([value for result in results for value in _values(result)]) or cell


def _mood_column(table: pd.DataFrame) -> str | None:
    """Return the one column of which at least half of the answers are moods; None without such."""
    found = []
    for column in table.columns.difference([*_EXPORT_COLUMNS, *COLUMNS]):
        answers = table.loc[table[column] != "", column]
        known = sum(canonical_mood(answer) is not None for answer in answers)
        if 0 < len(answers) <= 2 * known:
            found.append(column)
    return found[0] if len(found) == 1 else None


def track_of_audio(url: str) -> str:
    """Return the track id that an audio's address in Label Studio stands for.

    Examples
    --------
    >>> track_of_audio("/data/upload/7/1f3a5c7e-blues.00042.au")
    'blues.00042'
    >>> track_of_audio("/data/local-files/?d=gtzan/blues/blues.00042.au")
    'blues.00042'
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # no address: the row is rejected for it as for any unknown track
        return url
    path = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
    name = PurePosixPath(path).name
    if "/upload/" in path:
        name = _UPLOADED.sub("", name)
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in audio.SUFFIXES else name


def _read_json(content: bytes, *, name: str, limits: Limits) -> Batch:
    """Read Label Studio's JSON export: a list of tasks, each with its annotations."""
    text = _decoded(content, name=name)
    n_objects = content.count(b"[") + content.count(b"{")
    n_values = content.count(b",") + content.count(b":") + _VALUES_PER_OBJECT * n_objects
    _check_values(n_values, name=name, limits=limits)
    try:
        records = _json_records(json.loads(text), name=name, limits=limits)
    except (ValueError, RecursionError) as error:
        raise FileFaultError(f"{name}: expected JSON, received {error}. Export it again.") from None
    table = pd.DataFrame(
        [record for _, record in records],
        columns=["track_id", "mood", "annotator", "labelled_at", CONFIDENCE],
    )
    positions = pd.Series([position for position, _ in records], dtype="str")
    return _batch(table.astype("str"), positions, name=name)


def _json_records(tasks: Any, *, name: str, limits: Limits) -> list[tuple[str, dict[str, str]]]:
    """Return position and row of every annotation of an export."""
    if not isinstance(tasks, list):
        raise FileFaultError(
            f"{name}: expected a list of tasks, received {type(tasks).__name__}. {_JSON_ADVICE}"
        )
    records = list(islice(_annotations(tasks, name=name), limits.max_rows + 1))
    _check_size(len(records), name=name, limits=limits)
    return records


_JSON_ADVICE: Final = "Export the project from Label Studio as JSON (or as CSV)."


def _annotations(tasks: Sequence[Any], *, name: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield position and row of every annotation that was not cancelled."""
    for number, task in enumerate(tasks, 1):
        annotations = task.get("annotations") if isinstance(task, dict) else None
        if not _are_dicts(annotations):
            raise FileFaultError(f"{name}, task {number}: expected `data` and `annotations`. {_JSON_ADVICE}")
        _check_results(annotations, where=f"{name}, task {number}")
        track_id = _track_of_task(task.get("data"))
        for order, annotation in enumerate(annotations, 1):
            if not annotation.get("was_cancelled"):
                position = f"task {_id(task, number)}, annotation {_id(annotation, order)}"
                row = {"track_id": track_id} | _row(annotation)
                yield _encodable(position), {column: _encodable(cell) for column, cell in row.items()}


def _id(item: Mapping[str, Any], order: int) -> str:
    """Return an object's id, else its number."""
    found = item.get("id", order)
    return visible(str(found if isinstance(found, int | str) else order)[:_POSITION_SHOWN])


def _are_dicts(value: Any) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _check_results(annotations: Sequence[Mapping[str, Any]], *, where: str) -> None:
    """Raise `FileFaultError` unless every annotation's result is a list of objects that have a value."""
    for annotation in annotations:
        results = annotation.get("result") or []
        if not _are_dicts(results) or not all(
            isinstance(result.get("value", {}), dict) for result in results
        ):
            raise FileFaultError(
                f"{where}: expected `result` to be a list of objects, each with an object `value`. "
                f"{_JSON_ADVICE}"
            )


def _encodable(text: str) -> str:
    """Return text that UTF-8 can hold: half a surrogate pair becomes U+FFFD, for which a check rejects it."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _track_of_task(data: Any) -> str:
    """Return ``data.track_id``, else what the audio's file name says; blank without either."""
    if not isinstance(data, dict):
        return ""
    audio_url = data.get("audio") or next(
        (value for value in data.values() if str(value).lower().endswith(audio.SUFFIXES)), ""
    )
    return str(data.get("track_id") or track_of_audio(str(audio_url))).strip()


def _row(annotation: Mapping[str, Any]) -> dict[str, str]:
    """Return one annotation's cells but the track."""
    results = annotation.get("result") or []
    return {
        "mood": _answer(results, "mood"),
        "annotator": _annotator(annotation.get("completed_by")),
        "labelled_at": str(annotation.get("updated_at") or annotation.get("created_at") or "").strip(),
        CONFIDENCE: _answer(results, CONFIDENCE),
    }


def _answer(results: Sequence[Mapping[str, Any]], control: str) -> str:
    """Return the answer to the control of that name; for the mood also of the only unnamed choice.

    Several choices are joined by ``" | "``: no mood is called so, and the row's reason shows them all.
    """
    named = [result for result in results if str(result.get("from_name", "")).lower() == control]
    others = [result for result in results if str(result.get("from_name", "")).lower() != CONFIDENCE]
    if not named and control == "mood":
        named = [result for result in others if "choices" in result.get("value", {})]
    return _joined([value for result in named for value in _values(result.get("value"))])


def _joined(values: Sequence[Any]) -> str:
    return " | ".join(str(value).strip() for value in values)


def _values(value: Any) -> list[Any]:
    """Return what was chosen or rated."""
    if not isinstance(value, dict):
        return []
    chosen = value.get("choices", value.get("rating", []))
    return chosen if isinstance(chosen, list) else [chosen]


def _annotator(completed_by: Any) -> str:
    """Return an annotator's e-mail, else the number that Label Studio knows them by."""
    if isinstance(completed_by, dict):
        completed_by = completed_by.get("email") or completed_by.get("id")
    return "" if completed_by is None else str(completed_by).strip()
