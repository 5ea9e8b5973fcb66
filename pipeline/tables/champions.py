"""``mlruns/champions.json``: which version of each task serves, and its scores when it was registered."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

# Beside the registry, whose state it repeats for the report: where one is lost, so is the other.
CHAMPIONS: Final = Path("mlruns/champions.json")


def champion_facts(summary: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return of a version's summary what the report shows; None if nothing serves."""
    return summary and {key: value for key, value in summary.items() if key != "run_id"}
