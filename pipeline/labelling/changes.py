"""Labels that are merged already: taken back, or corrected, each with a row in ``label_changes.csv``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import data_folder, identity
from pipeline.errors import DataError
from pipeline.labelling import inbox, journal, merging
from pipeline.labelling.formats import CONFIDENCE
from pipeline.labelling.inbox import INBOX
from pipeline.labelling.track_names import TrackNames
from pipeline.tables import held_out
from pipeline.tables.label_changes import read_changes
from pipeline.tables.mood_labels import LINE, require_readable
from pipeline.tables.text_csv import csv_text
from pipeline.taxonomy import canonical_mood, moods, nearest_mood
from pipeline.untrusted import few, visible


@dataclass(frozen=True)
class Changed:
    """What was changed, or would be: the rows of ``label_changes.csv``."""

    rows: tuple[dict[str, str], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {"changed": [dict(row) for row in self.rows]}


def change(
    track: str = "",
    *,
    annotator: str = "",
    mood: str = "",
    everyone: bool = False,
    reason: str = "",
    dry_run: bool = False,
    data: Path = data_folder.DATA,
    inbox_folder: Path = INBOX,
) -> Changed:
    """Take labels back, or give them another mood; what a kill cuts short is undone, or done by the next run.

    Parameters
    ----------
    track
        Id, file name or path; blank: all tracks that ``annotator`` has labelled.
    annotator
        Whose label; blank: the only one of the track.
    mood
        The mood that it should have been; blank: the label is taken back.
    everyone
        All labels of the track are meant, if there are several.
    reason
        Kept with the change.
    dry_run
        Change nothing.
    data, inbox_folder
        The data folder, and the inbox, in which the plan is written.

    Raises
    ------
    DataError
        There is no such label or mood, or several labels could be meant; nothing has changed.
    """
    after = _mood(mood) if mood else ""
    with inbox.alone(inbox_folder, data=data):
        labels = merging.read(data)
        chosen = _chosen(labels, track, annotator=annotator, everyone=everyone)
        now = datetime.now(UTC)
        rows = tuple(_row(label, after, now=now, reason=reason) for label in chosen.to_dict("records"))
        if not dry_run:
            read_changes(data)  # raises while nothing has been written yet, as does the next line
            held_out.require_readable(data)
            _carry_out(_table(labels, chosen.index, after, now), rows, data=data, inbox_folder=inbox_folder)
    return Changed(rows)


def _mood(name: str) -> str:
    if found := canonical_mood(name):
        return found
    near = nearest_mood(name)
    hint = f" Did you mean {near}?" if near else ""
    raise DataError(f"expected a mood, one of {', '.join(moods())}, received {visible(name)!r}.{hint}")


def _chosen(labels: pd.DataFrame, track: str, *, annotator: str, everyone: bool) -> pd.DataFrame:
    """Return the labels that are meant.

    Raises
    ------
    DataError
        None is, or more than one may be.
    """
    if not track and not annotator:
        raise DataError("expected a track, or --annotator NAME, received neither. Say whose label it is.")
    chosen = labels
    if annotator:
        chosen = chosen[chosen["annotator"].map(identity.key) == identity.key(annotator)]
    if track:
        chosen = chosen[chosen["track_id"] == _track(track, labels)]
    said = f"a label of {visible(track)}" if track else "labels"
    said += f" by {visible(annotator)}" if annotator else ""
    if chosen.empty:
        people = labels["annotator"].unique().tolist()
        advice = f"The labels are by {few(people)}." if annotator else "See data/mood_labels.csv."
        raise DataError(f"expected {said}, received none. {advice}")
    if track and len(chosen) > 1 and not everyone:
        found = [f"{row['annotator']} ({row['mood']})" for row in chosen.to_dict("records")]
        raise DataError(
            f"expected {said}, received {len(chosen)}: {few(found)}. Name one by --annotator, or say --all."
        )
    return chosen


def _track(name: str, labels: pd.DataFrame) -> str:
    """Return the labelled track that a name means."""
    found = TrackNames({track: track for track in labels["track_id"].unique()}).meant(name)
    if len(found) > 1:
        raise DataError(f"expected one track, received {visible(name)}, which may be {few(found)}. Name one.")
    return found[0] if found else name


def _row(label: dict[str, str], after: str, *, now: datetime, reason: str) -> dict[str, str]:
    """Return a label's row in ``label_changes.csv``."""
    return {
        "changed_at": merging.timestamp(now),
        "track_id": label["track_id"],
        "annotator": label["annotator"],
        "mood_before": label["mood"],
        "mood_after": after,
        "labelled_at_before": label["labelled_at"],
        "confidence_before": label.get(CONFIDENCE, ""),
        "reason": identity.single_blanks(reason),
    }


def _table(labels: pd.DataFrame, chosen: pd.Index, after: str, now: datetime) -> pd.DataFrame:
    """Return the labels without the chosen ones, or with another mood, given now."""
    table = labels.drop(columns=LINE)
    if not after:
        return table.drop(index=chosen)
    table.loc[chosen, ["mood", "labelled_at"]] = [after, f"{now:%Y-%m-%dT%H:%M:%SZ}"]
    return table


def _carry_out(
    table: pd.DataFrame, rows: tuple[dict[str, str], ...], *, data: Path, inbox_folder: Path
) -> None:
    """Write down what is to be done, and do it."""
    text = csv_text(table)
    require_readable(text, table)
    plan = journal.Plan(
        file="",
        sha256="",
        store_before=journal.labels_hash(data),
        store_after=hashlib.sha256(text.encode()).hexdigest(),
        moves_to="",
        beside="",
        record={},
        docs=(),
        changes=rows,
    )
    journal.commit(plan, inbox=inbox_folder, content=b"", labels_text=text, beside_text="")
    journal.carry_out(plan, inbox=inbox_folder, data=data)
