"""Which epoch's weights are kept: those that answer the validation tracks best, not those of the lowest loss.

A network that learns grows sure of itself, and its validation loss rises with the few answers that are wrong
while it still gets more tracks right: on real GTZAN CNN-64's loss is lowest after its first epoch, when it
has learned next to nothing. So the epoch is chosen by what is wanted; probabilities are calibrated later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from pipeline import params
from pipeline.training import scores

if TYPE_CHECKING:
    from keras.callbacks import Callback

    from pipeline.training.batches import Rows

_DIGITS: Final = 6  # smaller differences are rounding


class Epoch(NamedTuple):
    """What is known of a network after an epoch.

    Parameters
    ----------
    score
        How well it answers the validation tracks; larger is better.
    loss
        Its validation loss; NaN: the network is broken.
    accuracy
        On the training rows, while it learned.
    """

    score: float
    loss: float
    accuracy: float


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """Return the mean of each value and those before it, ``window`` of them at most.

    Examples
    --------
    >>> smoothed([0.0, 1.0, 2.0, 9.0], window=2)
    [0.0, 0.5, 1.5, 5.5]
    """
    means = [np.mean(values[max(0, last - window) : last]) for last in range(1, len(values) + 1)]
    return [round(float(mean), _DIGITS) for mean in means]


def choose(epochs: Sequence[Epoch], window: int, chance: float) -> int | None:
    """Return the index of the epoch to keep: the best smoothed score, of equals the lowest smoothed loss.

    Parameters
    ----------
    epochs
        All so far, in their order.
    window
        Epochs that are averaged. A first epoch has nothing to be averaged with and would win by luck, so
        the first ``window - 1`` are kept only where there are no others.
    chance
        Training accuracy of always the most frequent class. An epoch that is not above it is untrained, and
        is kept only where all are.

    Returns
    -------
    int or None
        None: each loss is NaN.

    Examples
    --------
    >>> learning = [Epoch(0.1, 2.0, 0.1), Epoch(0.3, 2.4, 0.5), Epoch(0.4, 3.0, 0.8)]  # the loss rises
    >>> choose(learning, window=1, chance=0.2)
    2
    """
    score = smoothed([epoch.score for epoch in epochs], window)
    loss = smoothed([epoch.loss for epoch in epochs], window)
    able = [index for index, epoch in enumerate(epochs) if math.isfinite(epoch.loss)]

    def rank(index: int) -> tuple[bool, bool, float, float]:
        return epochs[index].accuracy > chance, index >= window - 1, score[index], -loss[index]

    return max(able, key=rank, default=None)


def track_scores(rows: Rows, probabilities: np.ndarray) -> dict[str, float]:
    """Return how well a network answers the validation rows.

    Parameters
    ----------
    rows
        Of the validation part.
    probabilities
        Of the rows, float (n, n_classes).

    Returns
    -------
    dict
        ``val_loss`` and ``val_accuracy`` of the rows; of track means ``val_agreement``, the share of a
        track's annotators who agree with the answer (where labels are hard, the accuracy), and
        ``val_macro_f1`` against the majority's label.
    """
    truth = rows.targets.argmax(axis=1)
    _, shares = scores.mean_by(rows.track_id, rows.targets)
    _, means = scores.mean_by(rows.track_id, probabilities)
    return {
        "val_loss": scores.cross_entropy(rows.targets, probabilities),
        "val_accuracy": scores.accuracy(truth, probabilities),
        "val_agreement": scores.agreement(shares, means),
        "val_macro_f1": scores.macro_f1(shares.argmax(axis=1), means),
    }


def score_of(logs: dict[str, Any], measure: str) -> float:
    """Return an epoch's score by the parameter ``train.choose_epoch_by``."""
    return -float(logs["val_loss"]) if measure == "loss" else float(logs[f"val_{measure}"])


def keeper(valid: Any, settings: params.TrainParams, patience: int, chance: float) -> Callback:
    """Return a Keras callback that scores every epoch, stops in time, and restores the best weights.

    Parameters
    ----------
    valid
        The validation part's `pipeline.training.batches.Batches`.
    settings
        The params section ``train``.
    patience
        Epochs without a better one after which training stops.
    chance
        As for `choose`.

    Returns
    -------
    keras.callbacks.Callback
        It writes `track_scores` and ``val_score`` into each epoch's logs, for the callbacks after it; at the
        end ``best`` is the index of the epoch that was kept.
    """
    from keras import callbacks

    class BestEpoch(callbacks.Callback):
        """Keep the weights of the best epoch."""

        def __init__(self) -> None:
            super().__init__()
            self.patience = patience
            self.best: int | None = None
            self.weights: list[np.ndarray] | None = None
            self.epochs: list[Epoch] = []

        def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
            probabilities = np.asarray(self.model.predict(valid, verbose=0), np.float64)
            logs |= track_scores(valid.rows, probabilities)
            score = score_of(logs, settings.choose_epoch_by)
            self.epochs.append(Epoch(score, logs["val_loss"], logs["accuracy"]))
            logs["val_score"] = smoothed([one.score for one in self.epochs], settings.smooth_epochs)[-1]
            best = choose(self.epochs, settings.smooth_epochs, chance)
            if best is not None and best != self.best:  # a later epoch never makes an earlier one best
                self.best, self.weights = best, self.model.get_weights()
            waited = epoch - (self.best or 0)
            if waited >= patience and epoch >= settings.smooth_epochs - 1:
                self.model.stop_training = True

        def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
            if self.weights is not None:
                self.model.set_weights(self.weights)

    return BestEpoch()
