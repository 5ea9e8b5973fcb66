"""A tiny project with all that ``make up`` starts, really running: for tests of schedules and faults."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psutil
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from flows import server
from serving import password
from tests.project import Project

T = TypeVar("T")

NEEDED_BY_SUPERVISOR = ("CMG_BIN", "CMG_FLOWS")
_PAGE = 200
# The stacks' own schedules run half a day from now: none of them disturbs a test.
HOUR = (time.gmtime().tm_hour + 12) % 24
NIGHTLY = f"0 {HOUR} * * *"
WEEKLY = f"0 {HOUR} * * 1"
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def free_ports(number: int) -> list[int]:
    """Return different ports that nobody listens on."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def _ports() -> dict[str, str]:
    names = ("PREFECT_PORT", "MLFLOW_PORT", "PAGES_PORT", "LISTEN_PORT")
    return dict(zip(names, map(str, free_ports(len(names))), strict=True))


def wait_until(happens: Callable[[], Any], seconds: float, what: str) -> Any:
    """Return what ``happens`` returns once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := happens()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.5)
    return found


def eventually(look: Callable[[], T], accept: Callable[[T], Any], seconds: float = 60) -> T:
    """Return what ``look`` returned when ``accept`` held, or at last: Prefect writes tasks and logs late."""
    deadline = time.monotonic() + seconds
    while not accept(seen := look()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return seen


def answers(address: str) -> bool:
    """Return whether a server answers, if only that it wants the password."""
    try:
        return requests.get(address, timeout=2).status_code in (200, 401)
    except requests.RequestException:
        return False


def _session(auth: str) -> requests.Session:
    """Return a session that tries again where SQLite is busy, as Prefect's own client does."""
    session = requests.Session()
    user, _, secret = auth.partition(":")
    session.auth = (user, secret)
    again = Retry(6, status_forcelist=[503], allowed_methods=None, backoff_factor=0.5, connect=0)
    session.mount("http://", HTTPAdapter(max_retries=again))
    return session


@dataclass
class Stack:
    """The servers and the flows of one project, on ports of their own.

    Parameters
    ----------
    project
        The tiny project.
    settings
        More of the services' environment.
    """

    project: Project
    settings: dict[str, str] = field(default_factory=dict)
    ports: dict[str, str] = field(default_factory=_ports)
    supervisor: subprocess.Popen[str] | None = None

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.ports['PREFECT_PORT']}/api"

    @property
    def mlflow(self) -> str:
        return f"http://127.0.0.1:{self.ports['MLFLOW_PORT']}"

    @property
    def pages(self) -> str:
        return f"http://127.0.0.1:{self.ports['PAGES_PORT']}"

    @property
    def listen(self) -> str:
        return f"http://127.0.0.1:{self.ports['LISTEN_PORT']}"

    @property
    def auth(self) -> str:
        """Return what ``make up`` has made, as its user reads it."""
        kept = tomllib.loads((self.project.root / password.FILE).read_text())
        return kept["profiles"][kept["active"]][password.SERVERS]

    def mlflow_login(self) -> dict[str, str]:
        """Return what a stage needs that is run by hand and logs to the server."""
        user, _, secret = self.auth.partition(":")
        return {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": secret}

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            key: value
            for key, value in self.project.environment.items()
            if not key.startswith(("PREFECT_", "PYTEST_"))
        }
        own = {
            "PREFECT_API_URL": self.api,
            # What a test asks for is soon seen: Prefect's own intervals are 10 to 60 s.
            "PREFECT_RUNNER_POLL_FREQUENCY": "2",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
            "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "2",
            "PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS": "2",
            "CMG_RETRY_SECONDS": "2,10",
        }
        return kept | self.ports | self.settings | own

    def command(self, *arguments: str) -> list[str]:
        return [self.project.python, "-m", *arguments]

    def services(self, *arguments: str) -> str:
        """Call ``make up``, ``make down`` or ``make status``; return what it printed."""
        done = subprocess.run(
            self.command("flows.services", *arguments),
            cwd=self.project.root,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def put_schedules_off(self) -> None:
        """Change in the project's copy of ``prefect.yaml`` when its flows run by themselves."""
        path = self.project.root / "prefect.yaml"
        text = path.read_text()
        for declared, ours in (("0 1 * * *", NIGHTLY), ("0 3 * * 1", WEEKLY)):
            assert declared in text
            text = text.replace(declared, ours)
        path.write_text(text)

    def start(self) -> None:
        """Start as ``make up`` does, and wait until the flows are served."""
        before = self.times_ready()
        log = (self.project.root / "up.log").open("w")
        self.supervisor = subprocess.Popen(
            self.command("flows.services", "up"),
            cwd=self.project.root,
            env=self.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )
        wait_until(lambda: self._is_serving(before), 180, "the deployments are served")

    @contextmanager
    def running(self) -> Iterator[Stack]:
        """Start; stop in the end, whatever happens, and see that nothing is left."""
        self.put_schedules_off()
        try:
            self.start()
            yield self
        finally:
            self.stop()
        assert not self.processes()

    def _is_serving(self, before: int) -> bool:
        assert self.supervisor is not None
        assert self.supervisor.poll() is None, (self.project.root / "up.log").read_text()
        return self.times_ready() > before

    def times_ready(self) -> int:
        """Return how often a runner or worker has said that it has declared the deployments."""
        log = self.project.root / "logs/flows.log"
        return log.read_text().count(server.READY) if log.exists() else 0

    def stop(self, sent: int = signal.SIGTERM) -> None:
        """Stop by a signal and wait for the end; SIGINT reaches the whole group, as Ctrl-C does."""
        assert self.supervisor is not None
        if self.supervisor.poll() is not None:  # a test has started it in the background since
            self.services("down")
        else:
            send = os.killpg if sent == signal.SIGINT else os.kill
            send(self.supervisor.pid, sent)
            self.supervisor.wait(90)

    def control(self, *arguments: str) -> None:
        """Stop or start one of the programs."""
        command = self.command("supervisor.supervisorctl", "--configuration", "flows/supervisord.conf")
        values = self.environment | dict.fromkeys(NEEDED_BY_SUPERVISOR, "")
        subprocess.run(
            [*command, *arguments], cwd=self.project.root, env=values, check=True, capture_output=True
        )

    @contextmanager
    def without(self, program: str, health: str) -> Iterator[None]:
        """Stop one of the programs for a while; in the end it answers again at ``health``."""
        self.control("stop", program)
        try:
            yield
        finally:
            self.control("start", program)
            wait_until(lambda: answers(health), 120, f"{program} is back")

    def processes(self, containing: str = "") -> list[psutil.Process]:
        """Return the processes that work in the project's folder and have ``containing`` in their command."""
        found = []
        for one in psutil.process_iter():
            try:
                if one.cwd() == str(self.project.root) and containing in " ".join(one.cmdline()):
                    found.append(one)
            except psutil.Error:  # it has ended meanwhile
                continue
        return found

    def call(self, method: str, url: str, body: Any = None) -> requests.Response:
        """Call one of the servers as somebody who knows the password."""
        return _session(self.auth).request(method, url, json=body, timeout=30)

    def heard(self, path: str) -> requests.Response:
        """Return what the listeners' server answers, 503 too; 503 also where none listens."""
        user, _, secret = self.auth.partition(":")
        try:
            return requests.get(f"{self.listen}/{path}", auth=(user, secret), timeout=10)
        except requests.ConnectionError:  # between the page that waits and the one that serves
            nothing = requests.Response()
            nothing.status_code = 503
            return nothing

    def post(self, path: str, body: dict[str, Any]) -> Any:
        answer = self.call("POST", self.api + path, body)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def python(self, code: str, *, fails: bool = False) -> str:
        """Run code in the project as a stage would, beside the servers; return what it printed."""
        command = [self.project.python, "-c", code]
        done = subprocess.run(
            command,
            cwd=self.project.root,
            env=self.environment | self.mlflow_login(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stderr
        return done.stdout

    def get(self, path: str) -> Any:
        answer = self.call("GET", self.api + path)
        answer.raise_for_status()
        return answer.json()

    def deployment(self, name: str) -> dict[str, Any]:
        return self.get(f"/deployments/name/retrain/{name}")

    def params(self) -> str:
        return (self.project.root / "params.yaml").read_text()

    def retrain(self, *, deployment: str = "on-demand", **parameters: Any) -> str:
        """Ask for a retrain; return the run's id."""
        return self.ask(f"retrain/{deployment}", **parameters)

    def ask(self, name: str, **parameters: Any) -> str:
        """Ask for a run of a deployment as the UI's button does; return its id."""
        path = f"/deployments/{self.get(f'/deployments/name/{name}')['id']}/create_flow_run"
        return self.post(path, {"parameters": parameters, "state": {"type": "SCHEDULED"}})["id"]

    def state(self, run: str) -> dict[str, Any]:
        return self.get(f"/flow_runs/{run}")["state"] or {"type": "none yet"}

    def finish(self, run: str, seconds: float = 400) -> dict[str, Any]:
        """Return a run's last state."""

        def last() -> dict[str, Any] | None:
            state = self.state(run)
            return state if state["type"] in FINAL else None

        return wait_until(last, seconds, f"run {run} ends; flows.log:\n{self.log()}")

    def ended(self, run: str, kind: str = "COMPLETED", seconds: float = 400) -> dict[str, Any]:
        """Return a run's last state, which must be of a type; if it is not, show why."""
        state = self.finish(run, seconds)
        assert state["type"] == kind, f"{state['type']}: {state['message']}\n{self.run_logs(run)}"
        return state

    def cancel(self, run: str) -> None:
        """Cancel as the UI's button does."""
        self.post(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})

    def cancel_all(self) -> None:
        """End whatever a test left going, so that the next starts with a quiet stack."""
        started = ["PENDING", "RUNNING", "CANCELLING"]
        rule = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED", *started]}}}}

        def going() -> list[dict[str, Any]]:
            found = self.post("/flow_runs/filter", rule)
            return [one for one in found if not (one["auto_scheduled"] and one["state_type"] == "SCHEDULED")]

        for run in going():
            self.cancel(run["id"])
        wait_until(lambda: not going(), 120, "what was going has ended")

    def log(self) -> str:
        return "\n".join((self.project.root / "logs/flows.log").read_text().splitlines()[-60:])

    def task_runs(self, run: str) -> list[dict[str, Any]]:
        """Return a run's tasks, as far as the server has written them."""
        return self.post("/task_runs/filter", {"task_runs": {"flow_run_id": {"any_": [run]}}})

    def tasks(self, run: str) -> dict[str, str]:
        """Return the states of a run's tasks by name; a task is there a moment before its first state."""
        return {one["name"]: (one["state"] or {"name": "none yet"})["name"] for one in self.task_runs(run)}

    def settled(self, run: str, names: set[str]) -> dict[str, str]:
        """Return the states of a run's tasks by name, once these and no others are there and have ended."""

        def ended(seen: list[dict[str, Any]]) -> bool:
            return {one["name"] for one in seen} == names and all(one["state_type"] in FINAL for one in seen)

        eventually(lambda: self.task_runs(run), ended)
        return self.tasks(run)

    def run_logs(self, run: str) -> str:
        """Return all lines of a run and of its tasks; the server gives 200 at a time."""
        rule = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC", "limit": _PAGE}
        rows: list[dict[str, Any]] = []
        while len(page := self.post("/logs/filter", rule | {"offset": len(rows)})) == _PAGE:
            rows += page
        return "\n".join(row["message"] for row in [*rows, *page])

    def task_logs(self, run: str, name: str) -> str:
        """Return the lines of one task of a run."""
        ids = [one["id"] for one in self.task_runs(run) if one["name"] == name]
        rows = self.post("/logs/filter", {"logs": {"task_run_id": {"any_": ids}}, "sort": "TIMESTAMP_ASC"})
        return "\n".join(row["message"] for row in rows)

    def artifacts(self, run: str) -> dict[str, str]:
        found = self.post("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}}})
        return {one["key"]: str(one["data"]) for one in found}
