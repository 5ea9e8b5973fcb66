"""Stage ``train``: one model for one task.

Writes the best epoch's weights (``artifacts/models/<task>-<model>.weights.h5``), a card with all that is
needed to use them (``….json``) and the learning curves (``artifacts/curves/<task>-<model>.csv``).
"""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from pipeline import backend, catalog, labels, models, params, spectrogram, split, tracking
from pipeline.errors import DataError, ParamsError, run_main
from pipeline.files import read_json, replacing, sha256, write_csv, write_json
from pipeline.inference import normalise
from pipeline.taxonomy import TASKS
from pipeline.training.normaliser import fit as fit_to

if TYPE_CHECKING:
    import keras

    from pipeline.batches import Rows

CURVES: Final = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")
_LOADERS: Final = 2  # threads that read and augment the next batches
_DIGITS: Final = 6


@dataclass(frozen=True)
class Fitted:
    """A trained model with what belongs to it.

    Parameters
    ----------
    model
        The Keras model, with the best epoch's weights.
    normaliser
        Fitted on the training rows.
    curves
        A row an epoch, columns ``CURVES``.
    """

    model: keras.Model
    normaliser: normalise.Normaliser
    curves: pd.DataFrame


def weights_path(task: str, model: str) -> Path:
    """Return where a model's weights are."""
    return Path(f"artifacts/models/{task}-{model}.weights.h5")


def card_path(task: str, model: str) -> Path:
    """Return where a model's card is: classes, normaliser, spectrogram, protocol, tracks seen."""
    return Path(f"artifacts/models/{task}-{model}.json")


def curves_path(task: str, model: str) -> Path:
    """Return where a model's learning curves are."""
    return Path(f"artifacts/curves/{task}-{model}.csv")


def fit_normaliser(rows: Rows, kind: normalise.Kind) -> normalise.Normaliser:
    """Fit on the rows' own slices, each once; their augmented copies do not count."""
    whole = pd.DataFrame({"track_id": rows.track_id, "slice": rows.slice}).drop_duplicates()
    clips = (
        spectrogram.load(track_id)[np.sort(part.to_numpy())]
        for track_id, part in whole.groupby("track_id", sort=True)["slice"]
    )
    return fit_to(kind, clips)


def _callbacks(schedule: params.ModelParams, *, log: bool) -> list[Any]:
    from keras import callbacks

    chosen = [
        callbacks.EarlyStopping("val_loss", patience=schedule.patience, restore_best_weights=True),
        callbacks.TerminateOnNaN(),
    ]
    if log:
        import mlflow

        chosen.append(
            callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: mlflow.log_metrics(logs, step=epoch))
        )
    return chosen


def fit(
    name: str,
    train: Rows,
    valid: Rows,
    settings: params.TrainParams,
    *,
    seed: int,
    log: bool,
    verbose: int = 2,
) -> Fitted:
    """Train one model; the epoch with the lowest validation loss wins.

    Parameters
    ----------
    name
        A key of ``settings.models``.
    train, valid
        Rows to learn from and to stop by.
    settings
        The params section ``train``.
    seed
        Of initial weights, dropout, order and augmentation.
    log
        Send every epoch's metrics to the MLflow run that is open.
    verbose
        Keras' own: 0 is silent, 1 a progress bar, 2 a line an epoch.

    Raises
    ------
    DataError
        The loss became NaN in the first epoch.
    """
    import keras

    from pipeline.batches import Batches, TrainBatches, read_row

    schedule = settings.models[name]  # type: ignore[index]
    normaliser = fit_normaliser(train, settings.normalise)
    shape = read_row(train.track_id[0], train.slice[0], 0).shape
    _check_shape(shape)
    model = models.build(name, shape, train.targets.shape[1])
    model.compile(
        keras.optimizers.Adam(schedule.learning_rate),
        loss="categorical_crossentropy",
        weighted_metrics=[],
        metrics=["accuracy"],
        jit_compile=False,  # XLA is several times slower on CPU
    )
    rows = train.balanced() if settings.class_weight == "balanced" else train
    history = model.fit(
        TrainBatches(rows, normaliser, settings, seed=seed, workers=_LOADERS),
        validation_data=Batches(valid, normaliser, batch_size=settings.batch_size, workers=_LOADERS),
        epochs=schedule.epochs,
        callbacks=_callbacks(schedule, log=log),
        verbose=verbose,
    ).history
    curves = _curves(history)
    if not curves["val_loss"].map(math.isfinite).any():
        raise DataError(f"{name}: expected a finite validation loss, received NaN. Lower its learning_rate.")
    return Fitted(model, normaliser, curves)


def _check_shape(shape: tuple[int, int]) -> None:
    if any(size < least for size, least in zip(shape, models.SMALLEST, strict=True)):
        raise ParamsError(
            f"spectrogram: expected at least {models.SMALLEST} (n_mels, frames) for the models, "
            f"received {shape}. Raise n_mels or lower hop_length."
        )


def _curves(history: dict[str, list[float]]) -> pd.DataFrame:
    table = pd.DataFrame({name: values for name, values in history.items() if name in CURVES})
    table.insert(0, "epoch", range(1, len(table) + 1))
    return table.reindex(columns=list(CURVES)).round(_DIGITS)


def save_weights(model: keras.Model, path: Path) -> None:
    """Write ``.weights.h5`` atomically: equal weights give equal bytes, ``.keras`` files do not."""
    with replacing(path) as temporary:
        model.save_weights(temporary)


def card(
    task: str, name: str, fitted: Fitted, assigned: pd.DataFrame, settings: params.Params
) -> dict[str, Any]:
    """Return what serving, evaluation and promotion must know of a model."""
    protocol = str(assigned["protocol"].iloc[0])
    seen = assigned.loc[assigned["part"] != "test", "track_id"]
    spec = spectrogram.spec_of(settings.spectrogram)
    return {
        "task": task,
        "model": name,
        "params": fitted.model.count_params(),
        "classes": labels.classes_of(labels.read(task)),
        "protocol": protocol,
        "leaky": protocol in split.LEAKY,
        "optimistic": protocol in split.OPTIMISTIC,
        "seed": settings.seed,
        "dataset": {key: catalog.dataset()[key] for key in ("name", "synthetic")},
        "spectrogram": {"n_fft": spec.n_fft, "hop_length": spec.hop_length, "n_mels": spec.n_mels},
        "normaliser": fitted.normaliser.as_dict(),
        "seen_tracks": sorted(seen.unique().tolist()),
        "weights_sha256": sha256(weights_path(task, name)),
    }


def load(task: str, name: str) -> tuple[keras.Model, dict[str, Any]]:
    """Return a trained model of the workspace and its card."""
    facts, weights = read_json(card_path(task, name)), weights_path(task, name)
    if not weights.exists() or sha256(weights) != facts["weights_sha256"]:
        raise DataError(
            f"{weights}: expected the weights that {card_path(task, name)} describes, received "
            f"{'others' if weights.exists() else 'no file'}. Run the stage train again."
        )
    spec = facts["spectrogram"]
    shape = spec["n_mels"], spectrogram.logmel.LogMel(**spec).frames
    model = models.build(name, shape, len(facts["classes"]))
    model.load_weights(weights)
    return model, facts


def tags_of(facts: dict[str, Any]) -> dict[str, str]:
    """Return the MLflow tags that a model's card gives."""
    return {
        "task": facts["task"],
        "model": facts["model"],
        "protocol": facts["protocol"],
        "leaky": str(facts["leaky"]).lower(),
        "optimistic": str(facts["optimistic"]).lower(),
        "dataset": facts["dataset"]["name"],
        "synthetic": str(facts["dataset"]["synthetic"]).lower(),
    }


def _log_params(settings: params.Params, name: str) -> None:
    import mlflow

    shared = settings.train.model_dump(exclude={"models", "spec"})
    own = settings.train.models[name].model_dump()  # type: ignore[index]
    spec = {f"spec.{key}": value for key, value in settings.train.spec.model_dump().items()}
    mlflow.log_params({"model": name, "seed": settings.seed, **shared, **own, **spec})


def _log_dataset(assigned: pd.DataFrame, table: pd.DataFrame) -> None:
    """Tell MLflow which tracks, labels and parts of which data version the run was given."""
    import mlflow
    from mlflow.data.pandas_dataset import from_pandas

    tracks = assigned[["track_id", "part"]].drop_duplicates().merge(table[["track_id", "label"]])
    name, digest = catalog.dataset()["name"], tracking.data_version().removesuffix(".dir")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a remark on integer columns
        given = from_pandas(tracks, source="data.dvc", name=name, digest=digest or None)
        mlflow.log_input(given, context="training")


def train(task: str, name: str, settings: params.Params) -> pd.DataFrame:
    """Train, write the outs and log the run; return the curves."""
    device = backend.prepare(settings.seed)
    from pipeline.batches import select

    assigned, table = split.read(task), labels.read(task)
    soft = settings.train.targets == "soft"
    if table["label"].nunique() < 2:
        raise DataError(f"{labels.path_of(task)}: expected at least two classes, received fewer. Add tracks.")
    rows = select(assigned, table, "train", soft=soft, copies=settings.train.augment == "seed")
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
        facts = card(task, name, fitted, assigned, settings)
        write_json(card_path(task, name), facts)
        write_csv(curves_path(task, name), fitted.curves)
        mlflow.set_tags(tags_of(facts) | {"weights_sha256": facts["weights_sha256"]})
    return fitted.curves


def require_schedule(settings: params.Params, name: str) -> None:
    """Raise `ParamsError` if params.yaml does not say how to train a model."""
    if name not in settings.train.models:
        raise ParamsError(f"params.yaml: expected a section train.models.{name}, received none. Add it.")


def main() -> None:
    """Train one model for one task."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.train", description=main.__doc__)
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--model", choices=sorted(models.MODELS), required=True)
    args, settings = parser.parse_args(), params.read()
    require_schedule(settings, args.model)
    curves = train(args.task, args.model, settings)
    best = int(curves["val_loss"].argmin())
    print(f"{args.task}-{args.model}: best epoch {best + 1}, validation loss {curves['val_loss'][best]:.3f}")


if __name__ == "__main__":
    run_main(main)
