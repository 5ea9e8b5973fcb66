"""Label Studio's exports: JSON and JSON lines of tasks, and the tables of its CSV and JSON-MIN exports.

An answer is what a control of the kinds Choices, Taxonomy (its last step), Labels (of parts of the track, if
they agree) or TextArea was given. Of another control the answer is not read, and the row's cell names it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, Final, TypeGuard
from urllib.parse import parse_qs, unquote, urlsplit

import pandas as pd

from pipeline.inference import audio
from pipeline.labelling.file_limits import FileFaultError, Limits, check_size
from pipeline.taxonomy import canonical_mood
from pipeline.untrusted import visible

CONFIDENCE: Final = "confidence"
# Label Studio's own columns (label-studio-converter, csv2.py), beside the task's data and the answers.
EXPORT_COLUMNS: Final = frozenset(
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
CELLS: Final = ("track_id", "mood", "annotator", "labelled_at", CONFIDENCE)
PARTS_NOTE: Final = "mood: Labels of parts of a track count for the whole track"

# By one of these a table is known as an export rather than as somebody's own.
_OF_EXPORTS_ONLY: Final = frozenset(("annotation_id", "lead_time", "was_cancelled", "updated_at"))
# Label Studio puts eight random digits before the name of an uploaded file.
_UPLOADED: Final = re.compile(r"^[0-9a-f]{8}-")
_POSITION_SHOWN: Final = 40  # characters of an id
_LABELS: Final = "labels"  # and ``timeserieslabels``, ``paragraphlabels``, …
_ADVICE: Final = "Export the project from Label Studio as JSON (or as CSV)."


def is_export(columns: Sequence[str]) -> bool:
    """Return whether a table's columns are those of an export."""
    there = set(columns)
    return (
        "labelled_at" not in there
        and bool({"created_at", "updated_at"} & there)
        and bool(_OF_EXPORTS_ONLY & there)
    )


def finished(table: pd.DataFrame) -> pd.Series:
    """Tell which rows of an export were not cancelled by their annotator."""
    if "was_cancelled" not in table:
        return pd.Series(True, index=table.index)
    return ~table["was_cancelled"].str.lower().isin(("true", "1"))


def from_export(table: pd.DataFrame) -> pd.DataFrame:
    """Rename Label Studio's columns: the last change is the time, the audio's file name the track."""
    times = [column for column in ("updated_at", "created_at") if column in table]
    labelled_at = table[times[0]].where(table[times[0]] != "", table[times[-1]])
    table = table.assign(labelled_at=labelled_at)
    source = None if "track_id" in table else _audio_column(table)
    if source is not None:
        table = table.assign(track_id=table[source].map(track_of_audio)).drop(columns=source)
    for column in table.columns.difference(EXPORT_COLUMNS):
        table[column] = table[column].map(_unpacked).astype("str")
    choice = None if "mood" in table else _mood_column(table)
    return table if choice is None else table.rename(columns={choice: "mood"})


def parts_note(tasks: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Say if moods were given to parts of tracks, of tasks that `task_records` has read."""
    annotations = (annotation for task in tasks for annotation in task["annotations"])
    results = (result for annotation in annotations for result in annotation.get("result") or [])
    has_parts = any(str(key).endswith(_LABELS) for result in results for key in result.get("value", {}))
    return (PARTS_NOTE,) if has_parts else ()


def _audio_column(table: pd.DataFrame) -> str | None:
    """Return the column that holds the addresses of audio: ``audio``, or the only one that does."""
    if "audio" in table:
        return "audio"
    found = [
        column
        for column in table.columns.difference(EXPORT_COLUMNS)
        if len(table) and table[column].str.lower().str.endswith(audio.SUFFIXES).all()
    ]
    return found[0] if len(found) == 1 else None


def _unpacked(cell: str) -> str:
    """Return the answer in a cell that Label Studio exports as JSON; other cells as they are.

    It does so for ratings, and for several choices (label-studio-converter, ``prettify_result``).

    Examples
    --------
    >>> _unpacked('[{"rating": 3}]'), _unpacked('[["Calm", "CalmButWarm"]]')
    ('3', 'CalmButWarm')
    """
    if not cell.startswith(("[", "{")):
        return cell
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    results = found if isinstance(found, list) else [found]
    return _joined([value for result in results for value in _values(_step(result))]) or cell


def _step(found: Any) -> Any:
    """Return a path of a taxonomy, which such a cell may hold by itself, as the value that it is of."""
    is_path = isinstance(found, list) and found and all(isinstance(step, str) for step in found)
    return {"taxonomy": [found]} if is_path else found


def _mood_column(table: pd.DataFrame) -> str | None:
    """Return the one column of which at least half of the answers are moods; None without such."""
    found = []
    for column in table.columns.difference([*EXPORT_COLUMNS, *CELLS]):
        answers = table.loc[table[column] != "", column]
        known = sum(canonical_mood(answer) is not None for answer in answers)
        if 0 < len(answers) <= 2 * known:
            found.append(column)
    return found[0] if len(found) == 1 else None


def track_of_audio(url: str) -> str:
    """Return the track that an audio's address in Label Studio stands for, in its folders if it has some.

    Examples
    --------
    >>> track_of_audio("/data/upload/7/1f3a5c7e-blues.00042.au")
    'blues.00042'
    >>> track_of_audio("/data/local-files/?d=gtzan/blues/blues.00042.au")
    'gtzan/blues/blues.00042'
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # no address: the row is rejected for it as for any unknown track
        return url
    path = PurePosixPath(parse_qs(parts.query).get("d", [unquote(parts.path)])[0].strip("/"))
    if "upload" in path.parts:
        path = PurePosixPath(_UPLOADED.sub("", path.name))
    return str(path.with_suffix("") if path.suffix.lower() in audio.SUFFIXES else path) if path.name else ""


def is_tasks(items: Sequence[Any]) -> bool:
    """Return whether a JSON list is one of tasks, rather than of rows."""
    return not (
        items
        and all(isinstance(item, dict) for item in items)
        and not any({"annotations", "data", "completions"} & item.keys() for item in items)
    )


def task_records(tasks: Sequence[Any], *, name: str, limits: Limits) -> list[tuple[str, dict[str, str]]]:
    """Return position and row of every annotation of an export."""
    records = list(islice(_annotations(tasks, name=name), limits.max_rows + 1))
    check_size(len(records), name=name, limits=limits)
    return records


def _annotations(tasks: Sequence[Any], *, name: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield position and row of every annotation that was not cancelled."""
    for number, task in enumerate(tasks, 1):
        annotations = task.get("annotations") if isinstance(task, dict) else None
        if not _are_dicts(annotations):
            raise FileFaultError(f"{name}, task {number}: expected `data` and `annotations`. {_ADVICE}")
        _check_results(annotations, where=f"{name}, task {number}")
        track_id = _track_of_task(task.get("data"))
        for order, annotation in enumerate(annotations, 1):
            if not annotation.get("was_cancelled"):
                position = f"task {_id(task, number)}, annotation {_id(annotation, order)}"
                row = {"track_id": track_id} | _row(annotation)
                yield encodable(position), {column: encodable(cell) for column, cell in row.items()}


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
                f"{where}: expected `result` to be a list of objects, each with an object `value`. {_ADVICE}"
            )


def encodable(text: str) -> str:
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
    moods = _of_control(results, "mood") or _unnamed(results)
    return {
        "mood": _answer(moods),
        "annotator": _annotator(annotation.get("completed_by")),
        "labelled_at": str(annotation.get("updated_at") or annotation.get("created_at") or "").strip(),
        CONFIDENCE: _answer(_of_control(results, CONFIDENCE)),
    }


def _of_control(results: Sequence[Mapping[str, Any]], control: str) -> list[Mapping[str, Any]]:
    return [result for result in results if str(result.get("from_name", "")).lower() == control]


def _unnamed(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return answers of controls not called ``mood``: moods, else what was chosen, else any but ratings."""
    others = [result for result in results if str(result.get("from_name", "")).lower() != CONFIDENCE]
    others = [result for result in others if "rating" not in result.get("value", {})]
    chosen = [result for result in others if _values(result.get("value")) and "text" not in result["value"]]
    moods = [result for result in chosen if all(canonical_mood(str(v)) for v in _values(result["value"]))]
    return moods or chosen or [result for result in others if result.get("value")]


def _answer(results: Sequence[Mapping[str, Any]]) -> str:
    """Return what was answered.

    Several answers are joined by ``" | "``: no mood is called so, and the row's reason shows them all. The
    answer of a control that is not read names the control, for the same purpose.
    """
    answers = [value for result in results for value in _values(result.get("value"))]
    if answers or not any(result.get("value") for result in results):
        return _joined(answers)
    control = str(results[0].get("type") or "unknown")[:_POSITION_SHOWN]
    return f"(an answer of the control {control}, which is not read)"


def _joined(values: Sequence[Any]) -> str:
    """Return answers in one text, each once: parts of a track that agree are one answer."""
    return " | ".join(dict.fromkeys(str(value).strip() for value in values))


def _values(value: Any) -> list[Any]:
    """Return what was chosen, rated or written; of a taxonomy the last step of each path."""
    if not isinstance(value, dict):
        return []
    if isinstance(paths := value.get("taxonomy"), list):
        return [path[-1] if isinstance(path, list) and path else path for path in paths]
    of_parts = next((key for key in value if str(key).endswith(_LABELS)), _LABELS)
    found = next((value[key] for key in ("choices", of_parts, "text", "rating") if key in value), list[Any]())
    return found if isinstance(found, list) else [found]


def _annotator(completed_by: Any) -> str:
    """Return an annotator's e-mail, else the number that Label Studio knows them by."""
    if isinstance(completed_by, dict):
        completed_by = completed_by.get("email") or completed_by.get("id")
    return "" if completed_by is None else str(completed_by).strip()
