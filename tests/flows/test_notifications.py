"""Where failures are told: an address that is none is refused, before anything is changed."""

from __future__ import annotations

import sys

import pytest

from flows import notifications
from pipeline.errors import run_main


@pytest.mark.parametrize(
    "address",
    ["", "not-a-url", "http://", "file:///etc/passwd", "hooks.example.org/S3cr3t", "http://[::1/S3cr3t"],
)
def test_what_is_no_address_is_refused_and_not_shown(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(notifications.WEBHOOK, address)
    monkeypatch.setattr(sys, "argv", ["notifications"])
    monkeypatch.setattr(notifications, "wait_for_server", lambda: pytest.fail("asked the server"))
    with pytest.raises(SystemExit) as ended:
        run_main(notifications.main)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("error: expected CMG_WEBHOOK to be http://")
    assert "S3cr3t" not in said
