"""Stage ``labels``: annotations become one soft label a track and task.

``artifacts/labels/<task>.csv`` has a row for every labelled, usable track: ``track_id``, the winning
``label``, ``n_labels``, ``agreement`` (the share of the annotations that chose it) and a ``p_<class>`` column
for each class: how far it is the track's, by ``labels.aggregation``. The order of these columns is the order
of the classes.

It also passes on what ``data/held_out.csv`` knows of each task's earlier splits. That file may be missing,
which DVC allows of no dependency: so this stage depends on all of ``data/``.
"""

from __future__ import annotations

import pandas as pd

from pipeline import identity, params
from pipeline.errors import DataError
from pipeline.files import write_csv, write_json
from pipeline.labelling import aggregation, agreement
from pipeline.quality.annotators import spelling_findings
from pipeline.quality.findings import Finding, stop_on_critical
from pipeline.quality.suites import DATA_DOCS
from pipeline.stage_run import run_stage
from pipeline.tables.held_out import HELD_OUT, earlier_path, read_held_out, write_held_out
from pipeline.tables.labels import LABEL_FINDINGS, empty_labels, labels_path
from pipeline.tables.mood_labels import MOOD_LABELS, read_annotations
from pipeline.tables.tracks import read_tracks, usable_tracks
from pipeline.taxonomy import TASKS, UNKNOWN_GENRE, canonical_mood, moods


def genre_labels(tracks: pd.DataFrame) -> pd.DataFrame:
    """Return the genre folders as labels; the classes are those found, sorted, without unknown ones."""
    tracks = tracks[tracks["genre"] != UNKNOWN_GENRE]
    annotations = tracks[["track_id"]].assign(label=tracks["genre"], weight=1.0)
    return aggregation.aggregate(annotations, tuple(sorted(tracks["genre"].unique())))


def mood_labels(
    annotations: pd.DataFrame, tracks: pd.DataFrame, method: params.Aggregation = "share"
) -> pd.DataFrame:
    """Return the usable tracks' moods.

    ``confidence`` (1 to 3; blank counts as 2) weighs an annotation where ``method`` is ``share``; the other
    methods do not look at it. Of two answers of a person for one track, however their name is spelled, the
    first counts.
    """
    people = annotations.assign(annotator=identity.first_spellings(annotations["annotator"]))
    answers = people.drop_duplicates(["track_id", "annotator"])
    wanted = answers[answers["track_id"].isin(tracks["track_id"])]
    weight = pd.Series(1.0, index=wanted.index)
    if "confidence" in wanted:
        stated = pd.to_numeric(wanted["confidence"], errors="coerce")
        weight = stated.where(stated.isin((1, 2, 3)), 2.0).astype(float)
    labelled = wanted.assign(label=wanted["mood"].map(canonical_mood), weight=weight)
    return aggregation.aggregate(labelled[labelled["label"].notna()], moods(), method)


def build_moods(settings: params.LabelsParams) -> tuple[pd.DataFrame, list[Finding]]:
    """Check and aggregate ``data/mood_labels.csv``.

    Raises
    ------
    DataError
        There is no annotation of a usable track.
    QualityError
        A critical check fails.
    """
    from pipeline.quality import labels as checks

    tracks = read_tracks()
    annotations = read_annotations(MOOD_LABELS)
    if annotations.empty:
        raise DataError(
            f"{MOOD_LABELS}: expected moods (task `mood` is in params.yaml's `tasks`), received no rows. "
            "Add labels, or set `tasks: [genre]` (this library carries no moods)."
        )
    found = checks.check_labels(
        annotations, known_tracks=set(tracks["track_id"]), settings=settings, docs=DATA_DOCS
    )
    stop_on_critical(found, where=str(MOOD_LABELS))
    labelled = mood_labels(annotations, tracks[tracks["usable"]], settings.aggregation)
    if labelled.empty:
        raise DataError(f"{MOOD_LABELS}: expected moods of usable tracks, received none for any of them.")
    return labelled, found + spelling_findings(annotations) + agreement.findings(annotations)


def main() -> None:
    """Write every task's labels and earlier splits, and the findings; stop on a critical one."""
    settings = params.read()
    labelled, found = empty_labels(moods()), list[Finding]()
    if "mood" in settings.tasks:
        labelled, found = build_moods(settings.labels)
    else:
        print("tasks holds no `mood`: moods are neither checked nor used")
    for finding in found:
        print(finding.message())
    record = read_held_out(HELD_OUT)
    for task, table in zip(TASKS, (genre_labels(usable_tracks()), labelled), strict=True):
        write_csv(labels_path(task), table)
        write_held_out(earlier_path(task), record[record["task"] == task])
        print(f"{task}: {len(table)} labelled tracks")
    write_json(LABEL_FINDINGS, [finding.as_dict() for finding in found])


if __name__ == "__main__":
    run_stage(main)
