"""Grouped, stratified k-fold cross-validation of one model; in MLflow a parent run with one child per fold.

``python -m pipeline.training.crossvalidate --task genre --model cnn64 --folds 5``. In each split one fold is
the test part, the next one selects the epoch, the others train; groups are those of ``split.protocol``. It is
not a DVC stage: it evaluates a training method and makes no model to serve.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from pipeline import params, tracking
from pipeline.errors import DataError, ParamsError, run_main
from pipeline.files import write_csv, write_json
from pipeline.tables.labels import classes_of, labels_path, read_labels
from pipeline.tables.tracks import usable_tracks
from pipeline.taxonomy import TASKS
from pipeline.training import backend, models
from pipeline.training.fit import fit, require_schedule
from pipeline.training.folds import stratified_folds, track_groups
from pipeline.training.predict import Predicted, predict, prediction_table, score

MINIMUM_FOLDS: Final = 3  # one to test, one to choose the epoch, one at least to train on
FOLDER: Final = Path("mlruns/crossvalidation")  # beside the tracking store: it is no output of DVC
_DIGITS: Final = 6


def split_folds(
    table: pd.DataFrame, tracks: pd.DataFrame, protocol: str, n_folds: int, seed: int
) -> list[pd.DataFrame]:
    """Return one split per fold, in the columns of `pipeline.stages.split`.

    Parameters
    ----------
    table
        The task's labels.
    tracks
        The usable tracks.
    protocol
        ``"artist"`` or ``"track"``.
    n_folds
        At least 3.
    seed
        Of the folds.

    Raises
    ------
    ParamsError
        The protocol has fixed lists, or leaks; or there are too few folds, or more than the tracks allow.
    """
    if protocol not in ("artist", "track"):
        raise ParamsError(
            f"split.protocol: cross-validation expects artist or track, "
            f"received {protocol}. Choose one of the two."
        )
    if n_folds < MINIMUM_FOLDS:
        raise ParamsError(
            f"--folds: expected at least {MINIMUM_FOLDS} (one to test, one to choose the epoch, one to train "
            f"on), received {n_folds}. Take {MINIMUM_FOLDS} or more; 5 is usual."
        )
    # Groups of all usable tracks: one without a label may connect two artists.
    group = pd.Series(
        track_groups(tracks, by_artist=protocol == "artist").to_numpy(), index=tracks["track_id"]
    )
    rows = table[["track_id", "label"]].assign(
        group=group[table["track_id"]].to_numpy(),
        protocol=protocol,
        slice=pd.NA,  # whole tracks
        copy=pd.NA,
    )
    _check_enough(rows, n_folds)
    fold = stratified_folds(rows["label"], rows["group"], n_folds, seed)
    return [
        rows.assign(part=np.select([fold == test, fold == (test + 1) % n_folds], ["test", "valid"], "train"))
        for test in range(n_folds)
    ]


def _check_enough(rows: pd.DataFrame, n_folds: int) -> None:
    """Refuse more folds than there are groups, or than the largest class has tracks."""
    n_groups, n_largest = rows["group"].nunique(), rows["label"].value_counts().max()
    # A fold has a group at least, and scikit-learn wants a class with as many tracks as folds.
    most = min(n_groups, n_largest)
    if n_folds <= most:
        return
    fewer = f"Take at most {most} folds, or add" if most >= MINIMUM_FOLDS else "Add"
    raise ParamsError(
        f"--folds: expected no more folds than groups (artists, or tracks of unknown artist: {n_groups}) and "
        f"than tracks of the largest class ({n_largest}), received {n_folds}. "
        f"{fewer} tracks of other artists."
    )


def run_fold(
    task: str, name: str, assigned: pd.DataFrame, settings: params.Params, *, verbose: int
) -> tuple[Predicted, dict[str, Any]]:
    """Train on one fold's split and return its test predictions and scores."""
    from pipeline.training.batches import select

    table = read_labels(task)
    soft, copies = settings.train.targets == "soft", settings.train.augment == "report"
    rows = {
        "train": select(assigned, table, "train", soft=soft, copies=copies),
        "valid": select(assigned, table, "valid", soft=soft),
        "test": select(assigned, table, "test"),  # scored by the majority's label, whatever was learned
    }
    fitted = fit(
        name, rows["train"], rows["valid"], settings.train, seed=settings.seed, log=True, verbose=verbose
    )
    classes = classes_of(table)
    truth = {t: classes.index(c) for t, c in zip(table["track_id"], table["label"], strict=True)}
    predicted = predict(fitted.model, rows["test"], fitted.normaliser, truth)
    return predicted, score(predicted, settings.evaluate, rows["test"])


def summarise(scores: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return mean and standard deviation (of a sample, n - 1) over the folds, track level."""
    table = pd.DataFrame([score["track"] for score in scores]).drop(columns="accuracy_ci").astype(float)
    return {
        name: {"mean": round(float(column.mean()), _DIGITS), "sd": round(float(column.std(ddof=1)), _DIGITS)}
        for name, column in zip(table.columns, table.to_numpy().T, strict=True)
    }


def crossvalidate(task: str, name: str, n_folds: int, settings: params.Params) -> dict[str, dict[str, float]]:
    """Run every fold under one parent run and write the out-of-fold probabilities; return mean and sd."""
    require_schedule(settings, name)  # before minutes of training
    table = read_labels(task)
    if table.empty:
        raise DataError(f"{labels_path(task)}: expected labelled tracks, received none.")
    protocol = settings.split.protocol
    splits = split_folds(table, usable_tracks(), protocol, n_folds, settings.seed)
    device = backend.prepare(settings.seed)
    tags = {"task": task, "model": name, "protocol": protocol, "kind": "crossvalidation", "device": device}
    parts: dict[str, Predicted] = {}
    scores = []
    with tracking.run(task, f"{name} · {n_folds}-fold · {protocol}", tags) as parent:
        mlflow = tracking.configure()
        for number, assigned in enumerate(splits, start=1):
            backend.prepare(settings.seed)  # each fold starts from the same seed
            with mlflow.start_run(run_name=f"fold {number}", nested=True, tags=tags | {"fold": str(number)}):
                predicted, score = run_fold(task, name, assigned, settings, verbose=0)
                track = {name: value for name, value in score["track"].items() if name != "accuracy_ci"}
                mlflow.log_metrics({f"test.track.{name}": value for name, value in track.items()})
            print(f"fold {number} of {n_folds}: accuracy {score['track']['accuracy']:.3f}")
            parts[f"fold {number}"] = predicted
            scores.append(score)
        outcome = summarise(scores)
        # On the parent, so that a list of runs shows it without its children.
        mlflow.log_metrics({f"{key}.{stat}": v for key, both in outcome.items() for stat, v in both.items()})
        _write(task, name, parts, classes_of(table), outcome)
        mlflow.log_artifacts(str(FOLDER / f"{task}-{name}"))
        print(f"MLflow run {parent.info.run_id}")
    return outcome


def _write(
    task: str, name: str, parts: dict[str, Predicted], classes: list[str], outcome: dict[str, Any]
) -> None:
    """Write out-of-fold predictions and the summary beside the tracking store: they are not a DVC output."""
    folder = FOLDER / f"{task}-{name}"
    write_csv(folder / "out_of_fold.csv", prediction_table(parts, classes))
    write_json(folder / "summary.json", outcome)


def main() -> None:
    """Cross-validate one model for one task and print mean and standard deviation."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.training.crossvalidate", description=main.__doc__
    )
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--model", choices=sorted(models.MODELS), required=True)
    parser.add_argument("--folds", type=int, default=5)
    args = parser.parse_args()
    outcome = crossvalidate(args.task, args.model, args.folds, params.read())
    for name, both in outcome.items():
        print(f"{name:>10}  {both['mean']:.3f} ± {both['sd']:.3f}")


if __name__ == "__main__":
    run_main(main)
