"""Team mode: PostgreSQL, a work pool, models over HTTP to a store by URI; and servers that go away."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from serving import password
from tests import project as projects
from tests.flows import attack, postgres
from tests.flows.stack import Stack, answers, eventually, free_ports, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    postgres.NEEDED,
]

VERSIONS = "select count(*) from model_versions"
CHAMPION = "select version from registered_model_aliases"


@pytest.fixture(scope="module")
def database() -> Iterator[postgres.Server]:
    with postgres.server() as running:
        for name in ("prefect", "mlflow"):
            running.run(f"create database {name}")
        yield running


@pytest.fixture(scope="module")
def stack(database: postgres.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    project = projects.make(tmp_path_factory.mktemp("team"), {"tasks": ["mood"], "models": ["lenet5"]})
    stack = Stack(project)
    store = tmp_path_factory.mktemp("store")
    stack.settings = postgres.settings(database, mlflow=stack.mlflow) | {
        "CMG_MLFLOW_ARTIFACTS": store.as_uri(),
        "CMG_FLOWS": "worker",
    }
    with stack.running():
        yield stack


@pytest.fixture(autouse=True)
def nothing_left_going(stack: Stack) -> Iterator[None]:
    """A test that failed must not make the next one fail."""
    yield
    stack.cancel_all()


def count(server: postgres.Server, database: str, query: str) -> int:
    return int(server.run(query, database))


def test_a_retrain_completes_and_registers(stack: Stack, database: postgres.Server) -> None:
    run = stack.retrain()
    state = stack.ended(run)
    assert state["message"].startswith("mood: promoted version 1: there was no champion")
    assert stack.get(f"/flow_runs/{run}")["work_pool_name"] == "pipeline"
    store = Path(unquote(urlparse(stack.settings["CMG_MLFLOW_ARTIFACTS"]).path))
    assert list(store.rglob("model.onnx"))
    assert not (stack.project.root / "mlruns/mlflow.db").exists()
    assert not (stack.project.root / "mlruns/artifacts").exists()
    assert not (stack.project.root / ".prefect/prefect.db").exists()
    assert count(database, "prefect", "select count(*) from flow_run where state_type = 'COMPLETED'") >= 1
    assert count(database, "mlflow", VERSIONS) == 1
    assert count(database, "mlflow", "select count(*) from registered_model_aliases") == 1


def test_champion_answers_over_http_with_real_audio(stack: Stack, tmp_path: Path) -> None:
    port = free_ports(1)[0]
    serving = subprocess.Popen(
        stack.command("serving.scoring", "models:/mood-classifier@champion", "--port", str(port)),
        cwd=tmp_path,
        env=stack.environment | stack.mlflow_login() | {password.SERVERS: stack.auth},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/ping"), 120, "the model is served")
        song = next((stack.project.root / "data/gtzan").glob("*/*.au")).read_bytes()
        asked = {"dataframe_split": {"columns": ["audio"], "data": [[base64.b64encode(song).decode()]]}}
        address = f"http://127.0.0.1:{port}/invocations"
        assert attack.raw(address, "POST", asked) == 401
        assert attack.raw(address, "POST", asked, {"Host": f"{attack.EVIL}:{port}"}) == 403
        answer = stack.call("POST", address, asked)
        assert answer.status_code == 200, answer.text
        (probabilities,) = answer.json()["predictions"]
        assert len(probabilities) == 10
        assert abs(sum(probabilities.values()) - 1) < 1e-5
    finally:
        serving.terminate()
        serving.wait(30)


LONG = {"overrides": {"train.models.lenet5": {"epochs": 5000, "learning_rate": 0.001, "patience": 5000}}}


def start_long_training(stack: Stack) -> str:
    run = stack.retrain(**LONG)
    wait_until(lambda: "Epoch 2/5000" in stack.run_logs(run), 300, "LeNet-5 trains")
    return run


@pytest.mark.long
def test_mlflow_gone_in_the_middle_is_said_and_nothing_is_half_registered(
    stack: Stack, database: postgres.Server
) -> None:
    before = count(database, "mlflow", VERSIONS)
    run = start_long_training(stack)
    with stack.without("mlflow", f"{stack.mlflow}/health"):
        waiting = eventually(
            lambda: stack.tasks(run), lambda seen: seen.get("train@mood-lenet5") == "AwaitingRetry", 180
        )
        assert waiting["train@mood-lenet5"] == "AwaitingRetry"
        said = "expected an MLflow store at http://127.0.0.1"
        assert said in eventually(lambda: stack.run_logs(run), lambda seen: said in seen)
        stack.ended(run, "FAILED", 300)
        assert not stack.processes("pipeline.stages.train")
        assert count(database, "mlflow", VERSIONS) == before
    stack.ended(stack.retrain())


def test_mlflow_gone_while_registering_fails_clearly_and_the_next_run_registers_once(
    stack: Stack, database: postgres.Server
) -> None:
    other = {"overrides": {"seed": 5}}
    before, champion = count(database, "mlflow", VERSIONS), database.run(CHAMPION, "mlflow")
    run = stack.retrain(**other)
    wait_until(lambda: stack.processes("pipeline.stages.register"), 300, "the stage register begins")
    with stack.without("mlflow", f"{stack.mlflow}/health"):
        state = stack.finish(run, 600)
        assert state["type"] == "FAILED"
        assert "expected an MLflow store at http://127.0.0.1" in state["message"]
        assert count(database, "mlflow", f"{VERSIONS} where status <> 'READY'") == 0
        assert database.run(CHAMPION, "mlflow") == champion
    stack.ended(stack.retrain(**other))
    assert count(database, "mlflow", VERSIONS) == before + 1


def test_prefect_gone_in_the_middle_ends_the_run_and_the_next_completes(
    stack: Stack, database: postgres.Server
) -> None:
    before = count(database, "mlflow", VERSIONS)
    lost = start_long_training(stack)
    with stack.without("prefect", f"{stack.api}/health"):
        wait_until(
            lambda: not stack.processes("pipeline.stages.train"), 180, "the training ends without its server"
        )
        wait_until(lambda: "received silence" in stack.log(), 60, "the worker ends, to be started anew")
    stack.ended(stack.retrain())
    assert "its process is gone" in stack.ended(lost, "CRASHED")["message"].lower()
    assert count(database, "mlflow", VERSIONS) == before
    again = start_long_training(stack)  # a worker that lost its server must still hear of cancellations
    stack.cancel(again)
    wait_until(lambda: not stack.processes("pipeline.stages.train"), 15, "the training ends")
