"""The flow ``label_intake``: what waits in the inbox is checked and merged; enough of it starts a retrain.

``python -m flows.label_intake`` runs it once.
"""

from __future__ import annotations

from typing import Any, Final

import pandas as pd
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed, State

from flows import links, server
from pipeline import catalog, files, labels, params
from pipeline.intake import inbox
from pipeline.intake.inbox import Intake
from pipeline.sources import library

RETRAIN: Final = "retrain/on-demand"
REJECTED: Final = "Rejected"  # the state's name if a row was not taken; notifications listen for it
MESSAGE: Final = inbox.INBOX / "commit-message.txt"
TIMEOUT_SECONDS: Final = 3600
_ROWS_SHOWN: Final = 50


@flow(name="label_intake", timeout_seconds=TIMEOUT_SECONDS, log_prints=True)
def label_intake(min_new_tracks: int = 10) -> State[dict[str, Any]]:
    """Check and merge new label files, version the data, and retrain when enough tracks are new.

    Parameters
    ----------
    min_new_tracks
        Usable tracks with a label that no model has learned from yet; so many start a retrain.
    """
    server.sign()
    taken = take()
    publish(taken)
    fresh = new_tracks()
    retrained = False
    if fresh >= min_new_tracks:
        version(taken, fresh)
        retrained = start_retrain()
    return _summary(taken, fresh, min_new_tracks, retrained)


@task(name="check and merge")
def take() -> list[Intake]:
    """Take every file of the inbox; one that a kill has cut short is finished first."""
    taken = inbox.run(settings=params.read().intake)
    log = get_run_logger()
    for one in taken:
        log.info("%s: %d rows, %d accepted, %d rejected", one.file, one.rows, one.accepted, one.rejected)
        for finding in one.findings:
            log.warning("%s: %s", one.file, finding.message())
        if one.fault:
            log.warning("%s: rejected whole: %s", one.file, one.fault)
    return taken


@task(name="version")
def version(taken: list[Intake], fresh: int) -> str:
    """Let DVC version the data and prepare a commit message; committing and pushing stay with people.

    Returns
    -------
    str
        The MD5 that the data goes by.
    """
    with library.waiting_lock(library.CACHE / library.LOCK):
        md5 = library.version()
    files.write_text(MESSAGE, commit_message(taken, fresh))
    create_markdown_artifact(
        f"Data version `{md5}`. To keep it in git:\n\n```\ngit commit --file {MESSAGE} data.dvc\n```\n",
        key="data-version",
        description="What DVC versioned",
    )
    return md5


@task(name="start retrain")
def start_retrain() -> bool:
    """Ask for a retrain and do not wait for it; return whether somebody serves retrains."""
    try:
        run: Any = run_deployment(RETRAIN, timeout=0, as_subflow=False)
    except ObjectNotFound:
        get_run_logger().warning("Nobody serves %s: start it by `make up`, or run `dvc repro`.", RETRAIN)
        return False
    get_run_logger().info("asked for %s: run %s", RETRAIN, run.id)
    return True


def new_tracks() -> int:
    """Return how many usable tracks have a mood that the last run of the stages did not know of."""
    if not library.DATA.joinpath(library.LABELS_FILE).exists() or not catalog.TRACKS.exists():
        return 0
    store = pd.read_csv(library.DATA / library.LABELS_FILE, dtype=str, keep_default_na=False)
    usable = set(catalog.usable()["track_id"])
    learned = set(labels.read("mood")["track_id"]) if labels.path_of("mood").exists() else set()
    return len((set(store["track_id"]) & usable) - learned)


def commit_message(taken: list[Intake], fresh: int) -> str:
    """Return the message of the commit that people make of the new data."""
    accepted = sum(one.accepted for one in taken)
    lines = [f"* {one.file}: {one.accepted} of {one.rows} rows" for one in taken]
    return "\n".join([f"Add {accepted} mood labels; {fresh} tracks are new to the models", "", *lines]) + "\n"


def publish(taken: list[Intake]) -> None:
    """Put what was accepted, and what was not and why, on the run's page."""
    if taken:
        create_markdown_artifact(_table(taken), key="label-intake", description="Accepted and rejected rows")


def _table(taken: list[Intake]) -> str:
    rows = "".join(
        f"| {_cell(one.file)} | {one.rows} | {one.accepted} | {one.rejected} | {one.mended} "
        f"| {one.new_tracks} | {one.alpha:.3f} | {_docs(one)} |\n"
        for one in taken
    )
    head = (
        "| file | rows | accepted | rejected | spelling mended | new tracks | alpha afterwards | checks |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n"
    )
    return f"{head}{rows}\n{''.join(_rejections(one) for one in taken)}"


def _docs(one: Intake) -> str:
    return ", ".join(f"[page]({links.page('/data_docs/' + path)})" for path in one.docs)


def _rejections(one: Intake) -> str:
    """Return the rows of a file that were not taken, each with its reason."""
    if one.fault:
        return f"**{_cell(one.file)}** was rejected whole: {_cell(one.fault)}\n\n"
    shown = one.rejected_rows[:_ROWS_SHOWN]
    if not shown:
        return ""
    rows = "".join(
        f"| {_cell(row.position)} | {_cell(row.track_id)} | {_cell(row.mood)} | {_cell(row.annotator)} "
        f"| {_cell(row.reason)} |\n"
        for row in shown
    )
    more = len(one.rejected_rows) - len(shown)
    rest = f"\nand {more} more in `{one.rejected_to}`\n" if more else ""
    head = "| row | track | mood | annotator | reason |\n| --- | --- | --- | --- | --- |\n"
    return f"**{_cell(one.file)}**, rejected:\n\n{head}{rows}{rest}\n"


def _cell(text: str) -> str:
    """Return a text that cannot break a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _summary(taken: list[Intake], fresh: int, wanted: int, retrained: bool) -> State[dict[str, Any]]:
    """Return the run's last state; it is called Rejected if any row was not taken."""
    accepted, rejected = sum(one.accepted for one in taken), sum(one.rejected for one in taken)
    faults = [f"{one.file}: {one.fault}" for one in taken if one.fault]
    told = f"{len(taken)} files: {accepted} rows accepted, {rejected} rejected"
    told += f"; rejected whole: {'; '.join(faults)}" if faults else ""
    told += f"; {fresh} tracks are new to the models, {wanted} start a retrain"
    told += ": it was asked for." if retrained else "."
    data = {"accepted": accepted, "rejected": rejected, "new_tracks": fresh, "retrain": retrained}
    if rejected or faults:
        return Completed(name=REJECTED, message=told, data=data)
    return Completed(message=told, data=data)


if __name__ == "__main__":
    label_intake()
