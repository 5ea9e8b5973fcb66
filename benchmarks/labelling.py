"""Show what aggregation keeps, what the label audit finds and what choosing the next tracks is worth.

``python -m benchmarks.labelling aggregation [CSV]`` sets Dawid–Skene against the majority on simulated
annotators of known reliability, and says how much of the disagreement in a file of real mood labels each
method keeps. The others work on the library of ``data/`` and need the outputs of ``dvc repro``:
``python -m benchmarks.labelling audit`` flips a tenth of the labels in a copy, cross-validates LeNet-5
and counts the flipped ones among the first of the list; ``python -m benchmarks.labelling next`` lets a
light model learn from tracks chosen by `next_tracks` and from as many random ones. The first two exit with 1
if their bar is missed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

import numpy as np
import pandas as pd

from pipeline import files, params
from pipeline.errors import run_main
from pipeline.labelling import aggregation, audit, next_tracks
from pipeline.stages import labels
from pipeline.tables.features import load_features
from pipeline.tables.labels import classes_of, labels_path, read_labels
from pipeline.tables.mood_labels import LABEL_COLUMNS
from pipeline.tables.text_csv import read_table
from pipeline.tables.tracks import usable_tracks
from pipeline.taxonomy import TASKS, canonical_mood
from pipeline.training import crossvalidate

FLIPPED: Final = 0.1
FOLDS: Final = 5
KNOWN: Final = (20, 30)  # tracks labelled before
ASKED: Final = 30
HELD_OUT: Final = 1 / 3  # share of the artists
LEAST_LIFT: Final = 3  # precision of the audit, in multiples of chance
SUM_TOLERANCE: Final = 1e-4  # soft labels are written with six digits
LOSS_TOLERANCE: Final = 0.01  # of the annotations' disagreement
BARS: Final = {  # what is expected, and what to do otherwise
    "aggregation": (
        "Dawid–Skene above the majority where reliability differs, soft labels that sum to 1, and share to "
        "keep the annotations' disagreement",
        "Correct pipeline/labelling/aggregation.py, then run this again.",
    ),
    "audit": (
        f"precision >= {LEAST_LIFT} x chance",
        "Look whether lenet5 beats the most frequent class here (`cmg labels audit` says so); "
        "if it does, correct pipeline/labelling/audit.py.",
    ),
}

METHODS: Final[tuple[params.Aggregation, ...]] = ("share", "majority", "dawid_skene")
MIXED: Final = {"best": 0.9, "good": 0.75, "fair": 0.5, "poor": 0.3, "bad": 0.2}
SPAMMERS: Final = {f"spam{n}": 0.0 for n in range(3)}
EQUAL: Final = {f"good{n}": 0.75 for n in range(5)}
CROWDS: Final = {
    "reliability 0.2 to 0.9": MIXED,
    "reliability 0.2 to 0.9 and three spammers": MIXED | SPAMMERS,
    "five of reliability 0.75": EQUAL,
}


def simulate(
    reliability: dict[str, float], *, seed: int, n_tracks: int = 150, n_classes: int = 4
) -> tuple[pd.DataFrame, pd.Series]:
    """Return every annotator's labels of every track, and the truth.

    ``reliability`` is the chance of the true class, otherwise a random one; 0 is a spammer who always says
    the same, below 0 an adversary, who says the next class with that chance.
    """
    rng = np.random.default_rng(seed)
    truth = rng.integers(n_classes, size=n_tracks)
    rows = []
    for annotator, chance in reliability.items():
        meant = truth if chance > 0 else (truth + 1) % n_classes
        said = np.where(rng.random(n_tracks) < abs(chance), meant, rng.integers(n_classes, size=n_tracks))
        said = said if chance else np.full(n_tracks, rng.integers(n_classes))
        rows += [(f"t{n:03}", annotator, f"class {one}") for n, one in enumerate(said)]
    table = pd.DataFrame(rows, columns=["track_id", "annotator", "label"]).assign(weight=1.0)
    return table, pd.Series([f"class {one}" for one in truth], index=[f"t{n:03}" for n in range(n_tracks)])


def accuracy(table: pd.DataFrame, truth: pd.Series, method: params.Aggregation) -> float:
    """Return the share of tracks, 0 to 1, whose aggregated label is the true one."""
    found = aggregation.aggregate(table, tuple(sorted(table["label"].unique())), method)
    return float((found.set_index("track_id")["label"] == truth).mean())


def show_simulated(seeds: int) -> list[str]:
    """Set Dawid–Skene against the majority; return where it does not win though reliability differs."""
    wrong = []
    for name, crowd in CROWDS.items():
        tables = [simulate(crowd, seed=seed) for seed in range(seeds)]
        ours, majority = (
            np.mean([accuracy(table, truth, method) for table, truth in tables])
            for method in ("dawid_skene", "majority")
        )
        print(f"{name}, {seeds} seeds: dawid_skene {ours:.3f}, majority {majority:.3f}", flush=True)
        if len(set(crowd.values())) > 1 and ours <= majority:
            wrong.append(f"{name}: dawid_skene {ours:.3f}, majority {majority:.3f}")
    return wrong


def entropy(soft: np.ndarray) -> float:
    """Return the mean entropy of soft labels (n_tracks, n_classes), nats."""
    from scipy.special import entr

    return float(entr(soft).sum(axis=1).mean())


def disagreement(annotations: pd.DataFrame) -> float:
    """Return the annotations' own mean entropy, nats, from how often each mood was said of a track."""
    counts = pd.crosstab(annotations["track_id"], annotations["mood"].map(canonical_mood)).to_numpy(float)
    return entropy(counts / counts.sum(axis=1, keepdims=True))


def show_kept(path: Path) -> list[str]:
    """Say how much of a file's disagreement is in the soft labels, and how many winners change.

    Confidence is left out: ``share`` would weigh by it, and the annotations' own disagreement does not.

    Returns
    -------
    shortfalls : list of str
        From `kept_shortfalls`.
    """
    annotations = read_table(path, columns=LABEL_COLUMNS)[list(LABEL_COLUMNS)]
    print(
        f"{path.name}: {len(annotations)} annotations of {annotations['track_id'].nunique()} tracks, "
        f"disagreement {disagreement(annotations):.2f} nats"
    )
    tables = {method: labels.mood_labels(annotations, annotations, method) for method in METHODS}
    for method, table in tables.items():
        soft = table.filter(regex="^p_").to_numpy()
        changed = (table["label"] != tables["share"]["label"]).mean()
        print(
            f"  {method}: sums off 1 by at most {abs(soft.sum(axis=1) - 1).max():.0e}, keeps "
            f"{entropy(soft):.2f} nats, {changed:.0%} of the winners differ from share's"
        )
    soft_labels = {method: table.filter(regex="^p_").to_numpy() for method, table in tables.items()}
    return kept_shortfalls(soft_labels, disagreement(annotations))


def kept_shortfalls(soft: dict[params.Aggregation, np.ndarray], nats: float) -> list[str]:
    """Return which methods' soft labels do not sum to 1, and whether ``share`` loses the disagreement."""
    off = {method: abs(values.sum(axis=1) - 1).max() for method, values in soft.items()}
    wrong = [f"{method}: sums off 1 by {most:.0e}" for method, most in off.items() if most > SUM_TOLERANCE]
    kept = entropy(soft["share"])
    if not np.isclose(kept, nats, rtol=LOSS_TOLERANCE):
        wrong.append(f"share: keeps {kept:.3f} of {nats:.3f} nats")
    return wrong


def flip(table: pd.DataFrame, rng: np.random.Generator) -> tuple[pd.DataFrame, set[str]]:
    """Swap a tenth of the tracks' labels, with their shares, for another class; return which."""
    out, classes = table.copy(), classes_of(table)
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
            files.write_csv(Path(folder) / labels_path(task), read_labels(task))
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(home)


def precision(
    task: str, true: pd.DataFrame, rng: np.random.Generator, settings: params.Params
) -> tuple[float, int]:
    """Flip labels and audit them; return the share of flipped ones among as many first, and how many."""
    table, flipped = flip(true, rng)
    files.write_csv(labels_path(task), table)
    crossvalidate.crossvalidate(task, "lenet5", FOLDS, settings)
    first = audit.likely_errors(task).rows["track_id"].head(len(flipped))
    return float(first.isin(flipped).mean()), len(flipped)


def show_audit(seeds: int) -> list[str]:
    """Audit flipped labels; return where fewer of them come first than three times chance."""
    settings, wrong = params.read(), []
    with copied():
        true = {task: read_labels(task) for task in settings.tasks}
        for seed, task in itertools.product(range(seeds), settings.tasks):
            found, n = precision(task, true[task], np.random.default_rng(seed), settings)
            chance = n / len(true[task])
            said = f"{task}, seed {seed}: {found:.2f} of the first {n} were flipped (chance {chance:.2f})"
            print(said, flush=True)
            if found < LEAST_LIFT * chance:
                wrong.append(said)
    return wrong


def show_next(task: str, seeds: int) -> None:
    table = read_labels(task)
    artist = usable_tracks().set_index("track_id")["artist"][table["track_id"]].to_numpy()
    raw = np.stack([next_tracks.statistics(np.array(load_features(one))) for one in table["track_id"]])
    embedding, truth = next_tracks.standardise(raw), table["label"].to_numpy()
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

    uncertainty = next_tracks.entropy(fit(pool[labelled]).predict_proba(embedding[pool]))
    worth = uncertainty * next_tracks.typicality(embedding[pool])
    chosen, _ = next_tracks.choose(worth, embedding[pool], labelled, ASKED)
    drawn = rng.choice(np.flatnonzero(~labelled), len(chosen), replace=False)
    first, second = (
        fit(np.concatenate([pool[labelled], pool[more]])).score(embedding[test], truth[test])
        for more in (drawn, chosen)
    )
    return first, second


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labelling", description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    for what, seeds in (("aggregation", 20), ("audit", 1), ("next", 40)):
        help_ = f"how many repetitions (default: {seeds})"
        commands.add_parser(what).add_argument("--seeds", type=int, default=seeds, help=help_)
    commands.choices["aggregation"].add_argument("csv", nargs="?", type=Path, help="a file of mood labels")
    measure(parser.parse_args())


def measure(arguments: argparse.Namespace) -> None:
    if arguments.what == "next":
        for task in params.read().tasks:
            show_next(task, arguments.seeds)
        return
    wrong = show_audit(arguments.seeds) if arguments.what == "audit" else show_aggregation(arguments)
    if wrong:
        fail(arguments.what, wrong)


def show_aggregation(arguments: argparse.Namespace) -> list[str]:
    wrong = show_simulated(arguments.seeds)
    return wrong + show_kept(arguments.csv) if arguments.csv else wrong


def fail(what: str, wrong: list[str]) -> NoReturn:
    """Exit with 1, which tells a bar that is missed from a command that cannot be done (2)."""
    expected, advice = BARS[what]
    print(f"error: expected {expected}, received {'; '.join(wrong)}. {advice}", file=sys.stderr)
    raise SystemExit(1)


if __name__ == "__main__":
    run_main(main)
