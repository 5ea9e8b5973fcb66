"""Show what the label audit finds and what choosing the next tracks is worth, on the library of ``data/``.

``python -m benchmarks.labelling audit`` flips a tenth of the labels in a copy, cross-validates LeNet-5
and counts the flipped ones among the first of the list; ``python -m benchmarks.labelling next`` lets a
light model learn from tracks chosen by `pipeline.acquire` and from as many random ones. Both need the
outputs of ``dvc repro``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from pipeline import acquire, audit, catalog, crossvalidate, files, labels, params, spectrogram
from pipeline.errors import run_main
from pipeline.taxonomy import TASKS

FLIPPED: Final = 0.1
FOLDS: Final = 5
KNOWN: Final = (20, 30)  # tracks labelled before
ASKED: Final = 30
HELD_OUT: Final = 1 / 3  # share of the artists


def flip(table: pd.DataFrame, rng: np.random.Generator) -> tuple[pd.DataFrame, set[str]]:
    """Swap a tenth of the tracks' labels, with their shares, for another class; return which."""
    out, classes = table.copy(), labels.classes_of(table)
    where = rng.choice(len(table), round(FLIPPED * len(table)), replace=False)
    for row in where:
        old = out.at[row, "label"]
        new = str(rng.choice([one for one in classes if one != old]))
        out.at[row, "label"] = new
        swapped = out.loc[row, [f"p_{new}", f"p_{old}"]].to_list()
        out.loc[row, [f"p_{old}", f"p_{new}"]] = swapped
    return out, set(table["track_id"].iloc[where])


@contextmanager
def copied() -> Iterator[None]:
    """Work in a scratch folder that has the library, its features and labels; the labels may be changed."""
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "artifacts" / "labels").mkdir(parents=True)
        for name in ("data", "params.yaml", "artifacts/catalog", "artifacts/features"):
            (Path(folder) / name).symlink_to(home / name)
        for task in TASKS:
            files.write_csv(Path(folder) / labels.path_of(task), labels.read(task))
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(home)


def show_audit(seeds: int) -> None:
    settings = params.read()
    with copied():
        true = {task: labels.read(task) for task in settings.tasks}
        for seed in range(seeds):
            for task in settings.tasks:
                table, flipped = flip(true[task], np.random.default_rng(seed))
                files.write_csv(labels.path_of(task), table)
                crossvalidate.crossvalidate(task, "lenet5", FOLDS, settings)
                first = audit.likely_errors(task).rows["track_id"].head(len(flipped))
                print(
                    f"{task}, seed {seed}: {first.isin(flipped).mean():.2f} of the first {len(flipped)} were "
                    f"flipped (chance {len(flipped) / len(table):.2f})",
                    flush=True,
                )


def show_next(task: str, seeds: int) -> None:
    table = labels.read(task)
    artist = catalog.usable().set_index("track_id")["artist"][table["track_id"]].to_numpy()
    raw = np.stack([acquire.statistics(np.array(spectrogram.load(one))) for one in table["track_id"]])
    embedding, truth = acquire.standardise(raw), table["label"].to_numpy()
    for known in KNOWN:
        scores = np.array([compare(embedding, truth, artist, known, seed) for seed in range(seeds)])
        gain = scores[:, 1] - scores[:, 0]
        print(
            f"{task}, {known} labelled, {ASKED} more: random {scores[:, 0].mean():.3f}, "
            f"chosen {scores[:, 1].mean():.3f}, gain {gain.mean():+.3f} ± {gain.std() / np.sqrt(seeds):.3f}"
        )


def compare(
    embedding: np.ndarray, truth: np.ndarray, artist: np.ndarray, known: int, seed: int
) -> tuple[float, float]:
    """Return the accuracy on held-out artists after ``ASKED`` random tracks, and after so many chosen."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(seed)
    artists = rng.permutation(np.unique(artist))
    test = np.isin(artist, artists[: round(HELD_OUT * len(artists))])
    pool = np.flatnonzero(~test)
    labelled = np.isin(np.arange(len(pool)), rng.choice(len(pool), known, replace=False))

    def fit(rows: np.ndarray) -> LogisticRegression:
        return LogisticRegression(C=0.05, max_iter=500).fit(embedding[rows], truth[rows])

    uncertainty = acquire.entropy(fit(pool[labelled]).predict_proba(embedding[pool]))
    worth = uncertainty * acquire.typicality(embedding[pool])
    chosen, _ = acquire.choose(worth, embedding[pool], labelled, ASKED)
    drawn = rng.choice(np.flatnonzero(~labelled), len(chosen), replace=False)
    first, second = (
        fit(np.concatenate([pool[labelled], pool[more]])).score(embedding[test], truth[test])
        for more in (drawn, chosen)
    )
    return first, second


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labelling", description=main.__doc__)
    parser.add_argument("what", choices=("audit", "next"))
    parser.add_argument("--seeds", type=int, help="how many repetitions (default: audit 1, next 40)")
    args = parser.parse_args()
    if args.what == "audit":
        show_audit(args.seeds or 1)
        return
    for task in params.read().tasks:
        show_next(task, args.seeds or 40)


if __name__ == "__main__":
    run_main(main)
