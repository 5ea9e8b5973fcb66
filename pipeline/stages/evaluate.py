"""Stage ``evaluate``: how well does one model do, at slice and at track level.

A track's probabilities are the mean of its slices', which are calibrated on the validation part as they are
served. Writes the metrics with the calibration, the tracks' predictions, the actual and predicted classes for
DVC's plots, and the pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline import params, tracking
from pipeline.files import write_csv, write_json
from pipeline.inference.calibration import Calibration
from pipeline.inference.normalise import Normaliser
from pipeline.registry.description import description
from pipeline.reporting import plots
from pipeline.stage_run import run_stage
from pipeline.tables.labels import read_labels, soft_labels
from pipeline.tables.metrics import flat_metrics, metrics_path, scores_of, scores_path
from pipeline.tables.predictions import confusion_path, plots_folder, predictions_path
from pipeline.tables.splits import PARTS, read_split
from pipeline.tables.trained_models import curves_path
from pipeline.taxonomy import SOFT, TASKS
from pipeline.tracking import open_run
from pipeline.training import backend, calibrate, models, scores
from pipeline.training.predict import (
    Predicted,
    corrected,
    embedding,
    in_two_dimensions,
    predict,
    prediction_table,
    score,
)
from pipeline.training.soft_scores import per_mood, soft_summary
from pipeline.training.weights import load_model


def draw(
    test: Predicted,
    before: Predicted,
    shares: np.ndarray,
    places: np.ndarray,
    card: dict[str, Any],
    calibration: Calibration,
    folder: Path,
    n_bins: int,
) -> None:
    """Write the test part's pictures, also of what it was ``before`` calibration, and DVC's plots' data.

    ``shares`` are the annotators', float (n_tracks, n_classes); ``places``, (n_tracks, 2), are where the
    last layer has the tracks.
    """
    from sklearn.metrics import confusion_matrix

    classes, title = card["classes"], headline(card)
    guess = test.probabilities.argmax(axis=1)
    counts = confusion_matrix(test.truth, guess, labels=range(len(classes)))
    plots.confusion(counts, classes, title, folder / "confusion.png")
    picture = folder / "calibration.png"
    plots.calibration(shares, test.probabilities, before.probabilities, n_bins, title, picture)
    found = scores.sure(test.truth, test.probabilities, calibration)
    marked = (found["coverage"], found["sure_accuracy"]) if "sure_accuracy" in found else None
    coverage, accuracy = scores.abstention(test.truth, test.probabilities)
    plots.abstention(coverage, accuracy, marked, title, folder / "abstention.png")
    picture = folder / "embedding.png"
    plots.embedding(places, test.truth, guess == test.truth, classes, title, picture)
    plots.curves(pd.read_csv(curves_path(card["task"], card["model"])), title, folder / "curves.png")
    named = {"actual": [classes[i] for i in test.truth], "predicted": [classes[i] for i in guess]}
    write_csv(confusion_path(card["task"], card["model"]), pd.DataFrame(named))


def shares_of(predicted: Predicted, table: pd.DataFrame) -> np.ndarray:
    """Return the annotators' shares of the predicted tracks, float (n_tracks, n_classes)."""
    position = pd.Series(range(len(table)), index=table["track_id"])
    return soft_labels(table)[position[predicted.tracks].to_numpy()].astype(np.float64)


def write_classes(test: Predicted, shares: np.ndarray, card: dict[str, Any]) -> None:
    """Write the test part's scores class by class; where labels are soft, also by the annotators' shares."""
    rows = scores.per_class(test.truth, test.probabilities, card["classes"])
    if card["task"] in SOFT:
        both = zip(rows, per_mood(shares, test.probabilities), strict=True)
        rows = [row | soft for row, soft in both]
    write_csv(plots_folder(card["task"], card["model"]) / "classes.csv", pd.DataFrame(rows))


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
    metrics |= {part: score(predicted, settings.evaluate, rows[part]) for part, predicted in parts.items()}
    metrics["calibration"] = calibration.as_dict()
    metrics["uncalibrated"] = score(raw["test"], settings.evaluate, rows["test"])
    shares = {part: shares_of(predicted, table) for part, predicted in parts.items()}
    for part, predicted in parts.items():
        metrics[part]["track"] |= scores.sure(predicted.truth, predicted.probabilities, calibration)
        if task in SOFT:
            prior = shares["train"].mean(axis=0)
            metrics[part]["track"] |= soft_summary(shares[part], predicted.probabilities, prior)
    write_json(metrics_path(task, name), metrics)
    write_json(scores_path(task, name), scores_of(metrics))
    write_csv(predictions_path(task, name), prediction_table(parts, card["classes"]))
    folder, n_bins = plots_folder(task, name), settings.evaluate.calibration_bins
    places = in_two_dimensions(embedding(model, rows["test"], normaliser))
    draw(parts["test"], raw["test"], shares["test"], places, card, calibration, folder, n_bins)
    write_classes(parts["test"], shares["test"], card)
    log(metrics, card)
    return metrics


def class_metrics(task: str, name: str) -> dict[str, float]:
    """Return each mood's rank correlation on the test tracks, where it is defined; nothing of hard labels."""
    table = pd.read_csv(plots_folder(task, name) / "classes.csv", keep_default_na=False, na_values=[""])
    if "rank_correlation" not in table:
        return {}
    known = table.dropna(subset="rank_correlation")
    return {
        f"test.track.rank_correlation.{row['class']}": row["rank_correlation"]
        for row in known.to_dict("records")
    }


def log(metrics: dict[str, Any], card: dict[str, Any]) -> None:
    """Add final metrics, pictures and predictions to the run of the model."""
    from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

    task, name = card["task"], card["model"]
    mlflow = tracking.configure()
    with open_run(task, card):
        mlflow.log_metrics(flat_metrics(metrics) | class_metrics(task, name))
        mlflow.set_tag(MLFLOW_RUN_NOTE, description(card, metrics))
        mlflow.log_artifacts(str(plots_folder(task, name)), "plots")
        mlflow.log_artifact(str(predictions_path(task, name)))
        mlflow.log_table(pd.read_csv(predictions_path(task, name), keep_default_na=False), "predictions.json")
        for picture in (
            "confusion",
            "calibration",
            "abstention",
            "embedding",
        ):  # by key: "Compare" shows them side by side
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
