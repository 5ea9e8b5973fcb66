"""Registration and promotion against real MLflow stores: the project's own SQLite, and PostgreSQL."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline import files, params, tracking
from pipeline.errors import CmgError, UnavailableError
from pipeline.inference import audio
from pipeline.inference.musicnn import N_NUMBERS
from pipeline.inference.normalise import Normaliser
from pipeline.registry import candidates
from pipeline.stages import promote, register
from pipeline.tables.candidates import candidate_path
from pipeline.tables.metrics import metrics_path
from pipeline.tables.predictions import predictions_path
from pipeline.tables.tracks import TRACK_COLUMNS, TRACKS
from pipeline.tables.trained_models import card_path, weights_path
from pipeline.training import backend, models, musicnn
from pipeline.training.weights import load_model, save_weights
from tests.flows import postgres

CLASSES = ["blues", "metal"]
HELD_OUT = [f"blues.{n:05}" for n in range(6)] + [f"metal.{n:05}" for n in range(6)]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=postgres.NEEDED)])
def registry(request: pytest.FixtureRequest, empty: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with an empty store of either kind."""
    if request.param == "postgresql":
        server = request.getfixturevalue("database")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.store(f"mlflow{abs(hash(request.node.name))}"))
    return empty


@pytest.fixture
def store(registry: Path) -> Path:
    """Work in a folder with test tracks and no registry yet."""
    rows = []
    for number, track in enumerate(HELD_OUT):
        path = Path(f"data/gtzan/{track.split('.')[0]}/{track}.au")
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).normal(0, 0.1, 30_000)
        soundfile.write(path, noise, 22_050, format="AU", subtype="PCM_16")
        rows.append({"track_id": track, "path": str(path), "sha256": files.sha256(path)})
    files.write_csv(TRACKS, pd.DataFrame(rows).reindex(columns=list(TRACK_COLUMNS)))
    return registry


def put_model(name: str, *, seed: int, valid_f1: float, seen: list[str], **card) -> str:
    """Write a real, untrained model, its card, metrics and predictions; return its hash."""
    backend.prepare(seed)
    shape = (N_NUMBERS, 1) if models.FRONT_ENDS[name] == "musicnn" else (64, 108)
    model = models.build(name, shape, len(CLASSES))  # small: ONNX copies the weights dozens of times
    path = weights_path("genre", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(model, path)
    facts = {
        "task": "genre",
        "model": name,
        "params": model.count_params(),
        "classes": CLASSES,
        "protocol": "artist",
        "leaky": False,
        "optimistic": False,
        "seed": seed,
        "dataset": {"name": "tiny", "synthetic": False},
        "spectrogram": {"n_fft": 2048, "hop_length": 2048, "n_mels": 64},
        "normaliser": Normaliser("l2").as_dict(),
        "seen_tracks": seen,
        "weights_sha256": files.sha256(path),
    } | card
    files.write_json(card_path("genre", name), facts)
    scores = {"accuracy": 0.5, "macro_f1": valid_f1, "accuracy_ci": [0.1, 0.9]}
    part = {"n_slices": 12, "n_tracks": 12, "slice": {"accuracy": 0.5}, "track": scores}
    files.write_json(metrics_path("genre", name), facts | dict.fromkeys(("train", "valid", "test"), part))
    label = [track.split(".")[0] for track in HELD_OUT]
    table = pd.DataFrame({"track_id": HELD_OUT, "part": "test", "label": label, "predicted": "blues"})
    files.write_csv(predictions_path("genre", name), table)
    return facts["weights_sha256"]


def settings_for(settings: params.Params, names: list[str]) -> params.Params:
    return settings.model_copy(update={"models": names, "tasks": ["genre"]})


def run_stages(settings: params.Params) -> dict[str, Any]:
    """Register and promote, as DVC does, without the floor that no untrained model passes."""
    names = list(settings.models)
    register.register("genre", names)
    terms = settings.promote.model_copy(update={"floor_confidence": 0.0})
    return promote.promote("genre", candidates.best_of("genre", names), terms)


def champion() -> tuple[str, dict[str, str]]:
    client = tracking.configure().MlflowClient()
    version = client.get_model_version_by_alias("genre-classifier", "champion")
    return str(version.version), version.tags


@pytest.mark.slow
def test_life_of_a_registry(store: Path, settings: params.Params) -> None:
    """First champion, idempotence, a challenger, a leaky model: Keras models, all in one store."""
    one, two = settings_for(settings, ["lenet5"]), settings_for(settings, ["lenet5", "cnn64"])
    first = put_model("lenet5", seed=1, valid_f1=0.5, seen=["elsewhere"])
    assert run_stages(one)["promoted"]
    version, tags = champion()
    assert version == "1"
    assert tags["weights_sha256"] == first
    assert tags["protocol"] == "artist"
    assert tags["decision"] == "promoted"
    assert "test.track.accuracy" in tags

    again = run_stages(one)
    assert not again["promoted"]
    assert "version 1 is champion already" in again["reason"]
    assert champion()[0] == "1"

    put_model("cnn64", seed=2, valid_f1=0.9, seen=["elsewhere"])
    other = run_stages(two)
    assert "of version 1 on 12 tracks, unseen by both" in other["reason"]
    served = champion()[0]
    assert served == ("2" if other["promoted"] else "1")
    recorded = files.read_json(candidate_path("genre"))
    assert recorded["candidate"] == "cnn64"
    entry = tracking.configure().MlflowClient().get_model_version("genre-classifier", "2")
    assert entry.tags["content_sha256"] == recorded["content_sha256"]

    put_model("lenet5", seed=4, valid_f1=1.0, seen=[], leaky=True, protocol="shuffled")
    assert "leaks" in run_stages(one)["reason"]
    assert champion()[0] == served

    promotions = tracking.configure().search_runs(
        experiment_names=["genre"], filter_string="attributes.run_name = 'promotion'", output_format="list"
    )
    assert len(promotions) == 2
    assert "promoted" in {run.data.tags["decision"] for run in promotions}
    assert all(run.data.tags["reason"] for run in promotions)


@pytest.mark.slow
def test_a_retrain_that_tries_again_tells_what_its_first_try_decided(
    store: Path, settings: params.Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = settings_for(settings, ["lenet5"])
    put_model("lenet5", seed=1, valid_f1=0.5, seen=["elsewhere"])
    monkeypatch.setenv(tracking.RETRAIN, "monday")
    assert run_stages(one) == run_stages(one)
    assert run_stages(one)["reason"] == "there was no champion"
    monkeypatch.setenv(tracking.RETRAIN, "tuesday")
    assert "champion already" in run_stages(one)["reason"]


def test_find_run_prefers_the_latest_and_knows_when_there_is_none(workspace: Path) -> None:
    assert tracking.find_run("genre", "abc") is None
    for name in ("older", "newer"):
        with tracking.run("genre", name, {"weights_sha256": "abc"}) as active:
            last = active.info.run_id
    assert tracking.find_run("genre", "abc") == last
    assert tracking.find_run("mood", "abc") is None


def test_store_is_the_projects_own(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with tracking.run("genre", "one", {}) as active:
        assert "mlflow.parentRunId" not in active.data.tags
    assert (workspace / "mlruns/mlflow.db").exists()
    assert "mlruns/artifacts" in active.info.artifact_uri


def parent_of(run: Any) -> str:
    return run.data.tags["mlflow.parentRunId"]


def test_models_of_a_retrain_lie_under_one_run_a_task(
    registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(tracking.RETRAIN, "monday")
    with tracking.run("genre", "lenet5", {}) as one:
        pass
    with tracking.run("mood", "lenet5", {}) as other:
        pass
    with tracking.run("genre", "cnn64", {}) as two:
        pass
    assert parent_of(one) == parent_of(two) != parent_of(other)
    client = tracking.configure().MlflowClient()
    assert client.get_run(parent_of(one)).info.run_name == "monday"
    assert two.data.tags["retrain"] == "monday"
    assert client.get_run(two.info.run_id).data.params["retrain"] == "monday"  # for MLflow's comparison
    monkeypatch.setenv(tracking.RETRAIN, "retrain 2026-11-24 03:00:00")
    with tracking.run("genre", "lenet5", {}) as dated:
        pass
    assert client.get_run(dated.info.run_id).data.params["retrain"] == "2026-11-24 03:00:00"


def test_a_retrain_that_ends_closes_its_runs_and_those_a_kill_left_open(
    registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("dvc.lock").write_text("as it is while a stage runs")
    client, runs = tracking.configure().MlflowClient(), {}
    for name in ("killed", "monday"):
        monkeypatch.setenv(tracking.RETRAIN, name)
        with tracking.run("genre", "lenet5", {}) as child:
            runs[name] = parent_of(child)
        client.update_run(child.info.run_id, status="RUNNING")  # as SIGTERM and SIGKILL leave it
        runs[f"{name}'s model"] = child.info.run_id
    client.create_registered_model("genre-classifier")
    made = client.create_model_version("genre-classifier", child.info.artifact_uri, run_id=child.info.run_id)
    elsewhere = client.create_run(child.info.experiment_id, tags={"checkout": "another", "retrain": "there"})
    Path("dvc.lock").write_text("as it is in the end")
    tracking.close_retrain("monday", "FINISHED", {"genre": {"decision": "promoted"}})
    ended = {name: client.get_run(run_id) for name, run_id in runs.items()}
    assert {name: run.info.status for name, run in ended.items()} == {
        "killed": "KILLED",
        "killed's model": "KILLED",
        "monday": "FINISHED",
        "monday's model": "KILLED",
    }
    assert client.get_run(elsewhere.info.run_id).info.status == "RUNNING"
    for name in ("monday", "monday's model"):
        assert ended[name].data.tags["dvc_lock_sha256"] == files.sha256(Path("dvc.lock"))
    version = client.get_model_version("genre-classifier", made.version)
    assert version.tags["dvc_lock_sha256"] == files.sha256(Path("dvc.lock"))
    assert ended["monday"].data.tags["decision"] == "promoted"
    assert "decision" not in ended["killed"].data.tags


def test_a_server_that_is_gone_is_an_unavailable_one(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free.getsockname()[1]}")
    with pytest.raises(UnavailableError, match="expected an MLflow store at http://127"):
        tracking.configure()


@pytest.mark.parametrize("code", [502, 503])
def test_a_proxy_without_its_server_is_an_unavailable_one(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(code)

        def log_message(self, *_: Any) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Proxy) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(UnavailableError, match="expected an MLflow store at http://127"):
            tracking.configure()
        server.shutdown()


def test_a_store_that_is_no_database_is_a_fault_to_mend(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace / "broken.db").write_bytes(b"no database" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workspace}/broken.db")
    with pytest.raises(CmgError) as caught:
        tracking.configure()
    assert not isinstance(caught.value, UnavailableError)


# Answers one file by a registered version, without the project: prints the probabilities.
ALONE = """
import json, sys
import mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
print(json.dumps(model.predict(pd.DataFrame({"audio": [open(sys.argv[3], "rb").read()]})).iloc[0].tolist()))
assert not {"pipeline", "tensorflow", "librosa"} & set(sys.modules)
"""


@pytest.mark.slow
def test_a_version_with_a_front_end_of_its_own_answers_in_a_fresh_process(
    store: Path, tmp_path: Path
) -> None:
    statistics = Normaliser("standard", (0.5,) * N_NUMBERS, (2.0,) * N_NUMBERS)
    graph = musicnn.graph()
    facts = {"front_end": "musicnn", "front_end_sha256": files.sha256(graph), "licence": musicnn.LICENCE}
    put_model("musicnn_probe", seed=1, valid_f1=0.5, seen=[], normaliser=statistics.as_dict(), **facts)
    register.register("genre", ["musicnn_probe"])
    said = tracking.configure().MlflowClient().get_model_version("genre-classifier", "1").description
    assert "*Licence:* the weights were learned from these tracks alone" not in said
    megabytes, seconds = re.search(r"([\d.]+) MB as ONNX; a track of 30 s took ([\d.]+) s", said).groups()
    assert 1.5 < float(megabytes) < 4, "the front end counts too: the head alone has 3,014 numbers"
    assert 0 < float(seconds) < 60
    encoded = Path(f"data/gtzan/blues/{HELD_OUT[0]}.au").resolve()
    uri = tracking.configure().get_tracking_uri()
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", ALONE, uri, "models:/genre-classifier/1", str(encoded)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    numbers = musicnn.front_end().features(audio.slices(audio.load(encoded)))
    model, _ = load_model("genre", "musicnn_probe")
    wanted = np.asarray(model(statistics(numbers)[..., None], training=False)).mean(axis=0)
    np.testing.assert_allclose(json.loads(done.stdout.splitlines()[-1]), wanted, atol=1e-5)
