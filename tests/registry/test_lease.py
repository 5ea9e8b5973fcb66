"""One promotion at a time: real processes on SQLite and PostgreSQL, holders that die or are silent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline import stage_run, tracking
from pipeline.errors import UnavailableError
from pipeline.registry import candidates, lease
from pipeline.registry.versions import champion_entry, model_name
from tests.conftest import ROOT
from tests.flows import postgres
from tests.flows.stack import answers, free_ports, wait_until
from tests.registry import tiny

# Promotes the workspace's candidate once the other process is as far; prints the decision.
PROMOTE = """
import json, sys, time
from pathlib import Path
from pipeline import params
from pipeline.registry import candidates
from pipeline.stages import promote
name = sys.argv[1]
candidate = candidates.best_of("genre", [name])
terms = params.PromoteParams(margin=0.0, min_tracks=10, floor_confidence=0.0)
Path(f"ready-{name}").touch()
while len(list(Path().glob("ready-*"))) < 2:
    time.sleep(0.01)
print(json.dumps(promote.promote("genre", candidate, terms)))
"""
# Registers the workspace's candidate as soon as the other process is as far.
REGISTER = """
import sys, time
from pathlib import Path
import pytest
from tests.registry import tiny
from pipeline.stages import register
tiny.no_keras(pytest.MonkeyPatch())
Path(f"ready-{sys.argv[1]}").touch()
while len(list(Path().glob("ready-*"))) < 2:
    time.sleep(0.01)
print(register.register("genre", ["cnn64"]))
"""
HOLD = """
import time
from pipeline import stage_run, tracking
from pipeline.registry import candidates, lease
with lease.hold(tracking.configure().MlflowClient(), "genre-classifier"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=postgres.NEEDED)])
def shared(
    request: pytest.FixtureRequest, tracks: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> pd.DataFrame:
    """Work with fifteen tracks and an empty store of either kind."""
    if request.param == "postgresql":
        use_database(request, monkeypatch)
    return tracks


def use_database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the test's store be a database of its own on PostgreSQL."""
    server = request.getfixturevalue("database")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.store(f"lease{abs(hash(request.node.name))}"))


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    begin = f"import gc; gc.set_threshold({stage_run._COLLECT_AFTER})"  # as in a stage
    end = "from pipeline import stage_run; stage_run._leave()"
    command = [sys.executable, "-c", f"{begin}\n{script}\n{end}", *arguments]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def printed(script: str, *arguments: str) -> list[str]:
    """Start a process for each argument, all at once; return what each printed."""
    processes = [start(script, one) for one in arguments]
    out = []
    try:
        for process in processes:
            said, errors = process.communicate(timeout=500)
            assert process.returncode == 0, errors
            out.append(said)
    finally:
        for process in processes:
            process.kill()
    return out


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
    for name in ("lenet5", "cnn64"):
        with lease.hold(client(), model_name("genre")):
            candidates.ensure_version(client(), "genre", candidates.candidates("genre", [name])[0])
    poorer, better = (tiny.outcome_of(said) for said in printed(PROMOTE, "lenet5", "cnn64"))
    assert better["promoted"]
    assert str(champion_entry(client(), "genre").version) == better["candidate"]["version"]
    assert poorer["before"]["version"] != better["before"]["version"], "one of them compared with the other"
    found = client().search_model_versions(f"name = '{model_name('genre')}'")
    assert len(found) == 3
    assert not client().search_registered_models("name LIKE '%-lease'")


@pytest.mark.slow
def test_two_that_register_the_same_model_make_one_version(shared: pd.DataFrame) -> None:
    tiny.put_model(shared, "cnn64")
    client()
    assert all("cnn64 is version 1" in said for said in printed(REGISTER, "one", "two"))
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


DEAD = f"{lease._machine()}|1|1.00|x"  # process 1 was not started in 1970


def put_lease(owner: str) -> None:
    client().create_registered_model("genre-classifier-lease", tags={"owner": owner, "renewed": "0"})


def test_of_many_that_take_over_from_the_dead_one_holds_at_a_time(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever removed a dead holder's lease a moment too late removed that of the next."""
    monkeypatch.setattr(lease, "_POLL", 0.01)
    dead, lost = "|".join([lease._machine(), "1", "1.00", "x"]), []
    together = threading.Barrier(4)

    def wait_and_hold() -> None:
        together.wait()
        with lease.hold(client(), "genre-classifier") as held:
            try:
                time.sleep(0.1)
                held.check()
            except lease.LeaseLostError:
                lost.append(held.owner)

    for _ in range(3):
        put_lease(dead)
        waiting = [threading.Thread(target=wait_and_hold) for _ in range(4)]
        for thread in waiting:
            thread.start()
        for thread in waiting:
            thread.join()
    assert lost == []


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


class Late:
    """A client that is overtaken right before it changes a lease: ``overtake`` runs in between."""

    def __init__(self, overtake: Callable[[], object]) -> None:
        self.client, self.overtake = client(), overtake

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("delete", "rename")):
            overtake, self.overtake = self.overtake, lambda: None
            overtake()
        return getattr(self.client, name)


LONG = [pytest.mark.long, pytest.mark.slow]


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgresql", marks=[*LONG, postgres.NEEDED]),
        pytest.param("http", marks=LONG),
    ]
)
def store(request: pytest.FixtureRequest, empty: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work with an empty store of each kind."""
    if request.param != "http":
        if request.param == "postgresql":
            use_database(request, monkeypatch)
        yield
        return
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "mlflow", "server", "--port", f"{port}", "--workers", "1"]
    own = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(
        [*command, "--backend-store-uri", f"sqlite:///{empty}/mlruns/mlflow.db"],
        env=os.environ | own,
        start_new_session=True,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(f"{address}/health"), 120, "MLflow answers")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        yield
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def test_a_waiter_that_is_overtaken_leaves_the_next_holders_lease_alone(
    store: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have seen the dead holder; one replaces it while the other is about to remove it."""
    monkeypatch.setattr(lease, "PATIENCE", 1.0)
    put_lease(DEAD)
    with ExitStack() as first:
        held: list[lease.Lease] = []
        late = Late(lambda: held.append(first.enter_context(lease.hold(client(), "genre-classifier"))))
        with pytest.raises(UnavailableError), lease.hold(late, "genre-classifier"):
            pytest.fail("two hold the lease")
        held[0].check()
    assert not client().search_registered_models()


def test_of_many_who_find_a_dead_holder_one_at_a_time_goes_on(
    store: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_POLL", 0.01)
    clients = [client() for _ in range(4)]
    inside: list[int] = []

    def promote(number: int) -> None:
        with lease.hold(clients[number], "genre-classifier") as held:
            inside.append(number)
            time.sleep(0.02)
            held.check()
            assert inside == [number]
            inside.remove(number)

    for _ in range(3):
        put_lease(DEAD)
        with ThreadPoolExecutor(len(clients)) as pool:
            list(pool.map(promote, range(len(clients))))
    assert not client().search_registered_models()


def test_whoever_lost_the_lease_learns_of_it_and_leaves_the_new_holders_alone(empty: Path) -> None:
    with lease.hold(client(), "genre-classifier") as held:
        client().delete_registered_model(held.name)
        put_lease("elsewhere|1|1.00|x")
        with pytest.raises(lease.LeaseLostError):
            held.check()
    assert client().get_registered_model("genre-classifier-lease").tags["owner"] == "elsewhere|1|1.00|x"
