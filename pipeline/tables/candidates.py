"""``artifacts/registry/<task>.json``: a task's candidates, ranked, and the one that is put forward."""

from __future__ import annotations

from pathlib import Path


def candidate_path(task: str) -> Path:
    """Return where a task's candidate is recorded."""
    return Path(f"artifacts/registry/{task}.json")
