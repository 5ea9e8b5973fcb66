"""``artifacts/models``: a model's weights, its card, and its learning curves."""

from __future__ import annotations

from pathlib import Path
from typing import Final

CURVE_COLUMNS: Final = (
    "epoch",
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "val_agreement",
    "val_macro_f1",
    "val_score",  # by which the epoch is chosen, smoothed
    "kept",  # 1 in the row of the epoch whose weights these are
)


def weights_path(task: str, model: str) -> Path:
    """Return where a model's weights are."""
    return Path(f"artifacts/models/{task}-{model}.weights.h5")


def card_path(task: str, model: str) -> Path:
    """Return where a model's card is: classes, normaliser, spectrogram, protocol, tracks seen."""
    return Path(f"artifacts/models/{task}-{model}.json")


def curves_path(task: str, model: str) -> Path:
    """Return where a model's learning curves are."""
    return Path(f"artifacts/curves/{task}-{model}.csv")
