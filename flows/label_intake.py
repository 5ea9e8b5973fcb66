"""The flow ``label_intake``: what waits in the inbox is checked and merged; enough of it starts a retrain.

``python -m flows.label_intake`` runs it once, here and now; the server at ``PREFECT_API_URL`` shows it.
"""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any, Final

import pandas as pd
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed, Failed, State

from flows import links, server
from flows.errors import without_secrets
from flows.markdown import inline, message
from flows.server import label_machine
from pipeline import data_folder, files, params
from pipeline.errors import CmgError, run_main
from pipeline.labelling import inbox
from pipeline.labelling.inbox import Intake
from pipeline.quality.intake import SUITE
from pipeline.tables.label_history import HISTORY_COLUMNS, HISTORY_FILE, read_history
from pipeline.tables.mood_labels import LABELS_FILE, read_annotations
from pipeline.tables.predictions import predictions_path
from pipeline.tables.tracks import TRACKS, usable_tracks
from pipeline.taxonomy import canonical_mood
from pipeline.untrusted import visible, without_mark
from pipeline.workspace_lock import CACHE, LOCK, waiting_lock

RETRAIN: Final = "retrain/on-demand"
# The state's name if a row was not taken, for which notifications listen. Its type is Failed, although the
# good rows are merged: Prefect shows by the type whether a run needs somebody's attention.
REJECTED: Final = "Rejected"
MESSAGE: Final = inbox.INBOX / "commit-message.txt"
TIMEOUT_SECONDS: Final = 13 * 3600  # a retrain, which it waits for, takes twelve hours at most
_ROWS_SHOWN: Final = 50
_FAULTS_SHOWN: Final = 5  # in the run's state; its page has them all
_FAULT_SHOWN: Final = 500  # characters


@flow(name="label_intake", timeout_seconds=TIMEOUT_SECONDS, log_prints=True)
@without_secrets
def label_intake(min_new_tracks: int = 10) -> State[dict[str, Any]]:
    """Check and merge new label files, version the data, and retrain when enough tracks are new.

    Parameters
    ----------
    min_new_tracks
        Usable tracks with a label that the models have not learned from yet; so many start a retrain.
    """
    label_machine()
    taken = take()
    publish(taken)
    # Also where nothing was taken: labels may have been merged by hand since the last retrain.
    fresh = new_tracks()
    retrained = False
    if fresh >= min_new_tracks:
        # Not after each intake, since people are asked to commit each version.
        version(fresh)
        retrained = start_retrain()
    return _summary(taken, fresh, min_new_tracks, retrained)


@task(name="check and merge")
@without_secrets
def take() -> list[Intake]:
    """Take every file of the inbox; one that a kill has cut short is finished first."""
    taken = inbox.run(settings=params.read().intake)
    log = get_run_logger()
    for intake in taken:
        log.info(
            "%s: %d rows, %d accepted, %d rejected",
            intake.file,
            intake.rows,
            intake.accepted,
            intake.rejected,
        )
        for note in intake.notes:
            log.info("%s: %s", intake.file, note)
        for finding in intake.findings:
            log.warning("%s: %s", intake.file, finding.message())
        if intake.fault:
            log.warning("%s: rejected whole: %s", intake.file, visible(intake.fault))
    return taken


@task(name="version")
@without_secrets
def version(fresh: int) -> str:
    """Let DVC version the data and prepare a commit message; committing and pushing stay with people.

    Returns
    -------
    str
        The MD5 of the data.
    """
    with waiting_lock(CACHE / LOCK):
        md5 = data_folder.version()
    files.write_text(MESSAGE, commit_message(fresh))
    create_markdown_artifact(
        f"Data version `{md5}`. To keep it in git:\n\n```\ngit commit --file {MESSAGE} data.dvc\n```\n",
        key="data-version",
        description="What DVC versioned",
    )
    return md5


@task(name="start retrain")
@without_secrets
def start_retrain() -> bool:
    """Ask for a retrain and do not wait for it; return whether somebody serves retrains."""
    try:
        # Not waited for, nor a subflow: the nightly slot would be held for hours.
        run: Any = run_deployment(RETRAIN, timeout=0, as_subflow=False)
    except ObjectNotFound:
        get_run_logger().warning("Nobody serves %s: start it by `make up`, or run `dvc repro`.", RETRAIN)
        return False
    get_run_logger().info("asked for %s: run %s", RETRAIN, run.id)
    return True


def new_tracks() -> int:
    """Return how many labelled tracks no mood model has been trained and evaluated with yet.

    Tracks that the stages leave out for good do not count. DVC deletes outputs before it makes them again, so
    this waits for DVC.
    """
    settings = params.read()
    with waiting_lock(CACHE / LOCK):
        labelled = data_folder.DATA / LABELS_FILE
        if "mood" not in settings.tasks or not labelled.exists() or not TRACKS.exists():
            return 0
        labels = read_annotations(labelled)
        # The stage `labels` leaves the others out.
        known = labels["mood"].map(canonical_mood).notna()
        fresh = set(labels.loc[known, "track_id"]) & _teachable(settings) - _learned(settings)
        return len(fresh)


def _teachable(settings: params.Params) -> set[str]:
    """Return the tracks that the stages take if they have a label."""
    tracks = usable_tracks()
    if settings.split.protocol == "fault_filtered":
        tracks = tracks[tracks["filtered_split"] != ""]
    return set(tracks["track_id"])


def _learned(settings: params.Params) -> set[str]:
    """Return the tracks, of all parts, that every mood model's predictions name.

    `evaluate` writes them last: a retrain that failed before has learned nothing.
    """
    paths = [predictions_path("mood", model) for model in settings.models]
    if not all(path.exists() for path in paths):
        return set()
    # All models: one that was added since has learned from fewer tracks.
    return set.intersection(*(set(pd.read_csv(path, dtype=str)["track_id"]) for path in paths))


def commit_message(fresh: int) -> str:
    """Return the message of the commit that people make of all data since the last one."""
    history = read_history(data_folder.DATA)
    key = ["file", "sha256", "received_at"]
    known = pd.MultiIndex.from_frame(committed_history()[key].map(without_mark))
    merged = history[
        (history["accepted"].astype(int) > 0) & ~pd.MultiIndex.from_frame(history[key]).isin(known)
    ]
    lines = [f"* {row.file}: {row.accepted} of {row.rows} rows" for row in merged.itertuples()]
    accepted = merged["accepted"].astype(int).sum()
    return "\n".join([f"Add {accepted} mood labels; {fresh} tracks are new to the models", "", *lines]) + "\n"


def committed_history() -> pd.DataFrame:
    """Return the intakes in the data version that git has; none where there is no such version.

    DVC reads it, in a process of its own (as `flows.graph` does), from its cache or the remote.
    """
    path = data_folder.DATA / HISTORY_FILE
    code = f"import dvc.api; print(dvc.api.read({path.as_posix()!r}, rev='HEAD'), end='')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    text = done.stdout if done.returncode == 0 else ",".join(HISTORY_COLUMNS)
    return pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)


def publish(taken: list[Intake]) -> None:
    """Put what was accepted, and what was not and why, on the run's page."""
    if taken:
        create_markdown_artifact(_table(taken), key="label-intake", description="Accepted and rejected rows")


def _table(taken: list[Intake]) -> str:
    rows = "".join(
        f"| {inline(intake.file)} | {intake.rows} | {intake.accepted} | {intake.rejected} | {intake.mended} "
        f"| {intake.new_tracks} | {_alpha(intake)} | {_docs(intake)} |\n"
        for intake in taken
    )
    head = (
        "| file | rows | accepted | rejected | corrected | new tracks | alpha afterwards | checks |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n"
    )
    return f"{head}{rows}\n{''.join(_rejections(intake) for intake in taken)}"


def _alpha(intake: Intake) -> str:
    return "not defined" if pd.isna(intake.alpha) else f"{intake.alpha:.3f}"


def _docs(intake: Intake) -> str:
    """Return links to the pages of the checks: of the rows, of repeats, of the whole batch."""
    return ", ".join(f"[{_checked(path)}]({links.page('/data_docs/' + path)})" for path in intake.docs)


def _checked(page: str) -> str:
    """Return what a page of the Data Docs is about, which its suite's name says."""
    return next((name for name in ("repeats", "batch") if f"{SUITE}_{name}-" in page), "rows")


def _rejections(intake: Intake) -> str:
    """Return the rows of a file that were not taken, each with its reason."""
    if intake.fault:
        return f"**{inline(intake.file)}** was rejected whole: {inline(intake.fault)}\n\n"
    # A page of thousands of rows is slow, and nobody reads it; the CSV has them all.
    shown = intake.rejected_rows[:_ROWS_SHOWN]
    if not shown:
        return ""
    rows = "".join(
        f"| {inline(row.position)} | {inline(row.track_id)} | {inline(row.mood)} | {inline(row.annotator)} "
        f"| {inline(row.reason)} |\n"
        for row in shown
    )
    more = len(intake.rejected_rows) - len(shown)
    rest = f"\nand {more} more in {inline(intake.rejected_to)}\n" if more else ""
    head = "| row | track | mood | annotator | reason |\n| --- | --- | --- | --- | --- |\n"
    return f"**{inline(intake.file)}**, rejected:\n\n{head}{rows}{rest}\n"


def _summary(taken: list[Intake], fresh: int, wanted: int, retrained: bool) -> State[dict[str, Any]]:
    """Return the run's last state; it is called Rejected if any row was not taken."""
    accepted, rejected = sum(intake.accepted for intake in taken), sum(intake.rejected for intake in taken)
    faults = [f"{intake.file}: {intake.fault}"[:_FAULT_SHOWN] for intake in taken if intake.fault]
    text = f"{len(taken)} files: {accepted} rows accepted, {rejected} rejected"
    text += f"; rejected whole: {message('; '.join(faults[:_FAULTS_SHOWN]))}" if faults else ""
    text += f" … and {len(faults) - _FAULTS_SHOWN} more" if len(faults) > _FAULTS_SHOWN else ""
    text += f"; {fresh} tracks are new to the models, {wanted} start a retrain"
    text += ": it was asked for." if retrained else "."
    data = {"accepted": accepted, "rejected": rejected, "new_tracks": fresh, "retrain": retrained}
    if rejected or faults:
        return Failed(name=REJECTED, message=text)
    return Completed(message=text, data=data)


def main() -> None:
    """Run the flow once; exit code 2 if any row was rejected."""
    server.wait_for_server()
    state = label_intake(return_state=True)
    if state.name == REJECTED:
        raise CmgError(str(state.message))
    state.result()


if __name__ == "__main__":
    run_main(main)
