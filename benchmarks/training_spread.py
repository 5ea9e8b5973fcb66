"""How far test scores differ between CPUs and thread counts: ``python -m benchmarks.training_spread``.

Trains the named models for every task on the features and splits of artifacts/, once for each setting,
and prints each model's lowest and highest track accuracy on the test part. `CPUS` makes the libraries choose
the code that they would run on other processors; the figures say nothing about a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Final

import pandas as pd

from pipeline import params
from pipeline.errors import DataError, run_main
from pipeline.tables.labels import classes_of, read_labels
from pipeline.tables.splits import read_split
from pipeline.training import backend

# OpenBLAS (NumPy) and oneDNN (TensorFlow) choose their code by the CPU, each by a variable of its own.
CPUS: Final = {
    "this CPU": {},
    "AVX2": {"OPENBLAS_CORETYPE": "Haswell", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "AVX": {"OPENBLAS_CORETYPE": "Sandybridge", "ONEDNN_MAX_CPU_ISA": "AVX"},
}
THREADS: Final = (2, 1)


def accuracy(task: str, name: str, settings: params.Params) -> float:
    """Train a model as stage ``train`` does and return its track accuracy on the test part."""
    backend.prepare(settings.seed)
    from pipeline.training.batches import select
    from pipeline.training.fit import fit
    from pipeline.training.predict import predict

    assigned, table = read_split(task), read_labels(task)
    soft = settings.train.targets == "soft"
    rows, valid, test = (select(assigned, table, part, soft=soft) for part in ("train", "valid", "test"))
    fitted = fit(name, rows, valid, settings.train, seed=settings.seed, log=False, verbose=0)
    classes = classes_of(table)
    truth = {row.track_id: classes.index(row.label) for row in table.itertuples()}
    answered = predict(fitted.model, test, fitted.normaliser, truth)
    return float((answered.probabilities.argmax(axis=1) == answered.truth).mean())


def train_all(names: list[str]) -> list[dict[str, str | float]]:
    """Train every task's models in this process."""
    settings = params.read()
    return [
        {"task": task, "model": name, "accuracy": accuracy(task, name, settings)}
        for task in settings.tasks
        for name in names
    ]


def train_elsewhere(names: list[str], cpu: str, n_threads: int) -> pd.DataFrame:
    """Train all in a new process on an emulated CPU; one row per task and model."""
    threads = {"TF_NUM_INTRAOP_THREADS": str(n_threads), "OMP_NUM_THREADS": str(n_threads)}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training_spread", "--once", *names],
        env=os.environ | CPUS[cpu] | threads,
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise DataError(f"{cpu}: expected trained models, received exit {done.returncode}. Run make repro.")
    return pd.DataFrame(json.loads(done.stdout.splitlines()[-1])).assign(cpu=cpu, threads=n_threads)


def main() -> None:
    """Train on each emulated CPU by one thread and by two; print each run, then the ranges."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_spread", description=main.__doc__)
    parser.add_argument("--once", action="store_true", help="train here and print JSON")
    parser.add_argument("models", nargs="*", metavar="model", help="default: those of params.yaml")
    args = parser.parse_args()
    names = args.models or list(params.read().models)
    if args.once:
        print(json.dumps(train_all(names)))
        return
    runs = []
    for cpu in CPUS:
        for n_threads in THREADS:
            runs.append(train_elsewhere(names, cpu, n_threads))
            scores = ", ".join(f"{row.task} {row.model} {row.accuracy:.3f}" for row in runs[-1].itertuples())
            print(f"{cpu}, {n_threads} threads: {scores}", flush=True)
    for (task, name), scores in pd.concat(runs).groupby(["task", "model"], sort=False)["accuracy"]:
        print(f"{task} {name}: {scores.min():.3f} to {scores.max():.3f} over {len(scores)} runs")


if __name__ == "__main__":
    run_main(main)
