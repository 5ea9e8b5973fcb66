"""Fit a probe: a multinomial logistic regression on what a frozen network makes of each track.

It learns from the means over tracks, is asked about slices, and becomes one dense layer, so that it is
stored, evaluated and served as the networks are. The validation part chooses the strength of the
regularisation and trains nothing, so that what is measured on it later is not flattered.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from pipeline.files import sha256
from pipeline.inference.normalise import Normaliser
from pipeline.tables.trained_models import CURVE_COLUMNS
from pipeline.training import best_epoch, models, musicnn, normaliser, scores

if TYPE_CHECKING:
    import keras

    from pipeline.training.batches import Rows

_ITERATIONS: Final = 1_000  # ten times what the weakest regularisation took on 300 songs
_ABSENT: Final = -30.0  # logit of a class without training tracks: its probability rounds to zero
_DIGITS: Final = 6


@dataclass(frozen=True)
class Layer:
    """A dense layer.

    Parameters
    ----------
    kernel
        float64 (n_numbers, n_classes).
    bias
        float64 (n_classes,).
    """

    kernel: np.ndarray
    bias: np.ndarray

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Return probabilities, float64 (n, n_classes), of float64 (n, n_numbers)."""
        logits = inputs @ self.kernel + self.bias
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)


def fit_layer(inputs: np.ndarray, targets: np.ndarray, c: float) -> Layer:
    """Return a logistic regression on soft targets: each row once per class, weighted by the class's share.

    Parameters
    ----------
    inputs
        float64 (n, n_numbers), standardised.
    targets
        (n, n_classes), rows sum to 1; at least two classes occur.
    c
        Inverse strength of the regularisation.

    Examples
    --------
    >>> layer = fit_layer(np.array([[-1.0], [1.0]]), np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]]), c=100.0)
    >>> layer(np.array([[-1.0]])).round(1).tolist()
    [[0.9, 0.1, 0.0]]
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    row, label = np.nonzero(targets)
    model = LogisticRegression(C=c, max_iter=_ITERATIONS)
    # Products of a few hundred rows: threads that wait for each other take twice as long.
    with threadpool_limits(1), warnings.catch_warnings():  # stopped there, it is a little more regularised
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(inputs[row], label, sample_weight=targets[row, label])
    kernel, bias = np.zeros((inputs.shape[1], targets.shape[1])), np.full(targets.shape[1], _ABSENT)
    bias[model.classes_] = 0.0
    # Of two classes scikit-learn gives the second's logit against the first's.
    known = model.classes_[1:] if len(model.classes_) == 2 else model.classes_
    kernel[:, known], bias[known] = model.coef_.T, model.intercept_
    return Layer(kernel, bias)


def fit(
    name: str, train: Rows, valid: Rows, grid: list[float], *, log: bool
) -> tuple[Any, Normaliser, Any, Any]:
    """Train one probe; the C with the lowest cross-entropy on the validation rows wins.

    Parameters
    ----------
    name
        A key of ``models.MODELS`` whose front end is a frozen network.
    train, valid
        Rows to learn from and to choose by.
    grid
        The values of C.
    log
        Send every C's metrics to the MLflow run that is open.

    Returns
    -------
    keras.Model, Normaliser, pd.DataFrame, dict
        The dense layer, what standardises its inputs, one row per C in the columns ``CURVE_COLUMNS``
        (``epoch``: its number in the grid), and what the card says beside: ``c``, ``licence``, ….
    """
    folder = models.features_folder(name)
    learned, chosen_by = _features(train, folder), _features(valid, folder)
    means = scores.mean_by(train.track_id, learned)[1]
    targets = scores.mean_by(train.track_id, train.targets)[1]
    fitted = normaliser.fit("standard", [means[..., None]])
    layers, rows = [], []
    for number, c in enumerate(grid, start=1):
        layers.append(fit_layer(_standardised(means, fitted), targets, c))
        own = best_epoch.track_scores(train, layers[-1](_standardised(learned, fitted)))
        row = {"epoch": number, "loss": own["val_loss"], "accuracy": own["val_accuracy"]}
        row |= best_epoch.track_scores(valid, layers[-1](_standardised(chosen_by, fitted)))
        rows.append(row | {"val_score": -row["val_loss"]})
        if log:
            import mlflow

            mlflow.log_metrics(
                {name: rows[-1][name] for name in rows[-1] if name != "epoch"}, step=number - 1
            )
    curves = pd.DataFrame(rows).reindex(columns=list(CURVE_COLUMNS)).round(_DIGITS)
    best = int(curves["val_loss"].argmin())
    curves["kept"] = (curves.index == best).astype(int)
    facts = {"c": grid[best], "front_end_sha256": sha256(musicnn.graph()), "licence": musicnn.LICENCE}
    return _as_network(name, layers[best]), fitted, curves, facts


def _features(rows: Rows, folder: Path) -> np.ndarray:
    """Return the rows' numbers, float64 (n, n_numbers)."""
    from pipeline.training.batches import Layout

    layouts = {track_id: Layout.of(track_id, 0, folder) for track_id in set(rows.track_id)}
    read = [
        layouts[track_id].row(number, 0) for track_id, number in zip(rows.track_id, rows.slice, strict=True)
    ]
    return np.stack(read)[..., 0].astype(np.float64)


def _standardised(numbers: np.ndarray, fitted: Normaliser) -> np.ndarray:
    return fitted(numbers[..., None])[..., 0].astype(np.float64)


def _as_network(name: str, layer: Layer) -> keras.Model:
    model = models.build(name, (len(layer.kernel), 1), len(layer.bias))
    model.set_weights([layer.kernel.astype(np.float32), layer.bias.astype(np.float32)])
    return model
