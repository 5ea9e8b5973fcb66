"""Stage ``evaluate``: how well does one model do, at slice and at track level.

A track's probabilities are the mean of its slices', which are calibrated on the validation part as they are
served. Writes the metrics with the calibration, the tracks' predictions, the actual and predicted classes for
DVC's plots, and the pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import params, tracking
from pipeline.files import write_csv, write_json
from pipeline.inference.normalise import Normaliser
from pipeline.registry.description import description
from pipeline.reporting import plots
from pipeline.stage_run import run_stage
from pipeline.tables.labels import read_labels
from pipeline.tables.metrics import flat_metrics, metrics_path, scores_of, scores_path
from pipeline.tables.predictions import confusion_path, plots_folder, predictions_path
from pipeline.tables.splits import PARTS, read_split
from pipeline.tables.trained_models import curves_path
from pipeline.taxonomy import TASKS
from pipeline.tracking import open_run
from pipeline.training import backend, calibrate, models, scores
from pipeline.training.predict import Predicted, corrected, predict, prediction_table, score
from pipeline.training.weights import load_model


def draw(test: Predicted, card: dict[str, Any], folder: Path, n_bins: int) -> None:
    """Write the test part's pictures and the data of DVC's plots."""
    from sklearn.metrics import confusion_matrix

    classes, title = card["classes"], headline(card)
    guess = test.probabilities.argmax(axis=1)
    counts = confusion_matrix(test.truth, guess, labels=range(len(classes)))
    plots.confusion(counts, classes, title, folder / "confusion.png")
    plots.calibration(test.truth, test.probabilities, n_bins, title, folder / "calibration.png")
    plots.curves(pd.read_csv(curves_path(card["task"], card["model"])), title, folder / "curves.png")
    named = {"actual": [classes[i] for i in test.truth], "predicted": [classes[i] for i in guess]}
    write_csv(confusion_path(card["task"], card["model"]), pd.DataFrame(named))
    write_csv(folder / "classes.csv", pd.DataFrame(scores.per_class(test.truth, test.probabilities, classes)))


def headline(card: dict[str, Any]) -> str:
    """Return a picture's heading: task, model, protocol (leaky or not) and data (synthetic or its name)."""
    marks = [card["protocol"] + (" (leaky)" if card["leaky"] else "")]
    marks += ["synthetic data"] if card["dataset"]["synthetic"] else [card["dataset"]["name"]]
    return f"{card['task']} · {card['model']} · {' · '.join(marks)}"


def evaluate(task: str, name: str, settings: params.Params) -> dict[str, Any]:
    """Write metrics, predictions and pictures; return the metrics."""
    backend.prepare(settings.seed)
    from pipeline.training.batches import select

    model, card = load_model(task, name)
    assigned, table = read_split(task), read_labels(task)
    truth = {t: card["classes"].index(c) for t, c in zip(table["track_id"], table["label"], strict=True)}
    normaliser = Normaliser.from_dict(card["normaliser"])
    rows = {part: select(assigned, table, part) for part in PARTS}
    raw = {part: predict(model, own, normaliser, truth) for part, own in rows.items()}
    valid, sure = raw["valid"], settings.evaluate.sure_precision
    calibration = calibrate.fit(rows["train"], rows["valid"], valid.slice_probabilities, valid.truth, sure)
    parts = {part: corrected(raw[part], rows[part], calibration) for part in PARTS}
    head = ("task", "model", "protocol", "leaky", "optimistic", "params", "seed", "dataset")
    metrics: dict[str, Any] = {key: card[key] for key in head}
    metrics |= {part: score(predicted, settings.evaluate) for part, predicted in parts.items()}
    metrics["calibration"] = calibration.as_dict()
    metrics["uncalibrated"] = score(raw["test"], settings.evaluate)
    for part, predicted in parts.items():
        metrics[part]["track"] |= scores.sure(predicted.truth, predicted.probabilities, calibration)
    write_json(metrics_path(task, name), metrics)
    write_json(scores_path(task, name), scores_of(metrics))
    write_csv(predictions_path(task, name), prediction_table(parts, card["classes"]))
    draw(parts["test"], card, plots_folder(task, name), settings.evaluate.calibration_bins)
    log(metrics, card)
    return metrics


def log(metrics: dict[str, Any], card: dict[str, Any]) -> None:
    """Add final metrics, pictures and predictions to the run of the model."""
    from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

    task, name = card["task"], card["model"]
    mlflow = tracking.configure()
    with open_run(task, card):
        mlflow.log_metrics(flat_metrics(metrics))
        mlflow.set_tag(MLFLOW_RUN_NOTE, description(card, metrics))
        mlflow.log_artifacts(str(plots_folder(task, name)), "plots")
        mlflow.log_artifact(str(predictions_path(task, name)))
        mlflow.log_table(pd.read_csv(predictions_path(task, name), keep_default_na=False), "predictions.json")
        for picture in ("confusion", "calibration"):  # by key: "Compare" shows them side by side
            mlflow.log_image(mlflow.Image(str(plots_folder(task, name) / f"{picture}.png")), key=picture)


def main() -> None:
    """Evaluate one model."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.stages.evaluate", description=main.__doc__)
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
    run_stage(main)
