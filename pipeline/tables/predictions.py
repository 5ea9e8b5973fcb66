"""What a model answers for each track, as a table, as rows for ``dvc plots``, and as pictures."""

from __future__ import annotations

from pathlib import Path


def predictions_path(task: str, model: str) -> Path:
    """Return where the tracks' predictions are: track_id, part, label, predicted, p_<class>."""
    return Path(f"artifacts/predictions/{task}-{model}.csv")


def confusion_path(task: str, model: str) -> Path:
    """Return where the test tracks' actual and predicted classes are, for ``dvc plots``."""
    return Path(f"artifacts/confusion/{task}-{model}.csv")


def plots_folder(task: str, model: str) -> Path:
    """Return the folder of a model's pictures and its per-class table."""
    return Path(f"artifacts/plots/{task}-{model}")
