"""A listener's correction: one annotation in the label inbox, which the nightly intake takes from there."""

from __future__ import annotations

import csv
import io
import re
import threading
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pipeline import identity, taxonomy
from pipeline.errors import CmgError, DataError, ParamsError
from pipeline.files import write_text
from pipeline.tables.text_csv import decoded, delimiter
from serving.champions import project

_INBOX: Final = Path("inbox/labels")
_LABELS: Final = Path("data/mood_labels.csv")
_INDEX: Final = Path("data/index.csv")
_PREFIX: Final = "heard-"  # of the files that are written here
_COLUMNS: Final = ("track_id", "mood", "annotator", "labelled_at", "asked_for")
_READ: Final = ("track_id", "mood", "annotator", "sha256")
_LONGEST: Final = 100  # characters of a name
_TURN: Final = threading.Lock()  # two answers at once would not know of each other
_NO_NAME: Final = re.compile(r"[=+\-@|,;\"'<>\[\]`]")


class ContradictionError(CmgError):
    """The annotator has said something else of this track."""


@dataclass(frozen=True)
class Annotation:
    """What became of a correction: the track, its mood, the file (None if it was said before)."""

    track_id: str
    mood: str
    file: Path | None
    others: dict[str, int]  # what all annotators said of the track, shown only afterwards


def annotate(
    digest: str,
    path: Path,
    *,
    mood: str = "",
    poles: tuple[str, ...] = (),
    annotator: str,
    asked_for: str = "",
) -> Annotation:
    """Write one annotation into the inbox.

    Parameters
    ----------
    digest, path
        The track's content and file.
    mood
        A composite mood, or blank if ``poles`` name it.
    poles
        Its two poles, in any order.
    annotator
        Who says so.
    asked_for
        The query of the mix in which the track was wrong, for whoever audits the labels.

    Raises
    ------
    ParamsError
        The track is none of the project's, the mood or the name cannot be used.
    ContradictionError
        The annotator said otherwise before; nothing is written.
    """
    track, name = _track_id(digest, path), _name(annotator)
    chosen = _mood(mood, poles)
    with _TURN:
        return _annotate(track, chosen, name, asked_for)


def _annotate(track: str, chosen: str, name: str, asked_for: str) -> Annotation:
    said = _said_of(track)
    own = [each for who, each in said if identity.key(who) == identity.key(name)]
    others = dict(Counter(each for _, each in said))
    if own and own[-1] != chosen:
        raise ContradictionError(
            f"expected a first answer of {name} on {track}, received {chosen} after {own[-1]}. "
            f"`cmg labels correct {track} --annotator {name} --mood {chosen}` replaces a merged label."
        )
    if own:
        return Annotation(track, chosen, None, others)
    moment = datetime.now(UTC).replace(microsecond=0)
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(_COLUMNS)
    table.writerow([track, chosen, name, moment.isoformat().replace("+00:00", "Z"), _plain(asked_for)])
    folder = project() / _INBOX
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{_PREFIX}{moment:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}.csv"
    write_text(file, stream.getvalue())
    return Annotation(track, chosen, file, others | {chosen: others.get(chosen, 0) + 1})


def _track_id(digest: str, path: Path) -> str:
    """Return the id of the project's track that has this content."""
    for row in _rows(project() / _INDEX):
        if row["sha256"] == digest:
            return row["track_id"]
    own = project() / "data" / "gtzan"
    if path.is_relative_to(own):
        return path.stem
    raise ParamsError(
        f"expected a track of the project's data/, received {path.name}: models learn from those alone. "
        "`make folder SRC=FOLDER` takes a library in."
    )


def _name(annotator: str) -> str:
    name = " ".join(annotator.split())
    if not 0 < len(name) <= _LONGEST or not name.isprintable() or _NO_NAME.search(name):
        raise ParamsError(
            f"expected a name of 1 to {_LONGEST} letters, digits, blanks, dots or underscores, received "
            f"{name[:_LONGEST]!a}."
        )
    return name


def _mood(mood: str, poles: tuple[str, ...]) -> str:
    moods = taxonomy.read().moods
    found = taxonomy.canonical_mood(mood) if mood else ""
    if found in moods:
        return found
    pairs = [name for name, one in moods.items() if poles and set(one.poles) == set(poles)]
    if not mood and len(pairs) == 1:
        return pairs[0]
    received = mood[:_LONGEST] or " and ".join(poles)[:_LONGEST] or "nothing"
    raise ParamsError(f"expected one of the moods {', '.join(moods)}, received {received!a}.")


def _said_of(track: str) -> list[tuple[str, str]]:
    """Return who said what of a track: merged labels, and those that wait in the inbox."""
    rows = _rows(project() / _LABELS)
    for file in sorted((project() / _INBOX).glob(f"{_PREFIX}*.csv")):
        with suppress(DataError):  # the intake rejects it, or took it a moment ago
            rows += _rows(file)
    return [(row["annotator"], row["mood"]) for row in rows if row["track_id"] == track]


def _rows(path: Path) -> list[dict[str, str]]:
    """Return a table's rows, each with all of `_READ`, blank where there is nothing; none of no file.

    Raises
    ------
    DataError
        It is no UTF-8 CSV.
    """
    if not path.is_file() or path.is_symlink():
        return []
    try:
        text = decoded(path.read_bytes())
        rows = list(csv.DictReader(io.StringIO(text), delimiter=delimiter(text)))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: expected a UTF-8 CSV file, received {error}. Correct it.") from None
    return [{name: row.get(name) or "" for name in _READ} for row in rows]


def _plain(text: str) -> str:
    """Return letters, digits and marks that mean nothing to a spreadsheet."""
    return " ".join(re.sub(r"[^\w .:&-]", " ", text).split()).lstrip("-")[:_LONGEST]
