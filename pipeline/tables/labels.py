"""``artifacts/labels/<task>.csv``: one soft label per labelled, usable track.

Columns: ``track_id``, the winning ``label``, ``n_labels``, ``agreement`` (the share of the annotations that
chose it) and a ``p_<class>`` column for each class. The order of these columns is the order of the classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

LABEL_FINDINGS: Final = Path("artifacts/labels/findings.json")


def labels_path(task: str) -> Path:
    """Return where a task's labels are."""
    return Path(f"artifacts/labels/{task}.csv")


def classes_of(labels: pd.DataFrame) -> list[str]:
    """Return the classes in the order of the ``p_`` columns."""
    return [name.removeprefix("p_") for name in labels.columns if name.startswith("p_")]


def soft_labels(labels: pd.DataFrame) -> np.ndarray:
    """Return the soft labels, float32 (n_tracks, n_classes); rows sum to 1."""
    chosen = labels[[f"p_{name}" for name in classes_of(labels)]].to_numpy(np.float32)
    return chosen / chosen.sum(axis=1, keepdims=True)


def empty_labels(classes: tuple[str, ...]) -> pd.DataFrame:
    """Return a label table without rows, for a task that is not wanted."""
    return pd.DataFrame(columns=["track_id", "label", "n_labels", "agreement", *(f"p_{c}" for c in classes)])


def read_labels(task: str) -> pd.DataFrame:
    """Read a task's labels."""
    return pd.read_csv(labels_path(task), dtype={"track_id": str, "label": str}, keep_default_na=False)
