"""Stage ``labels``: annotations become one soft label a track and task.

``artifacts/labels/<task>.csv`` has a row for every labelled, usable track: ``track_id``, the winning
``label``, ``n_labels``, ``agreement`` (the share of the annotations that chose it) and a ``p_<class>`` column
for each class: how far it is the track's, by ``labels.aggregation``. The order of these columns is the order
of the classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from pipeline import aggregation, agreement, catalog, params
from pipeline.errors import DataError, run_main
from pipeline.files import write_csv, write_json
from pipeline.quality.findings import Finding, stop_on_critical
from pipeline.taxonomy import MOODS, TASKS, canonical_mood

MOOD_LABELS: Final = Path("data/mood_labels.csv")
FINDINGS: Final = Path("artifacts/labels/findings.json")


def path_of(task: str) -> Path:
    """Return where a task's labels are."""
    return Path(f"artifacts/labels/{task}.csv")


def classes_of(labels: pd.DataFrame) -> list[str]:
    """Return the classes in the order of the ``p_`` columns."""
    return [name.removeprefix("p_") for name in labels.columns if name.startswith("p_")]


def shares(labels: pd.DataFrame) -> np.ndarray:
    """Return the soft labels, float32 (n_tracks, n_classes); rows sum to 1."""
    chosen = labels[[f"p_{name}" for name in classes_of(labels)]].to_numpy(np.float32)
    return chosen / chosen.sum(axis=1, keepdims=True)


def genre_labels(tracks: pd.DataFrame) -> pd.DataFrame:
    """Return the genre folders as labels; the classes are the folders found, sorted."""
    annotations = tracks[["track_id"]].assign(label=tracks["genre"], weight=1.0)
    return aggregation.aggregate(annotations, tuple(sorted(tracks["genre"].unique())))


def mood_labels(
    annotations: pd.DataFrame, tracks: pd.DataFrame, method: params.Aggregation = "share"
) -> pd.DataFrame:
    """Return the usable tracks' moods.

    ``confidence`` (1 to 3; blank counts as 2) weighs an annotation where ``method`` is ``share``; the other
    methods do not look at it.
    """
    wanted = annotations[annotations["track_id"].isin(tracks["track_id"])]
    weight = pd.Series(1.0, index=wanted.index)
    if "confidence" in wanted:
        stated = pd.to_numeric(wanted["confidence"], errors="coerce")
        weight = stated.where(stated.isin((1, 2, 3)), 2.0).astype(float)
    labelled = wanted.assign(label=wanted["mood"].map(canonical_mood), weight=weight)
    return aggregation.aggregate(labelled[labelled["label"].notna()], MOODS, method)


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

    tracks = catalog.read()
    annotations = checks.read(MOOD_LABELS)
    if annotations.empty:
        raise DataError(
            f"{MOOD_LABELS}: expected moods (task `mood` is in params.yaml's `tasks`), received no rows. "
            "Add labels, or set `tasks: [genre]` (this library carries no moods)."
        )
    found = checks.check_labels(
        annotations, known_tracks=set(tracks["track_id"]), settings=settings, docs=catalog.DATA_DOCS
    )
    stop_on_critical(found, where=str(MOOD_LABELS))
    moods = mood_labels(annotations, tracks[tracks["usable"]], settings.aggregation)
    if moods.empty:
        raise DataError(f"{MOOD_LABELS}: expected moods of usable tracks, received none for any of them.")
    return moods, found + agreement.findings(annotations)


def empty(classes: tuple[str, ...]) -> pd.DataFrame:
    """Return a label table without rows, for a task that is not wanted."""
    return pd.DataFrame(columns=["track_id", "label", "n_labels", "agreement", *(f"p_{c}" for c in classes)])


def read(task: str) -> pd.DataFrame:
    """Read a task's labels."""
    return pd.read_csv(path_of(task), dtype={"track_id": str, "label": str}, keep_default_na=False)


def main() -> None:
    """Write every task's labels and the findings; stop on a critical one."""
    settings = params.read()
    moods, found = empty(MOODS), list[Finding]()
    if "mood" in settings.tasks:
        moods, found = build_moods(settings.labels)
    else:
        print("tasks holds no `mood`: moods are neither checked nor used")
    for finding in found:
        print(finding.message())
    for task, table in zip(TASKS, (genre_labels(catalog.usable()), moods), strict=True):
        write_csv(path_of(task), table)
        print(f"{task}: {len(table)} labelled tracks")
    write_json(FINDINGS, [finding.as_dict() for finding in found])


if __name__ == "__main__":
    run_main(main)
