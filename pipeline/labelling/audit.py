"""Which labels are likely wrong: cross-validated models disagree with them, and with confidence.

``python -m pipeline.labelling.audit --task mood --model lenet5 --top 20`` ranks the labels by their quality
under the out-of-fold probabilities of `pipeline.training.crossvalidate` (``--run`` makes those first). The
worst go to ``label_audit/<task>.csv`` and to ``label_audit/index.html``, with a player for each, under a
word on how good the model is: doubts of one that guesses mean nothing. It is no DVC stage: it proposes,
people decide.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from pipeline import identity, params, templates
from pipeline.errors import DataError, ParamsError, run_main
from pipeline.files import read_json, write_csv, write_json, write_text
from pipeline.labelling.clips import (
    clip_address,
    remove_other_clips,
    write_clips,
)
from pipeline.tables.dataset import read_dataset
from pipeline.tables.labels import classes_of, labels_path, read_labels
from pipeline.tables.mood_labels import MOOD_LABELS
from pipeline.tables.tracks import TRACKS, read_tracks
from pipeline.taxonomy import TASKS, canonical_mood
from pipeline.training import crossvalidate, models
from pipeline.untrusted import for_spreadsheet, visible

FOLDER: Final = Path("label_audit")
PAGE: Final = FOLDER / "index.html"
TEMPLATE: Final = "audit.html.j2"
COLUMNS: Final = (
    "track_id",
    "given",
    "suggested",
    "quality",
    "confidence",
    "suspect",
    "annotators",
    "clip",
    "path",
)

_DIGITS: Final = 4
_MODEL: Final = "lenet5"  # the cheapest; five folds of it take a minute where CNN-64 takes an hour
_TOP: Final = 20
_CAUTION: Final = (
    "The model guesses hardly better than the most frequent class: listen before you change any label."
)
_SURE: Final = 2  # standard errors: one time in forty, chance alone gets further


@dataclass(frozen=True)
class Audit:
    """A task's labels, worst first.

    Parameters
    ----------
    task, model
        Whose labels, and which model was cross-validated.
    n_tracks
        Labels that were looked at.
    n_suspect
        Labels that confident learning takes for wrong.
    n_changed
        Labels that have changed since the cross-validation; the present ones were looked at.
    n_left_out
        Labelled tracks that the cross-validation does not know.
    accuracy
        Share of the labels, 0 to 1, that the model names out of fold.
    baseline
        Share of the most frequent class, 0 to 1: the accuracy of naming nothing else.
    rows
        Columns `COLUMNS`, from `rank`.
    """

    task: str
    model: str
    n_tracks: int
    n_suspect: int
    n_changed: int
    n_left_out: int
    accuracy: float
    baseline: float
    rows: pd.DataFrame

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "rows"}
        return fields | {"rows": self.rows.to_dict("records")}

    def head(self, top: int) -> Audit:
        """Return the same with the worst ``top`` rows only."""
        return Audit(**{**self.__dict__, "rows": self.rows.head(top).reset_index(drop=True)})

    def headline(self) -> str:
        """Return how many labels are suspect, and to how good a model."""
        return (
            f"{self.n_suspect} of {self.n_tracks} labels are suspect; {self.model}'s out-of-fold accuracy "
            f"{self.accuracy:.2f}, share of the most frequent class {self.baseline:.2f}"
        )

    def guesses(self) -> bool:
        """Return whether the accuracy is less than two standard errors above the most frequent class."""
        error = np.sqrt(self.baseline * (1 - self.baseline) / self.n_tracks)
        return bool(self.accuracy <= self.baseline + _SURE * error)

    def notes(self) -> list[str]:
        """Return what a reader must know: whether the model only guesses, how far it is out of date."""
        again = f"`{_command(self.task, self.model)}` brings it up to date"
        counts = (
            (self.n_changed, "labels have changed since the cross-validation"),
            (self.n_left_out, "labelled tracks are newer than the cross-validation and left out"),
        )
        late = [f"{count} {what}: {again}." for count, what in counts if count]
        return [_CAUTION, *late] if self.guesses() else late


def _command(task: str, model: str) -> str:
    """Return the command that cross-validates and audits."""
    return f"python -m pipeline.labelling.audit --task {task} --model {model} --run"


def out_of_fold_path(task: str, model: str) -> Path:
    """Return where the cross-validation leaves its predictions."""
    return crossvalidate.FOLDER / f"{task}-{model}" / "out_of_fold.csv"


def read_out_of_fold(task: str, model: str, classes: list[str]) -> pd.DataFrame:
    """Read the out-of-fold predictions, by track: ``label`` as it was then, and a ``p_<class>`` each.

    Raises
    ------
    DataError
        There are none, they cannot be read, or they are of other classes.
    """
    path, command = (
        out_of_fold_path(task, model),
        f"python -m pipeline.training.crossvalidate --task {task} --model {model}",
    )
    if not path.exists():
        raise DataError(
            f"expected out-of-fold probabilities in {path}, received no such file. Make it with `{command}`, "
            f"or with `{_command(task, model)}`."
        )
    table = _parsed(path, command)
    known = classes_of(table)
    if known != classes:
        raise DataError(
            f"{path}: expected the classes {', '.join(classes)}, received {', '.join(known) or 'none'}. "
            f"The classes have changed since: run `{command}` again."
        )
    return table.set_index("track_id")


def _parsed(path: Path, command: str) -> pd.DataFrame:
    """Return ``track_id``, ``label`` and the probabilities as numbers, none of them missing."""
    try:
        table = pd.read_csv(path, dtype={"track_id": str, "label": str}, keep_default_na=False)
        if not {"track_id", "label"} <= set(table):
            raise ValueError(f"the columns {', '.join(table)}")
        return table.astype({name: float for name in table if name.startswith("p_")})
    except ValueError as error:  # pandas' errors of empty, ragged and garbled files are such, too
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path}: expected track_id, label and a probability of each class in every line, received: "
            f"{reason}. Run `{command}` again."
        ) from None


def rank(given: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """Rank labels by how much a model that has not seen them doubts them (confident learning).

    Parameters
    ----------
    given
        int (n_tracks,), the class number of each label.
    probabilities
        float (n_tracks, n_classes), out of fold.

    Returns
    -------
    pd.DataFrame
        Worst first, indexed by position: ``suggested``, the likeliest class number; ``confidence``, its
        probability; ``quality``, the probability of the given class; ``suspect``, whether the label is
        taken for wrong.
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of moods without a track; they have no label to doubt
        suspect = find_label_issues(given, probabilities, n_jobs=1)
    table = pd.DataFrame(
        {
            "suggested": probabilities.argmax(axis=1),
            "confidence": probabilities.max(axis=1).round(_DIGITS),
            "quality": get_label_quality_scores(given, probabilities).round(_DIGITS),
            "suspect": suspect,
        }
    )
    return table.sort_values(["quality", "confidence"], ascending=[True, False], kind="stable")


def likely_errors(task: str, *, model: str = _MODEL) -> Audit:
    """Rank a task's labels by the out-of-fold probabilities of a model.

    Parameters
    ----------
    task
        ``"genre"`` or ``"mood"``.
    model
        Whose cross-validation to read.

    Raises
    ------
    DataError
        There is no cross-validation, or none of these labels.
    """
    table = read_labels(task)
    classes = classes_of(table)
    predicted = read_out_of_fold(task, model, classes)
    known = table[table["track_id"].isin(predicted.index)].reset_index(drop=True)
    if known.empty:
        raise DataError(
            f"{out_of_fold_path(task, model)}: expected tracks of {labels_path(task)}, received none of "
            f"them. Run `{_command(task, model)}`."
        )
    predicted = predicted.loc[known["track_id"]]
    given = pd.Index(classes).get_indexer(known["label"])
    probabilities = predicted[[f"p_{name}" for name in classes]].to_numpy(float)
    ranked = rank(given, probabilities)
    return Audit(
        task=task,
        model=model,
        n_tracks=len(known),
        n_suspect=int(ranked["suspect"].sum()),
        n_changed=int((known["label"].to_numpy() != predicted["label"].to_numpy()).sum()),
        n_left_out=len(table) - len(known),
        accuracy=round(float((probabilities.argmax(axis=1) == given).mean()), _DIGITS),
        baseline=round(float(known["label"].value_counts(normalize=True).max()), _DIGITS),
        rows=_described(task, known, ranked, classes),
    )


def _described(task: str, known: pd.DataFrame, ranked: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Return the ranking in words, with who gave the label and where the audio is."""
    rows = ranked.assign(
        track_id=known["track_id"].loc[ranked.index],
        given=known["label"].loc[ranked.index],
        suggested=[classes[number] for number in ranked["suggested"]],
    )
    paths = read_tracks().set_index("track_id")["path"].reindex(rows["track_id"])
    if paths.isna().any():
        raise DataError(
            f"{TRACKS}: expected {paths.index[paths.isna()][0]}, which {labels_path(task)} has, "
            "received no such track. Run `dvc repro`."
        )
    who = _annotators() if task == "mood" else pd.Series(dtype=str)
    keys = pd.MultiIndex.from_frame(rows[["track_id", "given"]])
    rows = rows.assign(
        annotators=who.reindex(keys).fillna("").to_numpy(),
        clip=rows["track_id"].map(clip_address),
        path=paths.to_numpy(),
    )
    return rows[list(COLUMNS)].reset_index(drop=True)


def _annotators() -> pd.Series:
    """Return who chose a mood for a track, by (track, mood): ``"ada, ben"``."""
    from pipeline.tables.mood_labels import read_annotations

    table = read_annotations(MOOD_LABELS)
    table["mood"] = table["mood"].map(canonical_mood)
    table["annotator"] = identity.first_spellings(table["annotator"])
    return table.groupby(["track_id", "mood"])["annotator"].agg(lambda names: ", ".join(sorted(set(names))))


def publish(audit: Audit) -> None:
    """Write the rows as CSV, clips of their tracks, and the page of every task audited so far."""
    write_csv(FOLDER / f"{audit.task}.csv", for_spreadsheet(audit.rows))
    write_clips(audit.rows, FOLDER)
    write_json(FOLDER / f"{audit.task}.json", audit.as_dict() | {"notes": audit.notes()})
    audits = [read_json(FOLDER / f"{task}.json") for task in TASKS if (FOLDER / f"{task}.json").exists()]
    write_text(PAGE, render(audits))
    remove_other_clips(FOLDER, {row["track_id"] for audit in audits for row in audit["rows"]})


def render(audits: list[dict[str, Any]]) -> str:
    """Return the page; its players read the clips beside it, nothing comes from a network."""
    values = {"audits": audits, "dataset": read_dataset()}
    return templates.render(TEMPLATE, values, {"clip": clip_address})


def audit(task: str, *, model: str = _MODEL, top: int = _TOP, folds: int | None = None) -> Audit:
    """Rank, publish and return the worst ``top`` labels; with ``folds``, cross-validate first."""
    if top < 1:
        raise ParamsError(f"--top: expected at least 1, received {top}. Say how many labels to list.")
    if folds is not None:
        crossvalidate.crossvalidate(task, model, folds, params.read())
    found = likely_errors(task, model=model).head(top)
    publish(found)
    return found


def main() -> None:
    """List the labels most likely wrong, as a table, a CSV and a page with players."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.labelling.audit", description=main.__doc__)
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--model", choices=sorted(models.MODELS), default=_MODEL)
    parser.add_argument("--top", type=int, default=_TOP)
    parser.add_argument("--run", action="store_true", help="cross-validate first (minutes)")
    parser.add_argument("--folds", type=int, default=5, help="with --run")
    args = parser.parse_args()
    found = audit(args.task, model=args.model, top=args.top, folds=args.folds if args.run else None)
    print(found.headline())
    print(visible(found.rows.drop(columns=["clip", "path"]).to_string(index=False)))
    print("\n".join([*found.notes(), f"listen to them in {PAGE}"]))


if __name__ == "__main__":
    run_main(main)
