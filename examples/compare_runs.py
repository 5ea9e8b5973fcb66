"""Print the runs of a task, the latest first: ``python examples/compare_runs.py genre``."""

from __future__ import annotations

import sys

from pipeline import tracking
from pipeline.errors import run_main

COLUMNS = {
    "start_time": "started",
    "tags.model": "model",
    "tags.protocol": "protocol",
    "metrics.test.track.macro_f1": "macro_f1",
    "metrics.test.track.accuracy": "accuracy",
}


def main() -> None:
    """Read the task's MLflow experiment and print one row per trained model."""
    runs = tracking.configure().search_runs(experiment_names=[sys.argv[1]], order_by=["start_time DESC"])
    table = runs.reindex(columns=list(COLUMNS)).rename(columns=COLUMNS)
    print(table.dropna(subset=["model", "accuracy"]).round(3).to_string(index=False))


if __name__ == "__main__":
    run_main(main)
