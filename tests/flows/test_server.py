"""What is said of a Prefect server that is not there, and how soon."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import server
from pipeline.errors import CmgError, UnavailableError


@pytest.fixture
def silent() -> Iterator[str]:
    """Listen on a port and never answer."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/api"


@pytest.fixture
def closed() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/api"


@pytest.mark.parametrize("kind", ["silent", "closed"])
def test_a_server_that_does_not_answer_is_named_within_seconds(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_ANSWER_SECONDS", 1)
    address = request.getfixturevalue(kind)
    began = time.monotonic()
    with temporary_settings({PREFECT_API_URL: address}), pytest.raises(UnavailableError, match=address):
        server.wait_for_server()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9", "http://127.0.0.1:9/dashboard", "http://api.example"]
)
def test_an_address_that_is_not_the_apis_is_refused(address: str) -> None:
    with (
        temporary_settings({PREFECT_API_URL: address}),
        pytest.raises(CmgError, match=f"ends in /api, received {address}"),
    ):
        server.wait_for_server()


def test_the_cloud_has_its_api_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    address = "http://127.0.0.1:9/api/accounts/1/workspaces/2"
    with temporary_settings({PREFECT_API_URL: address}), pytest.raises(UnavailableError):
        server.wait_for_server()
