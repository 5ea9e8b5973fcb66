"""Tiny models that tell classes by loudness, and their tracks: real files, real graphs."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import soundfile
from onnx import TensorProto, helper

from pipeline import files, params
from pipeline.inference import audio, logmel
from pipeline.promotion_rule import Candidate
from pipeline.registry import candidates
from pipeline.stages import promote
from pipeline.tables.metrics import metrics_path
from pipeline.tables.predictions import predictions_path
from pipeline.tables.tracks import TRACK_COLUMNS, TRACKS
from pipeline.tables.trained_models import card_path

CLASSES = ("blues", "metal", "pop")
SPEC = logmel.LogMel(n_fft=512, hop_length=8192, n_mels=8)  # fewer numbers than the default: fast
LOUDNESS = {"blues": 0.5, "metal": 0.05, "pop": 0.005, "rock": 0.0005}  # standard deviation of the noise


def level_of(content: bytes) -> float:
    """Return a track's mean log-mel in dB."""
    return float(logmel.features(audio.slices(audio.load(content)), SPEC).astype(float).mean())


def noise(label: str, seed: int) -> bytes:
    """Return a WAV of a class's loudness."""
    stream = io.BytesIO()
    samples = np.random.default_rng(seed).normal(0, LOUDNESS[label], 3_000)
    soundfile.write(stream, samples, 22_050, format="WAV", subtype="FLOAT")
    return stream.getvalue()


CENTRES = {label: level_of(noise(label, 0)) for label in LOUDNESS}


def write_tracks(labels: list[str], first: int = 0) -> pd.DataFrame:
    """Write one track per label and the catalogue; return track_id and label."""
    rows = []
    for number, label in enumerate(labels):
        content, track = noise(label, first + number), f"{label}.{first + number:05}"
        path = Path(f"data/gtzan/{label}/{track}.wav")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        rows.append({"track_id": track, "path": str(path), "sha256": files.sha256(path), "label": label})
    table = pd.DataFrame(rows)
    write_catalog(table)
    return table[["track_id", "label"]]


def write_catalog(table: pd.DataFrame) -> None:
    files.write_csv(TRACKS, table.reindex(columns=list(TRACK_COLUMNS)))


def graph(path: Path, centres: list[float], shape: tuple[int, int] = SPEC.shape) -> None:
    """Write a graph that answers the class whose centre, in dB, is nearest to the mean of its input.

    Of -(level - centre)²/100 all but the square of the level is linear, and that is the same for all classes.
    """
    n, each = len(centres), np.array(centres) / 50
    numbers = shape[0] * shape[1]
    nodes = [
        helper.make_node("Reshape", ["x", "flat_shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logit"]),
        helper.make_node("Softmax", ["logit"], ["y"]),
    ]
    weights = np.repeat(each[None] / numbers, numbers, axis=0)
    constants = [
        helper.make_tensor("flat_shape", TensorProto.INT64, [2], [-1, numbers]),
        helper.make_tensor("weights", TensorProto.FLOAT, [numbers, n], weights.ravel()),
        helper.make_tensor("bias", TensorProto.FLOAT, [n], -np.square(centres) / 100),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape, 1])
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", n])
    made = helper.make_graph(nodes, "loudness", [given], [answer], constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 9
    onnx.save(model, str(path))


def other_graph(path: Path) -> None:
    """Write a graph that ends in no dense layer."""
    nodes = [helper.make_node("ReduceMean", ["x"], ["level"], axes=[1, 2], keepdims=0)]
    nodes.append(helper.make_node("Softmax", ["level"], ["y"]))
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *SPEC.shape, 3])
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])
    made = helper.make_graph(nodes, "no map", [given], [answer])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=9), str(path))


def put_model(
    tracks: pd.DataFrame,
    name: str = "lenet5",
    *,
    classes: tuple[str, ...] = CLASSES,
    skilled: bool = True,
    seen: tuple[str, ...] = (),
    valid_f1: float = 0.5,
    **card: Any,
) -> Candidate:
    """Write card, metrics and predictions of a model into the workspace; unskilled, it answers other classes.

    Keras has no part in it: `no_keras` lets the graph be made of the card's ``centres``.
    """
    centres = [CENTRES[one] for one in classes]
    facts = {
        "task": "genre",
        "model": name,
        "params": 3,
        "classes": list(classes),
        "protocol": "artist",
        "leaky": False,
        "optimistic": False,
        "seed": 0,
        "dataset": {"name": "tiny", "synthetic": False},
        "spectrogram": asdict(SPEC),
        "normaliser": {"kind": "standard", "mean": [0.0] * SPEC.n_mels, "std": [1.0] * SPEC.n_mels},
        "seen_tracks": list(seen),
        "weights_sha256": hashlib.sha256(f"{name} {classes} {skilled} {seen}".encode()).hexdigest(),
        "centres": centres if skilled else centres[1:] + centres[:1],
    } | card
    files.write_json(card_path("genre", name), facts)
    scores = {"accuracy": 0.5, "macro_f1": valid_f1, "accuracy_ci": [0.1, 0.9]}
    part = {"n_slices": 12, "n_tracks": 12, "slice": {"accuracy": 0.5}, "track": scores}
    metrics = facts | dict.fromkeys(("train", "valid", "test"), part)
    files.write_json(metrics_path("genre", name), metrics)
    files.write_csv(predictions_path("genre", name), tracks.assign(part="test", predicted=""))
    found = candidates.best_of("genre", [name])
    return found if found else pytest.fail("the card allows no candidate")


def no_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the ONNX graph from the card's ``centres``."""

    def export(task: str, name: str, path: Path) -> None:
        graph(path, files.read_json(card_path(task, name))["centres"])

    monkeypatch.setattr(candidates, "export_onnx", export)
    monkeypatch.setattr(candidates, "input_example", lambda: None)  # MLflow would ask it of every model


def run(candidate: Candidate | None, **changes: Any) -> dict[str, Any]:
    """Promote as the stage does."""
    terms = {"margin": 0.0, "min_tracks": 10, "floor_confidence": 0.95} | changes
    return promote.promote("genre", candidate, params.PromoteParams(**terms))


def copy_project(root: Path, target: Path) -> None:
    """Copy the code that a version is made of."""
    for package in ("pipeline", "serving"):
        shutil.copytree(root / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))


def outcome_of(stdout: str) -> Any:
    """Return what a helper process printed as its last line, JSON."""
    return json.loads(stdout.strip().splitlines()[-1])
