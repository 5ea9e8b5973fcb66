"""Stage ``report``: one HTML page with every table and picture, readable without a network.

The page is a pure function of the stage's dependencies: no time, machine or run appears in it. Clips of the
tracks that were answered wrongly are beside it.
"""

from __future__ import annotations

import base64
import struct
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from pipeline import data_folder as sources
from pipeline import params, templates
from pipeline.errors import DataError
from pipeline.files import read_json, write_text
from pipeline.labelling import clips
from pipeline.reporting import record_results, report_figures
from pipeline.stage_run import run_stage
from pipeline.tables.candidates import candidate_path
from pipeline.tables.champions import CHAMPIONS
from pipeline.tables.dataset import read_dataset
from pipeline.tables.features import features_path, load_features
from pipeline.tables.label_history import HISTORY_FILE
from pipeline.tables.labels import LABEL_FINDINGS, classes_of, labels_path, read_labels, soft_labels
from pipeline.tables.predictions import plots_folder, predictions_path
from pipeline.tables.tracks import TRACK_FINDINGS, TRACKS, read_tracks
from pipeline.taxonomy import SOFT
from pipeline.training.models import TITLES
from pipeline.training.scores import gain_interval
from pipeline.untrusted import without_mark

Row = dict[str, Any]

_TINY: Final = 1e-7  # probabilities are clipped to it, as in the scores
_SHOWN: Final = 0.75  # CSS pixels for a picture's pixel: letters as large as the text, sharp on fine screens

PAGE: Final = Path("artifacts/report/index.html")
TEMPLATE: Final = "report.html.j2"

PROTOCOLS: Final = {
    "artist": "artists and duplicates held out",
    "fault_filtered": "published fault-filtered lists",
    "track": "tracks held out",
    "shuffled": "slices shuffled",
}

# Section "Results" of the project report: slices and their augmented copies shuffled, then 10 % held out.
REPORTED: Final[tuple[Row, ...]] = (
    {"task": "genre", "model": "lenet5", "accuracy": 0.8241, "log_loss": 0.7717, "rows": 870},
    {"task": "genre", "model": "cnn64", "accuracy": 0.8517, "log_loss": 0.9293, "rows": 870},
    {"task": "mood", "model": "lenet5", "accuracy": 0.5911, "log_loss": 1.4980, "rows": 900},
    {"task": "mood", "model": "cnn64", "accuracy": 0.6644, "log_loss": 2.0630, "rows": 900},
)

HISTORY: Final = sources.DATA / HISTORY_FILE
INTAKES_SHOWN: Final = 30  # the latest
ROWS_SHOWN: Final = 8  # of a finding
TRACKS_SHOWN: Final = 40  # of the tracks that are not used
WRONG_PLAYED: Final = 12  # of a task's test tracks


def kind_of(metrics: Row) -> str:
    """Return what a protocol's numbers are worth: ``leaky``, ``optimistic`` or ``promotable``."""
    return "leaky" if metrics["leaky"] else "optimistic" if metrics["optimistic"] else "promotable"


def picture(content: bytes, alt: str) -> Row:
    """Return a PNG as a data URI with its description and the size to show it at, in CSS pixels."""
    width, height = (round(_SHOWN * side) for side in struct.unpack(">II", content[16:24]))
    uri = "data:image/png;base64," + base64.b64encode(content).decode("ascii")
    return {"uri": uri, "width": width, "height": height, "alt": alt}


def library(tracks: pd.DataFrame) -> Row:
    """Return the catalogue's figures; hours and artists are those of the usable tracks."""
    used = tracks[tracks["usable"]]
    artists = used["artist"].str.casefold().str.strip()
    return {
        "tracks": len(tracks),
        "usable": len(used),
        "genres": used["genre"].nunique(),
        "artists": artists[artists != ""].nunique(),
        "unknown_artist": int((artists == "").sum()),
        "hours": float(used["seconds"].sum() / 3600),
    }


def genre_rows(tracks: pd.DataFrame) -> list[Row]:
    """Return tracks, usable tracks, artists and minutes of every genre folder."""
    rows = []
    for genre, some in tracks.groupby("genre", sort=True):
        totals = library(some)
        rows.append(totals | {"genre": genre, "minutes": totals["hours"] * 60})
    return rows


def mood_rows(table: pd.DataFrame) -> list[Row]:
    """Return for each class: tracks it won, how far annotators agreed on them, its share of all annotations.

    Agreement is None where a class won no track.
    """
    rows = []
    for name, share in zip(classes_of(table), soft_labels(table).mean(axis=0), strict=True):
        won = table[table["label"] == name]
        agreement = float(won["agreement"].mean()) if len(won) else None
        rows.append({"name": name, "tracks": len(won), "agreement": agreement, "share": float(share)})
    return rows


def history() -> Row:
    """Return every intake of labels, oldest first, and their picture; None for it where there was none.

    A file that was rejected whole has a share of 1, even if its rows could not be counted.
    """
    numbers = ("rows", "accepted", "rejected", "mended", "annotators", "new_tracks")
    table = pd.read_csv(_there(HISTORY), dtype=str, keep_default_na=False).map(without_mark)
    table = table.astype(dict.fromkeys(numbers, int))
    table["fault"] = table.get("fault", "")  # histories of before there were faults in them lack it
    share = table["rejected"] / table["rows"].clip(lower=1)
    table["rejected_share"] = share.where(table["fault"] == "", 1.0)
    table["alpha"] = pd.to_numeric(table["alpha"], errors="coerce")
    if table.empty:
        return {"rows": [], "picture": None}
    content = report_figures.label_history(table["rejected_share"].tolist(), table["alpha"].tolist())
    said = f"Share of rows rejected, and agreement afterwards, over {len(table)} intakes of labels."
    table["alpha"] = table["alpha"].astype(object).where(table["alpha"].notna(), None)
    return {"rows": table.to_dict("records"), "picture": picture(content, said)}


def result_rows(task: str, measured: list[Row], recorded: list[Row]) -> list[Row]:
    """Return a task's metrics, the present run's first, with their worth and whether they are of this run."""
    both = [(row, True) for row in measured] + [(row, False) for row in recorded]
    return [row | {"kind": kind_of(row), "present": now} for row, now in both if row["task"] == task]


def best_of(rows: list[Row]) -> Row:
    """Return the present run's model with the best validation score; of equals the first."""
    return max((row for row in rows if row["present"]), key=lambda row: ranked_by(row["valid"]["track"]))


def worth(task: str, model: str) -> pd.Series:
    """Return how well a model answers each test track, by its id; larger is better.

    1 or 0, for right or wrong; where labels are soft the negative cross-entropy against their shares.
    """
    text = dict.fromkeys(("track_id", "part", "label", "predicted"), str)
    table = pd.read_csv(_there(predictions_path(task, model)), dtype=text, keep_default_na=False)
    test = table[table["part"] == "test"].set_index("track_id")
    if task not in SOFT:
        return (test["label"] == test["predicted"]).astype(float)
    labels = read_labels(task).set_index("track_id").loc[test.index].reset_index()
    said = test[[f"p_{name}" for name in classes_of(labels)]].to_numpy(float)
    entropy = soft_labels(labels) * np.log(np.clip(said, _TINY, 1.0))
    return pd.Series(entropy.sum(axis=1), test.index)


def differences(task: str, rows: list[Row], best: str) -> list[Row]:
    """Return how much better this run's other models are than its best, on the same test tracks.

    Returns
    -------
    list of dict
        ``model``, the mean ``difference`` (negative: worse) and its 95 % ``interval`` over resampled tracks.
    """
    found = []
    for model in [row["model"] for row in rows if row["present"] and row["model"] != best]:
        own, other = worth(task, model).align(worth(task, best))
        found.append({"model": model} | _mean_gain((own - other).to_numpy()))
    return found


def _mean_gain(gain: np.ndarray) -> Row:
    interval = gain_interval(lambda index: float(gain[index].mean()), len(gain))
    return {"difference": float(gain.mean()), "interval": interval}


def ranked_by(track: Row, prefix: str = "") -> float:
    """Return what `promotion_rule.best` ranks a model by, of its scores on the validation tracks."""
    entropy = track.get(f"{prefix}cross_entropy")
    return float(track[f"{prefix}macro_f1"] if entropy is None else -entropy)


def held_out(protocol: str, used: Row) -> str:
    """Return what a protocol holds out of a library, in words: without artists it cannot hold them out."""
    if protocol == "artist" and not used["artists"]:
        return "no artist is known, so tracks and duplicates are held out"
    if protocol == "artist" and used["unknown_artist"]:
        unknown = counted(used["unknown_artist"], "track")
        return f"{PROTOCOLS[protocol]}; {unknown} of unknown artist held out one by one"
    return PROTOCOLS[protocol]


def serving(task: str, champions: Row, best_weights: str) -> Row | None:
    """Return the version that serves, and whether it is the best model of this run; None if none does."""
    champion = champions.get(task)
    return champion and champion | {"this_run": champion["weights_sha256"] == best_weights}


def wrong_answers(task: str, model: str, tracks: pd.DataFrame) -> list[Row]:
    """Return the test tracks that a model answered wrongly, the surest answers first, with their audio."""
    text = dict.fromkeys(("track_id", "part", "label", "predicted"), str)
    table = pd.read_csv(_there(predictions_path(task, model)), dtype=text, keep_default_na=False)
    wrong = table[(table["part"] == "test") & (table["label"] != table["predicted"])].copy()
    for said, column in (("certainty", "predicted"), ("certainty_of_truth", "label")):
        wrong[said] = [row[f"p_{row[column]}"] for _, row in wrong.iterrows()]
    wrong = wrong.merge(tracks[["track_id", "path", "artist", "title"]], on="track_id", how="left")
    wrong["clip"] = [clips.clip_address(track_id) for track_id in wrong["track_id"]]
    shown = [
        "track_id",
        "artist",
        "title",
        "label",
        "predicted",
        "certainty",
        "certainty_of_truth",
        "clip",
        "path",
    ]
    order = wrong.sort_values(["certainty", "track_id"], ascending=[False, True])
    return order[shown].to_dict("records")


def points(task: str, rows: list[Row]) -> list[report_figures.Point]:
    """Return a task's track accuracies, and the project report's where the classes are the same ones."""
    own = [
        report_figures.Point(
            label=f"{TITLES[row['model']]} · {row['protocol']}",
            accuracy=row["test"]["track"]["accuracy"],
            interval=tuple(row["test"]["track"]["accuracy_ci"]),
            kind=row["kind"],
        )
        for row in rows
    ]
    reported = [row for row in REPORTED if row["task"] == task]
    return own + [
        report_figures.Point(f"{TITLES[row['model']]} · project report", row["accuracy"], None, "leaky")
        for row in reported
    ]


def model_view(metrics: Row) -> Row:
    """Return one model's pictures and per-class table, both of the test part."""
    task, model = metrics["task"], metrics["model"]
    folder, name = plots_folder(task, model), f"{TITLES[model]}, {task}"
    n_tracks, accuracy = metrics["test"]["n_tracks"], metrics["test"]["track"]["accuracy"]
    alts = {
        "confusion": f"Confusion matrix of {name}: {n_tracks} test tracks, {accuracy:.1%} on the diagonal",
        "curves": f"Loss and accuracy of {name} on training and validation rows, epoch by epoch",
        "calibration": f"Accuracy of {name} against its confidence; "
        f"calibration error {metrics['test']['track']['ece']:.3f}",
        "abstention": f"Accuracy of {name} on the share of test tracks whose answers are surest",
        "embedding": f"The test tracks as the last layer of {name} has them, in two dimensions, by class",
    }
    classes = _table(folder / "classes.csv")
    return {
        "name": TITLES[model],
        "pictures": {
            kind: picture(_there(folder / f"{kind}.png").read_bytes(), alt) for kind, alt in alts.items()
        },
        "classes": classes.to_dict("records"),
        "metrics": metrics,
    }


def spectrograms(task: str, table: pd.DataFrame, settings: params.SpectrogramParams) -> list[Row]:
    """Return the middle slice of one track for each class, drawn."""
    shown = []
    for name, track_id in report_figures.examples(table, classes_of(table)).items():
        _there(features_path(track_id))
        clips = load_features(track_id)
        middle = len(clips) // 2
        content = report_figures.spectrogram(clips[middle], settings.hop_length)
        alt = f"Log-mel spectrogram of slice {middle + 1} of {len(clips)} of {track_id}, {task} {name}"
        shown.append({"class": name, "track_id": track_id, "picture": picture(content, alt)})
    return shown


def task_view(
    task: str, rows: list[Row], settings: params.Params, tracks: pd.DataFrame, champions: Row
) -> Row:
    """Return all that the page shows of one task."""
    _there(labels_path(task))
    table, best = read_labels(task), best_of(rows)
    views = {row["model"]: model_view(row) for row in rows if row["present"]}
    ranking = read_json(_there(candidate_path(task)))
    ranking["candidates"].sort(key=lambda row: -ranked_by(row, "valid_"))
    n_classes = len(classes_of(table))
    weights = {row["model"]: row["weights_sha256"] for row in ranking["candidates"]}
    return {
        "name": task,
        "rows": rows,
        "best": best,
        "differences": differences(task, rows, best["model"]),
        "measure": "cross-entropy, negative" if task in SOFT else "accuracy",
        "models": views,
        "n_classes": n_classes,
        "chance": 1 / n_classes,
        "serving": serving(task, champions, weights.get(best["model"], "")),
        "wrong": wrong_answers(task, best["model"], tracks),
        "spectrograms": spectrograms(task, table, settings.spectrogram),
        "registry": ranking,
    }


def notes(dataset: str, protocols: list[str]) -> Row:
    """Return the remarks on each protocol's results, where there is one."""
    found = {name: record_results.note(dataset, name) for name in protocols}
    return {name: text for name, text in found.items() if text}


def comparison(tasks: list[Row]) -> Row:
    """Return the picture of every accuracy beside guessing."""
    shown = {task["name"]: points(task["name"], task["rows"]) for task in tasks}
    floors = {task["name"]: task["best"]["test"]["track"]["most_frequent"] for task in tasks}
    content = report_figures.comparison(shown, floors)
    said = [
        f"{name}: " + ", ".join(f"{p.label} {p.accuracy:.3f}" for p in some) for name, some in shown.items()
    ]
    return picture(content, "Test accuracies with 95 % intervals. " + "; ".join(said))


def context(settings: params.Params) -> Row:
    """Return everything the template names.

    Raises
    ------
    DataError
        An out of an earlier stage, or a kept result, is missing or does not fit ``params.yaml``.
    """
    dataset, tracks = read_dataset(), read_tracks(_there(TRACKS))
    measured, recorded = record_results.measured(settings), record_results.recorded(settings, dataset["name"])
    champions = read_json(_there(CHAMPIONS))
    tasks = [
        task_view(task, result_rows(task, measured, recorded), settings, tracks, champions)
        for task in settings.tasks
    ]
    used = library(tracks)
    unused = tracks.loc[~tracks["usable"], ["track_id", "genre", "reason"]]
    return {
        "dataset": dataset,
        "protocol": settings.split.protocol,
        "held_out": held_out(settings.split.protocol, used),
        "model_names": TITLES,
        "library": used,
        "genres": genre_rows(tracks),
        "history": history(),
        "moods": mood_rows(read_labels("mood")) if "mood" in settings.tasks else [],
        "unused": unused.to_dict("records"),
        "findings": {
            "audio files": read_json(_there(TRACK_FINDINGS)),
            "mood labels": read_json(_there(LABEL_FINDINGS)),
        },
        "tasks": tasks,
        "comparison": comparison(tasks),
        "reported": [row for row in REPORTED if row["task"] in settings.tasks],
        "notes": notes(dataset["name"], list(PROTOCOLS)),
        "rows_shown": ROWS_SHOWN,
        "intakes_shown": INTAKES_SHOWN,
        "tracks_shown": TRACKS_SHOWN,
        "wrong_played": WRONG_PLAYED,
    }


def render(values: Row) -> str:
    """Fill the template; a name it does not know is an error, and all text is escaped."""
    return templates.render(
        TEMPLATE,
        values,
        {"score": score, "signed": signed, "percent": percent, "count": count, "counted": counted},
    )


def score(value: float) -> str:
    """Return three digits after the point."""
    return f"{value:.3f}"


def signed(value: float) -> str:
    """Return three digits after the point, with the sign."""
    return f"{value:+.3f}"


def percent(value: float) -> str:
    """Return a share of 0 to 1 in per cent, with one digit, held together by a narrow space."""
    return f"{100 * value:.1f}\N{NARROW NO-BREAK SPACE}%"


def count(value: int) -> str:
    """Return a whole number with narrow spaces between thousands."""
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, which gets an s unless there is one of it."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def _there(path: Path) -> Path:
    if not path.exists():
        raise DataError(f"expected {path}, received no such file. Run `dvc repro`.")
    return path


def _table(path: Path) -> pd.DataFrame:
    return pd.read_csv(_there(path), keep_default_na=False)


def main() -> None:
    """Write the page."""
    values = context(params.read())
    page = render(values)
    write_text(PAGE, page)
    played = [row for task in values["tasks"] for row in task["wrong"][:WRONG_PLAYED]]
    clips.write_clips(
        pd.DataFrame(played).drop_duplicates("track_id") if played else pd.DataFrame(), PAGE.parent
    )
    print(f"{PAGE}: {len(page.encode()) / 1e6:.1f} MB")


if __name__ == "__main__":
    run_stage(main)
