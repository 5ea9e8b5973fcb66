"""Who may call a server: every name, page and password that may, and those that may not."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.types import ASGIApp
from starlette.websockets import WebSocket, WebSocketDisconnect

from serving.guard import Guard, allowed_hosts
from tests.flows import attack, browser
from tests.flows.stack import free_ports, wait_until

AUTH = "cmg:letters"
PORT = 4200


async def changed(_: Request) -> PlainTextResponse:
    return PlainTextResponse("changed")


async def events(socket: WebSocket) -> None:
    await socket.accept()
    await socket.close()


def client(auth: str | None, *hosts: str) -> TestClient:
    methods = ["GET", "POST", "PATCH", "OPTIONS"]
    app = Starlette(routes=[Route("/", changed, methods=methods), WebSocketRoute("/events", events)])
    return TestClient(Guard(app, auth=auth, hosts=hosts), base_url=f"http://127.0.0.1:{PORT}")


def basic(auth: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(auth.encode()).decode()}


OURS = [
    {},
    {"Host": "localhost"},
    {"Host": "LocalHost:4200"},
    {"Host": "[::1]:4200"},
    {"Host": "localhost:9000"},  # SSH forwards another port
    {"Host": "cmg.example.org"},
    {"Host": "mlflow:5000"},
    {"Origin": "http://127.0.0.1:4200"},
    {"Origin": "http://localhost:4200"},
    {"Origin": "http://[::1]:4200"},
    {"Host": "localhost:9000", "Origin": "http://localhost:9000"},
    {"Host": "cmg.example.org", "Origin": "https://cmg.example.org"},
    {"Host": "127.0.0.1:4200", "Origin": "https://cmg.example.org"},  # a proxy that names us anew
    # Prefect's page, opened as localhost, calls 127.0.0.1.
    {"Origin": "http://localhost:4200", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "empty"},
    {"Sec-Fetch-Site": "none", "Sec-Fetch-Dest": "document"},  # typed, or a bookmark
    {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "audio"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"},  # a link that a person opens
]
FOREIGN = [
    {"Host": "evil.example"},
    {"Host": "evil.example:4200"},
    {"Host": "localhost.evil.example"},
    {"Host": "localhost."},
    {"Host": "127.0.0.1:4200@evil.example"},
    {"Host": "evil@localhost"},
    {"Host": "localhost/evil.example"},
    {"Host": "localhost:port"},
    {"Host": "127.1"},
    {"Host": "0.0.0.0:4200"},
    {"Host": ""},
    {"Host": "mlflow:5001"},
    {"Host": "[::1"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://evil.example"},
    {"Origin": "http://evil.example:4200"},
    {"Origin": "http://127.0.0.1"},
    {"Origin": "http://127.0.0.1:4201"},  # another server of loopback
    {"Origin": "file://127.0.0.1:4200"},
    {"Origin": "http://127.0.0.1:4200/path"},
    {"Origin": "http://127.0.0.1:4200@evil.example"},
    {"Origin": "http://127.0.0.1:4200 http://evil.example"},
    {"Host": "localhost:9000", "Origin": "http://localhost:9001"},
    {"Host": "evil.example:4200", "Origin": "http://evil.example:4200"},  # a rebound name
    # What a page loads as its picture, sound, script or frame names no origin.
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "audio"},  # from another port of loopback
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "iframe"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "empty"},
]


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "OPTIONS"])
def test_ours_pass_and_foreign_ones_do_not(method: str) -> None:
    asked = client(AUTH, "cmg.example.org", "mlflow:5000")
    for headers in OURS:
        assert asked.request(method, "/", headers=headers | basic(AUTH)).status_code == 200, headers
    for headers in FOREIGN:
        assert asked.request(method, "/", headers=headers | basic(AUTH)).status_code == 403, headers


@pytest.mark.parametrize("header", ["Host", "Origin"])
def test_a_header_given_twice_is_refused(header: str) -> None:
    own = {"Host": "127.0.0.1:4200", "Origin": "http://127.0.0.1:4200"}[header]
    twice = [(header, own), (header, own), *basic(AUTH).items()]
    assert client(AUTH).post("/", headers=twice).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("cmg:"),
        basic("cmg:letter"),
        basic("cmg:letters "),
        {"Authorization": "Basic"},
        {"Authorization": "Basic \xe9"},
        {"Authorization": basic(AUTH)["Authorization"].replace("Basic", "Bearer")},
    ],
)
def test_whoever_lacks_the_password_is_asked_for_it(headers: dict[str, str]) -> None:
    answer = client(AUTH).post(
        "/", headers={name: value.encode("latin-1") for name, value in headers.items()}
    )
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")


def test_an_application_that_asks_by_itself_is_not_asked_for_twice() -> None:
    assert client(None).post("/").status_code == 200
    assert client(None).post("/", headers={"Origin": "null"}).status_code == 403


def test_a_websocket_is_opened_to_our_own_page_only() -> None:
    own = {"Origin": "http://127.0.0.1:4200", "Host": "127.0.0.1:4200"}
    with client(None).websocket_connect("/events", headers=own):
        pass
    for changes in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example:4200"}):
        with (
            pytest.raises(WebSocketDisconnect),
            client(None).websocket_connect("/events", headers=own | changes),
        ):
            pass


def test_no_page_shows_ours_in_a_frame() -> None:
    assert client(None).get("/").headers["X-Frame-Options"] == "SAMEORIGIN"


def test_names_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMG_ALLOWED_HOSTS", " CMG.example.org, mlflow:5000 ,,")
    assert allowed_hosts() == {"cmg.example.org", "mlflow:5000"}


@contextmanager
def running(app: ASGIApp) -> Iterator[int]:
    """Run an application under uvicorn; yield its port."""
    port = free_ports(1)[0]
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, 60, "the server has started")
    yield port
    server.should_exit = True
    thread.join(30)


@pytest.mark.browser
@pytest.mark.skipif(browser.chromium() is None, reason="needs Chromium: apt-get install chromium")
@pytest.mark.parametrize("is_guarded", [False, True])
def test_what_a_page_in_a_browser_can_do_to_loopback_it_cannot_do_to_us(is_guarded: bool) -> None:
    """Without the guard each of the six requests arrives: the attack is real."""
    arrived: list[str] = []

    async def change(request: Request) -> PlainTextResponse:
        arrived.append(request.method)
        return PlainTextResponse("changed")

    routes = [Route("/{path:path}", change, methods=["POST", "PATCH"])]
    open_app = CORSMiddleware(
        Starlette(routes=routes), allow_origins=["*"], allow_methods=["*"], allow_headers=["*"]
    )
    app = Guard(open_app, auth=None) if is_guarded else open_app
    with running(app) as port, browser.page("", *attack.FLAGS) as opened, attack.page_server() as evil:
        deployment = f"http://127.0.0.1:{port}/api/deployments/1"
        attack.from_another_origin(opened, evil, deployment)
        answers = attack.by_rebinding(opened, deployment)
    assert answers == ([403, 403] if is_guarded else [200, 200])
    assert sorted(arrived) == ([] if is_guarded else ["PATCH"] * 3 + ["POST"] * 3)
