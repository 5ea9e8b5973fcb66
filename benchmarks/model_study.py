"""What makes a network better on real music, and what not: ``python -m benchmarks.model_study --out FILE``.

Cross-validates variants of the networks on the library of the workspace, all on the same folds, and adds one
row per epoch to the table: what the validation tracks say, and how many test tracks are right. So each rule
that chooses an epoch is judged on the same trainings. A fold that the table has already is left out: run
again to go on. ``--summary`` prints what the table says.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from pipeline import params
from pipeline.errors import DataError, run_main
from pipeline.files import write_csv
from pipeline.tables.labels import read_labels
from pipeline.tables.tracks import usable_tracks
from pipeline.training import backend, best_epoch
from pipeline.training.crossvalidate import split_folds

if TYPE_CHECKING:
    from keras.callbacks import Callback

    from pipeline.training.batches import Rows

TASK: Final = "genre"
FOLDS: Final = 5
FOLDS_SEED: Final = 0  # the folds are the same for all variants and seeds of training
KEY: Final = ["variant", "seed", "fold"]
# What the rules choose by: the parameter train.choose_epoch_by and train.smooth_epochs; 0: the last epoch.
RULES: Final = {
    "agreement, 3 epochs": ("agreement", 3),
    "agreement": ("agreement", 1),
    "macro_f1, 3 epochs": ("macro_f1", 3),
    "loss": ("loss", 1),
    "last": ("", 0),
}

_NO_STOP: Final = 100_000  # epochs of patience


def network(name: str, epochs: int, **shared: Any) -> tuple[str, Mapping[str, Any]]:
    """Return a network and what is changed in the section ``train`` for it."""
    return name, shared | {"models": {name: {"epochs": epochs, "patience": _NO_STOP}}}


def gap(**own: Any) -> tuple[str, Mapping[str, Any]]:
    """Return cnn64_gap with other values of some of its keys."""
    whole = {
        "epochs": 40,
        "learning_rate": 0.002,
        "patience": _NO_STOP,
        "schedule": "cosine",
        "label_smoothing": 0.1,
        "class_weight": "none",
        "augment": "specaugment",
        "mixup_alpha": 0.2,
        "batch_norm": True,
        "pooling": "mean_max",
        "spatial_dropout": 0.1,
    }
    return "cnn64_gap", {"models": {"cnn64_gap": whole | own}}


VARIANTS: Final = {
    "cnn64": network("cnn64", 12, augment="none", class_weight="none"),
    "cnn64 class weights": network("cnn64", 12, augment="none", class_weight="balanced"),
    "cnn64_gap": gap(),
    "gap, class weights": gap(class_weight="balanced"),
    "gap, no label smoothing": gap(label_smoothing=0.0),
    "gap, constant rate": gap(schedule="constant"),
    "gap, no mixup": gap(mixup_alpha=0.0),
    "gap, no SpecAugment, no mixup": gap(augment="none"),
    "gap, mean": gap(pooling="mean"),
    "gap, flattened": gap(pooling="flatten"),
    "gap, no batch norm": gap(batch_norm=False),
    "gap, no spatial dropout": gap(spatial_dropout=0.0),
    "gap, 80 epochs": gap(epochs=80),
    "lenet5": network("lenet5", 40, augment="specaugment", class_weight="none"),
    "lenet5 class weights": network("lenet5", 40, augment="specaugment", class_weight="balanced"),
}


def settings_of(variant: str, base: params.Params) -> tuple[str, params.Params]:
    """Return the variant's network and parameters."""
    name, changes = VARIANTS[variant]
    values = base.model_dump()
    params.overlay(values["train"], changes)
    return name, params.parse(values, source=variant)


def _watcher(test: Rows, train: Rows, settings: params.TrainParams) -> Callback:
    """Return a callback whose ``rows`` have what each epoch logs, and how many test tracks are right."""
    from keras import callbacks

    from pipeline.training.batches import Batches
    from pipeline.training.fit import fit_normaliser

    given = Batches(test, fit_normaliser(train, settings.normalise), batch_size=settings.batch_size)

    class Watcher(callbacks.Callback):
        """Ask about the test tracks after each epoch; nothing is chosen by it."""

        def __init__(self) -> None:
            super().__init__()
            self.rows: list[dict[str, Any]] = []

        def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
            found = best_epoch.track_scores(
                test, np.asarray(self.model.predict(given, verbose=0), np.float64)
            )
            n_tracks = len(set(test.track_id))
            right = round(found["val_agreement"] * n_tracks)
            self.rows.append({"epoch": epoch + 1, **logs, "test_right": right, "test_tracks": n_tracks})

    return Watcher()


def study_fold(variant: str, seed: int, assigned: pd.DataFrame, base: params.Params) -> list[dict[str, Any]]:
    """Train a variant on one fold's split; return a row per epoch."""
    name, settings = settings_of(variant, base)
    backend.prepare(seed)
    from pipeline.training.batches import select
    from pipeline.training.fit import fit

    table = read_labels(TASK)
    rows = {part: select(assigned, table, part) for part in ("train", "valid", "test")}
    watcher: Any = _watcher(rows["test"], rows["train"], settings.train)
    began = time.process_time()
    fitted = fit(
        name,
        rows["train"],
        rows["valid"],
        settings.train,
        seed=seed,
        log=False,
        verbose=0,
        watchers=[watcher],
    )
    spent = {"cpu_seconds": round(time.process_time() - began, 1)}
    kept = fitted.curves["kept"].tolist()
    return [row | spent | {"kept": one} for row, one in zip(watcher.rows, kept, strict=True)]


def study(variants: list[str], seeds: list[int], out: Path) -> None:
    """Add to the table the folds of these variants that it lacks."""
    base = params.read()
    splits = split_folds(read_labels(TASK), usable_tracks(), base.split.protocol, FOLDS, FOLDS_SEED)
    for seed in seeds:
        for variant in variants:
            for fold, assigned in enumerate(splits, start=1):
                known = pd.read_csv(out) if out.exists() else pd.DataFrame(columns=KEY)
                place = {"variant": variant, "seed": seed, "fold": fold}
                if (known[KEY] == pd.Series(place)).all(axis=1).any():
                    continue
                found = pd.DataFrame([place | row for row in study_fold(variant, seed, assigned, base)])
                write_csv(out, pd.concat([known, found.round(6)]) if len(known) else found.round(6))
                chosen = found[found["kept"] == 1].iloc[0]
                print(
                    f"{variant}, seed {seed}, fold {fold}: epoch {chosen['epoch']}, "
                    f"{chosen['test_right']} of {chosen['test_tracks']}, {chosen['cpu_seconds']} s of CPU",
                    flush=True,
                )


def chosen_epoch(training: pd.DataFrame, rule: str) -> pd.Series:
    """Return the row of the epoch that a rule keeps of one training."""
    measure, window = RULES[rule]
    if not window:
        return training.iloc[-1]
    epochs = [
        best_epoch.Epoch(best_epoch.score_of(row, measure), row["val_loss"], row["accuracy"])
        for row in training.to_dict("records")
    ]
    index = best_epoch.choose(epochs, window, chance=0.0)
    return training.iloc[len(training) - 1 if index is None else index]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return the accuracy over all test tracks, by variant and rule, and the trainings it is of.

    Where a variant has several seeds it is their mean, and ``sd`` the standard deviation between them.
    """
    rows = []
    for variant, own in table.groupby("variant", sort=False):
        folds = own.groupby("seed")["fold"].transform("nunique")
        whole = own[folds == folds.max()]
        row: dict[str, Any] = {"variant": variant, "seeds": whole["seed"].nunique()}
        for rule in RULES:
            kept = whole.groupby(["seed", "fold"]).apply(chosen_epoch, rule=rule, include_groups=False)
            totals = kept.groupby("seed")[["test_right", "test_tracks"]].sum()
            accuracy = totals["test_right"] / totals["test_tracks"]
            row |= {rule: accuracy.mean()}
            if rule == "agreement, 3 epochs":
                row |= {"sd": accuracy.std(ddof=1), "tracks": int(totals["test_tracks"].iloc[0])}
        seconds = whole.groupby(["seed", "fold"])["cpu_seconds"].first().groupby("seed").sum().mean()
        rows.append(row | {"cpu_seconds": round(float(seconds))})
    return pd.DataFrame(rows).round(3)


def main() -> None:
    """Train what the table lacks, or print what it says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.model_study", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the table, CSV")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--summary", action="store_true", help="train nothing")
    args = parser.parse_args()
    if not args.summary:
        study(args.variants, args.seeds, args.out)
    if not args.out.exists():
        raise DataError(f"expected the table {args.out}, received no such file. Run without --summary first.")
    print(summary(pd.read_csv(args.out)).to_string(index=False))


if __name__ == "__main__":
    run_main(main)
