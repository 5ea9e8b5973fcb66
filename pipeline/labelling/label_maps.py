"""Data sets of moods that others made, read as labels by a small file: their tags or numbers, our moods.

``label_maps/<name>.yaml`` says how a row names its track, and which moods it is: by tags, or by rules over
columns of numbers of which the first that holds counts. Where a tag speaks for several moods, ``{Other: 0.4,
CalmButWarm: 0.6}``, as many labels as the shares need are made of it, each by a name of its own.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline import params
from pipeline.errors import ParamsError
from pipeline.labelling.columns import column_name
from pipeline.labelling.file_limits import FileFaultError, Limits, check_size
from pipeline.taxonomy import canonical_mood, nearest_mood
from pipeline.untrusted import few

FOLDER: Final = Path("label_maps")
LINE: Final = "line"  # in a template: where the row stands

_TENTHS: Final = 10
_PLACE: Final = re.compile(r"\{([^{}]+)\}")

Moods = str | dict[str, float]
Range = tuple[float, float]


class Rule(BaseModel):
    """Moods of a row whose columns of ``all`` lie within their ranges, and one at least of ``any``'s."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mood: Moods
    all: dict[str, Range] = {}
    any: dict[str, Range] = {}

    def holds(self, values: Mapping[str, float]) -> bool:
        """Return whether the rule speaks for a row."""
        within = {name: low <= values[name] <= high for name, (low, high) in (self.all | self.any).items()}
        return all(within[name] for name in self.all) and (not self.any or any(within[n] for n in self.any))


class Tags(BaseModel):
    """Tags in a column, and in the cells beyond the header if it is the last: ``prefix`` before each."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str
    separator: str = ","
    prefix: str = ""
    moods: dict[str, Moods] = Field(min_length=1)


class LabelMap(BaseModel):
    """One of ``label_maps/*.yaml``.

    Parameters
    ----------
    about
        The data set, and where it is from.
    track
        How its audio files are called: ``"{genre}/{track id}"``, with columns in braces.
    numbered_by
        Columns of numbers that go on from folder to folder, and how many a folder has: 101 of 100 is 1.
    annotator
        Who a row's label is by, with columns in braces; ``{line}`` is the row, ``{tag}`` the tag.
    tags, rules
        One of both.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: str
    track: str
    numbered_by: dict[str, int] = {}
    annotator: str
    tags: Tags | None = None
    rules: list[Rule] = []

    @model_validator(mode="after")
    def _says_which_moods(self) -> LabelMap:
        if bool(self.tags) == bool(self.rules):
            raise ValueError("expected either tags or rules")
        several = list(self.tags.moods.values()) if self.tags else [rule.mood for rule in self.rules]
        for mood in [mood for moods in several for mood in ([moods] if isinstance(moods, str) else moods)]:
            if canonical_mood(mood) is None:
                near = nearest_mood(mood)
                raise ValueError(f"{mood!r} is no mood" + (f", did you mean {near}?" if near else ""))
        return self


@dataclass(frozen=True)
class Mapped:
    """The labels that a table was read as."""

    cells: pd.DataFrame
    positions: list[str]
    notes: tuple[str, ...]


def load(name: str, *, folder: Path = FOLDER) -> LabelMap:
    """Read a map by its name in the project, or by its path.

    Raises
    ------
    ParamsError
        There is no such map, or it says what cannot be.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.exists():
        known = ", ".join(sorted(found.stem for found in folder.glob("*.yaml"))) or "none is there"
        raise ParamsError(f"expected a map of labels, one of {known}, or a .yaml file; received {name!r}.")
    try:
        return LabelMap.model_validate(params.load(path))
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'])) or 'all'}: {fault['msg']}" for fault in error.errors()]
        raise ParamsError(f"{path}: {'; '.join(faults)}. Correct it and run again.") from None


def apply(
    table: pd.DataFrame,
    positions: Sequence[str],
    beyond: Mapping[str, Sequence[str]],
    label_map: LabelMap,
    *,
    name: str,
    limits: Limits,
) -> Mapped:
    """Return the labels that a data set's rows stand for.

    Parameters
    ----------
    table
        The rows as text, columns named by `column_name`.
    positions
        Where each row stood.
    beyond
        By position, the cells of a row that lie beyond the header.
    label_map
        What they mean.
    name
        The file's.
    limits
        How many labels may come of it.

    Raises
    ------
    FileFaultError
        A column is missing, or a cell that a rule looks at is no number.
    """
    _check_columns(table, label_map, name=name)
    unknown: Counter[str] = Counter()
    found, n_silent = list[tuple[str, str, str, str]](), 0
    for row, position in zip(table.to_dict("records"), positions, strict=True):
        cells = {**{str(key): str(value) for key, value in row.items()}, LINE: position.partition(" ")[2]}
        track = _filled(label_map.track, cells | _numbers(cells, label_map))
        where, ends, n_before = f"{name}, {position}", beyond.get(position, ()), len(found)
        for moods, tag in _moods(cells, ends, label_map, unknown, where=where):
            who = _filled(label_map.annotator, cells | {"tag": tag})
            found += [
                (track, mood, f"{who}{suffix}", ", ".join(filter(None, (position, tag))) + suffix)
                for mood, suffix in _votes(moods)
            ]
        check_size(len(found), name=name, limits=limits)
        n_silent += len(found) == n_before
    if not found:
        raise FileFaultError(
            f"{name}: expected rows that the map has a mood for, received {n_silent} without. "
            "Name the data set's own table, or correct the map."
        )
    notes = [f"{len(table)} rows of the data set are {len(found)} labels; rows without a mood: {n_silent}"]
    if unknown:
        most = [f"{tag} {times}" for tag, times in unknown.most_common()]
        notes.append(f"tags that the map has no mood for, not taken: {few(most)}")
    frame = pd.DataFrame([row[:3] for row in found], columns=["track_id", "mood", "annotator"], dtype="str")
    return Mapped(frame, [row[3] for row in found], tuple(notes))


def _check_columns(table: pd.DataFrame, label_map: LabelMap, *, name: str) -> None:
    """Raise `FileFaultError` if the table lacks a column that the map names."""
    needed = set(_PLACE.findall(label_map.track + label_map.annotator)) - {LINE, "tag"}
    needed |= {label_map.tags.column} if label_map.tags else set()
    needed |= {column for rule in label_map.rules for column in (*rule.all, *rule.any)}
    missing = sorted(column for column in needed if column_name(column) not in table)
    if missing:
        raise FileFaultError(
            f"{name}: expected the columns that the map names, received {few(list(table))}; "
            f"{', '.join(missing)} is missing. Name the data set's own table, or correct the map."
        )


def _filled(template: str, cells: Mapping[str, str]) -> str:
    return _PLACE.sub(lambda place: cells[column_name(place[1])], template)


def _numbers(cells: Mapping[str, str], label_map: LabelMap) -> dict[str, str]:
    """Return the numbers that begin anew in every folder."""
    wanted = {column_name(column): n for column, n in label_map.numbered_by.items()}
    counted = {column: n for column, n in wanted.items() if cells[column].isdecimal()}
    return {column: str((int(cells[column]) - 1) % n + 1) for column, n in counted.items()}


def _moods(
    cells: Mapping[str, str],
    beyond: Sequence[str],
    label_map: LabelMap,
    unknown: Counter[str],
    *,
    where: str,
) -> Iterator[tuple[Moods, str]]:
    """Yield the moods that a row names, each with the tag that does; count tags that are not in the map."""
    if label_map.tags is None:
        values = _values(cells, label_map, where=where)
        rule = next((rule for rule in label_map.rules if values and rule.holds(values)), None)
        if rule:
            yield rule.mood, ""
        return
    tags = label_map.tags
    known = {column_name(tag): moods for tag, moods in tags.moods.items()}
    several = [*cells[column_name(tags.column)].split(tags.separator), *beyond]
    for tag in dict.fromkeys(tag.strip().removeprefix(tags.prefix) for tag in several if tag.strip()):
        if column_name(tag) in known:
            yield known[column_name(tag)], tag
        else:
            unknown[tag] += 1


def _values(cells: Mapping[str, str], label_map: LabelMap, *, where: str) -> dict[str, float]:
    """Return the numbers that the rules look at; none of a row in which one is blank."""
    columns = {column for rule in label_map.rules for column in (*rule.all, *rule.any)}
    texts = {column: cells[column_name(column)] for column in columns}
    if not all(texts.values()):
        return {}
    try:
        values = {column: float(text) for column, text in texts.items()}
    except ValueError:
        raise FileFaultError(
            f"{where}: expected numbers in {few(sorted(columns))}, received {few(list(texts.values()))}. "
            "Correct the cell, or name the data set's own table."
        ) from None
    return values if all(map(math.isfinite, values.values())) else {}


def _votes(moods: Moods) -> Iterator[tuple[str, str]]:
    """Yield a mood for each label that its share needs, ten at most, and what tells the labels apart."""
    if isinstance(moods, str):
        yield moods, ""
        return
    total = sum(moods.values())
    tenths = {mood: round(_TENTHS * share / total) for mood, share in moods.items()}
    divisor = math.gcd(*tenths.values()) or 1
    votes = [mood for mood, n in tenths.items() for _ in range(n // divisor)]
    for number, mood in enumerate(votes, 1):
        yield mood, f" {number}" if len(votes) > 1 else ""
