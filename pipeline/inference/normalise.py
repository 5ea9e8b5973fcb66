"""Normalise log-mel slices; the same code for training and for serving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Kind = Literal["l2", "standard"]

_EPSILON = 1e-6  # dB


@dataclass(frozen=True)
class Normaliser:
    """How slices are normalised.

    Parameters
    ----------
    kind
        ``"l2"``: each mel band divided by its L2 norm over time, as the project report does.
        ``"standard"``: each mel band less ``mean``, divided by ``std``.
    mean, std
        In dB, one value per band, of the training part; empty for ``"l2"``.

    Examples
    --------
    >>> two_bands = np.array([[-40.0, -20.0], [-60.0, -60.0]])  # (n_mels, frames)
    >>> Normaliser("standard", mean=(-30.0, -50.0), std=(10.0, 5.0))(two_bands).tolist()
    [[-1.0, 1.0], [-2.0, -2.0]]
    >>> print(Normaliser("l2")(np.array([[3.0, 4.0]])))
    [[0.6 0.8]]
    """

    kind: Kind
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __call__(self, decibels: np.ndarray) -> np.ndarray:
        """Return float32 (..., n_mels, frames); ``decibels`` has the same shape, any float type."""
        values = decibels.astype(np.float32)
        if self.kind == "l2":
            norm = np.linalg.norm(values, axis=-1, keepdims=True)
            return values / np.maximum(norm, np.float32(_EPSILON))
        mean, std = (np.asarray(stat, np.float32)[:, None] for stat in (self.mean, self.std))
        return (values - mean) / std

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {"kind": self.kind, "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Normaliser:
        """Undo `as_dict`."""
        return cls(values["kind"], tuple(values["mean"]), tuple(values["std"]))
