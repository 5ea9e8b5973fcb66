"""How fast the library is searched, and how the listeners' server bears many clients.

``python -m benchmarks.listening queries [TRACKS]`` makes an index of 100,000 tracks, asks it in one process
and by the command; ``python -m benchmarks.listening load [SECONDS]`` starts ``cmg serve`` on the project's
library and has 50 clients call it at once. Both need champions: ``make repro`` first.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import random
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import psutil

from pipeline.errors import CmgError, run_main
from serving import password
from serving.champions import Champion, champions, project
from serving.mix import Wanted, choose
from serving.track_index import FILE, Library, _blob, _mean

TIMES: Final = 9  # of which the median is told
QUERIES: Final = ("negative but hopeful", "calm but hopeful not epic", "calm:1 epic:0.5 void:-1")
CLIENTS: Final = 50
SLOW_BYTES: Final = 200  # a second, of an upload that never ends


def queries(n_tracks: int) -> None:
    """Print the CPU time of a query in one process, and of the whole command."""
    known = champions()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "library.sqlite"
        _fill(file, known, n_tracks)
        print(f"index of {n_tracks:,} tracks: {file.stat().st_size / 1e6:.0f} MB")
        tracks = Library(file).tracks(known)
        classes = {task: champion.classes for task, champion in known.items()}
        for text in QUERIES:
            spent = [_cpu_of(lambda text=text: choose(Wanted(text), tracks, classes)) for _ in range(TIMES)]
            print(f"query, warm, {text!r}: {1000 * statistics.median(spent):.1f} ms of CPU")
        for what, arguments in {
            "recommend": ("recommend", QUERIES[0], "--library", str(file)),
            "--help": ("--help",),
        }.items():
            spent = [_cpu_of_command(*arguments) for _ in range(TIMES + 1)]
            print(
                f"cmg {what}, cold: {statistics.median(spent[1:]):.2f} s of CPU, the first {spent[0]:.2f} s"
            )


def _fill(file: Path, known: dict[str, Champion], n_tracks: int) -> None:
    library, rng = Library(file), np.random.default_rng(0)
    with library._writing():
        insert = library._db.execute
        for n in range(n_tracks):
            digest = hashlib.sha256(str(n).encode()).hexdigest()
            path = f"/music/Artist {n % 5000:04}/Album {n % 7}/{n:06} - A song of some title.flac"
            insert("INSERT INTO track VALUES(?,?,?,?)", (path, digest, 30_000_000, n))
            facts = (digest, 180 + n % 100 / 3, f"Artist {n % 5000}", f"Title {n}")
            insert("INSERT INTO heard VALUES(?,?,?,?)", facts)
            for task, champion in known.items():
                slices = rng.dirichlet(np.full(len(champion.classes), 0.5), 3).astype("<f4")
                row = (digest, task, champion.name, _blob(slices), _mean(slices))
                insert("INSERT INTO prediction VALUES(?,?,?,?,?)", row)
    library.close()


def _cpu_of(call: Any) -> float:
    before = time.process_time()
    call()
    return time.process_time() - before


def _cpu_of_command(*arguments: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([Path(sys.executable).with_name("cmg"), *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def load(seconds: float) -> None:
    """Print what 50 clients got, and the server's memory; exit with 1 if an answer was wrong."""
    audio = next((project() / "data" / "gtzan").rglob("*.wav"), None)
    if audio is None:
        raise CmgError("expected the project's tracks in data/gtzan, received none. `make repro` makes them.")
    with server() as (address, process):
        before = _cpu_seconds(process)
        outcome = asyncio.run(_all_clients(address, audio.read_bytes(), seconds, process))
        spent_in_all = _cpu_seconds(process) - before
    statuses, times, memory, wrong = outcome
    answered = sum(statuses.values())
    print(f"{answered} answers in {seconds:g} s: {dict(sorted(statuses.items()))}")
    print(f"the server and its workers took {1000 * spent_in_all / max(answered, 1):.0f} ms of CPU for each")
    for kind, spent in sorted(times.items()):
        spent.sort()
        told = ", ".join(f"p{p} {spent[min(len(spent) - 1, p * len(spent) // 100)]:.2f} s" for p in (50, 99))
        print(f"  {kind}: {len(spent)} answered, {told}")
    print("memory of the server and its workers, MB: " + ", ".join(f"{one:.0f}" for one in memory))
    if wrong:
        print("\n".join(wrong[:10]))
        raise SystemExit(1)


@contextmanager
def server() -> Iterator[tuple[str, psutil.Process]]:
    """Run ``cmg serve`` with a library of its own; yield address and process once its tracks are answered."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {FILE: str(Path(folder) / "library.sqlite")}
        command = [str(Path(sys.executable).with_name("cmg")), "serve", "--port", str(port)]
        running = subprocess.Popen(command, cwd=project(), env=environment, stdout=subprocess.DEVNULL)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_until_filled(address, running)
            yield address, psutil.Process(running.pid)
        finally:
            running.terminate()
            running.wait()


def _wait_until_filled(address: str, running: subprocess.Popen[bytes]) -> None:
    while running.poll() is None:
        with suppress(httpx.TransportError):
            state = httpx.get(f"{address}/v1/models", auth=login()).json()
            if state["tracks"] and not state["remaining"]:
                return
        time.sleep(0.5)
    raise CmgError("expected `cmg serve` to run, but it ended")


def login() -> tuple[str, str]:
    """Return user and password."""
    user, _, secret = password.obtain().partition(":")
    return user, secret


async def _all_clients(
    address: str, audio: bytes, seconds: float, process: psutil.Process
) -> tuple[Counter[int], dict[str, list[float]], list[float], list[str]]:
    statuses: Counter[int] = Counter()
    times: dict[str, list[float]] = {}
    wrong: list[str] = []
    until = time.monotonic() + seconds
    limits = httpx.Limits(max_connections=CLIENTS + 10)
    async with httpx.AsyncClient(base_url=address, auth=login(), timeout=120, limits=limits) as client:
        ids = [one["id"] for one in (await client.get("/v1/tracks")).json()["tracks"]]
        slow = asyncio.create_task(_slow_upload(address))

        async def one_client(number: int) -> None:
            rng = random.Random(number)
            while time.monotonic() < until:
                kind, request = _request(rng, ids, audio)
                begun = time.monotonic()
                answer = await client.request(**request)
                statuses[answer.status_code] += 1
                if answer.status_code == 503 and answer.headers.get("Retry-After"):
                    await asyncio.sleep(rng.random())
                elif answer.is_success:
                    times.setdefault(kind, []).append(time.monotonic() - begun)
                else:
                    wrong.append(f"{kind}: {answer.status_code} {answer.text[:200]}")

        memory = asyncio.create_task(_memory(process, until, seconds / 6))
        await asyncio.gather(*(one_client(number) for number in range(CLIENTS)))
        slow.cancel()
        return statuses, times, await memory, wrong


def _request(rng: random.Random, ids: list[str], audio: bytes) -> tuple[str, dict[str, Any]]:
    """Return a request as a listener's page would make it, one in ten with a file."""
    kind = rng.choice(["mix"] * 4 + ["tracks"] * 2 + ["similar", "timeline", "audio", "classify"])
    path = f"/v1/tracks/{rng.choice(ids)}"
    requests: dict[str, dict[str, Any]] = {
        "mix": {"url": "/v1/recommend", "params": {"q": rng.choice(QUERIES), "n": 20}},
        "tracks": {"url": "/v1/tracks", "params": {"offset": rng.randrange(50)}},
        "similar": {"url": f"{path}/similar"},
        "timeline": {"url": f"{path}/timeline"},
        "audio": {"url": f"{path}/audio", "headers": {"Range": "bytes=0-65535"}},
        "classify": {"url": "/v1/classify", "files": {"file": ("a.wav", audio)}},
    }
    return kind, {"method": "POST" if kind == "classify" else "GET", **requests[kind]}


async def _slow_upload(address: str) -> None:
    """Send a file a few bytes at a time, ever on."""

    async def bytes_of_it() -> Any:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        while True:
            yield bytes(SLOW_BYTES // 10)
            await asyncio.sleep(0.1)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    async with httpx.AsyncClient(base_url=address, auth=login(), timeout=None) as client:
        await client.post("/v1/classify", content=bytes_of_it(), headers=headers)


def _cpu_seconds(process: psutil.Process) -> float:
    every = [process, *process.children(recursive=True)]
    return sum(sum(one.cpu_times()[:2]) for one in every)


async def _memory(process: psutil.Process, until: float, each: float) -> list[float]:
    """Return the resident memory of a process and its children in MB, every so many seconds."""
    found = []
    while time.monotonic() < until - each / 2:
        await asyncio.sleep(each)
        found.append(sum(one.memory_info().rss for one in [process, *process.children(recursive=True)]) / 1e6)
    return found


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.listening", description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("queries").add_argument("tracks", type=int, nargs="?", default=100_000)
    commands.add_parser("load").add_argument("seconds", type=float, nargs="?", default=60.0)
    args = parser.parse_args()
    if args.what == "queries":
        queries(args.tracks)
    else:
        load(args.seconds)


if __name__ == "__main__":
    run_main(main)
