"""Stage ``register``: each task's best model enters the MLflow registry.

The out, ``artifacts/registry/<task>.json``, says which candidate was best: a pure function of the metrics.
Running the stage again changes nothing; on an empty registry (after ``dvc pull``, say) it fills it. Whether
the candidate becomes champion is `pipeline.stages.promote`'s to decide.
"""

from __future__ import annotations

import io
import shutil
import tempfile
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipeline import params, promotion_rule, tracking
from pipeline.errors import DataError
from pipeline.files import read_json, write_json
from pipeline.inference import audio
from pipeline.promotion_rule import Candidate
from pipeline.stage_run import run_stage
from pipeline.tables.metrics import flat_metrics, metrics_path
from pipeline.tables.trained_models import card_path
from pipeline.tracking import card_tags, open_run
from pipeline.training import backend
from pipeline.training.weights import load_model

_ONNX_TOLERANCE: Final = 1e-4  # in probability; measured differences are below 1e-6
_REQUIREMENTS: Final = ("mlflow", "numpy", "onnxruntime", "pandas", "scipy", "soundfile", "soxr")


def path_of(task: str) -> Path:
    """Return where a task's candidate is recorded."""
    return Path(f"artifacts/registry/{task}.json")


def model_name(task: str) -> str:
    """Return the registered model's name."""
    return f"{task}-classifier"


def candidates(task: str, names: list[str]) -> list[Candidate]:
    """Read the task's candidates from metrics and cards."""
    return [
        promotion_rule.candidate_of(read_json(metrics_path(task, name)), read_json(card_path(task, name)))
        for name in names
    ]


def record(task: str, ranked: list[Candidate], chosen: Candidate | None) -> None:
    """Write the out."""
    keep = ("model", "weights_sha256", "protocol", "leaky", "synthetic", "valid_macro_f1")
    rows = [{key: asdict(one)[key] for key in keep} for one in ranked]
    write_json(
        path_of(task),
        {
            "registered_model": model_name(task),
            "candidates": rows,
            "candidate": chosen.model if chosen else None,
        },
    )


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


def _requirements() -> list[str]:
    from importlib.metadata import version

    return [f"{name}=={version(name)}" for name in _REQUIREMENTS]


def log_model(task: str, candidate: Candidate) -> str:
    """Log the model to the run that trained it; return the model's URI."""
    import mlflow

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's numpy aliases
        graph, card = Path(folder) / "model.onnx", Path(folder) / card_path(task, candidate.model).name
        # A copy, since with `cache.type symlink` DVC's outs are links, and MLflow refuses these.
        shutil.copyfile(card_path(task, candidate.model), card)
        export_onnx(task, candidate.model, graph)
        return mlflow.pyfunc.log_model(
            name=f"{task}-{candidate.model}",
            python_model="serving/classifier.py",
            artifacts={"graph": str(graph), "card": str(card)},
            code_paths=["pipeline", "serving"],
            signature=_signature(candidate.classes),
            input_example=input_example(),
            pip_requirements=_requirements(),  # inferring them takes a subprocess of 20 s
        ).model_uri


def version_tags(task: str, candidate: Candidate) -> dict[str, str]:
    """Return what a version says of itself: weights hash, data, commit, protocol, test metrics."""
    facts = read_json(card_path(task, candidate.model))
    metrics = flat_metrics(read_json(metrics_path(task, candidate.model)))
    shown = {name: f"{value:.4f}" for name, value in metrics.items() if name.startswith("test.track.")}
    return tracking.versions() | card_tags(facts) | shown | {"weights_sha256": candidate.weights_sha256}


def ensure_version(client: Any, task: str, candidate: Candidate) -> str:
    """Return the version with the candidate's weights; register it if there is none."""
    name = model_name(task)
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.tags.get("weights_sha256") == candidate.weights_sha256:
            return str(version.version)
    import mlflow

    tags = version_tags(task, candidate)
    with open_run(task, read_json(card_path(task, candidate.model))):
        uri = log_model(task, candidate)
    return str(mlflow.register_model(uri, name, tags=tags).version)


def best_of(task: str, names: list[str]) -> Candidate | None:
    """Return the candidate that may be promoted."""
    return promotion_rule.best(candidates(task, names))


def register(task: str, names: list[str]) -> str:
    """Rank one task's models, register the best and record it; return what was done."""
    ranked = candidates(task, names)
    chosen = promotion_rule.best(ranked)
    done = "none may be promoted: each one's protocol leaks or its score is NaN"
    if chosen and tracking.is_temporary_checkout():
        done = f"{chosen.model} is best; an experiment registers nothing"
    elif chosen:
        client = tracking.configure().MlflowClient()
        with tracking.reachable():
            done = f"{chosen.model} is version {ensure_version(client, task, chosen)}"
    record(task, ranked, chosen)
    return f"{model_name(task)}: {done}"


def main() -> None:
    """Register every task's best model."""
    settings = params.read()
    for task in settings.tasks:
        print(register(task, list(settings.models)))


if __name__ == "__main__":
    run_stage(main)
