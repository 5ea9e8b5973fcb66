"""How good is a forecast of what annotators say? Moods have no truth but the shares of listeners.

The majority's label, by which accuracy and macro-F1 count, is often the choice of less than half of them, and
some moods are the majority of no track. So forecasts are also compared with the shares themselves. Pure
functions of (n_tracks, n_classes) arrays whose rows sum to 1.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from pipeline.training import scores

TOP: Final = 10  # tracks of each mood that a listener would be given first
_DIGITS: Final = 6


def soft_summary(shares: np.ndarray, forecast: np.ndarray, prior: np.ndarray) -> dict[str, float]:
    """Return how well a forecast agrees with annotators, with what is possible and what needs no model.

    Parameters
    ----------
    shares, forecast
        Of the annotators, and of the model.
    prior
        The training tracks' mean shares, (n_classes,): the forecast that needs no audio.

    Returns
    -------
    dict
        ``agreement``, the chance that a random annotator agrees with the most probable class, beside
        ``agreement_best`` (always the majority's) and ``agreement_prior``; ``cross_entropy`` in nats beside
        ``cross_entropy_floor`` (of the shares themselves, their entropy) and ``cross_entropy_prior``;
        ``rank_correlation``, the mean of `rank_correlations`.

    Examples
    --------
    >>> shares = np.array([[0.6, 0.4], [0.2, 0.8]])
    >>> found = soft_summary(shares, shares, np.array([0.4, 0.6]))
    >>> found["agreement"], found["agreement_best"], found["agreement_prior"], found["rank_correlation"]
    (0.7, 0.7, 0.6, 1.0)
    """
    always = np.tile(prior, (len(shares), 1))
    known = [value for value in rank_correlations(shares, forecast) if value is not None]
    values = {
        "agreement": scores.agreement(shares, forecast),
        "agreement_best": scores.agreement(shares, shares),
        "agreement_prior": scores.agreement(shares, always),
        "cross_entropy": scores.cross_entropy(shares, forecast),
        "cross_entropy_floor": scores.cross_entropy(shares, shares),
        "cross_entropy_prior": scores.cross_entropy(shares, always),
        "rank_correlation": float(np.mean(known)) if known else 0.0,
    }
    return {name: round(value, _DIGITS) for name, value in values.items()}


def rank_correlations(shares: np.ndarray, forecast: np.ndarray) -> list[float | None]:
    """Return Spearman's rank correlation of each class over the tracks; None where all shares are equal.

    A constant forecast ranks nothing, which is 0.

    Examples
    --------
    >>> shares = np.array([[0.1, 0.9, 0.0], [0.3, 0.7, 0.0], [0.6, 0.4, 0.0]])
    >>> rank_correlations(shares, shares[:, [0, 0, 0]])
    [1.0, -1.0, None]
    """
    from scipy.stats import spearmanr

    found: list[float | None] = []
    for share, said in zip(shares.T, forecast.T, strict=True):
        if np.ptp(share) == 0:
            found.append(None)
        else:
            found.append(round(float(spearmanr(share, said).statistic), _DIGITS) if np.ptp(said) else 0.0)
    return found


def per_mood(shares: np.ndarray, forecast: np.ndarray) -> list[dict[str, Any]]:
    """Return what a listener who asks for each class gets.

    Returns
    -------
    list of dict
        By class: ``share`` of the annotations; ``top``, the share among the `TOP` tracks that are forecast
        highest (how precise they are, judged by a random annotator); ``rank_correlation``, which may be None.
    """
    correlations = rank_correlations(shares, forecast)
    best = np.argsort(-forecast, axis=0, kind="stable")[:TOP]  # (TOP, n_classes)
    top = np.take_along_axis(shares, best, axis=0).mean(axis=0)
    return [
        {"share": round(float(share), _DIGITS), "top": round(float(high), _DIGITS), "rank_correlation": rank}
        for share, high, rank in zip(shares.mean(axis=0), top, correlations, strict=True)
    ]
