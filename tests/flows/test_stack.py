"""Scheduled retrains with everything real: server, schedule, stages, faults, restart."""

from __future__ import annotations

import json
import platform
import re
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import psutil
import pytest
import requests

from tests import project as projects
from tests.flows import browser
from tests.flows.stack import Stack, eventually, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LAST = ("register", "promote", "report")
ALL = {"data.dvc", "catalog", "labels", "spectrogram", "split@mood", "train@mood-lenet5"} | {
    "evaluate@mood-lenet5",
    *LAST,
}
ENDLESS = {
    "models": ["cnn64"],
    "overrides": {"train.models.cnn64": {"epochs": 5000, "learning_rate": 0.001, "patience": 5000}},
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    project = projects.make(tmp_path_factory.mktemp("stack"), {"tasks": ["mood"], "models": ["lenet5"]})
    with Stack(project).running() as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_left_going(stack: Stack) -> Iterator[None]:
    """A test that failed must not make the next one fail."""
    yield
    stack.cancel_all()


@pytest.fixture
def told(stack: Stack) -> Iterator[list[dict[str, str]]]:
    """Receive what the project's notification posts."""
    received: list[dict[str, str]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stack.project.run(
        "env",
        f"PREFECT_API_URL={stack.api}",
        *stack.command("flows.notifications", "--webhook", f"http://127.0.0.1:{server.server_port}/"),
    )
    yield received
    server.shutdown()


def test_a_schedule_starts_a_retrain_that_completes(stack: Stack) -> None:
    weekly = stack.deployment("weekly")
    (standing,) = weekly["schedules"]
    assert standing["active"]
    assert standing["schedule"] == {"cron": "0 3 * * 1", "timezone": "UTC", "day_or": True}
    path = f"/deployments/{weekly['id']}/schedules"
    (short,) = stack.post(
        path, [{"schedule": {"interval": 3600, "anchor_date": in_seconds(20)}, "active": True}]
    )
    rule = {
        "deployments": {"id": {"any_": [weekly["id"]]}},
        "flow_runs": {"state": {"type": {"any_": ["RUNNING", "COMPLETED"]}}},
    }
    (run,) = wait_until(lambda: stack.post("/flow_runs/filter", rule), 120, "the schedule starts a run")
    assert run["auto_scheduled"]
    state = stack.finish(run["id"])
    requests.delete(f"{stack.api}{path}/{short['id']}", timeout=30).raise_for_status()
    assert state["type"] == "COMPLETED", state
    assert "mood: promoted version 1: there was no champion" in state["message"]
    tasks = eventually(lambda: stack.tasks(run["id"]), lambda seen: set(seen) == ALL)
    assert set(tasks) == ALL
    assert {name for name, shown in tasks.items() if shown == "Cached"} <= {"data.dvc"}
    artifacts = stack.artifacts(run["id"])
    assert {"metrics", "promotion", "links", "progress-train-mood-lenet5"} <= set(artifacts)
    picture = requests.get(artifacts["confusion-mood-lenet5"], timeout=30)
    assert picture.content.startswith(b"\x89PNG")
    assert "/#/experiments/" in artifacts["links"]


def in_seconds(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def test_logs_of_a_stage_are_in_its_task(stack: Stack) -> None:
    rule = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    (run,) = stack.post("/flow_runs/filter", rule)
    expected = ("Epoch 1/2", "12 tracks, 12 spectrograms computed")
    logs = eventually(lambda: stack.run_logs(run["id"]), lambda seen: all(line in seen for line in expected))
    assert expected[0] in logs
    assert expected[1] in logs


def test_unchanged_pipeline_is_cached_throughout_and_takes_seconds(stack: Stack) -> None:
    asked = time.monotonic()
    run = stack.retrain()
    assert stack.finish(run)["message"] == "mood: nothing to decide, version 1 (lenet5) serves. 0 stages ran."
    assert time.monotonic() - asked < 60  # the runner looks every few seconds, and imports
    assert stack.get(f"/flow_runs/{run}")["total_run_time"] <= 30
    cached = dict.fromkeys(ALL, "Cached")
    assert eventually(lambda: stack.tasks(run), lambda seen: seen == cached) == cached


def test_models_of_a_retrain_lie_under_one_finished_run(stack: Stack) -> None:
    code = (
        "from pipeline import tracking; mlflow = tracking.configure()\n"
        "runs = mlflow.search_runs(experiment_names=['mood'], output_format='list')\n"
        "(parent,) = [run for run in runs if run.data.tags.get('kind') == 'retrain']\n"
        "assert parent.info.status == 'FINISHED', parent.info.status\n"
        "assert 'promoted version 1' in parent.data.tags['decision']\n"
        "children = [run for run in runs if run.data.tags.get('mlflow.parentRunId') == parent.info.run_id]\n"
        "model = next(run for run in children if run.data.tags.get('model') == 'lenet5')\n"
        "assert 'test.track.accuracy' in model.data.metrics\n"
        "assert model.inputs.dataset_inputs[0].dataset.name\n"
        "assert {'dvc_lock_sha256', 'data_md5', 'protocol', 'leaky', 'device'} <= set(model.data.tags)\n"
    )
    stack.project.run(sys.executable, "-c", code)


def test_together_one_runs_and_the_others_wait_or_are_cancelled_with_a_reason(stack: Stack) -> None:
    first = stack.retrain(overrides={"promote.margin": 0.01})
    second = stack.retrain(overrides={"promote.margin": 0.02})
    scheduled = [stack.retrain(deployment="weekly") for _ in range(2)]
    assert stack.finish(first)["type"] == "COMPLETED"
    assert stack.finish(second)["type"] == "COMPLETED"
    ends = [stack.finish(run) for run in scheduled]
    assert sorted(one["type"] for one in ends) == ["CANCELLED", "COMPLETED"]
    (cancelled,) = [one for one in ends if one["type"] == "CANCELLED"]
    assert "concurrency limit" in cancelled["message"]
    assert stack.project.would_run() in ([], ["promote"])  # the lock is whole; margins came and went
    assert "margin: 0.0 " in (stack.project.root / "params.yaml").read_text()


def test_broken_label_stops_before_spectrograms_and_is_told(stack: Stack, told: list[dict[str, str]]) -> None:
    path = stack.project.root / "data/mood_labels.csv"
    sound = path.read_text()
    path.write_text(sound + "blues.00000,Gloomy,dora,2024-03-06T10:00:00Z\n")
    line = f"line {len(path.read_text().splitlines())}"
    run = stack.retrain()
    state = stack.finish(run)
    path.write_text(sound)
    assert state["type"] == "FAILED"
    assert line in state["message"]
    assert "Gloomy" in state["message"]
    tasks = eventually(lambda: stack.tasks(run), lambda seen: seen.get("labels") == "Failed")
    assert tasks["labels"] == "Failed"  # once: a failed check is not tried again
    assert not {"spectrogram", "train@mood-lenet5"} & set(tasks)
    assert line in stack.artifacts(run)["failure"]
    (message,) = wait_until(lambda: told, 60, "the notification arrives")
    assert "retrain failed" in message["subject"]
    assert line in message["text"]
    assert run in message["text"]
    assert stack.finish(stack.retrain())["type"] == "COMPLETED"


LABELS = """track_id;mood;annotator;labelled_at
blues.00000;totally positive;dora;2024-03-06T10:00:00Z
blues.00001;Gloomy;dora;2024-03-06T10:01:00Z
disco.00000;CalmButWarm;dora;2024-03-06T10:02:00Z
"""


def test_new_labels_are_merged_and_the_bad_row_is_shown_told_and_put_aside(
    stack: Stack, told: list[dict[str, str]]
) -> None:
    root = stack.project.root
    store, pointer = root / "data/mood_labels.csv", root / "data.dvc"
    before, version = store.read_text(), pointer.read_text()
    on_demand = {"deployments": {"name": {"any_": ["on-demand"]}}}
    earlier = {one["id"] for one in stack.post("/flow_runs/filter", on_demand)}
    inbox = root / "inbox/labels"
    inbox.mkdir(parents=True, exist_ok=True)
    (inbox / "monday.csv").write_text(LABELS)
    run = stack.ask("label_intake/nightly", min_new_tracks=0)
    state = stack.finish(run)
    assert (state["type"], state["name"]) == ("COMPLETED", "Rejected"), state
    assert "1 files: 2 rows accepted, 1 rejected" in state["message"]
    assert store.read_text() == before + (
        "blues.00000,TotallyPositive,dora,2024-03-06T10:00:00Z\n"
        "disco.00000,CalmButWarm,dora,2024-03-06T10:02:00Z\n"
    )
    assert "Gloomy" in (root / "inbox/rejected/monday.csv").read_text()
    assert (root / "inbox/done/monday.csv").read_text() == LABELS
    shown = stack.artifacts(run)
    assert "Gloomy" in shown["label-intake"]
    page = re.search(r"\((http://[^)]*)\)", shown["label-intake"])
    assert page is not None
    assert "label_intake" in requests.get(page[1], timeout=30).text
    assert pointer.read_text() != version
    assert "Add 2 mood labels" in (root / "inbox/commit-message.txt").read_text()
    assert wait_until(lambda: told, 60, "the notification arrives")[0]["subject"].startswith(
        "label_intake rejected"
    )
    (asked,) = {one["id"] for one in stack.post("/flow_runs/filter", on_demand)} - earlier
    assert stack.finish(asked)["type"] == "COMPLETED"
    tasks = eventually(lambda: stack.tasks(asked), lambda seen: set(seen) == ALL)
    assert tasks["labels"] == "Completed"
    assert tasks["spectrogram"] == "Cached"


def test_too_few_new_tracks_do_not_start_a_retrain_and_an_empty_inbox_is_no_fault(stack: Stack) -> None:
    state = stack.finish(stack.ask("label_intake/nightly"))
    assert state["name"] == "Completed"
    assert (
        state["message"]
        == "0 files: 0 rows accepted, 0 rejected; 0 tracks are new to the models, 10 start a retrain."
    )


def train_endlessly(stack: Stack) -> tuple[str, list[psutil.Process]]:
    """Start a training of CNN-64 that would take days; return the run and its processes."""
    run = stack.retrain(**ENDLESS)
    wait_until(lambda: "Epoch 2/5000" in stack.run_logs(run), 300, "CNN-64 trains")
    training = stack.processes("pipeline.train")
    assert training
    return run, training


def test_cancelling_ends_the_training_and_the_next_run_completes(stack: Stack) -> None:
    run, _ = train_endlessly(stack)
    started = time.monotonic()
    stack.cancel(run)
    wait_until(lambda: not stack.processes("pipeline.train"), 15, "the training ends")
    wait_until(lambda: not stack.processes("dvc"), 15, "DVC ends")
    print(f"cancelled after {time.monotonic() - started:.1f} s")
    assert stack.finish(run, 120)["type"] == "CANCELLED"
    assert "cnn64:\n      epochs: 1\n" in (stack.project.root / "params.yaml").read_text()
    assert stack.finish(stack.retrain())["type"] == "COMPLETED"


def test_a_run_whose_processes_are_killed_is_called_crashed_and_the_next_completes(stack: Stack) -> None:
    run, training = train_endlessly(stack)
    killed = [
        *stack.processes("flows.deployments"),
        *stack.processes("prefect.engine"),
        *stack.processes("dvc"),
    ]
    for process in {*killed, *training}:
        process.kill()
    assert stack.finish(run, 180)["type"] == "CRASHED"
    assert stack.finish(stack.retrain())["type"] == "COMPLETED"
    assert "cnn64:\n      epochs: 1\n" in (stack.project.root / "params.yaml").read_text()


def test_only_orphans_of_this_machine_are_called_crashed(stack: Stack) -> None:
    deployment = stack.deployment("weekly")
    machines = {"ours": platform.node(), "elsewhere": "another machine"}
    asked = {
        "flow_id": deployment["flow_id"],
        "deployment_id": deployment["id"],
        "state": {"type": "RUNNING"},
    }
    runs = {
        which: stack.post("/flow_runs/", asked | {"labels": {"machine": name}})["id"]
        for which, name in machines.items()
    }
    code = "from flows import server; server.close_orphans(['weekly'])"
    stack.project.run("env", f"PREFECT_API_URL={stack.api}", sys.executable, "-c", code)
    assert stack.state(runs["ours"])["type"] == "CRASHED"
    assert stack.state(runs["elsewhere"])["type"] == "RUNNING"
    stack.post(f"/flow_runs/{runs['elsewhere']}/set_state", {"state": {"type": "CANCELLED"}, "force": True})


def test_sigterm_stops_everything_and_a_restart_knows_all(stack: Stack) -> None:
    run, _ = train_endlessly(stack)
    stack.stop()
    wait_until(lambda: not stack.processes(), 20, "no process is left")
    stack.start()
    assert all(one["active"] for one in stack.deployment("weekly")["schedules"])
    upcoming = {
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        "deployments": {"name": {"any_": ["weekly"]}},
    }
    assert wait_until(
        lambda: stack.post("/flow_runs/filter", upcoming), 90, "the next scheduled run is shown"
    )
    assert stack.state(run)["type"] in ("CANCELLED", "CRASHED")
    assert stack.finish(stack.retrain())["type"] == "COMPLETED"


@pytest.mark.browser
@pytest.mark.skipif(browser.chromium() is None, reason="needs Chromium: apt-get install chromium")
def test_a_browser_shows_schedule_graph_artifacts_comparison_and_champion(stack: Stack) -> None:
    prefect = stack.api.removesuffix("/api")
    rule = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}, "sort": "END_TIME_DESC"}
    run = max(stack.post("/flow_runs/filter", rule), key=lambda one: one["total_run_time"])["id"]
    body = {"experiment_ids": ["1", "2"], "filter": "attributes.run_name LIKE '%artist%'"}
    found = requests.post(f"{stack.mlflow}/api/2.0/mlflow/runs/search", json=body, timeout=30).json()["runs"]
    models = [one["info"]["run_id"] for one in found]
    experiments = sorted({one["info"]["experiment_id"] for one in found})
    assert len(models) >= 2
    with browser.page() as opened:
        browser.deployments(opened, prefect)
        browser.next_run(opened, prefect, stack.deployment("weekly")["id"])
        browser.flow_run(opened, prefect, run)
        browser.artifacts(opened, prefect, run)
        browser.compare(opened, stack.mlflow, experiments, models)
        browser.registry(opened, stack.mlflow, "mood-classifier")
