"""What ``prefect.yaml`` declares is what is served; commands that need a server say so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from flows.deployments import address, deployments
from tests.conftest import ROOT


def test_what_prefect_yaml_declares_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    declared = YAML(typ="safe").load(ROOT / "prefect.yaml")["deployments"]
    assert [address(served) for served in deployments()] == [
        "retrain/weekly",
        "retrain/on-demand",
        "label_intake/nightly",
    ]
    for served, entry in zip(deployments(), declared, strict=True):
        crons = [
            (found.schedule.cron, found.schedule.timezone, found.slug) for found in served.schedules or []
        ]
        assert crons == [
            (found["cron"], found["timezone"], found["slug"]) for found in entry.get("schedules", [])
        ]
        assert (served.entrypoint, served.name) == (entry["entrypoint"], entry["name"])
        assert (served.tags, served.description) == (entry["tags"], entry["description"])
        assert served.concurrency_limit == entry["concurrency_limit"]["limit"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["flows.worker"],
        ["flows.retrain"],
        ["flows.label_intake"],
        ["flows.notifications"],
    ],
)
def test_without_an_address_nothing_is_asked(arguments: list[str], tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    environment["CMG_WEBHOOK"] = "http://127.0.0.1:9/"
    environment["PREFECT_PROFILES_PATH"] = f"{tmp_path}/none.toml"  # the checkout's own may name one
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: expected PREFECT_API_URL to hold the Prefect server's address")
    assert "Traceback" not in done.stderr


def test_scheduled_runs_do_not_pile_up_and_asked_for_ones_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    strategies = {one.name: one.concurrency_options.collision_strategy.value for one in deployments()}
    assert strategies["weekly"] == "CANCEL_NEW"
    assert strategies["on-demand"] == "ENQUEUE"
