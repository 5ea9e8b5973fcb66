"""Ask a trained model about rows, and score its answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from pipeline import params
from pipeline.inference.calibration import Calibration
from pipeline.inference.normalise import Normaliser
from pipeline.training import calibrate, models, scores

if TYPE_CHECKING:
    import keras

    from pipeline.training.batches import Rows


_BATCH: Final = 32  # rows at a time, which bounds the memory

_DIGITS: Final = 6  # of the seven that a float32 has


@dataclass(frozen=True)
class Predicted:
    """Truth and probabilities of one part.

    Parameters
    ----------
    n_slices
        Rows predicted.
    slice_truth, slice_probabilities
        int (n_slices,), float (n_slices, n_classes).
    tracks
        Track ids, sorted, (n_tracks,).
    truth, probabilities
        int (n_tracks,), float (n_tracks, n_classes).
    """

    n_slices: int
    slice_truth: np.ndarray
    slice_probabilities: np.ndarray
    tracks: np.ndarray
    truth: np.ndarray
    probabilities: np.ndarray


def predict(model: keras.Model, rows: Rows, normaliser: Normaliser, truth: dict[str, int]) -> Predicted:
    """Ask a model about rows.

    Parameters
    ----------
    model, normaliser
        From `pipeline.stages.train`.
    rows
        The part's rows.
    truth
        The class number of every track.
    """
    from pipeline.training.batches import Batches

    features = models.features_folder(model.name)
    batches = Batches(rows, normaliser, batch_size=_BATCH, features=features, workers=2)
    # In float64, so that means over slices do not round.
    probabilities = np.asarray(model.predict(batches, verbose=0), np.float64)
    tracks, mean = scores.mean_by(rows.track_id, probabilities)
    return Predicted(
        n_slices=len(rows),
        slice_truth=np.array([truth[track] for track in rows.track_id]),
        slice_probabilities=probabilities,
        tracks=tracks,
        truth=np.array([truth[track] for track in tracks]),
        probabilities=mean,
    )


def embedding(model: keras.Model, rows: Rows, normaliser: Normaliser) -> np.ndarray:
    """Return what the last layer decides by, as means over tracks in the order of `Predicted.tracks`.

    Returns
    -------
    np.ndarray
        float64 (n_tracks, n_numbers): 9,600 of CNN-64, 84 of LeNet-5, what its front end gives of a probe.
    """
    import keras

    from pipeline.training.batches import Batches

    inner = keras.Model(model.inputs, model.layers[-1].input)
    features = models.features_folder(model.name)
    batches = Batches(rows, normaliser, batch_size=_BATCH, features=features, workers=2)
    numbers = np.asarray(inner.predict(batches, verbose=0), np.float64)
    return scores.mean_by(rows.track_id, numbers)[1]


def in_two_dimensions(numbers: np.ndarray) -> np.ndarray:
    """Return the first two principal components, (n, 2), of numbers (n, k).

    Examples
    --------
    >>> in_two_dimensions(np.array([[0.0, 0, 0], [3, 0, 4], [6, 0, 8]])).round(6)[:, 0].tolist()
    [-5.0, 0.0, 5.0]
    """
    from sklearn.decomposition import PCA

    found = np.zeros((len(numbers), 2))
    n = min(2, *numbers.shape)
    found[:, :n] = PCA(n, svd_solver="full").fit_transform(numbers)
    return found


def corrected(predicted: Predicted, rows: Rows, calibration: Calibration) -> Predicted:
    """Return the answers to ``rows`` as they are served."""
    familiar = calibrate.familiar(rows, calibration)
    slices = calibration.correct(predicted.slice_probabilities, familiar)
    _, means = scores.mean_by(rows.track_id, slices)
    return replace(predicted, slice_probabilities=slices, probabilities=means)


def score(predicted: Predicted, settings: params.EvaluateParams, rows: Rows | None = None) -> dict[str, Any]:
    """Return one part's entry of the metrics; ``rows`` say how far annotators agree, None: wholly."""
    bins = settings.calibration_bins
    shares = None if rows is None else scores.mean_by(rows.track_id, rows.targets)[1]
    # Of tracks, not slices: those of a track are right or wrong together.
    interval = scores.accuracy_interval(predicted.truth, predicted.probabilities)
    track = scores.summary(predicted.truth, predicted.probabilities, n_bins=bins, shares=shares)
    of_slices = predicted.slice_truth, predicted.slice_probabilities
    most_frequent = round(float(np.bincount(predicted.truth).max() / len(predicted.truth)), _DIGITS)
    return {
        "n_slices": predicted.n_slices,
        "n_tracks": len(predicted.tracks),
        "slice": scores.summary(*of_slices, n_bins=bins, shares=None if rows is None else rows.targets),
        "track": track
        | {"accuracy_ci": [round(end, _DIGITS) for end in interval], "most_frequent": most_frequent},
    }


def prediction_table(parts: dict[str, Predicted], classes: list[str]) -> pd.DataFrame:
    """Return one row per track and part."""
    tables = []
    for part, predicted in parts.items():
        rows = pd.DataFrame({"track_id": predicted.tracks, "part": part})
        rows["label"] = [classes[number] for number in predicted.truth]
        rows["predicted"] = [classes[number] for number in predicted.probabilities.argmax(axis=1)]
        shares = pd.DataFrame(
            predicted.probabilities.round(_DIGITS), columns=[f"p_{name}" for name in classes]
        )
        tables.append(pd.concat([rows, shares], axis=1))
    return pd.concat(tables, ignore_index=True)
