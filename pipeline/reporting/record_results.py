"""Keep a run's results in git, so that the report can show several protocols side by side.

``python -m pipeline.reporting.record_results`` copies the metrics of the tasks and models in ``params.yaml``
to ``results/<dataset>/<protocol>/<task>-<model>.json``; with ``--note`` a remark goes beside them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final, get_args

from pipeline import params
from pipeline.errors import DataError, run_main
from pipeline.files import read_json, write_json, write_text
from pipeline.tables.dataset import DATASET, read_dataset
from pipeline.tables.metrics import metrics_path

RESULTS: Final = Path("results")


def folder_of(dataset: str, protocol: str) -> Path:
    """Return where the results of a protocol on a dataset are kept.

    Raises
    ------
    DataError
        The dataset's name is no folder name.
    """
    # It comes from a file of the data, and must not lead out of the folder.
    if dataset in ("", "..") or Path(dataset).name != dataset:
        raise DataError(
            f"{DATASET}: expected a name that can name a folder, received {dataset!r}. Rename it."
        )
    return RESULTS / dataset / protocol


def note_path(dataset: str, protocol: str) -> Path:
    """Return where the remark on a protocol's results is."""
    return folder_of(dataset, protocol) / "note.txt"


def note(dataset: str, protocol: str) -> str:
    """Return the remark on a protocol's results; empty if there is none."""
    path = note_path(dataset, protocol)
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def _read(path: Path, expected: dict[str, str], advice: str) -> dict[str, Any]:
    """Read metrics and check that they are what their path and ``params.yaml`` say."""
    try:
        metrics = read_json(path)
        received = {key: metrics[key] for key in expected if key != "dataset"}
        received["dataset"] = metrics["dataset"]["name"]  # the metrics nest it
    except FileNotFoundError:
        raise DataError(f"expected {path}, received no such file. {advice}") from None
    except (DataError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: expected the metrics of a model, received {type(error).__name__}: {error}. {advice}"
        ) from None
    # A kept file may have been moved, or renamed with a typing error.
    wrong = [f"{key} {expected[key]!r}, received {received[key]!r}" for key in expected]
    wrong = [line for key, line in zip(expected, wrong, strict=True) if received[key] != expected[key]]
    if wrong:
        raise DataError(f"{path}: expected {'; '.join(wrong)}. {advice}")
    return metrics


def measured(settings: params.Params) -> list[dict[str, Any]]:
    """Return the present run's metrics, task by task, models in the order of ``params.yaml``.

    Raises
    ------
    DataError
        One is missing, or is of another protocol or dataset.
    """
    common = {"protocol": settings.split.protocol, "dataset": read_dataset()["name"]}
    return [
        _read(metrics_path(task, model), {"task": task, "model": model} | common, "Run `dvc repro`.")
        for task in settings.tasks
        for model in settings.models
    ]


def recorded(settings: params.Params, dataset: str) -> list[dict[str, Any]]:
    """Return what is kept of the same dataset, tasks and models under the other protocols, in their order.

    Raises
    ------
    DataError
        A file is not what its path says.
    """
    found = [
        {"task": task, "model": model, "protocol": protocol, "dataset": dataset}
        for task in settings.tasks
        for protocol in get_args(params.Protocol)
        for model in settings.models
        # The present protocol's are in artifacts/, and may be newer than what was kept.
        if protocol != settings.split.protocol and record_path(dataset, protocol, task, model).exists()
    ]
    advice = "Restore it from git, or delete it and record it again."
    return [_read(record_path(**where), where, advice) for where in found]


def record_path(dataset: str, protocol: str, task: str, model: str) -> Path:
    """Return where one model's kept metrics are."""
    return folder_of(dataset, protocol) / f"{task}-{model}.json"


def keep(metrics: list[dict[str, Any]], remark: str | None) -> list[Path]:
    """Write metrics, and the remark if there is one, to their places; return the files.

    Parameters
    ----------
    metrics
        From `measured`, not empty.
    remark
        None leaves an earlier remark as it is.
    """
    written = []
    for model in metrics:
        path = record_path(model["dataset"]["name"], model["protocol"], model["task"], model["model"])
        # Scores are kept; how an old model was calibrated, a thousand numbers, nobody needs.
        write_json(path, {key: value for key, value in model.items() if key != "calibration"})
        written.append(path)
    if remark is not None:
        path = note_path(metrics[0]["dataset"]["name"], metrics[0]["protocol"])
        write_text(path, remark.strip() + "\n")
        written.append(path)
    return written


def main() -> None:
    """Keep the present run's results in git."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.reporting.record_results", description=main.__doc__
    )
    parser.add_argument("--note", metavar="TEXT", help="a remark that the report shows with these results")
    remark = parser.parse_args().note
    written = keep(measured(params.read()), remark)
    for path in written:
        print(path)
    print(f"now: dvc repro report, git add {written[0].parent}, git commit")


if __name__ == "__main__":
    run_main(main)
