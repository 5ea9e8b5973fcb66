"""Fit what probabilities are worth: temperature and threshold on validation, the domain on training.

The test part is never looked at here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from pipeline.inference.calibration import Calibration, Domain, band_statistics
from pipeline.training import scores

if TYPE_CHECKING:
    from pipeline.training.batches import Rows

# Not below 1: the tracks that chose the epoch, or C, say of any model that it could be surer.
_TEMPERATURES: Final = (1.0, 20.0)
_FARTHEST: Final = 0.97  # of the validation slices are familiar; at 0.99 some read voices are too
_MIN_SURE: Final = 10  # validation tracks above a threshold; fewer do not say how precise it is
_DIGITS: Final = 6


def fit_temperature(rows: Rows, probabilities: np.ndarray, known: np.ndarray) -> float:
    """Return the temperature, 1 or more, that gives the validation tracks' labels the lowest cross-entropy.

    Parameters
    ----------
    rows
        Of the validation part; their targets may be soft.
    probabilities
        The network's, of the rows, float (n, n_classes).
    known
        Which classes the training part has, bool (n_classes,). A label of another one says nothing of how
        sure the answers among the known may be, and alone would level them all.
    """
    from scipy.optimize import minimize_scalar

    _, shares = scores.mean_by(rows.track_id, rows.targets * known)

    def loss(logarithm: float) -> float:
        softened = Calibration(float(np.exp(logarithm))).soften(probabilities)
        return scores.cross_entropy(shares, scores.mean_by(rows.track_id, softened)[1])

    found = minimize_scalar(loss, bounds=np.log(_TEMPERATURES), method="bounded", options={"xatol": 1e-3})
    return round(float(np.exp(found.x)), 3)


def fit_threshold(truth: np.ndarray, probabilities: np.ndarray, precision: float) -> float | None:
    """Return the least probability above which answers are as precise as wanted; None if there is none.

    Parameters
    ----------
    truth, probabilities
        Of the validation tracks: int (n,), float (n, n_classes).
    precision
        Share of right answers among the sure ones.

    Examples
    --------
    >>> likely = np.linspace(0.5, 0.89, 40)  # the ten least likely answers are wrong
    >>> truth = (np.arange(40) < 10).astype(int)
    >>> fit_threshold(truth, np.column_stack([likely, 1 - likely]), 1.0)
    0.6
    """
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    confidence = probabilities.max(axis=1)[order]
    right = np.cumsum((probabilities.argmax(axis=1) == truth)[order]) / np.arange(1, len(order) + 1)
    # Tracks of equal probability are sure together: a cut is where the next one is lower.
    is_cut = np.append(np.diff(confidence) < 0, True)
    able = np.flatnonzero(is_cut & (right >= precision) & (np.arange(len(order)) >= _MIN_SURE - 1))
    # Rounded down, so that the track that sets it stays above it.
    return float(np.floor(confidence[able[-1]] * 10**_DIGITS) / 10**_DIGITS) if len(able) else None


def fit_domain(train: np.ndarray, valid: np.ndarray) -> Domain:
    """Return the domain of the training slices, as wide as nearly all validation slices need it.

    Parameters
    ----------
    train, valid
        The slices' `band_statistics`, (n, k + 1).
    """
    from sklearn.covariance import LedoitWolf

    fitted = LedoitWolf().fit(train[:, :-1])
    mean = tuple(float(value) for value in fitted.location_.round(_DIGITS))
    precision = tuple(tuple(float(value) for value in row) for row in fitted.precision_.round(_DIGITS))
    open_end = Domain(mean, precision, np.inf, -np.inf)
    distances = [open_end.distance(one) for one in valid]
    farthest = round(float(np.quantile(distances, _FARTHEST)), _DIGITS)
    steadiest = round(float(min(train[:, -1].min(), valid[:, -1].min())), _DIGITS)
    return Domain(mean, precision, farthest, steadiest)


def fit(train: Rows, valid: Rows, answers: np.ndarray, truth: np.ndarray, precision: float) -> Calibration:
    """Return a model's calibration.

    Parameters
    ----------
    train, valid
        The rows of the two parts.
    answers
        The network's probabilities of the validation rows, float (n, n_classes).
    truth
        Class numbers of the validation tracks in the order of their sorted ids, int (n_tracks,).
    precision
        The parameter ``evaluate.sure_precision``.
    """
    domain = fit_domain(statistics(train), statistics(valid))
    known = train.targets.sum(axis=0) > 0
    open_end = Calibration(fit_temperature(valid, answers, known), None, domain)
    slices = open_end.correct(answers, familiar(valid, open_end))
    _, means = scores.mean_by(valid.track_id, slices)
    return replace(open_end, threshold=fit_threshold(truth, means, precision))


def statistics(rows: Rows) -> np.ndarray:
    """Return the `band_statistics` of rows, float (n, k)."""
    return np.array([band_statistics(decibels) for decibels in _each(rows)])


def familiar(rows: Rows, calibration: Calibration) -> np.ndarray:
    """Return for each row whether its audio is familiar, bool (n,)."""
    return np.array([calibration.is_familiar(decibels[None])[0] for decibels in _each(rows)], bool)


def _each(rows: Rows) -> Iterator[np.ndarray]:
    """Yield the rows' features, one at a time."""
    from pipeline.training.batches import read_row

    for track_id, number, copy in zip(rows.track_id, rows.slice, rows.copy, strict=True):
        yield read_row(track_id, number, copy)
