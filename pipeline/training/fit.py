"""Fit one network to its training rows, and choose its best epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from pipeline import params
from pipeline.errors import DataError, ParamsError
from pipeline.inference.normalise import Kind, Normaliser
from pipeline.tables.features import load_features
from pipeline.tables.trained_models import CURVE_COLUMNS
from pipeline.training import best_epoch, models, probe
from pipeline.training import normaliser as normalisers

if TYPE_CHECKING:
    import keras
    from keras.callbacks import Callback

    from pipeline.training.batches import Rows


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
        One row per epoch, columns ``CURVE_COLUMNS``; of a probe, one per C.
    facts
        What the card says of it beside.
    """

    model: keras.Model
    normaliser: Normaliser
    curves: pd.DataFrame
    facts: dict[str, Any] = field(default_factory=dict)


def fit_normaliser(rows: Rows, kind: Kind) -> Normaliser:
    """Fit on the rows' own slices, each once; their augmented copies do not count."""
    whole = pd.DataFrame({"track_id": rows.track_id, "slice": rows.slice}).drop_duplicates()
    # One track in memory at a time, in the order of ids: sums depend on it in the last bit.
    clips = (
        load_features(track_id)[np.sort(part.to_numpy())]
        for track_id, part in whole.groupby("track_id", sort=True)["slice"]
    )
    return normalisers.fit(kind, clips)


def _callbacks(keeper: Callback, *, log: bool) -> list[Any]:
    from keras import callbacks

    # The keeper first: what it adds to an epoch's logs, the others see.
    chosen = [keeper, callbacks.TerminateOnNaN()]  # a NaN does not go away, and epochs are long
    if log:
        import mlflow

        # Not mlflow.keras.MlflowCallback: it goes on when the store is gone (ours fails and is tried again),
        # logs validation twice, once as step 0, and adds 18 parameters of the optimizer to each comparison.
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
    watchers: Sequence[Callback] = (),
) -> Fitted:
    """Train one model and keep its best epoch (`pipeline.training.best_epoch`).

    Parameters
    ----------
    name
        A key of ``settings.models``.
    train, valid
        Rows to learn from, and to choose the epoch by.
    settings
        The params section ``train``.
    seed
        Of initial weights, dropout, order and augmentation.
    log
        Send every epoch's metrics to the MLflow run that is open.
    verbose
        Keras' own: 0 is silent, 1 a progress bar, 2 one line per epoch.
    watchers
        Callbacks of Keras that look on: each epoch's logs have the validation scores.

    Raises
    ------
    DataError
        The loss became NaN in the first epoch.
    """
    import keras

    from pipeline.training.batches import Batches, TrainBatches, read_row

    schedule = settings.models[name]  # type: ignore[index]
    if isinstance(schedule, params.ProbeParams):
        return Fitted(*probe.fit(name, train, valid, schedule.c, log=log))
    settings = settings.of(schedule)
    normaliser = fit_normaliser(train, settings.normalise)
    shape = read_row(train.track_id[0], train.slice[0], 0).shape
    _check_shape(shape)
    rows = train.balanced() if settings.class_weight == "balanced" else train
    batches = TrainBatches(rows, normaliser, settings, seed=seed, workers=_LOADERS)
    facts = {"architecture": schedule.architecture} if isinstance(schedule, params.PooledParams) else {}
    model = models.build(name, shape, train.targets.shape[1], **facts.get("architecture", {}))
    model.compile(
        keras.optimizers.Adam(_learning_rate(schedule, len(batches))),
        loss=_loss(schedule),
        weighted_metrics=[],
        metrics=["accuracy"],
        jit_compile=False,  # XLA is several times slower on CPU
    )
    judged = Batches(valid, normaliser, batch_size=settings.batch_size, workers=_LOADERS)
    chance = float(np.bincount(train.targets.argmax(axis=1)).max() / len(train))
    keeper = best_epoch.keeper(judged, settings, schedule.patience, chance)
    history = model.fit(
        batches,
        epochs=schedule.epochs,
        callbacks=[*_callbacks(keeper, log=log), *watchers],
        verbose=verbose,
    ).history
    if keeper.best is None:  # a later NaN costs nothing: the best epoch's weights are restored
        raise DataError(f"{name}: expected a finite validation loss, received NaN. Lower its learning_rate.")
    return Fitted(model, normaliser, _curves(history, keeper.best), facts)


def _learning_rate(schedule: params.ModelParams, steps: int) -> Any:
    """Return the learning rate, or how it falls over the epochs of so many steps."""
    from keras.optimizers.schedules import CosineDecay

    if isinstance(schedule, params.PooledParams) and schedule.schedule == "cosine":
        return CosineDecay(schedule.learning_rate, schedule.epochs * steps)
    return schedule.learning_rate


def _loss(schedule: params.ModelParams) -> Any:
    from keras.losses import CategoricalCrossentropy

    smoothing = schedule.label_smoothing if isinstance(schedule, params.PooledParams) else 0.0
    return CategoricalCrossentropy(label_smoothing=smoothing)


def _curves(history: dict[str, list[float]], kept: int) -> pd.DataFrame:
    curves = pd.DataFrame(history).reindex(columns=list(CURVE_COLUMNS)).round(_DIGITS)
    curves["epoch"] = range(1, len(curves) + 1)
    curves["kept"] = (curves.index == kept).astype(int)
    return curves


def _check_shape(shape: tuple[int, int]) -> None:
    if any(size < least for size, least in zip(shape, models.SMALLEST, strict=True)):
        raise ParamsError(
            f"spectrogram: expected at least {models.SMALLEST} (n_mels, frames) for the models, "
            f"received {shape}. Raise n_mels or lower hop_length."
        )


def require_schedule(settings: params.Params, name: str) -> None:
    """Raise `ParamsError` if params.yaml does not say how to train a model."""
    if name not in settings.train.models:
        raise ParamsError(f"params.yaml: expected a section train.models.{name}, received none. Add it.")
