"""The static pages, and what they must not give away."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from flows import pages, web
from serving import password


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("secret: 1")
    return TestClient(pages.build())


def test_report_is_served_and_is_the_front_page(client: TestClient) -> None:
    assert client.get("/report/").status_code == 404
    folder = Path("artifacts/report")
    folder.mkdir(parents=True)
    (folder / "index.html").write_text("<h1>scores</h1>")
    assert "scores" in client.get("/report/").text
    assert "scores" in client.get("/").text


@pytest.mark.parametrize("name", ["label_audit", "label_next"])
def test_pages_of_labels_play_the_clips_beside_them(client: TestClient, name: str) -> None:
    assert client.get(f"/{name}/").status_code == 404
    clips = Path(name, "clips")
    clips.mkdir(parents=True)
    (clips.parent / "index.html").write_text("<audio>")
    (clips / "a b.flac").write_bytes(b"fLaC")
    assert "<audio>" in client.get(f"/{name}/").text
    assert client.get(f"/{name}/clips/a%20b.flac").content == b"fLaC"


@pytest.mark.parametrize("path", ["/params.yaml", "/report/../params.yaml", "/report/..%2f..%2fparams.yaml"])
def test_nothing_else_of_the_project_is_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_whoever_reads_them_needs_the_password(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(password.SERVERS, "cmg:letters")
    asked = TestClient(web.report(), base_url="http://127.0.0.1:8080")
    assert asked.get("/report/").status_code == 401
    assert asked.get("/report/", auth=("cmg", "letters")).status_code == 404
    assert asked.get("/report/", auth=("cmg", "letters"), headers={"Host": "evil.example"}).status_code == 403
