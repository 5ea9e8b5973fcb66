"""Stage ``train``: one model for one task.

Writes the best epoch's weights (``artifacts/models/<task>-<model>.weights.h5``), a card with all that is
needed to use them (``….json``) and the learning curves (``artifacts/curves/<task>-<model>.csv``).
"""

from __future__ import annotations

import argparse
import sys
import warnings
from typing import Any

import pandas as pd

from pipeline import params, tracking
from pipeline.errors import DataError
from pipeline.files import sha256, write_csv, write_json
from pipeline.stage_run import run_stage
from pipeline.tables.dataset import read_dataset
from pipeline.tables.features import logmel_of
from pipeline.tables.labels import classes_of, labels_path, read_labels
from pipeline.tables.splits import LEAKY, OPTIMISTIC, read_split
from pipeline.tables.trained_models import card_path, curves_path, weights_path
from pipeline.taxonomy import TASKS
from pipeline.tracking import card_tags
from pipeline.training import backend, models
from pipeline.training.fit import (
    Fitted,
    fit,
    require_schedule,
)
from pipeline.training.weights import save_weights


def card(
    task: str, name: str, fitted: Fitted, assigned: pd.DataFrame, settings: params.Params
) -> dict[str, Any]:
    """Return what serving, evaluation and promotion must know of a model."""
    protocol = str(assigned["protocol"].iloc[0])
    seen = assigned.loc[assigned["part"] != "test", "track_id"]
    logmel = logmel_of(settings.spectrogram)
    return {
        "task": task,
        "model": name,
        "params": fitted.model.count_params(),
        "classes": classes_of(read_labels(task)),
        "protocol": protocol,
        "leaky": protocol in LEAKY,
        "optimistic": protocol in OPTIMISTIC,
        "seed": settings.seed,
        "dataset": {key: read_dataset()[key] for key in ("name", "synthetic")},
        "spectrogram": {"n_fft": logmel.n_fft, "hop_length": logmel.hop_length, "n_mels": logmel.n_mels},
        "front_end": models.FRONT_ENDS[name],
        "normaliser": fitted.normaliser.as_dict(),
        "seen_tracks": sorted(seen.unique().tolist()),
        "weights_sha256": sha256(weights_path(task, name)),
        **fitted.facts,
    }


def _log_params(settings: params.Params, name: str) -> None:
    import mlflow

    shared = settings.train.model_dump(exclude={"models", "specaugment"})
    own = settings.train.models[name].model_dump()  # type: ignore[index]
    ranges = {f"specaugment.{key}": value for key, value in settings.train.specaugment.model_dump().items()}
    mlflow.log_params({"model": name, "seed": settings.seed, **shared, **own, **ranges})


def _log_dataset(assigned: pd.DataFrame, table: pd.DataFrame) -> None:
    """Tell MLflow which tracks, labels and parts of which data version the run was given."""
    import mlflow
    from mlflow.data.pandas_dataset import from_pandas

    tracks = assigned[["track_id", "part"]].drop_duplicates().merge(table[["track_id", "label"]])
    name, digest = read_dataset()["name"], tracking.data_version().removesuffix(".dir")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a remark on integer columns
        given = from_pandas(tracks, source="data.dvc", name=name, digest=digest or None)
        mlflow.log_input(given, context="training")


def train(task: str, name: str, settings: params.Params) -> pd.DataFrame:
    """Train, write the outs and log the run; return the curves."""
    device = backend.prepare(settings.seed)
    from pipeline.training.batches import select

    assigned, table = read_split(task), read_labels(task)
    soft = settings.train.targets == "soft"
    if table["label"].nunique() < 2:
        raise DataError(f"{labels_path(task)}: expected at least two classes, received fewer. Add tracks.")
    rows = select(assigned, table, "train", soft=soft, copies=settings.train.augment == "report")
    valid = select(assigned, table, "valid", soft=soft)
    print(f"{task}-{name}: {len(rows)} training rows, {len(valid)} validation rows, on {device}")
    protocol = str(assigned["protocol"].iloc[0])
    with tracking.run(task, f"{task} · {name} · {protocol}", {"device": device}):
        import mlflow

        _log_params(settings, name)
        _log_dataset(assigned, table)
        verbose = 1 if sys.stdout.isatty() else 2
        fitted = fit(name, rows, valid, settings.train, seed=settings.seed, log=True, verbose=verbose)
        save_weights(fitted.model, weights_path(task, name))
        model_card = card(task, name, fitted, assigned, settings)
        write_json(card_path(task, name), model_card)
        write_csv(curves_path(task, name), fitted.curves)
        mlflow.set_tags(card_tags(model_card) | {"weights_sha256": model_card["weights_sha256"]})
    return fitted.curves


def main() -> None:
    """Train one model for one task."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.stages.train", description=main.__doc__)
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--model", choices=sorted(models.MODELS), required=True)
    args, settings = parser.parse_args(), params.read()
    require_schedule(settings, args.model)
    curves = train(args.task, args.model, settings)
    best = curves.loc[curves["kept"].idxmax()]
    print(
        f"{args.task}-{args.model}: best epoch {best['epoch']:.0f} of {len(curves)}, validation loss "
        f"{best['val_loss']:.3f}, accuracy of its slices {best['val_accuracy']:.3f}"
    )


if __name__ == "__main__":
    run_stage(main)
