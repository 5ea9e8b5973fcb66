"""Listening over HTTP, on a library of three kinds of noise: every address and refusal, hostile uploads."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import socket
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fastapi.testclient import TestClient
from PIL import Image

from pipeline.errors import CmgError, DataError
from serving import champions as kept
from serving import jobs, server, service, workers
from serving.api import create_app
from serving.attribution import UnexplainableError
from serving.guard import Guard
from serving.listener import Listener
from serving.service import Limits
from serving.track_index import Library
from tests import listener as made
from tests.registry import tiny

LIMITS = Limits(megabytes=2, files=3, seconds=20.0, workers=1, waiting=2)


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory, tables: Path) -> Iterator[Listener]:
    """Work in a project with a champion and 15 tracks, the same for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("api"))
        Path("mlruns").mkdir()
        shutil.copyfile(tables, "mlruns/mlflow.db")
        yield made.champion(patch)


@pytest.fixture(scope="module")
def client(listener: Listener) -> Iterator[TestClient]:
    """Return the server of the project, once its tracks are answered."""
    Path("data").rename("music")
    Path("data").mkdir()
    Path("music").rename("data/gtzan")
    with TestClient(create_app(Path("library.sqlite"), LIMITS)) as opened:
        deadline = time.monotonic() + 60
        while (state := opened.get("/v1/models").json())["tracks"] < 15 or state["remaining"]:
            assert time.monotonic() < deadline, state
            time.sleep(0.1)
        yield opened


def upload(client: TestClient, *files: tuple[str, bytes], **options: Any) -> Any:
    return client.post("/v1/classify", files=[("file", file) for file in files], params=options)


def problem(answer: Any, status: int) -> str:
    """Return what an answer says, which must be a problem (RFC 9457)."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    said = answer.json()
    assert set(said) == {"type", "title", "status", "detail"}
    assert said["status"] == status
    assert "Traceback" not in said["detail"]
    return said["detail"]


def test_what_is_heard_is_what_the_command_says(client: TestClient, listener: Listener) -> None:
    file = sorted(Path("data").rglob("*.wav"))[0]
    [found] = upload(client, (file.name, file.read_bytes()), per_slice=True).json()
    expected = listener.record(file, listener.hear(file))
    assert found["genre"] == expected["genre"]
    assert found["path"] == file.name
    assert len(found["waveform"]) == 480
    assert max(found["waveform"]) == 1.0
    shares = [part["probabilities"] for part in found["timeline"]["tasks"]["genre"]["windows"]]
    assert np.abs(np.mean(shares, axis=0) - list(expected["genre"]["probabilities"].values())).max() < 1e-4
    kept = client.get(f"/v1/tracks/{found['id']}").json()
    shares = kept["genre"]["probabilities"]
    assert (
        max(abs(shares[name] - value) for name, value in expected["genre"]["probabilities"].items()) <= 1e-5
    )


def test_of_several_files_the_bad_ones_are_named(client: TestClient) -> None:
    file = next(Path("data").rglob("*.wav"))
    good, bad = upload(client, ("a.wav", file.read_bytes()), ("../../b.mp3", b"no music")).json()
    assert good["error"] is None
    assert bad["path"] == "b.mp3"
    assert bad["error"].startswith("not an audio file that can be decoded")


def _noise(seconds: float, form: str, value: float = 0.1) -> bytes:
    stream = io.BytesIO()
    samples = np.full(int(22_050 * seconds), value, np.float32)
    soundfile.write(stream, samples, 22_050, format=form, subtype="FLOAT" if form == "WAV" else None)
    return stream.getvalue()


def hostile() -> dict[str, tuple[str, bytes]]:
    """Return files that strangers send, by what they are."""
    return {
        "empty": ("a.wav", b""),
        "text": ("a.flac", b"hello"),
        "not a number": ("a.wav", _noise(1, "WAV", np.nan)),
        "cut": ("a.flac", _noise(5, "FLAC")[:60]),
        "an archive": ("a.mp3", b"PK\x03\x04" + bytes(500)),
        "a page": ("a.ogg", b"<html>"),
        "hours of silence in little": ("a.flac", _noise(3_600, "FLAC", 0.0)),
        "a name of another place": ("../../../etc/passwd", b"root"),
    }


@pytest.mark.parametrize("kind", list(hostile()))
def test_a_hostile_file_gets_a_problem_and_the_next_one_an_answer(client: TestClient, kind: str) -> None:
    said = problem(upload(client, hostile()[kind]), 422)
    assert "/tmp" not in said  # nor any other path of the server
    file = next(Path("data").rglob("*.wav"))
    assert upload(client, (file.name, file.read_bytes())).status_code == 200


def test_more_than_allowed_is_refused_before_it_is_kept(client: TestClient) -> None:
    assert problem(upload(client, ("a.wav", bytes(3 << 20))), 413) == "expected at most 2 MB, received more"

    def endless() -> Iterator[bytes]:  # no length is declared
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(64):
            yield bytes(1 << 16)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert problem(client.post("/v1/classify", content=endless(), headers=headers), 413)
    assert problem(upload(client, *[("a.wav", b"x")] * 4), 413) == "expected at most 3 files, received 4"


def test_a_mix_is_asked_for_and_saved(client: TestClient) -> None:
    seed = client.get("/v1/tracks", params={"q": "pop", "n": 1}).json()["tracks"][0]
    found = client.get("/v1/recommend", params={"like": seed["id"], "n": 4}).json()
    assert [Path(track["path"]).name[:3] for track in found["tracks"]] == ["pop"] * 4
    assert seed["id"] not in [track["id"] for track in found["tracks"]]
    assert all(0 <= track["start"] < track["end"] <= track["seconds"] + 0.1 for track in found["tracks"])
    same = client.post("/v1/recommend", json={"like": [seed["id"]], "n": 4}).json()
    assert same == found
    saved = client.get("/v1/recommend", params={"like": seed["id"], "n": 4, "format": "m3u8"})
    lines = [line for line in saved.text.splitlines() if not line.startswith("#")]
    assert [Path(line).resolve() for line in lines] == [Path(track["path"]) for track in found["tracks"]]
    similar = client.get(f"/v1/tracks/{seed['id']}/similar", params={"n": 4}).json()
    assert [one["entry"]["id"] for one in similar] == [track["id"] for track in found["tracks"]]
    assert all(0 <= one["similarity"] <= 1 for one in similar)


@pytest.mark.parametrize(
    ("address", "status", "said"),
    [
        ("/v1/recommend", 422, "expected words, genres or a track to resemble, received none of them"),
        ("/v1/recommend?q=calm", 422, "expected a champion for moods, received none"),
        ("/v1/recommend?genre=polka", 422, "expected genres among"),
        ("/v1/recommend?q=calm&n=0", 422, "n: Input should be greater than or equal to 1"),
        ("/v1/recommend?q=calm&nonsense=1", 422, "nonsense: Extra inputs are not permitted"),
        ("/v1/tracks/no-such", 404, "expected the id of a track of the library, received 'no-such'"),
        ("/v1/tracks/no-such/audio", 404, "expected the id of a track of the library"),
        ("/v1/nothing", 404, "expected an address of /openapi.json, received /v1/nothing"),
        ("/../params.yaml", 404, "expected an address of /openapi.json"),
    ],
)
def test_what_cannot_be_done_is_a_problem(client: TestClient, address: str, status: int, said: str) -> None:
    assert problem(client.get(address), status).startswith(said)


def test_weights_are_checked(client: TestClient) -> None:
    answer = client.post("/v1/recommend", json={"weights": {"calm": 2}})
    assert problem(answer, 422).startswith("expected weights of -1 to 1 for calm")


def test_audio_is_given_in_parts_and_au_as_wav(client: TestClient) -> None:
    track = client.get("/v1/tracks").json()["tracks"][0]
    address = f"/v1/tracks/{track['id']}/audio"
    part = client.get(address, headers={"Range": "bytes=10-19"})
    assert part.status_code == 206
    assert part.content == Path(track["path"]).read_bytes()[10:20]
    samples, rate = soundfile.read(track["path"])
    other = Path("data/gtzan/other.au")
    soundfile.write(other, samples[::-1], rate, format="AU")
    service = client.app.state.service
    list(service._library.add([other.absolute()], service._listener, workers=1))
    [added] = client.get("/v1/tracks", params={"q": "other.au"}).json()["tracks"]
    answer = client.get(f"/v1/tracks/{added['id']}/audio")
    heard, _ = soundfile.read(io.BytesIO(answer.content))
    assert len(heard) / 22_050 == pytest.approx(len(samples) / rate, abs=0.05)
    service._library.forget(other.absolute())


def test_a_correction_goes_to_the_inbox_once(client: TestClient) -> None:
    track = client.get("/v1/tracks").json()["tracks"][0]
    said = {
        "id": track["id"],
        "annotator": "Zoë B.",
        "poles": ["hopeful", "negative"],
        "asked_for": "=calm ×1",
    }
    done = client.post("/v1/labels", json=said)
    assert done.status_code == 201
    assert done.json()["mood"] == "NegativeButHopeful"
    [file] = Path("inbox/labels").iterdir()
    [row] = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    assert (row["track_id"], row["mood"], row["annotator"]) == (
        Path(track["path"]).stem,
        "NegativeButHopeful",
        "Zoë B.",
    )
    assert row["asked_for"] == "calm 1"
    again = client.post("/v1/labels", json=said | {"annotator": "zoë b."})
    assert again.json()["file"] is None
    assert again.json()["others"] == {"NegativeButHopeful": 1}
    other = said | {"poles": ["calm", "warm"]}
    assert problem(client.post("/v1/labels", json=other), 409).startswith("expected a first answer of Zoë B.")
    for wrong in (
        {"annotator": "=cmd"},
        {"annotator": " "},
        {"poles": ["calm", "negative"]},
        {"annotator": "a\u202eb"},
    ):
        problem(client.post("/v1/labels", json=said | {"id": track["id"]} | wrong), 422)
    assert len(list(Path("inbox/labels").iterdir())) == 1


def test_state_and_measures_are_told(client: TestClient) -> None:
    assert client.get("/healthz").text == "ok\n"
    assert client.get("/readyz").text == "ready\n"
    client.get("/v1/recommend")
    said = client.get("/metrics").text
    assert re.search(r'cmg_requests_total\{method="GET",route="/v1/recommend",status="422"\} [1-9]', said)
    assert "cmg_library_tracks 15.0" in said
    models = client.get("/v1/models").json()["models"]
    assert [(one["name"], one["newer"]) for one in models] == [("genre-classifier/1", None)]
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert all(one.get("summary") for path in document["paths"].values() for one in path.values())


def test_a_library_that_cannot_be_filled_says_so_and_is_tried_again(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    faults = [sqlite3.OperationalError("disk I/O error")] * 2
    add = Library.add

    def failing(self: Library, *given: Any, **named: Any) -> Any:
        if faults:
            raise faults.pop()
        return add(self, *given, **named)

    monkeypatch.setattr(Library, "add", failing)
    monkeypatch.setattr(service, "_AGAIN_SECONDS", 0.2)
    running = client.app.state.service  # type: ignore[attr-defined]
    running._start_filler()
    said = "the library is not filled: OperationalError: disk I/O error"
    while said not in (answer := client.get("/readyz")).text:
        assert running._filler.is_alive()
    assert answer.text.startswith("ready\n")
    assert client.get("/v1/models").json()["fault"] == "OperationalError: disk I/O error"
    running._filler.join(60)
    assert not faults
    assert client.get("/readyz").text == "ready\n"
    assert "the library could not be filled; trying again in 0.2 s" in caplog.text


def test_the_champion_that_serves_already_is_not_fetched_as_another(client: TestClient) -> None:
    before = client.get("/v1/tracks").json()
    assert client.post("/v1/models/pull").json() == {"changed": False}
    assert client.get("/v1/tracks").json() == before


def test_the_page_loads_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    for file in (Path(server.__file__).parent / "web").iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, file
        assert client.get(f"/{file.name}").status_code == 200
    assert client.get("/docs").content == client.get("/docs.html").content


def test_what_changed_since_the_version_before_is_told(client: TestClient) -> None:
    assert client.get("/v1/changes").json() == []
    service = client.app.state.service
    digest, slices = service.tracks().digests[0], np.full((1, 3), [0.0, 0.0, 1.0], np.float32)
    first = int(service.tracks().means["genre"][0].argmax())
    slices = np.roll(slices, first - 1)  # another class than the present one
    row = (digest, "genre", "genre-classifier/0", b"\x03\x00" + slices.tobytes(), slices[0].tobytes())
    service._library._db.execute("INSERT INTO prediction VALUES(?,?,?,?,?)", row)
    [told] = client.get("/v1/changes").json()
    names = service.classes["genre"]
    assert (told["since"], told["now"]) == ("genre-classifier/0", names[first])
    assert told["before"] != told["now"]


def sleeper(listener: Listener, seconds: float) -> str:
    time.sleep(seconds)
    return "done"


def eater(listener: Listener) -> str:
    os._exit(9)  # as the system ends a process that needs too much memory


def greedy(listener: Listener) -> str:
    return str(len(np.ones(workers.MEMORY_BYTES // 8)))


def test_a_worker_that_fails_is_replaced(listener: Listener) -> None:
    pool = workers.Workers(listener.champions, number=1, waiting=0)
    assert pool.do(sleeper, 0, seconds=60) == "done"
    with pytest.raises(workers.TooLongError, match=r"expected an answer within 0\.2 s"):
        pool.do(sleeper, 60, seconds=0.2)
    with pytest.raises(DataError, match="some that needs too much"):
        pool.do(eater, seconds=60)
    with pytest.raises(DataError, match="needs too much memory"):
        pool.do(greedy, seconds=60)
    assert pool.do(sleeper, 0, seconds=60) == "done"
    pool._all.acquire()
    with pytest.raises(workers.BusyError):
        pool.do(sleeper, 0, seconds=60)
    pool.close()


def test_a_port_that_is_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            CmgError, match=f"expected to listen at 127.0.0.1, port {port}, received: Address"
        ):
            server._require_free("127.0.0.1", port)
    server._require_free("127.0.0.1", port)


def test_the_token_is_the_password(monkeypatch: pytest.MonkeyPatch, client: TestClient) -> None:
    monkeypatch.delenv(server.TOKEN, raising=False)
    with pytest.raises(CmgError, match="expected CMG_TOKEN to be set where others can reach the server"):
        server._auth("0.0.0.0")
    for weak in ("short", "with a blank in it", "with:colon-in-it-too"):
        monkeypatch.setenv(server.TOKEN, weak)
        with pytest.raises(CmgError, match="expected CMG_TOKEN to be 16 or more") as refused:
            server._auth("0.0.0.0")
        assert weak not in str(refused.value)
    monkeypatch.setenv(server.TOKEN, "a-long-secret-of-mine")
    guarded = TestClient(Guard(client.app, auth=server._auth("0.0.0.0")), base_url="http://127.0.0.1:8700")
    assert guarded.get("/healthz").status_code == 401
    assert guarded.get("/healthz", auth=("cmg", "a-long-secret-of-mine")).text == "ok\n"
    bearer = {"Authorization": "Bearer a-long-secret-of-mine"}
    assert guarded.get("/healthz", headers=bearer).text == "ok\n"
    assert guarded.get("/healthz", headers=bearer | {"Origin": "http://evil.example"}).status_code == 403
    assert guarded.get("/healthz", headers={"Authorization": "Bearer "}).status_code == 401


def test_what_decided_is_said_drawn_and_heard(client: TestClient, listener: Listener) -> None:
    track = client.get("/v1/tracks", params={"q": "metal"}).json()["tracks"][0]
    address = f"/v1/tracks/{track['id']}/why"
    said = client.get(address).json()
    assert (said["task"], said["label"], said["id"]) == ("genre", track["genre"]["best"], track["id"])
    assert said["probability"] == pytest.approx(track["genre"]["probability"], abs=1e-4)
    assert np.sum(said["shares"]) + said["silence"] == pytest.approx(said["logit"], abs=1e-4)
    assert np.shape(said["shares"]) == np.shape(said["decided"])
    assert np.shape(said["shares"]) == (len(said["hertz"]) - 1, len(said["times"]))
    assert said["hertz"] == sorted(said["hertz"])
    assert said["heights"] == [n / 8 for n in range(9)]  # of the picture, from below
    assert said["times"][-1][1] == pytest.approx(said["seconds"], abs=0.01)
    other = client.get(address, params={"label": "pop" if said["label"] != "pop" else "blues"}).json()
    assert other["logit"] != said["logit"]

    samples = listener.samples(Path(track["path"]))
    parts = []
    for part in ("decided", "rest"):
        answer = client.get(f"{address}.wav", params={"part": part, "area": 0.3})
        assert answer.headers["content-type"] == "audio/wav"
        heard, rate = soundfile.read(io.BytesIO(answer.content))
        assert (len(heard), rate) == (len(samples), 22_050)
        parts.append(heard)
    np.testing.assert_allclose(sum(parts), samples, atol=1e-3)
    assert client.get(f"{address}.wav", headers={"Range": "bytes=0-9"}).status_code == 206

    drawn = client.get(f"{address}.png")
    assert drawn.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(drawn.content)) as picture:
        assert picture.height == 2 * tiny.SPEC.n_mels
        colours = np.asarray(picture).astype(int)
    assert (colours[..., 0] != colours[..., 2]).any()
    with Image.open(io.BytesIO(client.get(f"{address}.png", params={"opacity": 0}).content)) as picture:
        grey = np.asarray(picture)
    assert (grey[..., 0] == grey[..., 2]).all()


def test_what_decided_is_said_of_an_upload_too(client: TestClient) -> None:
    file = next(Path("data").rglob("*.wav"))
    [found] = upload(client, (file.name, file.read_bytes()), why=True).json()
    sent = {"file": (file.name, file.read_bytes())}
    alone = client.post("/v1/why", files=sent).json()
    assert found["why"] == {"genre": alone}
    address = f"/v1/tracks/{found['id']}/why"
    assert client.get(address).json() == alone | {"id": found["id"]}
    assert client.post("/v1/why.png", files=sent).content[:4] == b"\x89PNG"
    rest = client.post("/v1/why.wav", files=sent, params={"part": "rest"})
    assert rest.content[:4] == b"RIFF"
    assert rest.content == client.get(f"{address}.wav", params={"part": "rest"}).content


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("label=polka", "expected one of blues, metal, pop, received 'polka'"),
        ("task=mood", "expected a champion for mood, received none"),
        ("task=key", "task: Input should be 'genre' or 'mood'"),
        ("area=0", "area: Input should be greater than or equal to 0.01"),
        ("heat=1", "heat: Extra inputs are not permitted"),
    ],
)
def test_a_question_that_has_no_answer_is_a_problem(client: TestClient, asked: str, said: str) -> None:
    track = client.get("/v1/tracks").json()["tracks"][0]
    assert problem(client.get(f"/v1/tracks/{track['id']}/why?{asked}"), 422).startswith(said)


def test_what_decided_of_no_track_is_a_problem(client: TestClient) -> None:
    for part in ("", ".png", ".wav"):
        said = problem(client.get(f"/v1/tracks/no-such/why{part}"), 404)
        assert said.startswith("expected the id of a track of the library, received 'no-such'")
    assert problem(client.post("/v1/why", files={"file": ("a.wav", b"hello")}), 422).startswith(
        "not an audio"
    )


def test_a_version_that_cannot_say_what_decided_says_so(
    client: TestClient, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = listener.champions["genre"]
    file = next(Path("data").rglob("*.wav"))
    shutil.copytree(kept.cache_folder() / champion.folder, kept.cache_folder() / "other")
    tiny.other_graph(kept.cache_folder() / "other" / "model.onnx")
    older = Listener({"genre": replace(champion, folder="other")})
    with pytest.raises(UnexplainableError, match="this version cannot say what decided"):
        jobs.why(older, file, jobs.Question("genre"))

    def by_older(job: workers.Job, *arguments: Any, seconds: float) -> Any:
        return job(older if job in (jobs.why, jobs.why_each) else listener, *arguments)

    monkeypatch.setattr(client.app.state.service.workers, "do", by_older)
    sent = {"file": (file.name, file.read_bytes())}
    assert problem(client.post("/v1/why", files=sent), 501).startswith("this version cannot say")
    [found] = upload(client, (file.name, file.read_bytes()), why=True).json()
    assert found["genre"]["best"]
    assert found["why"]["genre"]["error"].startswith("this version cannot say what decided: expected a dense")
