"""The deployments in code and in prefect.yaml, and what the runner does when it is told to stop."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from flows.deployments import deployments
from tests.conftest import ROOT


def in_code() -> dict[str, dict[str, Any]]:
    return {
        f"{one.entrypoint}/{one.name}": {
            "crons": [(s.schedule.cron, s.schedule.timezone, s.slug) for s in one.schedules or []],
            "limit": one.concurrency_limit,
            "strategy": one.concurrency_options.collision_strategy.value,
            "tags": one.tags,
            "description": one.description,
        }
        for one in deployments()
    }


def in_yaml() -> dict[str, dict[str, Any]]:
    declared = YAML(typ="safe").load(ROOT / "prefect.yaml")["deployments"]
    return {
        f"{one['entrypoint']}/{one['name']}": {
            "crons": [(s["cron"], s["timezone"], s["slug"]) for s in one.get("schedules", [])],
            "limit": one["concurrency_limit"]["limit"],
            "strategy": one["concurrency_limit"]["collision_strategy"],
            "tags": one["tags"],
            "description": one["description"],
        }
        for one in declared
    }


def test_code_and_yaml_declare_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert in_code() == in_yaml()


@pytest.mark.parametrize(
    "arguments",
    [
        ["flows.worker"],
        ["flows.retrain"],
        ["flows.label_intake"],
        ["flows.notifications", "--webhook", "http://127.0.0.1:9/"],
    ],
)
def test_without_an_address_nothing_is_asked(arguments: list[str], tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    environment["PREFECT_PROFILES_PATH"] = f"{tmp_path}/none.toml"  # the checkout's own may name one
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: expected PREFECT_API_URL to hold the Prefect server's address")
    assert "Traceback" not in done.stderr


def test_scheduled_runs_do_not_pile_up_and_asked_for_ones_wait() -> None:
    strategies = {one.name: one.concurrency_options.collision_strategy.value for one in deployments()}
    assert strategies["weekly"] == "CANCEL_NEW"
    assert strategies["on-demand"] == "ENQUEUE"
