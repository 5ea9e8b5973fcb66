"""Stage ``register``: each task's best model enters the MLflow registry and may become champion.

The out, ``artifacts/registry/<task>.json``, says which candidate was best: a pure function of the metrics.
What became of it depends on the registry's champion, so it is written where the registry is: as tags of the
version and as a run named "promotion". Running the stage again changes nothing; on an empty registry (after
``dvc pull``, say) it fills it.
"""

from __future__ import annotations

import io
import tempfile
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipeline import audio, backend, catalog, evaluate, params, promotion, scores, tracking, train
from pipeline.errors import DataError, run_main
from pipeline.files import read_json, write_json
from pipeline.promotion import Candidate, Champion, Comparison, Decision

_ONNX_TOLERANCE: Final = 1e-4  # in probability; measured differences are below 1e-6
_REQUIREMENTS: Final = ("librosa", "mlflow", "numpy", "onnxruntime", "pandas", "scipy", "soundfile")


def path_of(task: str) -> Path:
    """Return where a task's candidate is recorded."""
    return Path(f"artifacts/registry/{task}.json")


def model_name(task: str) -> str:
    """Return the registered model's name."""
    return f"{task}-classifier"


def candidates(task: str, names: list[str]) -> list[Candidate]:
    """Read the task's candidates from metrics and cards."""
    return [
        promotion.candidate_of(
            read_json(evaluate.metrics_path(task, name)), read_json(train.card_path(task, name))
        )
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
    model, _ = train.load(task, name)
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
        warnings.simplefilter("ignore")  # the exporter's numpy aliases; MLflow's wish for type hints
        graph, card = Path(folder) / "model.onnx", train.card_path(task, candidate.model)
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
    facts = read_json(train.card_path(task, candidate.model))
    metrics = evaluate.flat(read_json(evaluate.metrics_path(task, candidate.model)))
    shown = {name: f"{value:.4f}" for name, value in metrics.items() if name.startswith("test.track.")}
    return tracking.versions() | train.tags_of(facts) | shown | {"weights_sha256": candidate.weights_sha256}


def ensure_version(client: Any, task: str, candidate: Candidate) -> str:
    """Return the version with the candidate's weights; register it if there is none."""
    name = model_name(task)
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.tags.get("weights_sha256") == candidate.weights_sha256:
            return str(version.version)
    import mlflow

    tags = version_tags(task, candidate)
    with evaluate.open_run(task, read_json(train.card_path(task, candidate.model))):
        uri = log_model(task, candidate)
    return str(mlflow.register_model(uri, name, tags=tags).version)


def champion_of(client: Any, task: str) -> tuple[Champion, dict[str, Any]] | None:
    """Return the champion and its card; None if there is none."""
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        version = client.get_model_version_by_alias(model_name(task), tracking.PROMOTED)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    uri = f"models:/{model_name(task)}@{tracking.PROMOTED}"
    try:
        card = read_json(next(Path(mlflow.artifacts.download_artifacts(uri)).glob("artifacts/*.json")))
    except (MlflowException, OSError, StopIteration) as error:
        raise DataError(
            f"{uri}: expected the champion's files, received {type(error).__name__}: {error}. "
            "Bring them back, or move mlruns/ away: `make registry` fills a new one."
        ) from None
    champion = Champion(
        version=str(version.version),
        weights_sha256=card["weights_sha256"],
        synthetic=card["dataset"]["synthetic"],
        classes=tuple(card["classes"]),
    )
    return champion, card


def compare(task: str, candidate: Candidate, champion_card: dict[str, Any]) -> Comparison:
    """Score both on the test tracks that the champion has not seen either."""
    import mlflow
    import pandas as pd

    text = dict.fromkeys(("track_id", "part", "label", "predicted"), str)
    predictions = evaluate.predictions_path(task, candidate.model)
    table = pd.read_csv(predictions, dtype=text, keep_default_na=False)
    unseen = table[(table["part"] == "test") & ~table["track_id"].isin(champion_card["seen_tracks"])]
    if unseen.empty:
        return Comparison(0, float("nan"), float("nan"))
    paths = catalog.read().set_index("track_id")["path"]
    audio_of = pd.DataFrame({"audio": [Path(paths[track]).read_bytes() for track in unseen["track_id"]]})
    champion = mlflow.pyfunc.load_model(f"models:/{model_name(task)}@{tracking.PROMOTED}")
    truth = np.array([candidate.classes.index(name) for name in unseen["label"]])
    own = unseen[[f"p_{name}" for name in candidate.classes]].to_numpy(float)
    other = champion.predict(audio_of)[list(candidate.classes)].to_numpy(float)
    return Comparison(len(unseen), scores.macro_f1(truth, own), scores.macro_f1(truth, other))


def promote(task: str, candidate: Candidate | None, settings: params.RegisterParams) -> Decision:
    """Register the candidate, decide, move the alias, and log the decision."""
    mlflow = tracking.configure()
    client = mlflow.MlflowClient()
    known = champion_of(client, task)
    champion, card = known if known else (None, {})
    comparison = None
    if candidate and promotion.needs_comparison(candidate, champion):
        comparison = compare(task, candidate, card)
    decision = promotion.decide(
        candidate, champion, comparison, margin=settings.margin, min_tracks=settings.min_tracks
    )
    if candidate is None or (champion and champion.weights_sha256 == candidate.weights_sha256):
        return decision
    version = ensure_version(client, task, candidate)
    _log_decision(client, task, version, decision, champion)  # first: a kill between must not lose it
    if decision.promote:
        client.set_registered_model_alias(model_name(task), tracking.PROMOTED, version)
    return decision


def _log_decision(
    client: Any, task: str, version: str, decision: Decision, champion: Champion | None
) -> None:
    verdict = "promoted" if decision.promote else "kept champion"
    tags = {"decision": verdict, "reason": decision.reason}
    for key, value in tags.items():
        client.set_model_version_tag(model_name(task), version, key, value)
    before = champion.version if champion else "none"
    with tracking.run(task, "promotion", tags | {"version": version, "champion_before": before}):
        pass


def register(task: str, settings: params.Params) -> Decision:
    """Rank, record and promote one task's models."""
    ranked = candidates(task, list(settings.models))
    chosen = promotion.best(ranked)
    decision = promote(task, chosen, settings.register_)
    record(task, ranked, chosen)
    return decision


def main() -> None:
    """Register every task's best model and decide on the champion."""
    settings = params.read()
    for task in settings.tasks:
        decision = register(task, settings)
        verdict = "promoted" if decision.promote else "kept"
        print(f"{model_name(task)}: {verdict}: {decision.reason}")


if __name__ == "__main__":
    run_main(main)
