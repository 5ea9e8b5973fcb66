"""``artifacts/metrics/<task>-<model>.json``: a model's scores at slice and track level, part by part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.tables.splits import PARTS


def metrics_path(task: str, model: str) -> Path:
    """Return where a model's metrics are."""
    return Path(f"artifacts/metrics/{task}-{model}.json")


def flat_metrics(metrics: dict[str, Any]) -> dict[str, float]:
    """Return the metrics' numbers as ``test.track.accuracy`` etc.; intervals as low and high."""
    out: dict[str, float] = {}
    for part in PARTS:
        for level in ("slice", "track"):
            for name, value in metrics[part][level].items():
                ends = {f"{name}_low": value[0], f"{name}_high": value[1]} if isinstance(value, list) else {}
                out |= {f"{part}.{level}.{key}": one for key, one in (ends or {name: value}).items()}
    return out
