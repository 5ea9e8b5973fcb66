"""One promotion at a time: real processes on SQLite and PostgreSQL, holders that die or are silent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline import tracking
from pipeline.errors import UnavailableError
from pipeline.registry import lease
from pipeline.registry.versions import champion_entry, model_name
from tests.conftest import ROOT
from tests.flows import postgres
from tests.registry import tiny

# Promotes the workspace's candidate after the other process has got as far; prints the decision.
PROMOTE = """
import json, sys, time
from pathlib import Path
import pytest
from tests.registry import tiny
from pipeline.registry import candidates
patch = pytest.MonkeyPatch()
tiny.no_keras(patch)
candidate = candidates.best_of("genre", [sys.argv[1]])
Path(f"ready-{sys.argv[1]}").touch()
while len(list(Path().glob("ready-*"))) < 2:
    time.sleep(0.01)
print(json.dumps(tiny.run(candidate, floor_confidence=0.0)))
"""
HOLD = """
import time
from pipeline import tracking
from pipeline.registry import lease
with lease.hold(tracking.configure().MlflowClient(), "genre-classifier"):
    print("held", flush=True)
    time.sleep(600)
"""

needs_postgres = pytest.mark.skipif(
    postgres.programs() is None, reason="needs PostgreSQL: apt-get install postgresql"
)


@pytest.fixture(scope="module")
def database() -> Iterator[postgres.Server]:
    with postgres.server() as running:
        yield running


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=needs_postgres)])
def shared(
    request: pytest.FixtureRequest, tracks: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> pd.DataFrame:
    """Work with fifteen tracks and an empty store of either kind."""
    if request.param == "postgresql":
        server = request.getfixturevalue("database")
        name = f"lease{abs(hash(request.node.name))}"
        server.run(f"create database {name}")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url(name))
    return tracks


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def client() -> Any:
    return tracking.configure().MlflowClient()


@pytest.mark.slow
def test_of_two_promotions_at_once_the_better_model_serves_and_each_is_registered_once(
    shared: pd.DataFrame,
) -> None:
    """Without a lease both compare with what served before, and whoever is later wins."""
    tiny.run(tiny.put_model(shared, skilled=False), floor_confidence=0.0)
    half = tiny.CENTRES["metal"], tiny.CENTRES["blues"], tiny.CENTRES["pop"]  # a third is right
    tiny.put_model(shared, "lenet5", centres=list(half), weights_sha256="half")
    tiny.put_model(shared, "cnn64")
    processes = [start(PROMOTE, name) for name in ("lenet5", "cnn64")]
    outcomes = []
    for process in processes:
        out, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        outcomes.append(tiny.outcome_of(out))
    poorer, better = outcomes
    assert better["promoted"]
    assert champion_entry(client(), "genre").version == better["candidate"]["version"]
    assert poorer["before"]["version"] != better["before"]["version"], "one of them compared with the other"
    found = client().search_model_versions(f"name = '{model_name('genre')}'")
    assert len(found) == 3
    assert not client().search_registered_models("name LIKE '%-lease'")


@pytest.mark.slow
def test_two_that_register_the_same_model_make_one_version(shared: pd.DataFrame) -> None:
    tiny.put_model(shared, "cnn64")
    client()
    script = PROMOTE.replace("ready-{sys.argv[1]}", "ready-{sys.argv[2]}")  # another file for each process
    processes = [start(script, "cnn64", number) for number in ("one", "two")]
    for process in processes:
        assert process.wait(300) == 0, process.communicate()[1]
    assert len(client().search_model_versions(f"name = '{model_name('genre')}'")) == 1


@pytest.mark.slow
def test_a_killed_holder_is_known_to_be_dead_at_once(shared: pd.DataFrame) -> None:
    client()
    process = start(HOLD)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    began = time.monotonic()
    with lease.hold(client(), model_name("genre")) as held:
        held.check()
    assert time.monotonic() - began < lease.STALE / 4


def put_lease(owner: str) -> None:
    client().create_registered_model("genre-classifier-lease", tags={"owner": owner, "renewed": "0"})


def test_a_holder_elsewhere_that_is_silent_is_taken_for_dead(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "STALE", 1.0)
    put_lease("elsewhere|1|1.00|x")
    with lease.hold(client(), "genre-classifier") as held:
        held.check()


def test_a_holder_that_renews_is_waited_for(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.05)
    monkeypatch.setattr(lease, "STALE", 2.0)
    monkeypatch.setattr(lease, "PATIENCE", 4.0)
    late = pytest.raises(UnavailableError, match="expected the lease within 4 s")
    with lease.hold(client(), "genre-classifier"), late, lease.hold(client(), "genre-classifier"):
        pass
    with lease.hold(client(), "genre-classifier"):
        pass


def test_whoever_lost_the_lease_learns_of_it_and_leaves_the_new_holders_alone(empty: Path) -> None:
    with lease.hold(client(), "genre-classifier") as held:
        client().delete_registered_model(held.name)
        put_lease("elsewhere|1|1.00|x")
        with pytest.raises(lease.LeaseLostError):
            held.check()
    assert client().get_registered_model("genre-classifier-lease").tags["owner"] == "elsewhere|1|1.00|x"
