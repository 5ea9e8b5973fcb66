"""``artifacts/metrics/<task>-<model>.json``: a model's scores at slice and track level, part by part.

``artifacts/scores/<task>-<model>.json`` has the two that tables of experiments show.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.tables.splits import PARTS


def metrics_path(task: str, model: str) -> Path:
    """Return where a model's metrics are."""
    return Path(f"artifacts/metrics/{task}-{model}.json")


def scores_path(task: str, model: str) -> Path:
    """Return where the few scores are that ``dvc metrics`` and ``dvc exp`` show."""
    return Path(f"artifacts/scores/{task}-{model}.json")


def scores_of(metrics: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the two main scores on the test tracks, under the model's name: each is a column.

    Accuracy and macro-F1; where labels are soft, agreement with a random annotator and cross-entropy.
    """
    track = metrics["test"]["track"]
    names = ("agreement", "cross_entropy") if "agreement" in track else ("accuracy", "macro_f1")
    shown = {name: track[name] for name in names}
    return {f"{metrics['task']}-{metrics['model']}": shown}


def flat_metrics(metrics: dict[str, Any]) -> dict[str, float]:
    """Return the metrics' numbers as ``test.track.accuracy`` etc.; intervals as low and high."""
    out: dict[str, float] = {}
    for part in PARTS:
        for level in ("slice", "track"):
            for name, value in metrics[part][level].items():
                ends = {f"{name}_low": value[0], f"{name}_high": value[1]} if isinstance(value, list) else {}
                out |= {f"{part}.{level}.{key}": number for key, number in (ends or {name: value}).items()}
    return out
