"""Print the runs of a task, the latest first: ``python examples/compare_runs.py genre``."""

from __future__ import annotations

import argparse

from pipeline import tracking
from pipeline.errors import run_main
from pipeline.taxonomy import TASKS

COLUMNS = {
    "start_time": "started",
    "tags.model": "model",
    "tags.protocol": "protocol",
    "metrics.test.track.macro_f1": "macro_f1",
    "metrics.test.track.accuracy": "accuracy",
}


def main() -> None:
    """Read the task's MLflow experiment and print one row per trained model."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("task", choices=TASKS)
    task = parser.parse_args().task
    runs = tracking.configure().search_runs(experiment_names=[task], order_by=["start_time DESC"])
    table = runs.reindex(columns=list(COLUMNS)).rename(columns=COLUMNS)
    print(table.dropna(subset=["model", "accuracy"]).to_string(index=False, float_format="%.3f"))


if __name__ == "__main__":
    run_main(main)
