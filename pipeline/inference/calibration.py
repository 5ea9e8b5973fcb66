"""What a network's probabilities are worth: calibrated, and nearly level on audio unlike what it learned.

Fitted by `pipeline.training.calibrate` on the training and validation part, kept in the model's card.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

_GROUPS: Final = 16  # of neighbouring mel bands
_SECOND: Final = (
    43  # frames of the default hop; a part of a slice by whose level its slow changes are measured
)
_FLOOR: Final = 0.5  # dB, added before logarithms: digital silence has no deviation
_IGNORANCE: Final = 0.99  # share of the level answer where audio is unfamiliar; its best class stays the best
_TINY: Final = 1e-7


def band_statistics(decibels: np.ndarray) -> np.ndarray:
    """Return what tells music from other sound in a slice: each group of bands' level and its deviation.

    Parameters
    ----------
    decibels
        Log-mel of one slice, (n_mels, frames) in dB; what pads a short clip at its end does not count.

    Returns
    -------
    np.ndarray
        float64 (2 n_groups + 1,): levels in dB, logarithms of their standard deviations over time, and last
        the logarithm of how far single bands change from second to second.
    """
    values = _unpadded(decibels.astype(np.float64))
    groups = min(_GROUPS, len(values))
    edges = np.arange(groups) * len(values) // groups
    bands = np.add.reduceat(values, edges) / np.diff([*edges, len(values)])[:, None]  # (n_groups, frames)
    parts = np.array_split(values, max(2, values.shape[1] // _SECOND), axis=1)
    slow = np.std([part.mean(axis=1) for part in parts], axis=0).mean()
    return np.array([*bands.mean(axis=1), *np.log(bands.std(axis=1) + _FLOOR), np.log(slow + _FLOOR)])


def _unpadded(values: np.ndarray) -> np.ndarray:
    """Return the frames up to the last that differs from the end; all, if that leaves less than a second."""
    differs = np.flatnonzero((values != values[:, -1:]).any(axis=0))
    length = differs[-1] + 1 if len(differs) else 0
    return values[:, :length] if length >= _SECOND else values


@dataclass(frozen=True)
class Domain:
    """Which audio is like what a model learned from.

    Parameters
    ----------
    mean, precision
        Of the training slices' `band_statistics` without the last: (k,), and the inverse covariance (k, k).
    farthest
        The largest Mahalanobis distance of familiar audio, divided by the root of k.
    steadiest
        The least value of the last of `band_statistics`: noise and hum change less from second to second.
    """

    mean: tuple[float, ...]
    precision: tuple[tuple[float, ...], ...]
    farthest: float
    steadiest: float

    def distance(self, statistics: np.ndarray) -> float:
        """Return how far a slice's `band_statistics` are from the training slices'."""
        gap = statistics[:-1] - np.asarray(self.mean)
        return float(np.sqrt(max(gap @ np.asarray(self.precision) @ gap, 0.0) / len(gap)))

    def is_familiar(self, decibels: np.ndarray) -> bool:
        """Return whether a slice, (n_mels, frames) in dB, is like those that the model learned from."""
        return self.holds(band_statistics(decibels))

    def holds(self, statistics: np.ndarray) -> bool:
        """Return whether a slice's `band_statistics` are like those that the model learned from."""
        return bool(self.distance(statistics) <= self.farthest and statistics[-1] >= self.steadiest)


@dataclass(frozen=True)
class Calibration:
    """How probabilities are corrected, and from which on an answer is sure; the default changes nothing.

    Parameters
    ----------
    temperature
        Above 1 it makes probabilities more equal, below 1 less (Guo et al. 2017).
    threshold
        Least probability of a track's sure answer; None: nobody knows which answers are sure.
    domain
        Slices unlike it get a nearly level answer; None: all audio is taken to be familiar.

    Examples
    --------
    >>> print(Calibration(temperature=0.5).soften(np.array([[0.8, 0.2]])).round(3))
    [[0.941 0.059]]
    >>> Calibration(threshold=0.7).is_sure(np.array([0.6, 0.4]))
    False
    """

    temperature: float = 1.0
    threshold: float | None = None
    domain: Domain | None = None

    def soften(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the probabilities that the network would give with its logits divided by the temperature."""
        if self.temperature == 1.0:
            return probabilities
        logits = np.log(np.maximum(probabilities, _TINY)) / self.temperature
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return (powers / powers.sum(axis=-1, keepdims=True)).astype(probabilities.dtype)

    def is_familiar(self, features: np.ndarray) -> np.ndarray:
        """Return whether each slice of (n_slices, n_mels, frames) in dB is familiar, bool (n_slices,)."""
        if self.domain is None:
            return np.ones(len(features), bool)
        return np.array([self.domain.is_familiar(one) for one in features], bool)

    def correct(self, probabilities: np.ndarray, familiar: np.ndarray) -> np.ndarray:
        """Return what slices' probabilities are worth, in their shape and type.

        Parameters
        ----------
        probabilities
            The network's, (n_slices, n_classes).
        familiar
            Of the same slices, from `is_familiar`.
        """
        softened = self.soften(probabilities)
        if familiar.all():
            return softened
        level = _IGNORANCE / probabilities.shape[-1] + (1 - _IGNORANCE) * softened
        return np.where(familiar[:, None], softened, level).astype(probabilities.dtype)

    def is_sure(self, mean: np.ndarray) -> bool | None:
        """Return whether a track's answer is sure; None if nobody knows.

        Parameters
        ----------
        mean
            Of its slices' corrected probabilities, (n_classes,).
        """
        if self.domain is not None and mean.max() <= _IGNORANCE / len(mean) + (1 - _IGNORANCE) + _TINY:
            return False  # hardly any slice was familiar
        return None if self.threshold is None else bool(mean.max() >= self.threshold)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        domain = None
        if self.domain is not None:
            domain = vars(self.domain) | {
                "mean": list(self.domain.mean),
                "precision": [list(row) for row in self.domain.precision],
            }
        return {"temperature": self.temperature, "threshold": self.threshold, "domain": domain}

    @classmethod
    def from_card(cls, card: dict[str, Any]) -> Calibration:
        """Return what a card holds; versions registered before there was any stay as they are."""
        known = card.get("calibration")
        if known is None:
            return cls()
        domain = known["domain"]
        if domain is not None:
            rows = tuple(tuple(row) for row in domain["precision"])
            domain = Domain(tuple(domain["mean"]), rows, domain["farthest"], domain["steadiest"])
        return cls(known["temperature"], known["threshold"], domain)
