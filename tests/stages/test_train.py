from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import files, params
from pipeline.errors import DataError, ParamsError
from pipeline.stages import train
from pipeline.tables.dataset import read_dataset
from pipeline.tables.features import features_path, load_features
from pipeline.tables.labels import labels_path
from pipeline.tables.trained_models import CURVE_COLUMNS, weights_path
from pipeline.training import backend, best_epoch
from pipeline.training.fit import fit, fit_normaliser
from pipeline.training.weights import save_weights
from tests.conftest import Library

SHAPE = (48, 60)  # small, but enough for CNN-64's four poolings
CLASSES = 3


@pytest.fixture
def rows(workspace: Path) -> Callable:
    """Write features in which class k is loud in the k-th third of the bands; return a maker of rows."""
    backend.prepare(seed=0)
    from pipeline.training.batches import Rows

    def make(n_tracks: int, prefix: str, n_slices: int = 2) -> Rows:
        rng = np.random.default_rng(n_tracks)
        number = np.arange(n_tracks) % CLASSES
        for track, label in enumerate(number):
            clip = rng.normal(-60, 5, (n_slices, *SHAPE))
            clip[:, label * 16 : label * 16 + 16] += 30
            files.write_array(features_path(f"{prefix}{track:03}"), clip.astype(np.float16))
        return Rows(
            track_id=np.repeat([f"{prefix}{track:03}" for track in range(n_tracks)], n_slices).astype(object),
            slice=np.tile(np.arange(n_slices), n_tracks),
            copy=np.zeros(n_tracks * n_slices, int),
            targets=np.repeat(np.eye(CLASSES, dtype=np.float32)[number], n_slices, axis=0),
            weights=np.ones(n_tracks * n_slices, np.float32),
        )

    return make


def schedule(settings: params.Params, **changes) -> params.TrainParams:
    own = {
        name: params.ModelParams(epochs=8, learning_rate=0.003, patience=8) for name in settings.train.models
    }
    return settings.train.model_copy(update={"models": own, "augment": "none", "batch_size": 8} | changes)


@pytest.mark.parametrize("name", ["lenet5", "cnn64"])
def test_every_model_learns_what_can_be_learned(rows: Callable, settings: params.Params, name: str) -> None:
    fitted = fit(name, rows(30, "t"), rows(9, "v"), schedule(settings), seed=0, log=False, verbose=0)
    assert fitted.curves["val_accuracy"].max() > 0.9
    assert list(fitted.curves.columns) == list(CURVE_COLUMNS)


def test_weights_of_the_kept_epoch_are_restored_and_training_stops_early(
    rows: Callable, settings: params.Params
) -> None:
    valid = rows(9, "v")
    wrong = replace(
        valid, targets=np.roll(valid.targets, 1, axis=1)
    )  # the better it learns, the worse it scores
    impatient = schedule(
        settings, models={"lenet5": params.ModelParams(epochs=30, learning_rate=0.003, patience=2)}
    )
    fitted = fit("lenet5", rows(30, "t"), wrong, impatient, seed=0, log=False, verbose=0)
    assert len(fitted.curves) < 30
    assert fitted.curves["kept"].sum() == 1
    from pipeline.training.batches import Batches

    probabilities = fitted.model.predict(Batches(wrong, fitted.normaliser, batch_size=8), verbose=0)
    kept = fitted.curves.loc[fitted.curves["kept"].idxmax()]
    for name, value in best_epoch.track_scores(wrong, probabilities).items():
        assert kept[name] == pytest.approx(value, abs=1e-5), name


def test_same_seed_gives_the_same_bytes_and_another_seed_others(
    rows: Callable, settings: params.Params, tmp_path: Path
) -> None:
    learn, valid = rows(12, "t"), rows(6, "v")
    brief = schedule(
        settings, models={"lenet5": params.ModelParams(epochs=2, learning_rate=0.003, patience=2)}
    )
    content = []
    for number, seed in enumerate((1, 1, 2)):
        backend.prepare(seed)
        fitted = fit("lenet5", learn, valid, brief, seed=seed, log=False, verbose=0)
        path = tmp_path / f"{number}.weights.h5"
        save_weights(fitted.model, path)
        content.append(path.read_bytes())
    assert content[0] == content[1]
    assert content[0] != content[2]


def test_divergence_is_an_error_that_says_what_to_do(rows: Callable, settings: params.Params) -> None:
    endless = params.ModelParams.model_construct(epochs=1, learning_rate=1e30, patience=1)  # beyond the limit
    wild = schedule(settings, models={"lenet5": endless})
    with pytest.raises(DataError, match=r"finite validation loss.*learning_rate"):
        fit("lenet5", rows(24, "t"), rows(6, "v"), wild, seed=0, log=False, verbose=0)


def test_too_small_a_spectrogram_is_refused(workspace: Path, settings: params.Params, rows: Callable) -> None:
    learn = rows(6, "t")
    for track in np.unique(learn.track_id.astype(str)):
        files.write_array(features_path(track), np.zeros((2, 40, 60), np.float16))
    with pytest.raises(ParamsError, match=r"at least \(46, 46\).*received \(40, 60\)"):
        fit("cnn64", learn, learn, schedule(settings), seed=0, log=False, verbose=0)


def test_normaliser_is_fitted_on_the_named_slices_only(rows: Callable) -> None:
    learn = rows(6, "t")
    first = learn.take(np.flatnonzero(learn.slice == 0))
    for track in np.unique(learn.track_id.astype(str)):
        clip = np.array(load_features(track))
        clip[1] = 90.0  # the slice that does not train
        files.write_array(features_path(track), clip)
    fitted = fit_normaliser(first, "standard")
    assert max(fitted.mean) < 0


def test_card_says_what_promotion_must_know(
    library: Library, settings: params.Params, rows: Callable
) -> None:
    from pipeline.stages import labels

    tracks = pd.DataFrame({"track_id": ["t000", "t001", "t002"], "genre": ["blues", "metal", "pop"]})
    files.write_csv(labels_path("genre"), labels.genre_labels(tracks))
    learn = rows(6, "t")
    fitted = fit("lenet5", learn, rows(3, "v"), schedule(settings), seed=0, log=False, verbose=0)
    weights_path("genre", "lenet5").parent.mkdir(parents=True, exist_ok=True)
    save_weights(fitted.model, weights_path("genre", "lenet5"))
    assigned = pd.DataFrame(
        {"track_id": ["t000", "t001", "t002"], "part": ["train", "valid", "test"], "protocol": "shuffled"}
    )
    card = train.card("genre", "lenet5", fitted, assigned, settings)
    assert card["seen_tracks"] == ["t000", "t001"]
    assert card["leaky"]
    assert card["dataset"] == {"name": read_dataset()["name"], "synthetic": True}
    assert card["weights_sha256"] == files.sha256(weights_path("genre", "lenet5"))
    assert card["classes"] == ["blues", "metal", "pop"]


@pytest.mark.gpu
def test_gpu_is_used_in_mixed_precision() -> None:
    """Run on a GPU machine: make test-gpu."""
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        pytest.skip("TensorFlow sees no GPU")
    assert "mixed precision" in backend.prepare(seed=0)
