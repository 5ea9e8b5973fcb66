"""A probe learns what can be learned, from soft labels; from shuffled ones it learns nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline import files
from pipeline.inference.musicnn import N_NUMBERS
from pipeline.tables.features import features_path
from pipeline.tables.trained_models import CURVE_COLUMNS
from pipeline.training import backend, models, predict, probe

NAME = "musicnn_probe"
GRID = [0.001, 0.01, 0.1]
CLASSES = 3


@pytest.fixture
def rows(workspace: Path):
    """Write tracks of two slices in which class k is high in its 20 numbers; return a maker of rows."""
    backend.prepare(seed=0)
    from pipeline.training.batches import Rows

    def make(n_tracks: int, prefix: str, label: np.ndarray | None = None) -> Rows:
        rng = np.random.default_rng(n_tracks)
        number = np.arange(n_tracks) % CLASSES
        ids = [f"{prefix}{track:03}" for track in range(n_tracks)]
        for track, one in zip(ids, number, strict=True):
            values = rng.normal(5, 3, (2, N_NUMBERS, 1))
            values[:, one * 20 : one * 20 + 20] += 6
            values[:, -1] = 1.0  # never changes
            files.write_array(features_path(track, models.features_folder(NAME)), values.astype(np.float32))
        targets = np.eye(CLASSES, dtype=np.float32)[number if label is None else label]
        return Rows(
            track_id=np.repeat(ids, 2).astype(object),
            slice=np.tile([0, 1], n_tracks),
            copy=np.zeros(2 * n_tracks, int),
            targets=np.repeat(targets, 2, axis=0),
            weights=np.ones(2 * n_tracks, np.float32),
        )

    return make


def accuracy(model, normaliser, asked) -> float:
    truth = dict(zip(asked.track_id, asked.targets.argmax(axis=1), strict=True))
    found = predict.predict(model, asked, normaliser, truth)
    return float((found.probabilities.argmax(axis=1) == found.truth).mean())


def test_it_learns_and_answers_as_it_was_chosen_by(rows) -> None:
    valid = rows(30, "v")
    model, normaliser, curves, facts = probe.fit(NAME, rows(60, "t"), valid, GRID, log=False)
    assert accuracy(model, normaliser, rows(90, "x")) > 0.9
    assert list(curves.columns) == list(CURVE_COLUMNS)
    assert curves["epoch"].tolist() == [1, 2, 3]
    best = int(curves["val_loss"].argmin())
    assert facts["c"] == GRID[best]
    assert curves["kept"].tolist() == [int(number == best) for number in range(3)]
    assert accuracy(model, normaliser, valid) == pytest.approx(curves["val_accuracy"][best], abs=0.05)
    assert model.count_params() == (N_NUMBERS + 1) * CLASSES
    assert facts["licence"].startswith("ISC")


def test_it_is_the_same_from_run_to_run(rows) -> None:
    train, valid = rows(30, "t"), rows(9, "v")
    one, other = (probe.fit(NAME, train, valid, GRID, log=False)[0].get_weights() for _ in range(2))
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right)


def test_shuffled_labels_give_chance(rows) -> None:
    """A leak of labels into what is learned from or chosen by would show here."""
    rng = np.random.default_rng(0)
    shuffled = [rng.integers(0, CLASSES, n) for n in (60, 30)]
    train, valid = rows(60, "t", shuffled[0]), rows(30, "v", shuffled[1])
    model, normaliser, curves, _ = probe.fit(NAME, train, valid, GRID, log=False)
    assert curves["accuracy"].iloc[-1] > 0.9, "the numbers are enough to learn training tracks by heart"
    assert curves["val_accuracy"].max() < 0.6
    assert accuracy(model, normaliser, rows(300, "x")) == pytest.approx(1 / 3, abs=0.12)


def test_soft_labels_are_shares(workspace: Path) -> None:
    inputs = np.array([[-1.0]] * 10 + [[1.0]] * 10)
    targets = np.array([[0.7, 0.2, 0.1]] * 10 + [[0.1, 0.2, 0.7]] * 10)
    layer = probe.fit_layer(inputs, targets, c=1e4)
    np.testing.assert_allclose(layer(np.array([[-1.0], [1.0]])), targets[[0, 10]], atol=0.01)


def test_a_class_without_tracks_is_never_answered() -> None:
    targets = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]] * 5)
    layer = probe.fit_layer(np.array([[-1.0], [1.0]] * 5), targets, c=10.0)
    shares = layer(np.array([[-1.0], [1.0]]))
    assert shares[:, 1].max() < 1e-6
    assert shares.argmax(axis=1).tolist() == [0, 2]
    assert shares.max(axis=1).min() > 0.8
    np.testing.assert_allclose(shares.sum(axis=1), 1)
