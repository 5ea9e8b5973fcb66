"""Scheduled retrains with everything real: servers, stages, faults, restarts; on SQLite and PostgreSQL."""

from __future__ import annotations

import base64
import datetime
import fcntl
import json
import platform
import re
import signal
import stat
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from flows import lost_runs
from serving import password
from tests import project as projects
from tests.flows import attack, browser, postgres
from tests.flows.stack import HOUR, NIGHTLY, WEEKLY, Stack, answers, eventually, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STAGES = {"data.dvc", "code", "catalog", "labels", "spectrogram", "split@mood", "train@mood-lenet5"} | {
    "evaluate@mood-lenet5",
    "register",
    "promote",
    "report",
}
ALL = STAGES | {"plan"}
UNLABELLED = ("disco.00000", "metal.00000")
ENDLESS = {
    "models": ["cnn64"],
    "overrides": {"train.models.cnn64": {"epochs": 5000, "learning_rate": 0.001, "patience": 5000}},
}


@pytest.fixture(scope="module")
def database() -> Iterator[postgres.Server]:
    with postgres.server() as running:
        for name in ("prefect", "mlflow"):
            running.run(f"create database {name}")
        yield running


POSTGRESQL = pytest.param(
    "postgresql",
    marks=[
        pytest.mark.long,
        postgres.NEEDED,
    ],
)
on_sqlite = pytest.mark.parametrize("stack", ["sqlite"], indirect=True)
on_both = pytest.mark.parametrize("stack", ["sqlite", POSTGRESQL], indirect=True)


@pytest.fixture(scope="module")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    project = projects.make(
        tmp_path_factory.mktemp("stack"), {"tasks": ["mood"], "models": ["lenet5"]}, unlabelled=UNLABELLED
    )
    stack = Stack(project)
    if request.param == "postgresql":
        stack.settings = postgres.settings(request.getfixturevalue("database"), mlflow=stack.mlflow)
    with stack.running():
        yield stack


@pytest.fixture(autouse=True)
def nothing_left_going(stack: Stack) -> Iterator[None]:
    """A test that failed must not make the next one fail."""
    yield
    stack.cancel_all()


def only_message(told: list[dict[str, str]]) -> dict[str, str]:
    """Return the message that was told: a busy Prefect server may send the same one more than once."""
    first = wait_until(lambda: told, 60, "the notification arrives")[0]
    assert all(message == first for message in told)
    return first


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
        f"CMG_WEBHOOK=http://127.0.0.1:{server.server_port}/",
        *stack.command("flows.notifications", "--test"),
    )
    assert "A test" in received.pop()["subject"]
    yield received
    server.shutdown()
    server.server_close()


@on_both
def test_a_schedule_starts_a_retrain_that_completes(stack: Stack) -> None:
    none_yet = "expected a champion in the registry, received none"
    said = eventually(lambda: stack.heard(""), lambda one: none_yet in one.text)
    assert said.status_code == 503
    assert none_yet in said.text
    weekly = stack.deployment("weekly")
    (standing,) = weekly["schedules"]
    assert standing["active"]
    assert standing["schedule"] == {"cron": WEEKLY, "timezone": "UTC", "day_or": True}
    path = f"/deployments/{weekly['id']}/schedules"
    (short,) = stack.post(
        path, [{"schedule": {"interval": 3600, "anchor_date": in_seconds(15)}, "active": True}]
    )
    rule = {
        "deployments": {"id": {"any_": [weekly["id"]]}},
        "flow_runs": {"state": {"type": {"any_": ["RUNNING", "COMPLETED"]}}},
    }
    try:
        (run,) = wait_until(lambda: stack.post("/flow_runs/filter", rule), 120, "the schedule starts a run")
        assert run["auto_scheduled"]
        state = stack.ended(run["id"])
    finally:
        stack.call("DELETE", f"{stack.api}{path}/{short['id']}").raise_for_status()
    assert "mood: promoted version 1: there was no champion" in state["message"]
    tasks = stack.settled(run["id"], ALL)
    assert set(tasks) == ALL
    assert {name for name, shown in tasks.items() if shown == "Cached"} <= {"data.dvc"}
    shown = {one["name"]: one for one in stack.task_runs(run["id"])}
    assert all(one["run_count"] == 1 for one in shown.values())
    decided = "mood-classifier: promoted version 1: there was no champion"
    assert shown["promote"]["state"]["message"].startswith(decided)
    artifacts = stack.artifacts(run["id"])
    assert {"metrics", "promotion", "links", "progress-train-mood-lenet5"} <= set(artifacts)
    picture = stack.call("GET", artifacts["confusion-mood-lenet5"])
    assert picture.content.startswith(b"\x89PNG")
    assert "/#/experiments/" in artifacts["links"]
    serving = wait_until(lambda: stack.heard("v1/models"), 60, "the listeners' page has the champion").json()
    assert [one["name"] for one in serving["models"]] == ["mood-classifier/1"]


def in_seconds(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def contains(part: str, whole: str) -> bool:
    return part in whole


@on_sqlite
def test_logs_of_a_stage_are_in_its_task(stack: Stack) -> None:
    rule = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    (run,) = stack.post("/flow_runs/filter", rule)
    expected = {"train@mood-lenet5": "Epoch 1/2", "spectrogram": "12 tracks, 12 spectrograms computed"}
    for task, line in expected.items():
        logs = eventually(partial(stack.task_logs, run["id"], task), partial(contains, line))
        assert line in logs


@on_both
def test_unchanged_pipeline_is_cached_throughout_and_takes_seconds(stack: Stack) -> None:
    run = stack.retrain()
    assert stack.finish(run)["message"] == "mood: nothing to decide, version 1 (lenet5) serves. 0 stages ran."
    assert stack.get(f"/flow_runs/{run}")["total_run_time"] <= 30
    cached = dict.fromkeys(STAGES, "Cached") | {"plan": "Completed"}
    assert eventually(lambda: stack.tasks(run), lambda seen: seen == cached) == cached


@on_both
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
    stack.python(code)


@on_sqlite
def test_the_form_offers_what_may_be_chosen(stack: Stack) -> None:
    form = stack.deployment("on-demand")["parameter_openapi_schema"]
    assert set(form["properties"]) == {"tasks", "models", "protocol", "force", "overrides"}
    shown = json.dumps(form)
    for choice in ("genre", "mood", "lenet5", "cnn64", "artist", "fault_filtered", "track", "shuffled"):
        assert f'"{choice}"' in shown
    path = f"/deployments/{stack.deployment('on-demand')['id']}/create_flow_run"
    for wrong, named in (({"tasks": ["tempo"]}, "tempo"), ({"overrides": {"trian.seed": 1}}, "trian.seed")):
        refused = stack.call("POST", stack.api + path, {"parameters": wrong})
        assert refused.status_code in (409, 422), refused.text
        assert named in refused.text


@on_sqlite
def test_a_protocol_holds_for_its_run_and_what_it_changed_is_put_back_from_the_cache(stack: Stack) -> None:
    metrics = "artifacts/metrics/mood-lenet5.json"
    own, before = stack.project.read_json(metrics), stack.params()
    other = stack.ended(stack.retrain(protocol="track", force=True))
    assert other["message"].endswith(f" {len(STAGES)} stages ran.")
    assert stack.project.read_json(metrics)["protocol"] == "track"
    assert stack.params() == before
    run = stack.retrain()
    state = stack.finish(run)
    assert state["message"].startswith("mood: kept champion, because"), state
    tasks = stack.settled(run, ALL)
    assert tasks["train@mood-lenet5"] == "Cached"  # its weights came out of DVC's cache
    assert tasks["promote"] == "Completed"  # never from the cache: the champion may be another by now
    assert stack.project.read_json(metrics) == own
    assert stack.project.would_run() == []


@pytest.mark.long
@on_sqlite
def test_another_task_runs_when_chosen(stack: Stack) -> None:
    chosen = stack.finish(stack.retrain(tasks=["genre"]))
    assert chosen["message"].startswith("genre: promoted version 1: there was no champion"), chosen
    assert stack.finish(stack.retrain())["message"].startswith("mood: ")
    assert set(stack.project.read_json("mlruns/promotion.json")) == {"genre", "mood"}


@contextmanager
def slot_taken(stack: Stack, limit: str) -> Iterator[None]:
    """Hold a limit's only slot within the block."""
    path, slot = "/v2/concurrency_limits", {"names": [limit], "slots": 1}
    stack.post(f"{path}/increment", slot | {"mode": "concurrency"})
    try:
        yield
    finally:
        stack.post(f"{path}/decrement", slot | {"occupancy_seconds": 1})


@on_sqlite
def test_a_training_waits_for_the_only_slot_of_the_limit_gpu(stack: Stack) -> None:
    with slot_taken(stack, "gpu"):
        run = stack.retrain(overrides={"train.batch_size": 4})
        eventually(lambda: stack.tasks(run), lambda seen: seen.get("train@mood-lenet5") == "Running", 120)
        time.sleep(3)
        assert stack.tasks(run)["train@mood-lenet5"] == "Running"
        assert not stack.processes("dvc repro")  # which it would have started at once
    wait_until(lambda: stack.processes("pipeline.stages.train"), 60, "the training begins")
    stack.cancel(run)
    stack.ended(run, "CANCELLED")


@on_sqlite
def test_dvc_s_lock_is_waited_for(stack: Stack) -> None:
    with (stack.project.root / ".dvc/tmp/lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as another `dvc push` does
        run = stack.retrain()
        waiting = eventually(lambda: stack.tasks(run), lambda seen: seen.get("plan") == "AwaitingRetry")
        assert waiting == {"plan": "AwaitingRetry"}
    stack.ended(run)
    said = (
        "Retry 1/2 will start 2.0 second(s) from now"  # the first delay first: Prefect sorts its own setting
    )
    assert said in eventually(lambda: stack.run_logs(run), lambda seen: said in seen)


@on_both
def test_together_one_runs_and_the_other_waits(stack: Stack) -> None:
    asked = [stack.retrain(overrides={"promote.margin": margin}) for margin in (0.1, 0.2)]
    queued = "AwaitingConcurrencySlot"
    names = eventually(lambda: {stack.state(run).get("name") for run in asked}, lambda seen: queued in seen)
    assert queued in names
    spans = []
    for run in asked:
        stack.ended(run)
        shown = stack.get(f"/flow_runs/{run}")
        spans.append((shown["start_time"], shown["end_time"]))
    first, second = sorted(spans)
    assert first[1] <= second[0]  # one after the other
    assert re.search(r"margin: 0\.0\b", stack.params())
    stack.ended(stack.retrain())
    assert stack.project.would_run() == []  # the lock is whole


@on_both
def test_broken_label_stops_before_spectrograms_and_is_told(stack: Stack, told: list[dict[str, str]]) -> None:
    path = stack.project.root / "data/mood_labels.csv"
    valid = path.read_text()
    path.write_text(valid + "blues.00000,Gloomy,dora,2024-03-06T10:00:00Z\n")
    line = f"line {len(path.read_text().splitlines())}"
    try:
        run = stack.retrain()
        state = stack.ended(run, "FAILED")
    finally:
        path.write_text(valid)
    assert line in state["message"]
    assert "Gloomy" in state["message"]
    tasks = eventually(lambda: stack.tasks(run), lambda seen: seen.get("labels") == "Failed")
    assert tasks["labels"] == "Failed"
    (failed,) = [one for one in stack.task_runs(run) if one["name"] == "labels"]
    assert failed["run_count"] == 1  # a failed check is not tried again
    assert not {"spectrogram", "train@mood-lenet5"} & set(tasks)
    assert line in " ".join(stack.artifacts(run)["failure"].split())
    message = only_message(told)
    assert "retrain failed" in message["subject"]
    assert line in message["text"]
    assert run in message["text"]
    stack.ended(stack.retrain())


MONDAY = """track_id;mood;annotator;labelled_at
blues.00000;totally positive;dora;2024-03-06T10:00:00Z
blues.00001;Gloomy;dora;2024-03-06T10:01:00Z
disco.00000;CalmButWarm;dora;2024-03-06T10:02:00Z
"""
TUESDAY = """track_id,mood,annotator,labelled_at
metal.00000,TotallyNegative,dora,2024-03-07T10:00:00Z
"""


@on_sqlite
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
    (inbox / "monday.csv").write_text(MONDAY)
    run = stack.ask("label_intake/nightly", min_new_tracks=2)
    state = stack.finish(run)
    assert (state["type"], state["name"]) == ("FAILED", "Rejected"), state
    assert "1 files: 2 rows accepted, 1 rejected" in state["message"]
    assert state["message"].endswith("1 tracks are new to the models, 2 start a retrain.")
    assert pointer.read_text() == version
    assert store.read_text() == before + (
        "blues.00000,TotallyPositive,dora,2024-03-06T10:00:00Z\n"
        "disco.00000,CalmButWarm,dora,2024-03-06T10:02:00Z\n"
    )
    assert "Gloomy" in (root / "inbox/rejected/monday.csv").read_text()
    assert (root / "inbox/done/monday.csv").read_text() == MONDAY
    shown = stack.artifacts(run)
    assert "Gloomy" in shown["label-intake"]
    page = re.search(r"\((http://[^)]*)\)", shown["label-intake"])
    assert page is not None
    assert "label_intake" in stack.call("GET", page[1]).text
    assert wait_until(lambda: told, 60, "the notification arrives")[0]["subject"].startswith(
        "label_intake rejected"
    )
    (inbox / "tuesday.csv").write_text(TUESDAY)
    enough = stack.finish(stack.ask("label_intake/nightly", min_new_tracks=2))
    assert enough["name"] == "Completed"
    assert enough["message"].endswith("2 tracks are new to the models, 2 start a retrain: it was asked for.")
    assert pointer.read_text() != version
    message = (root / "inbox/commit-message.txt").read_text()
    assert message.startswith("Add 3 mood labels; 2 tracks are new to the models")
    assert "monday.csv: 2 of 3 rows" in message  # not committed yet, so it is said again
    (asked,) = {one["id"] for one in stack.post("/flow_runs/filter", on_demand)} - earlier
    stack.ended(asked)
    tasks = stack.settled(asked, ALL)
    assert tasks["labels"] == "Completed"
    assert tasks["spectrogram"] == "Cached"


@on_sqlite
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
    training = stack.processes("pipeline.stages.train")
    assert training
    return run, training


@on_sqlite
def test_cancelling_ends_the_training_and_the_next_run_which_waited_for_the_checkout_completes(
    stack: Stack,
) -> None:
    """Each deployment has a limit of its own: the file lock keeps them apart, and the log says so."""
    run, training = train_endlessly(stack)
    training += stack.processes("dvc repro")
    weekly = stack.retrain(deployment="weekly")
    waits = "waiting for another process that holds"
    assert waits in eventually(lambda: stack.run_logs(weekly), lambda seen: waits in seen, 120)
    assert stack.tasks(weekly) == {}
    started = time.monotonic()
    stack.cancel(run)
    wait_until(lambda: not any(one.is_running() for one in training), 15, "the training and its DVC end")
    print(f"cancelled after {time.monotonic() - started:.1f} s")
    stack.ended(run, "CANCELLED", 120)
    name = stack.get(f"/flow_runs/{run}")["name"]
    assert stack.python(STATUSES.format(name=name)).split() == ["KILLED"] * 2
    stack.ended(weekly)
    assert "cnn64:\n      epochs: 1\n" in stack.params()
    assert stack.project.would_run() == []


@on_sqlite
def test_a_lock_that_dvc_has_half_written_is_mended(stack: Stack) -> None:
    (stack.project.root / ".dvc/tmp/rwlock").write_text("{")  # as if DVC had been killed while it wrote
    run = stack.retrain()
    stack.ended(run)
    mended = ".dvc/tmp/rwlock: half written"
    assert mended in eventually(lambda: stack.run_logs(run), lambda seen: mended in seen)


TIMED_OUT = """
from flows.retrain import retrain
retrain.with_options(timeout_seconds=45, flow_run_name="too long")(**{parameters})
"""


@on_sqlite
def test_a_run_that_takes_too_long_is_ended_and_told(stack: Stack, told: list[dict[str, str]]) -> None:
    stack.python(TIMED_OUT.format(parameters=ENDLESS), fails=True)
    assert not stack.processes("pipeline.stages.train")
    assert not stack.processes("dvc repro")
    (run,) = stack.post("/flow_runs/filter", {"flow_runs": {"name": {"any_": ["too long"]}}})
    assert "Epoch 1/5000" in eventually(lambda: stack.run_logs(run["id"]), lambda seen: "Epoch 1/5" in seen)
    assert (run["state"]["type"], run["state"]["name"]) == ("FAILED", "TimedOut")
    message = only_message(told)
    assert "retrain timedout" in message["subject"]
    assert "cnn64:\n      epochs: 1\n" in stack.params()


STATUSES = (
    "from pipeline import tracking; mlflow = tracking.configure()\n"
    "runs = mlflow.search_runs(experiment_names=['mood'], output_format='list',\n"
    "                          filter_string=\"tags.retrain = '{name}'\")\n"
    "print(*(run.info.status for run in runs))\n"
)


@on_sqlite
@pytest.mark.parametrize(
    "killed",
    [
        pytest.param(("prefect.engine",), marks=pytest.mark.long),
        ("flows.deployments", "prefect.engine", "dvc"),
    ],
)
def test_a_killed_run_is_called_crashed_and_told_and_the_next_completes(
    stack: Stack, told: list[dict[str, str]], killed: tuple[str, ...]
) -> None:
    run, training = train_endlessly(stack)
    for process in {one for name in killed for one in stack.processes(name)}:
        process.kill()
    stack.ended(run, "CRASHED", 180)
    message = only_message(told)
    assert "retrain crashed" in message["subject"]
    stack.ended(stack.retrain())
    assert not any(process.is_running() for process in training)
    assert "cnn64:\n      epochs: 1\n" in stack.params()


@on_sqlite
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
    stack.python(code)
    assert stack.state(runs["ours"])["type"] == "CRASHED"
    assert stack.state(runs["elsewhere"])["type"] == "RUNNING"
    stack.post(f"/flow_runs/{runs['elsewhere']}/set_state", {"state": {"type": "CANCELLED"}, "force": True})


@on_sqlite
def test_a_run_whose_machine_never_comes_back_is_called_crashed_once_its_heartbeats_stop(
    stack: Stack,
) -> None:
    (automation,) = stack.post("/automations/filter", {"automations": {"name": {"any_": [lost_runs.NAME]}}})
    written = {name: automation[name] for name in ("name", "description", "trigger", "actions")}
    soon = written | {"trigger": automation["trigger"] | {"within": 10}}
    stack.call("PUT", f"{stack.api}/automations/{automation['id']}", soon).raise_for_status()
    flow = stack.deployment("weekly")["flow_id"]
    lost, alive = (
        stack.post("/flow_runs/", {"flow_id": flow, "state": {"type": "RUNNING"}})["id"] for _ in range(2)
    )
    heartbeat(stack, lost, flow)

    def crashed() -> bool:
        heartbeat(stack, alive, flow)
        return stack.state(lost)["type"] == "CRASHED"

    wait_until(crashed, 60, "the run without heartbeats is called crashed")
    assert stack.state(alive)["type"] == "RUNNING"
    stack.post(f"/flow_runs/{alive}/set_state", {"state": {"type": "CANCELLED"}, "force": True})
    stack.call("PUT", f"{stack.api}/automations/{automation['id']}", written).raise_for_status()


def heartbeat(stack: Stack, run: str, flow: str) -> None:
    """Tell the server, as a run's process does, that it lives."""
    related = {
        "prefect.resource.id": f"prefect.flow.{flow}",
        "prefect.resource.role": "flow",
        "prefect.resource.name": "retrain",
    }
    event = {
        "id": str(uuid.uuid4()),
        "occurred": datetime.datetime.now(datetime.UTC).isoformat(),
        "event": "prefect.flow-run.heartbeat",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        "related": [related],
    }
    stack.call("POST", f"{stack.api}/events", [event]).raise_for_status()


@on_sqlite
def test_scheduled_runs_do_not_pile_up_but_are_cancelled_with_a_reason(stack: Stack) -> None:
    weekly = stack.deployment("weekly")["id"]
    late = {"type": "SCHEDULED", "state_details": {"scheduled_time": in_seconds(-3600)}}
    stack.control("stop", "flows")
    missed = [
        stack.post(f"/deployments/{weekly}/create_flow_run", {"parameters": {}, "state": late})["id"]
        for _ in range(3)
    ]
    stack.control("start", "flows")
    ends = [stack.finish(run) for run in missed]
    assert sorted(one["type"] for one in ends) == ["CANCELLED", "CANCELLED", "COMPLETED"]
    assert all("concurrency limit" in one["message"] for one in ends if one["type"] == "CANCELLED")


@on_sqlite
def test_a_server_that_restarts_still_has_the_schedules(stack: Stack) -> None:
    before = stack.deployment("weekly")["schedules"]
    with stack.without("prefect", f"{stack.api}/health"):
        pass
    assert stack.deployment("weekly")["schedules"] == before
    assert [one["active"] for one in before] == [True]


@on_sqlite
def test_what_users_do_to_schedules_outlives_a_restart_of_the_runner(stack: Stack) -> None:
    nightly = stack.get("/deployments/name/label_intake/nightly")
    path = f"/deployments/{nightly['id']}/schedules"
    own = {"schedule": {"cron": f"30{WEEKLY[1:]}", "timezone": "Europe/Rome"}, "active": True, "slug": "own"}
    stack.post(path, [own])
    (declared,) = nightly["schedules"]
    stack.call("PATCH", f"{stack.api}{path}/{declared['id']}", {"active": False}).raise_for_status()
    before = stack.times_ready()
    stack.control("restart", "flows")
    wait_until(lambda: stack.times_ready() > before, 120, "the deployments are declared anew")

    def shown() -> dict[str, bool]:
        return {one["schedule"]["cron"]: one["active"] for one in stack.get(path)}

    wanted = {NIGHTLY: False, own["schedule"]["cron"]: True}
    assert eventually(shown, lambda seen: seen == wanted) == wanted


@on_sqlite
def test_ctrl_c_stops_everything_and_a_background_start_shows_and_stops_it(stack: Stack) -> None:
    stack.stop(signal.SIGINT)
    wait_until(lambda: not stack.processes(), 20, "no process is left")
    before = stack.times_ready()
    assert "make down stops all" in stack.services("up", "--detach")
    assert all(
        answers(url) for url in (f"{stack.api}/health", stack.mlflow, f"{stack.pages}/report/")
    )  # as soon as it has returned
    wait_until(lambda: stack.times_ready() > before, 180, "the deployments are served")
    status = stack.services("status")
    assert status.count("RUNNING") == 5
    assert f"MLflow    {stack.mlflow}" in status
    assert f"Listen    {stack.listen}/" in status
    assert "stopped" in stack.services("down")
    wait_until(lambda: not stack.processes(), 20, "no process is left")
    assert "nothing runs" in stack.services("status")
    stack.start()


@on_both
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
    assert stack.finish(run)["type"] in ("CANCELLED", "CRASHED")
    stack.ended(stack.retrain())


CALLERS = [
    {"Host": "evil.example", "Origin": "http://evil.example"},
    {"Host": "EVIL.example:{port}"},
    {"Host": "127.0.0.1.evil.example:{port}"},
    {"Host": "evil@127.0.0.1:{port}"},
    {"Host": ""},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://localhost.evil.example:{port}"},
]


@on_sqlite
def test_nobody_without_password_or_from_elsewhere_drives_the_servers(stack: Stack) -> None:
    """A changed pull step is a shell command that every later run of the deployment executes."""
    before = stack.deployment("on-demand")
    deployment = f"{stack.api}/deployments/{before['id']}"
    tries = [
        (deployment, "PATCH", attack.PULL_STEPS),
        (f"{deployment}/create_flow_run", "POST", attack.RUN),
        (f"{stack.mlflow}/api/2.0/mlflow/experiments/create", "POST", {"name": "owned"}),
        (f"{stack.pages}/report/", "GET", None),
        (f"{stack.listen}/v1/models/pull", "POST", {}),
    ]
    known = {"Authorization": "Basic " + base64.b64encode(stack.auth.encode()).decode()}
    for url, method, body in tries:
        for headers in ({}, {"Content-Type": "application/json"}, {"Authorization": "Basic Y21nOmNtZw=="}):
            assert attack.raw(url, method, body, headers) == 401, (url, headers)
        for caller in CALLERS:
            headers = {name: value.format(port=urlsplit(url).port) for name, value in caller.items()}
            assert attack.raw(url, method, body, headers | known) == 403, (url, headers)
    sockets = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    sockets |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "prefect"}
    assert attack.raw(f"{stack.api}/events/in", "GET", headers=sockets) == 101
    assert attack.raw(f"{stack.api}/events/in", "GET", headers=sockets | {"Origin": "null"}) == 403
    assert stack.deployment("on-demand")["pull_steps"] == before["pull_steps"]
    told = [
        (stack.project.root / "up.log").read_text(),
        *(p.read_text() for p in (stack.project.root / "logs").glob("*.log")),
    ]
    shown = [" ".join(process.cmdline()) for process in stack.processes()]
    secret = stack.auth.partition(":")[2]
    assert not any(secret in text for text in [*told, *shown])
    assert stat.S_IMODE((stack.project.root / password.FILE).stat().st_mode) == 0o600


@on_sqlite
def test_prefects_own_commands_find_address_and_password_in_the_folder(stack: Stack) -> None:
    bare = {name: value for name, value in stack.environment.items() if not name.startswith("PREFECT_")}
    command = stack.command("prefect", "deployment", "inspect", "retrain/weekly")
    done = subprocess.run(
        command, cwd=stack.project.root, env=bare, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    wrong = bare | {password.CLIENTS: "cmg:wrong"}
    command = stack.command("flows.retrain")
    done = subprocess.run(
        command, cwd=stack.project.root, env=wrong, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "to take our password, received 401. make password prints it" in done.stderr


def runs_of(stack: Stack, deployment: str) -> set[str]:
    rule = {"flow_runs": {"deployment_id": {"any_": [deployment]}}, "limit": 200}
    return {run["id"] for run in stack.post("/flow_runs/filter", rule)}


@on_sqlite
@pytest.mark.browser
@pytest.mark.skipif(browser.chromium() is None, reason="needs Chromium: apt-get install chromium")
def test_a_page_in_a_browser_cannot_drive_prefect_even_where_its_user_is_logged_in(stack: Stack) -> None:
    before = stack.deployment("on-demand")
    deployment, runs = f"{stack.api}/deployments/{before['id']}", runs_of(stack, before["id"])
    with browser.page(stack.auth, *attack.FLAGS) as opened, attack.page_server() as port:
        browser.login(opened, stack.api.removesuffix("/api"), stack.auth)
        attack.from_another_origin(opened, port, deployment)
        assert attack.by_rebinding(opened, deployment) == [403, 403]
    assert runs_of(stack, before["id"]) == runs
    assert stack.deployment("on-demand")["pull_steps"] == before["pull_steps"]


@on_sqlite
@pytest.mark.browser
@pytest.mark.skipif(browser.chromium() is None, reason="needs Chromium: apt-get install chromium")
def test_a_browser_shows_schedule_graph_artifacts_comparison_and_champion(stack: Stack) -> None:
    prefect = stack.api.removesuffix("/api")
    rule = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}, "sort": "END_TIME_DESC"}
    run = max(stack.post("/flow_runs/filter", rule), key=lambda one: one["total_run_time"])["id"]
    hour = datetime.time(HOUR).strftime("%I:00 %p")
    models = browser.models(stack.mlflow, ["2"], stack.auth)
    assert len(models) >= 2
    (metrics,) = stack.post(
        "/artifacts/filter",
        {"artifacts": {"flow_run_id": {"any_": [run]}, "key": {"any_": ["metrics"]}}},
    )
    with browser.page(stack.auth) as opened:
        browser.login(opened, prefect, stack.auth)
        browser.deployments(opened, prefect, (f"At {hour}, only on Monday", f"At {hour} every day"))
        browser.next_run(opened, prefect, stack.deployment("weekly")["id"])
        browser.flow_run(opened, prefect, run)
        browser.artifacts(opened, prefect, run)
        browser.artifact(opened, prefect, metrics["id"], "against the last champion")
        browser.compare(opened, stack.mlflow, ["2"], models)
        browser.registry(opened, stack.mlflow, "mood-classifier")
