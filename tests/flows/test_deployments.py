"""The deployments in code and in prefect.yaml, and what the runner does when it is told to stop."""

from __future__ import annotations

from typing import Any

import pytest
from ruamel.yaml import YAML

from flows.deployments import deployments
from tests.conftest import ROOT


def in_code() -> dict[str, dict[str, Any]]:
    return {
        f"{one.entrypoint}/{one.name}": {
            "crons": [(s.schedule.cron, s.schedule.timezone) for s in one.schedules or []],
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
            "crons": [(s["cron"], s["timezone"]) for s in one.get("schedules", [])],
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


def test_scheduled_runs_do_not_pile_up_and_asked_for_ones_wait() -> None:
    strategies = {one.name: one.concurrency_options.collision_strategy.value for one in deployments()}
    assert strategies["weekly"] == "CANCEL_NEW"
    assert strategies["on-demand"] == "ENQUEUE"
