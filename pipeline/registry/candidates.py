"""The workspace's trained models as candidates: ranked, packed with what they ship, registered once each."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np

from pipeline import promotion_rule, tracking
from pipeline.errors import DataError
from pipeline.files import read_json, write_json
from pipeline.inference import audio
from pipeline.inference.musicnn import GRAPH
from pipeline.inference.network import Network
from pipeline.promotion_rule import Candidate
from pipeline.quality import sample_files
from pipeline.registry import seen, shipped
from pipeline.registry.description import description
from pipeline.registry.versions import CONTENT, model_name
from pipeline.tables.metrics import flat_metrics, metrics_path
from pipeline.tables.tracks import read_tracks
from pipeline.tables.trained_models import card_path
from pipeline.tracking import card_tags, open_run
from pipeline.training import backend, models, musicnn
from pipeline.training.weights import load_model

_SLICES: Final = 3  # of a track of 30 s
_ONNX_TOLERANCE: Final = 1e-4  # in probability; measured differences are below 1e-6


def candidates(task: str, names: list[str]) -> list[Candidate]:
    """Read the task's candidates from metrics and cards."""
    return [
        promotion_rule.candidate_of(read_json(metrics_path(task, name)), shipped_card(task, name))
        for name in names
    ]


def best_of(task: str, names: list[str]) -> Candidate | None:
    """Return the candidate that may be promoted."""
    return promotion_rule.best(candidates(task, names))


def shipped_card(task: str, model: str) -> dict[str, Any]:
    """Return a trained model's card with its calibration and the content of what it has seen.

    ``synthetic`` is true if its audio is, whatever ``dataset.json`` says.
    """
    card, tracks = read_json(card_path(task, model)), read_tracks()
    synthetic = card["dataset"]["synthetic"] or sample_files.is_sample(tracks["sha256"].tolist())
    calibration = read_json(metrics_path(task, model)).get("calibration")
    return card | {
        "calibration": calibration,
        "dataset": card["dataset"] | {"synthetic": synthetic},
        "seen_sha256": seen.contents(tracks, card["seen_tracks"]),
    }


def content_of(task: str, candidate: Candidate) -> str:
    """Return the hash that identifies the version a candidate becomes."""
    return shipped.content_sha256(shipped_card(task, candidate.model))


def export_onnx(task: str, name: str, path: Path) -> None:
    """Write a model of the workspace as an ONNX graph and check that it answers as Keras does.

    Raises
    ------
    DataError
        The graph's probabilities differ.
    """
    import onnxruntime

    backend.prepare(seed=0)
    model, _ = load_model(task, name)
    probe = np.random.default_rng(0).standard_normal((2, *model.input_shape[1:])).astype(np.float32)
    wanted = np.asarray(model(probe, training=False))
    model.export(path, format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    answer = session.run(None, {session.get_inputs()[0].name: probe})[0]
    gap = float(np.abs(answer - wanted).max())
    if not gap <= _ONNX_TOLERANCE:
        raise DataError(f"{task}-{name}: expected ONNX within {_ONNX_TOLERANCE} of Keras, received {gap:.2g}")


def input_example() -> Any:
    """Return a table with one second of a 440 Hz tone as FLAC in its column ``audio``."""
    import pandas as pd
    import soundfile

    seconds = np.arange(audio.SAMPLE_RATE) / audio.SAMPLE_RATE
    stream = io.BytesIO()
    soundfile.write(stream, 0.1 * np.sin(2 * np.pi * 440 * seconds), audio.SAMPLE_RATE, format="FLAC")
    return pd.DataFrame({"audio": [stream.getvalue()]})


def _signature(classes: tuple[str, ...]) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    return ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, "audio")]),
        outputs=Schema([ColSpec(DataType.float, name) for name in classes]),
        params=ParamSchema([ParamSpec("per_slice", DataType.boolean, False)]),
    )


def cost(graph: Path, card: dict[str, Any]) -> str:
    """Return in words how large a model is and how long it takes, measured here and now."""
    network = Network(graph, card)
    noise = np.random.default_rng(0).normal(0, 0.1, (_SLICES, audio.SLICE_SAMPLES)).astype(np.float32)
    network.of_features(network.features(noise))  # the first call also sets up
    began = perf_counter()
    network.of_features(network.features(noise))
    seconds = perf_counter() - began
    size = sum(path.stat().st_size for path in graph.parent.glob("*.onnx")) / 1e6
    return (
        f"{size:.1f} MB as ONNX; a track of 30 s took {seconds:.2f} s, decoding left out, on the "
        f"{os.cpu_count()} cores of the machine that registered it."
    )


def log_model(task: str, candidate: Candidate) -> tuple[str, str]:
    """Log the model with all that it ships to the run that trained it; return the model's URI and `cost`."""
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's numpy aliases
        graph = Path(name) / "model.onnx"
        export_onnx(task, candidate.model, graph)
        if models.FRONT_ENDS[candidate.model] == "musicnn":
            shutil.copyfile(musicnn.graph(), graph.with_name(GRAPH))
        card = shipped_card(task, candidate.model)
        return log_graph(f"{task}-{candidate.model}", graph, card), cost(graph, card)


def log_graph(name: str, graph: Path, card: dict[str, Any]) -> str:
    """Log an ONNX graph, its front end's if one lies beside it, card and code; return the model's URI."""
    import mlflow

    with tempfile.TemporaryDirectory() as folder:
        package, classifier = shipped.write(Path(folder))
        write_json(Path(folder) / "card.json", card)
        artifacts = {"graph": str(graph), "card": f"{folder}/card.json"}
        if graph.with_name(GRAPH).exists():
            artifacts["front_end"] = str(graph.with_name(GRAPH))
        with shipped.importable(Path(folder)):
            return mlflow.pyfunc.log_model(
                name=name,
                python_model=str(classifier),
                artifacts=artifacts,
                code_paths=[str(package)],
                signature=_signature(tuple(card["classes"])),
                input_example=input_example(),
                pip_requirements=shipped.requirements(),  # inferring them takes a subprocess of 20 s
            ).model_uri


def version_tags(task: str, candidate: Candidate) -> dict[str, str]:
    """Return what a version says of itself: its content, data, commit, protocol, test metrics."""
    card = shipped_card(task, candidate.model)
    metrics = flat_metrics(read_json(metrics_path(task, candidate.model)))
    shown = {name: f"{value:.4f}" for name, value in metrics.items() if name.startswith("test.track.")}
    own = {"weights_sha256": candidate.weights_sha256, CONTENT: shipped.content_sha256(card)}
    return tracking.versions() | card_tags(card) | shown | own


def ensure_version(client: Any, task: str, candidate: Candidate) -> str:
    """Return the version with the candidate's content; register it if there is none.

    Call it while holding the registered model's lease, or two processes register the same content twice.
    """
    name, content = model_name(task), content_of(task, candidate)
    said = description(
        read_json(card_path(task, candidate.model)), read_json(metrics_path(task, candidate.model))
    )
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.tags.get(CONTENT) == content:
            if not version.description:  # of an earlier release, or a kill came between
                client.update_model_version(name, version.version, said)
            return str(version.version)
    import mlflow

    tags = version_tags(task, candidate)
    with open_run(task, read_json(card_path(task, candidate.model))):
        uri, measured = log_model(task, candidate)
    number = str(mlflow.register_model(uri, name, tags=tags).version)
    client.update_model_version(name, number, f"{said}\n\n*Size and speed:* {measured}")
    return number
