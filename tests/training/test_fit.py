"""Nothing leaks: of shuffled labels no model of the table knows more about test tracks than chance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from pipeline import files, params
from pipeline.inference.musicnn import N_NUMBERS
from pipeline.tables.features import features_path
from pipeline.training import backend, fit, models, predict

if TYPE_CHECKING:
    from pipeline.training.batches import Rows

ROOT = Path(__file__).parents[2]
CLASSES = list("abc")
N_TRACKS = 240
SHAPE = (46, 61)


def write_features(name: str, track_id: str, rng: np.random.Generator) -> None:
    """Write a track of noise, by which a model can remember it and know nothing of others."""
    is_probe = models.FRONT_ENDS[name] == "musicnn"
    values = rng.normal(-30, 6, (1, N_NUMBERS, 1) if is_probe else (1, *SHAPE))
    values = values.astype(np.float32 if is_probe else np.float16)
    files.write_array(features_path(track_id, models.features_folder(name)), values)


def library(name: str) -> pd.DataFrame:
    """Write a library and return its labels, which are random."""
    rng = np.random.default_rng(0)
    ids = [f"t{number:03}" for number in range(N_TRACKS)]
    for track_id in ids:
        write_features(name, track_id, rng)
    table = pd.DataFrame({"track_id": ids, "label": rng.permutation(CLASSES * (N_TRACKS // 3))})
    return table.assign(**{f"p_{one}": (table["label"] == one).astype(float) for one in CLASSES})


def trained_and_asked(
    name: str, table: pd.DataFrame, trained: range, asked: range
) -> tuple[fit.Fitted, Rows, predict.Predicted]:
    """Train on some tracks, choose the epoch or C on the next 40, and return the answers to those asked."""
    backend.prepare(seed=0)
    from pipeline.training.batches import select

    settings = params.read(ROOT / "params.yaml").train
    own = settings.models[name]
    if isinstance(own, params.ModelParams):
        own = own.model_copy(update={"epochs": 4})
    settings = settings.model_copy(update={"models": {name: own}})
    spans = {"train": trained, "valid": range(60, 100), "test": asked}
    split = [
        table[["track_id"]].iloc[list(span)].assign(part=part, slice=0, copy=0)
        for part, span in spans.items()
    ]
    rows = {part: select(pd.concat(split), table, part) for part in spans}
    fitted = fit.fit(name, rows["train"], rows["valid"], settings, seed=0, log=False, verbose=0)
    truth = {row.track_id: CLASSES.index(row.label) for row in table.itertuples()}
    return fitted, rows["test"], predict.predict(fitted.model, rows["test"], fitted.normaliser, truth)


def accuracy(name: str, table: pd.DataFrame, trained: range, asked: range) -> float:
    found = trained_and_asked(name, table, trained, asked)[2]
    return float((found.probabilities.argmax(axis=1) == found.truth).mean())


@pytest.mark.parametrize("name", models.MODELS)
def test_shuffled_labels_give_chance(name: str, workspace: Path) -> None:
    # A third of 140 tracks by chance: three standard deviations are 0.12.
    assert accuracy(name, library(name), range(60), range(100, 240)) == pytest.approx(1 / 3, abs=0.12)


def test_a_leak_would_show(workspace: Path) -> None:
    table = library("musicnn_probe")
    assert accuracy("musicnn_probe", table, range(60), range(60)) > 0.7


@pytest.mark.parametrize("name", ["cnn64_gap", "musicnn_probe"])
def test_the_embedding_is_what_the_last_layer_decides_by(name: str, workspace: Path) -> None:
    fitted, rows, found = trained_and_asked(name, library(name), range(60), range(100, 110))
    kernel, bias = fitted.model.layers[-1].get_weights()
    logits = predict.embedding(fitted.model, rows, fitted.normaliser) @ kernel + bias
    np.testing.assert_allclose(softmax(logits, axis=1), found.probabilities, atol=1e-5)
