"""Workers that are killed, fail or outlive their pool; champions that are replaced or damaged meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import DataError
from serving import champions
from serving.listener import Listener
from serving.workers import BusyError, FailedError, TooLongError, Workers
from tests import listener as made
from tests.flows.stack import wait_until
from tests.serving.worker_jobs import eater, faulty, greedy, process, sleeper


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory, tables: Path) -> Iterator[Listener]:
    """Work in a project with a champion, the same for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("workers"))
        Path("mlruns").mkdir()
        shutil.copyfile(tables, "mlruns/mlflow.db")
        yield made.champion(patch)


def test_a_worker_that_fails_is_replaced(listener: Listener) -> None:
    pool = Workers(listener.champions, number=1, waiting=0)
    assert pool.do(sleeper, 0, seconds=60) == "done"
    with pytest.raises(TooLongError, match=r"expected an answer within 0\.2 s"):
        pool.do(sleeper, 60, seconds=0.2)
    with pytest.raises(DataError, match="some that needs too much"):
        pool.do(eater, seconds=20)
    with pytest.raises(DataError, match="needs too much memory"):
        pool.do(greedy, seconds=20)
    assert pool.do(sleeper, 0, seconds=60) == "done"
    pool._all.acquire()
    with pytest.raises(BusyError):
        pool.do(sleeper, 0, seconds=60)
    pool.close()


def test_a_worker_that_is_killed_while_it_waits_is_replaced(listener: Listener) -> None:
    pool = Workers(listener.champions, number=1, waiting=0)
    first = pool.do(process, seconds=20)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{first}/exe").exists(), 10, "the worker is gone")
    assert pool.do(process, seconds=20) != first
    assert pool.is_ready()
    pool.close()


def test_a_fault_that_is_not_the_audios_is_said_and_leaves_the_worker(
    listener: Listener, capfd: pytest.CaptureFixture[str]
) -> None:
    pool = Workers(listener.champions, number=1, waiting=0)
    first = pool.do(process, seconds=20)
    with pytest.raises(FailedError, match=r"a fault of the server \(No space left on device\)") as said:
        pool.do(faulty, seconds=20)
    assert "/secret" not in str(said.value)
    assert pool.do(process, seconds=20) == first
    pool.close()
    assert "OSError" in capfd.readouterr().err


def test_whoever_waits_for_a_pool_that_is_closed_is_told_and_no_process_stays(listener: Listener) -> None:
    pool = Workers(listener.champions, number=1, waiting=1)
    working = pool.do(process, seconds=20)
    said: list[object] = []

    def ask(seconds: float) -> None:
        try:
            said.append(pool.do(sleeper, seconds, seconds=60))
        except BusyError as error:
            said.append(error)

    threads = [threading.Thread(target=ask, args=(seconds,)) for seconds in (1.0, 0.0)]
    for thread in threads:
        thread.start()
        wait_until(lambda: pool.busy == 1, 10, "the first one is answered")
    time.sleep(0.2)  # the second one waits
    pool.close()
    for thread in threads:
        thread.join(10)
    assert sorted(map(str, said))[0] == "done"
    assert any(isinstance(one, BusyError) for one in said)
    assert not Path(f"/proc/{working}/exe").exists()


def test_workers_start_although_another_champion_was_fetched_meanwhile(listener: Listener) -> None:
    pool = Workers(listener.champions, number=1, waiting=0)
    first = pool.do(process, seconds=20)
    mine = champions.cache_folder() / listener.champions["genre"].folder
    newer = champions.cache_folder() / "genre-2-other"
    shutil.copytree(mine, newer)  # as if it were fetched: what follows removes all others
    kept = listener.champions["genre"]
    assert champions._is_held(mine)
    os.kill(first, signal.SIGKILL)
    champions.pull()
    assert not newer.exists()  # nobody starts workers from it
    assert pool.do(process, seconds=20) != first
    pool.close()
    assert not champions._is_held(mine)
    with pytest.raises(DataError, match="expected a champion, received: No such file"):
        Workers({"genre": replace(kept, folder="gone")}, number=1, waiting=0)


def test_a_damaged_champion_is_fetched_anew(listener: Listener) -> None:
    cache = champions.cache_folder()
    graph = next(cache.glob("genre-1-*/model.onnx"))
    whole = graph.read_bytes()
    (cache / ".new-killed").mkdir()  # what a killed process leaves
    for damage in (b"", whole[:-1], whole + b" "):
        graph.write_bytes(damage)
        with pytest.raises(DataError, match="Run `cmg models pull`"):
            champions.champions()
        champions.pull()
        assert champions.champions()["genre"].folder == graph.parent.name
        assert graph.read_bytes() == whole
    graph.unlink()
    champions.pull()
    assert graph.read_bytes() == whole
    assert not list(cache.glob(".new-*"))


@pytest.mark.parametrize("text", ["[]", "{}", "null", '"x"', "\xff", '{"files": null}'])
def test_a_champion_that_is_not_one_is_said(listener: Listener, text: str) -> None:
    file = champions.cache_folder() / "genre.json"
    whole = file.read_bytes()
    known = whole.decode().replace('"files": {', '"files": 3, "x": {') if "files" in text else text
    file.write_text(known, encoding="latin-1")
    with pytest.raises(DataError, match=r"genre.json: expected a champion.*Run `cmg models pull`"):
        champions.champions()
    file.write_bytes(whole)
