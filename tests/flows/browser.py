"""A real Chromium, and the pages that a user of the flows looks at.

``python -m tests.flows.browser FOLDER`` photographs them at what ``make up`` serves: docs/screenshots.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from playwright.sync_api import ConsoleMessage, Error, Page, Route, sync_playwright
from playwright.sync_api import TimeoutError as NotShown

from serving import password

PATIENCE_MS = 90_000  # with two busy cores a page takes a while
DECLARED = ("At 03:00 AM, only on Monday", "At 01:00 AM every day")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str | None:
    """Return where Chromium is; None if it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def page(auth: str = "", *flags: str, width: int = 1440, height: int = 900) -> Iterator[Page]:
    """Open an empty page in a new Chromium, which answers ``user:password`` where a server asks it to."""
    user, _, secret = auth.partition(":")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=[*FLAGS, *flags])
        opened = browser.new_page(
            viewport={"width": width, "height": height},
            http_credentials={"username": user, "password": secret} if auth else None,
        )
        opened.set_default_timeout(PATIENCE_MS)
        yield opened
        browser.close()


def login(opened: Page, prefect: str, auth: str) -> None:
    """Give Prefect's own page what it asks for."""
    opened.goto(f"{prefect}/deployments")
    opened.locator("input[type=password]").fill(auth)
    opened.get_by_role("button", name="Login", exact=True).click()
    opened.wait_for_url(re.compile("/deployments$"))


def shown_alone(opened: Page, address: str) -> list[str]:
    """Show a page while every other host is away; return what it asked of them and what went wrong in it."""
    faults: list[str] = []
    own = ("file:", "data:", "blob:", address.partition("?")[0].rpartition("/")[0])

    def answer(route: Route) -> None:
        if route.request.url.startswith(own):
            route.continue_()
        else:
            faults.append(route.request.url)
            route.abort()

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            faults.append(message.text)

    def note_crash(error: Error) -> None:
        faults.append(str(error))

    opened.route("**/*", answer)
    opened.on("console", note)
    opened.on("pageerror", note_crash)
    opened.goto(address)
    opened.wait_for_load_state("networkidle")
    opened.unroute("**/*", answer)
    opened.remove_listener("console", note)
    opened.remove_listener("pageerror", note_crash)
    return faults


def turn_to(opened: Page, tab: str, content: str) -> None:
    """Click a tab until its content shows: a click that comes before the page is ready is lost."""
    for _ in range(6):
        opened.get_by_text(tab, exact=True).first.click()
        try:
            opened.get_by_text(content).first.wait_for(timeout=PATIENCE_MS / 6)
            return
        except NotShown:
            opened.reload()
    raise AssertionError(f"{opened.url}: the tab {tab} does not show {content}")


def deployments(opened: Page, prefect: str, schedules: tuple[str, ...] = DECLARED) -> None:
    """Show the deployments with their schedules; where there is no room for one it is there but hidden."""
    opened.goto(f"{prefect}/deployments")
    for shown in schedules:
        opened.get_by_text(shown).first.wait_for(state="attached")


def next_run(opened: Page, prefect: str, deployment: str) -> None:
    """Show a deployment with its schedule and its next runs."""
    opened.goto(f"{prefect}/deployments/deployment/{deployment}")
    turn_to(opened, "Upcoming", "Scheduled for")


def flow_run(opened: Page, prefect: str, run: str) -> None:
    """Show a run with the graph of its tasks, which is a picture: only its canvas can be waited for."""
    opened.goto(f"{prefect}/runs/flow-run/{run}")
    opened.get_by_text("Artifacts").first.wait_for()
    opened.get_by_text(re.compile(r"[1-9]\d* Task runs")).first.wait_for()
    opened.locator("canvas").first.wait_for()


def tasks(opened: Page, prefect: str, run: str) -> None:
    """Show a run with the states of its tasks."""
    flow_run(opened, prefect, run)
    turn_to(opened, "Task Runs", "Cached")


def artifacts(opened: Page, prefect: str, run: str) -> None:
    """Show what a run left on its page."""
    flow_run(opened, prefect, run)
    turn_to(opened, "Artifacts", "Scores of every model")


def artifact(opened: Page, prefect: str, artifact_id: str, shown: str) -> None:
    """Show one artifact, with ``shown`` in it."""
    opened.goto(f"{prefect}/artifacts/artifact/{artifact_id}")
    opened.get_by_text(shown).first.wait_for()


def compare(opened: Page, mlflow: str, experiments: list[str], runs: list[str]) -> None:
    """Show MLflow's comparison of runs by their accuracy on the test tracks."""
    ids, chosen = (str(one).replace("'", '"').replace(" ", "") for one in (experiments, runs))
    opened.goto("about:blank")  # where only what follows the # changes, no page is loaded
    opened.goto(f"{mlflow}/#/compare-runs?runs={chosen}&experiments={ids}")
    opened.get_by_text(f"Comparing {len(runs)} Runs").first.wait_for()
    metrics = opened.locator("input[type=search]").last
    metrics.click()
    metrics.press("Backspace")  # what MLflow has chosen: the accuracy in training
    metrics.type("test.track.accuracy")
    metrics.press("Enter")
    metrics.press("Escape")
    opened.locator("svg").get_by_text("test.track.accuracy", exact=True).first.wait_for()


def registry(opened: Page, mlflow: str, name: str) -> None:
    """Show a registered model's versions and aliases."""
    opened.goto(f"{mlflow}/#/models/{name}")
    opened.get_by_text("@ champion").first.wait_for()


def models(mlflow: str, experiments: list[str], auth: str) -> list[str]:
    """Return the latest four runs that trained and evaluated a model, by id."""
    tested = "metrics.`test.track.accuracy` >= 0"
    body = {"experiment_ids": experiments, "filter": tested, "max_results": 4}
    found = session(auth).post(f"{mlflow}/api/2.0/mlflow/runs/search", json=body, timeout=30).json()
    return [one["info"]["run_id"] for one in found["runs"]]


def session(auth: str) -> requests.Session:
    """Return a session that knows ``user:password``."""
    opened = requests.Session()
    user, _, secret = auth.partition(":")
    opened.auth = (user, secret)
    return opened


def left_last(prefect: str, key: str, auth: str) -> dict[str, str]:
    """Return the latest artifact with a key."""
    rule = {"artifacts": {"key": {"any_": [key]}}, "sort": "CREATED_DESC", "limit": 1}
    return session(auth).post(f"{prefect}/api/artifacts/filter", json=rule, timeout=30).json()[0]


def dismiss(opened: Page) -> None:
    """Close what MLflow shows to a first visitor."""
    opened.keyboard.press("Escape")
    for name in ("Close", "Close Assistant", "Dismiss"):
        for button in opened.get_by_role("button", name=name).all():
            button.click()
    opened.wait_for_timeout(1000)


def main() -> None:
    """Photograph every page into the folder named on the command line."""
    folder = Path(sys.argv[1])
    prefect = os.environ.get("PREFECT_API_URL", "http://127.0.0.1:4200/api").removesuffix("/api")
    mlflow = os.environ.get("CMG_MLFLOW_URL", "http://127.0.0.1:5000")
    rule = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}, "sort": "END_TIME_DESC"}
    auth = password.obtain()
    known = session(auth)
    latest = known.post(f"{prefect}/api/flow_runs/filter", json=rule, timeout=30).json()[0]["id"]
    run = left_last(prefect, "promotion", auth)["flow_run_id"]
    weekly = known.get(f"{prefect}/api/deployments/name/retrain/weekly", timeout=30).json()
    rule = {"artifacts": {"flow_run_id": {"any_": [run]}}}
    left = known.post(f"{prefect}/api/artifacts/filter", json=rule, timeout=30).json()
    ids = {one["key"]: one["id"] for one in left}
    views = {
        "deployments": lambda opened: deployments(opened, prefect),
        "schedule": lambda opened: next_run(opened, prefect, weekly["id"]),
        "flow-run": lambda opened: flow_run(opened, prefect, run),
        "cached": lambda opened: tasks(opened, prefect, latest),
        "failure": lambda opened: artifact(
            opened, prefect, left_last(prefect, "failure", auth)["id"], "stopped the"
        ),
        "metrics": lambda opened: artifact(opened, prefect, ids["metrics"], "against the last champion"),
        "promotion": lambda opened: artifact(opened, prefect, ids["promotion"], "genre-classifier"),
        "confusion": lambda opened: artifact(opened, prefect, ids["confusion-genre-lenet5"], "Confusion of"),
        "compare": lambda opened: compare(opened, mlflow, ["1", "2"], models(mlflow, ["1", "2"], auth)),
        "compare-weeks": lambda opened: compare(opened, mlflow, ["1"], models(mlflow, ["1"], auth)),
        "registry": lambda opened: registry(opened, mlflow, "genre-classifier"),
    }
    with page(auth, width=1680, height=1150) as opened:
        login(opened, prefect, auth)
        for name, show in views.items():
            show(opened)
            dismiss(opened)
            opened.wait_for_timeout(3000)
            opened.screenshot(path=folder / f"{name}.png")
            print(name)


if __name__ == "__main__":
    main()
