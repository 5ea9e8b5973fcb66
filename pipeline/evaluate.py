"""Stage ``evaluate``: how well does one model do, at slice and at track level.

A track's probabilities are the mean of its slices'. Writes the metrics, the tracks' predictions, the actual
and predicted classes for DVC's plots, and the pictures.
"""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from pipeline import backend, labels, models, params, plots, scores, split, tracking, train
from pipeline.errors import run_main
from pipeline.files import write_csv, write_json
from pipeline.inference.normalise import Normaliser
from pipeline.taxonomy import TASKS

if TYPE_CHECKING:
    import keras

    from pipeline.batches import Rows

_BATCH: Final = 32
_DIGITS: Final = 6


@dataclass(frozen=True)
class Predicted:
    """Truth and probabilities of one part.

    Parameters
    ----------
    n_slices
        Rows predicted.
    slice_truth, slice_probabilities
        int (n_slices,), float (n_slices, n_classes).
    tracks
        Track ids, sorted, (n_tracks,).
    truth, probabilities
        int (n_tracks,), float (n_tracks, n_classes).
    """

    n_slices: int
    slice_truth: np.ndarray
    slice_probabilities: np.ndarray
    tracks: np.ndarray
    truth: np.ndarray
    probabilities: np.ndarray


def metrics_path(task: str, model: str) -> Path:
    """Return where a model's metrics are."""
    return Path(f"artifacts/metrics/{task}-{model}.json")


def predictions_path(task: str, model: str) -> Path:
    """Return where the tracks' predictions are: track_id, part, label, predicted, p_<class>."""
    return Path(f"artifacts/predictions/{task}-{model}.csv")


def confusion_path(task: str, model: str) -> Path:
    """Return where the test tracks' actual and predicted classes are, for ``dvc plots``."""
    return Path(f"artifacts/confusion/{task}-{model}.csv")


def plots_folder(task: str, model: str) -> Path:
    """Return the folder of a model's pictures and its per-class table."""
    return Path(f"artifacts/plots/{task}-{model}")


def predict(model: keras.Model, rows: Rows, normaliser: Normaliser, truth: dict[str, int]) -> Predicted:
    """Ask a model about rows.

    Parameters
    ----------
    model, normaliser
        From `pipeline.train`.
    rows
        The part's rows.
    truth
        The class number of every track.
    """
    from pipeline.batches import Batches

    batches = Batches(rows, normaliser, batch_size=_BATCH, workers=2)
    probabilities = np.asarray(model.predict(batches, verbose=0), np.float64)
    tracks, mean = scores.mean_by(rows.track_id, probabilities)
    return Predicted(
        n_slices=len(rows),
        slice_truth=np.array([truth[track] for track in rows.track_id]),
        slice_probabilities=probabilities,
        tracks=tracks,
        truth=np.array([truth[track] for track in tracks]),
        probabilities=mean,
    )


def score(predicted: Predicted, settings: params.EvaluateParams, *, seed: int) -> dict[str, Any]:
    """Return one part's entry of the metrics."""
    bins = settings.calibration_bins
    interval = scores.bootstrap_accuracy(
        predicted.truth, predicted.probabilities, n_resamples=settings.bootstrap, seed=seed
    )
    track = scores.summary(predicted.truth, predicted.probabilities, n_bins=bins)
    return {
        "n_slices": predicted.n_slices,
        "n_tracks": len(predicted.tracks),
        "slice": scores.summary(predicted.slice_truth, predicted.slice_probabilities, n_bins=bins),
        "track": track | {"accuracy_ci": [round(end, _DIGITS) for end in interval]},
    }


def prediction_table(parts: dict[str, Predicted], classes: list[str]) -> pd.DataFrame:
    """Return one row a track and part."""
    tables = []
    for part, one in parts.items():
        facts = pd.DataFrame({"track_id": one.tracks, "part": part})
        facts["label"] = [classes[number] for number in one.truth]
        facts["predicted"] = [classes[number] for number in one.probabilities.argmax(axis=1)]
        shares = pd.DataFrame(one.probabilities.round(_DIGITS), columns=[f"p_{name}" for name in classes])
        tables.append(pd.concat([facts, shares], axis=1))
    return pd.concat(tables, ignore_index=True)


def draw(test: Predicted, facts: dict[str, Any], folder: Path, n_bins: int) -> None:
    """Write the test part's pictures and the data of DVC's plots."""
    classes, title = facts["classes"], headline(facts)
    guess = test.probabilities.argmax(axis=1)
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (test.truth, guess), 1)
    plots.confusion(counts, classes, title, folder / "confusion.png")
    plots.calibration(test.truth, test.probabilities, n_bins, title, folder / "calibration.png")
    plots.curves(pd.read_csv(train.curves_path(facts["task"], facts["model"])), title, folder / "curves.png")
    named = {"actual": [classes[i] for i in test.truth], "predicted": [classes[i] for i in guess]}
    write_csv(confusion_path(facts["task"], facts["model"]), pd.DataFrame(named))
    write_csv(folder / "classes.csv", pd.DataFrame(scores.per_class(test.truth, test.probabilities, classes)))


def headline(facts: dict[str, Any]) -> str:
    """Return a picture's heading: task, model, protocol (leaky or not) and data (synthetic or its name)."""
    marks = [facts["protocol"] + (" (leaky)" if facts["leaky"] else "")]
    marks += ["synthetic data"] if facts["dataset"]["synthetic"] else [facts["dataset"]["name"]]
    return f"{facts['task']} · {facts['model']} · {' · '.join(marks)}"


def evaluate(task: str, name: str, settings: params.Params) -> dict[str, Any]:
    """Write metrics, predictions and pictures; return the metrics."""
    backend.prepare(settings.seed)
    from pipeline.batches import select

    model, facts = train.load(task, name)
    assigned, table = split.read(task), labels.read(task)
    truth = {t: facts["classes"].index(c) for t, c in zip(table["track_id"], table["label"], strict=True)}
    normaliser = Normaliser.from_dict(facts["normaliser"])
    parts = {part: predict(model, select(assigned, table, part), normaliser, truth) for part in split.PARTS}
    head = ("task", "model", "protocol", "leaky", "optimistic", "params", "seed", "dataset")
    metrics: dict[str, Any] = {key: facts[key] for key in head}
    metrics |= {part: score(one, settings.evaluate, seed=settings.seed) for part, one in parts.items()}
    write_json(metrics_path(task, name), metrics)
    write_csv(predictions_path(task, name), prediction_table(parts, facts["classes"]))
    draw(parts["test"], facts, plots_folder(task, name), settings.evaluate.calibration_bins)
    log(metrics, facts)
    return metrics


def open_run(task: str, facts: dict[str, Any]) -> AbstractContextManager[Any]:
    """Reopen the MLflow run that made a model's weights.

    Where the store has no such run (``dvc pull`` brought the weights) a new one is opened for them.
    """
    run_id = tracking.find_run(task, facts["weights_sha256"])
    if run_id:
        return tracking.resume(task, run_id)
    tags = train.tags_of(facts) | {"weights_sha256": facts["weights_sha256"]}
    return tracking.run(task, f"{task} · {facts['model']} · {facts['protocol']}", tags)


def log(metrics: dict[str, Any], facts: dict[str, Any]) -> None:
    """Add final metrics, pictures and predictions to the run of the model."""
    task, name = facts["task"], facts["model"]
    mlflow = tracking.configure()
    with open_run(task, facts):
        mlflow.log_metrics(flat(metrics))
        mlflow.log_artifacts(str(plots_folder(task, name)), "plots")
        mlflow.log_artifact(str(predictions_path(task, name)))
        mlflow.log_table(pd.read_csv(predictions_path(task, name), keep_default_na=False), "predictions.json")
        for picture in ("confusion", "calibration"):  # by key: "Compare" shows them side by side
            mlflow.log_image(mlflow.Image(str(plots_folder(task, name) / f"{picture}.png")), key=picture)


def flat(metrics: dict[str, Any]) -> dict[str, float]:
    """Return the metrics' numbers as ``test.track.accuracy`` etc.; intervals as low and high."""
    out: dict[str, float] = {}
    for part in split.PARTS:
        for level in ("slice", "track"):
            for name, value in metrics[part][level].items():
                ends = {f"{name}_low": value[0], f"{name}_high": value[1]} if isinstance(value, list) else {}
                out |= {f"{part}.{level}.{key}": one for key, one in (ends or {name: value}).items()}
    return out


def main() -> None:
    """Evaluate one model."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.evaluate", description=main.__doc__)
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--model", choices=sorted(models.MODELS), required=True)
    args = parser.parse_args()
    metrics = evaluate(args.task, args.model, params.read())
    track = metrics["test"]["track"]
    low, high = track["accuracy_ci"]
    print(
        f"{args.task}-{args.model} under {metrics['protocol']}: test accuracy {track['accuracy']:.3f} "
        f"[{low:.3f}, {high:.3f}] on {metrics['test']['n_tracks']} tracks, macro-F1 {track['macro_f1']:.3f}"
    )


if __name__ == "__main__":
    run_main(main)
