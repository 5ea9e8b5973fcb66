"""A library that is taken in again keeps the labels that people gave it meanwhile."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from pipeline import files, params
from pipeline.labelling import inbox, merging
from pipeline.labelling.inbox import Intake, put_aside
from pipeline.labelling.track_names import TrackNames
from pipeline.params import IntakeParams
from pipeline.tables.dataset import dataset_of
from pipeline.tables.label_changes import CHANGES_FILE
from pipeline.tables.label_history import HISTORY_FILE, with_record
from pipeline.tables.mood_labels import LABELS_FILE, LINE, write_labels
from pipeline.tables.text_csv import csv_text
from pipeline.untrusted import listing, visible

ANNOTATOR_HELP: Final = "who labelled the rows that name nobody (default: the label file's name)"


@dataclass(frozen=True)
class GivenLabels:
    """The labels that a library is taken in with: what was found in their file, and the good rows as CSV."""

    intake: Intake
    text: str


def read_given(
    path: Path,
    *,
    names: TrackNames,
    annotator: str = "",
    label_map: str = "",
    settings: IntakeParams | None = None,
) -> GivenLabels:
    """Check the labels of a library before its data folder is put in place.

    Parameters
    ----------
    path
        A file in any form that the inbox takes.
    names
        The library's tracks.
    annotator
        Who gave the labels of rows that name nobody; blank: the file's name.
    label_map
        What the columns of a data set that others made mean; see `pipeline.labelling.label_maps`.
    settings
        Thresholds of the checks; None takes those of ``params.yaml``.

    Raises
    ------
    DataError
        The file cannot be read, or not one of its rows is good.
    """
    settings = settings or params.read().intake
    found = inbox.read_first(path, tracks=names, settings=settings, annotator=annotator, label_map=label_map)
    return GivenLabels(*found)


def begin(staging: Path, given: GivenLabels | None) -> None:
    """Write a new library's labels, and the history of their intake."""
    write_labels(staging, given.text if given else None)
    if given and (history := with_record(staging, inbox.record(given.intake))):
        files.write_text(staging / HISTORY_FILE, history)


def said(given: GivenLabels, *, inbox: Path) -> str:
    """Put the rejected rows aside, and return what became of the labels, as lines for the summary."""
    intake = given.intake
    lines = [f"{note}" for note in intake.notes]
    for finding in intake.findings:
        if finding.severity == "warning":
            n_more = len(finding.rows) - 1
            lines.append(
                f"{finding.check}: {', '.join(finding.rows[0])}" + (f"; and {n_more} more" if n_more else "")
            )
    people = "1 annotator" if intake.annotators == 1 else f"{intake.annotators} annotators"
    lines.append(
        f"labels: {intake.accepted} of {intake.rows} rows of {intake.file} taken, by {people}; "
        f"tracks with a label: {intake.new_tracks}"
    )
    if path := put_aside(intake, inbox=inbox):
        row = intake.rejected_rows[0]
        left = "1 row, with its" if intake.rejected == 1 else f"{intake.rejected} rows, each with its"
        lines.append(f"labels NOT taken: {left} reason in {path}; the first is {row.position}: {row.reason}")
    return "".join(f"\n  {visible(line)}" for line in lines)


def carry_over(staging: Path, *, data: Path, names: Set[str], track_ids: Set[str]) -> str:
    """Take the present labels of these tracks, and the history of intakes, along into a new data folder.

    Only of the same library: one of these names in ``dataset.json``, and not synthetic. Elsewhere an id
    such as ``blues.00001`` (which the sample has too) or ``01`` is another recording.

    Parameters
    ----------
    staging
        Receives ``mood_labels.csv`` and ``label_history.csv``; left as it is if there is nothing to keep.
    data
        The present data folder, if there is one.
    names
        The library's name.
    track_ids
        Ids of the tracks that are still there.

    Returns
    -------
    kept
        What was kept and what was not, as a line for the summary; blank if there was nothing.

    Raises
    ------
    DataError
        If there are labels of the same library and they cannot be read.
    """
    there = dataset_of(data)
    if there.get("synthetic", True) or not (data / LABELS_FILE).exists():
        return ""
    if there["name"] not in names:
        n_labels = len((data / LABELS_FILE).read_bytes().splitlines()) - 1  # readable or not
        return _not_kept(n_labels, shlex.quote(there["name"])) if n_labels > 0 else ""
    table = merging.read(data)
    is_here = table["track_id"].isin(track_ids)
    _copy_labels(table[is_here], staging, data=data, is_whole=bool(is_here.all()))
    return _kept(table.loc[is_here, "track_id"], table.loc[~is_here, "track_id"])


def _not_kept(n_labels: int, name: str) -> str:
    """Say what became of the labels of another library, and how to get them back."""
    labels = "1 label" if n_labels == 1 else f"{n_labels} labels"
    return (
        f"\n  labels kept: none; the {labels} of the library before, {name}, are in DVC's cache. Is this the "
        "same library? Then put the md5 of before into data.dvc, run `dvc checkout data`, and import again "
        f"by `python -m pipeline.sources.folder SRC --name {name}`."
    )


def _copy_labels(table: pd.DataFrame, staging: Path, *, data: Path, is_whole: bool) -> None:
    """Write the labels that stay, byte for byte if all of them do, and the history."""
    if is_whole:
        shutil.copyfile(data / LABELS_FILE, staging / LABELS_FILE)
    else:
        files.write_text(staging / LABELS_FILE, csv_text(table.drop(columns=LINE)))
    for name in (HISTORY_FILE, CHANGES_FILE):
        if (data / name).exists():
            shutil.copyfile(data / name, staging / name)


def _kept(here: pd.Series, gone: pd.Series) -> str:
    """Return how many labels were kept and dropped, from the track id of each."""
    said = f"\n  labels kept: {len(here)} of {here.nunique()} tracks"
    if gone.empty:
        return said
    return (
        f"{said}; dropped: {len(gone)} of tracks that are gone ({listing(gone.unique().tolist())}). "
        "DVC's cache has them in the data of before: put its md5 into data.dvc and run `dvc checkout data`."
    )
