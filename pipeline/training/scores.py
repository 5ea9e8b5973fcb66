"""How good are probabilities? Pure functions of (n, n_classes) arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.inference.calibration import Calibration

_DIGITS = 6
_RESAMPLES = 999  # of the tracks: the ends of an interval are good to a twentieth of its width
_TINY = 1e-7  # probabilities are clipped to it, as Keras' own cross-entropy does


def accuracy(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the share of rows whose most probable class is ``truth``, int (n,)."""
    return float(np.mean(probabilities.argmax(axis=1) == truth))


def top_k(truth: np.ndarray, probabilities: np.ndarray, k: int = 3) -> float:
    """Return the share of rows whose truth is among the ``k`` most probable classes."""
    # scikit-learn's top_k_accuracy_score refuses two classes, and NaN.
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float(np.mean((best == truth[:, None]).any(axis=1)))


def macro_f1(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean F1 over the classes that occur in ``truth``; NaN if a probability is NaN."""
    from sklearn.metrics import f1_score

    # argmax takes NaN for the largest, and would make a number of it.
    if np.isnan(probabilities).any():
        return float("nan")
    return float(
        f1_score(
            truth, probabilities.argmax(axis=1), labels=np.unique(truth), average="macro", zero_division=0
        )
    )


def log_loss(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean negative natural logarithm of the truth's probability."""
    # scikit-learn's warns of every float32 softmax, whose sum is 1 to seven digits, and clips at 2e-16.
    return float(-np.mean(np.log(np.clip(probabilities[np.arange(len(truth)), truth], _TINY, 1.0))))


def cross_entropy(shares: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean cross-entropy of soft labels, in nats; `log_loss` where they are hard.

    Parameters
    ----------
    shares
        Of the annotators, float (n, n_classes), rows sum to 1.
    probabilities
        float (n, n_classes).

    Examples
    --------
    >>> round(cross_entropy(np.array([[0.5, 0.5]]), np.array([[0.5, 0.5]])), 6) == round(float(np.log(2)), 6)
    True
    """
    return float(-np.mean((shares * np.log(np.clip(probabilities, _TINY, 1.0))).sum(axis=1)))


def agreement(shares: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the chance that a random annotator of a row agrees with its most probable class.

    Where labels are hard it is the accuracy.

    Examples
    --------
    >>> agreement(np.array([[0.6, 0.4], [0.0, 1.0]]), np.array([[0.9, 0.1], [0.2, 0.8]]))
    0.8
    """
    return float(agreements(shares, probabilities).mean())


def agreements(shares: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return for each row the share of annotators who agree with its most probable class, float (n,)."""
    return np.take_along_axis(shares, probabilities.argmax(axis=1)[:, None], axis=1)[:, 0]


def calibration_error(shares: np.ndarray, probabilities: np.ndarray, n_bins: int = 10) -> float:
    """Return the expected calibration error, 0 to 1, over bins of equal width (Guo et al. 2017).

    An answer's probability is compared with the share of annotators who give that answer. Against the
    majority's label, a forecast that is right about a divided audience would look far too modest.

    Parameters
    ----------
    shares
        Of the annotators, float (n, n_classes); `certain` where labels are hard.
    probabilities
        float (n, n_classes).
    n_bins
        Of the confidence.

    Examples
    --------
    >>> divided = np.array([[0.4, 0.3, 0.3]])
    >>> calibration_error(divided, divided)
    0.0
    """
    # scikit-learn has none: its calibration_curve does not return how many rows a bin has.
    confidence, right = probabilities.max(axis=1), agreements(shares, probabilities)
    number = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    size = np.bincount(number, minlength=n_bins)
    gap = np.bincount(number, weights=right - confidence, minlength=n_bins)
    return float(np.abs(gap[size > 0]).sum() / len(shares))


def certain(truth: np.ndarray, n_classes: int) -> np.ndarray:
    """Return hard labels, int (n,), as the shares of annotators who all agree, float (n, n_classes)."""
    return np.eye(n_classes)[truth]


def accuracy_interval(truth: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """Return Wilson's 95 % interval of the accuracy (Wilson 1927); the rows are taken to be independent.

    Unlike resampling it has a width where no row, or each row, is right.

    Examples
    --------
    >>> all_right = accuracy_interval(np.zeros(15, int), np.tile([0.9, 0.1], (15, 1)))
    >>> [round(end, 3) for end in all_right]
    [0.796, 1.0]
    """
    from scipy.stats import binomtest

    right = int((probabilities.argmax(axis=1) == truth).sum())
    found = binomtest(right, len(truth)).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)


def gain_interval(gain: Callable[[np.ndarray], float], n_tracks: int) -> tuple[float, float]:
    """Return the 95 % interval of a gain over resampled tracks: a paired bootstrap, by percentiles.

    Examples
    --------
    >>> better_on_each = np.array([0.1, 0.2, 0.3])
    >>> low, high = gain_interval(lambda index: float(better_on_each[index].mean()), 3)
    >>> round(low, 3), round(high, 3)
    (0.1, 0.3)
    """
    from scipy.stats import bootstrap

    found = bootstrap(
        (np.arange(n_tracks),),
        gain,
        vectorized=False,
        n_resamples=_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def sure(truth: np.ndarray, probabilities: np.ndarray, calibration: Calibration) -> dict[str, float]:
    """Return the share of rows whose answer is sure, and how many of them are right; nothing if none can be.

    Returns
    -------
    dict
        ``coverage``, and ``sure_accuracy`` where an answer is sure.
    """
    if calibration.threshold is None:
        return {}
    is_sure = np.array([calibration.is_sure(row) for row in probabilities], bool)
    found = {"coverage": round(float(is_sure.mean()), _DIGITS)}
    if is_sure.any():
        found["sure_accuracy"] = round(accuracy(truth[is_sure], probabilities[is_sure]), _DIGITS)
    return found


def abstention(truth: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how right the surest answers are: coverage, rising to 1, and the accuracy of that share.

    Examples
    --------
    >>> coverage, right = abstention(np.array([0, 1]), np.array([[0.9, 0.1], [0.6, 0.4]]))
    >>> coverage.tolist(), right.tolist()
    ([0.5, 1.0], [1.0, 0.5])
    """
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    number = np.arange(1, len(order) + 1)
    return number / len(order), np.cumsum((probabilities.argmax(axis=1) == truth)[order]) / number


def summary(
    truth: np.ndarray, probabilities: np.ndarray, *, n_bins: int, shares: np.ndarray | None = None
) -> dict[str, Any]:
    """Return accuracy, macro_f1, top3, log_loss and ece, rounded to six digits.

    Only ``ece`` (see `calibration_error`) uses the annotators' ``shares``; without them all agree.
    """
    shares = certain(truth, probabilities.shape[1]) if shares is None else shares
    values = {
        "accuracy": accuracy(truth, probabilities),
        "macro_f1": macro_f1(truth, probabilities),
        "top3": top_k(truth, probabilities),
        "log_loss": log_loss(truth, probabilities),
        "ece": calibration_error(shares, probabilities, n_bins),
    }
    return {name: round(value, _DIGITS) for name, value in values.items()}


def mean_by(keys: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average rows of the same key.

    Returns
    -------
    tuple of np.ndarray
        The keys, sorted, and their mean probabilities (n_keys, n_classes).
    """
    unique, number = np.unique(keys.astype(str), return_inverse=True)
    total = np.zeros((len(unique), probabilities.shape[1]))
    np.add.at(total, number, probabilities)
    return unique, total / np.bincount(number)[:, None]


def per_class(truth: np.ndarray, probabilities: np.ndarray, classes: list[str]) -> list[dict[str, Any]]:
    """Return precision, recall, F1 and the number of rows of every class."""
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(
        truth, probabilities.argmax(axis=1), labels=range(len(classes)), zero_division=0
    )
    return [
        {
            "class": name,
            "precision": round(float(precision), _DIGITS),
            "recall": round(float(recall), _DIGITS),
            "f1": round(float(f1), _DIGITS),
            "tracks": int(support),
        }
        for name, precision, recall, f1, support in zip(classes, *columns, strict=True)
    ]
