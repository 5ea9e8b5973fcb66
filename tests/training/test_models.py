"""The two networks are the report's, to the parameter; one contract for every model there is."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from cmg import cli
from pipeline.params import ModelName
from pipeline.training import models

SHAPE = (128, 431)


@pytest.mark.parametrize(("name", "count"), [("lenet5", 6_117_982), ("cnn64", 207_434)])
def test_the_number_of_parameters_is_the_reports(name: str, count: int) -> None:
    assert models.build(name, SHAPE, 10).count_params() == count


def test_the_feature_maps_of_cnn64_are_the_reports() -> None:
    model = models.build("cnn64", SHAPE, 10)
    maps = [layer.output.shape[1:] for layer in model.layers if "2d" in layer.name]
    sizes = [(126, 429), (63, 214), (61, 212), (30, 106), (28, 104), (14, 52), (12, 50), (6, 25)]
    assert maps == [(*size, 64) for size in sizes]
    assert [layer.rate for layer in model.layers if "dropout" in layer.name] == [0.2, 0.2, 0.2, 0.3]


def test_the_feature_maps_of_lenet5_are_the_reports() -> None:
    model = models.build("lenet5", SHAPE, 10)
    maps = [layer.output.shape[1:] for layer in model.layers if "2d" in layer.name]
    assert maps == [(126, 429, 8), (63, 214, 8), (61, 212, 16), (30, 106, 16)]
    assert [layer.units for layer in model.layers if "dense" in layer.name] == [120, 84, 10]
    assert [layer.rate for layer in model.layers if "dropout" in layer.name] == [0.2, 0.2, 0.3, 0.4]


def test_the_poolings_are_the_reports() -> None:
    for name, kind in (("lenet5", "average_pooling2d"), ("cnn64", "max_pooling2d")):
        pools = [one.name for one in models.build(name, SHAPE, 10).layers if "pooling" in one.name]
        assert pools
        assert all(kind in pool for pool in pools)


@pytest.mark.parametrize("name", models.MODELS)
def test_contract(name: str) -> None:
    """Equal seeds give equal weights; rows of probabilities; nothing depends on batch-mates; it learns."""
    import keras

    shape, n_classes = (46, 61), 3
    keras.utils.set_random_seed(0)
    model = models.build(name, shape, n_classes)
    keras.utils.set_random_seed(0)
    twin = models.build(name, shape, n_classes)
    for one, other in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert model.name == name
    assert model.input_shape == (None, *shape, 1)
    assert model.output_shape == (None, n_classes)

    rows = np.random.default_rng(0).standard_normal((6, *shape, 1)).astype(np.float32)
    probabilities = np.asarray(model(rows, training=False))
    assert probabilities.dtype == np.float32
    assert probabilities.min() >= 0
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.asarray(model(rows[2:3], training=False)), probabilities[2:3], atol=1e-5)

    targets = np.eye(n_classes, dtype=np.float32)[np.arange(6) % n_classes]
    model.compile(keras.optimizers.Adam(1e-3), "categorical_crossentropy", run_eagerly=True)
    before = model.evaluate(rows, targets, verbose=0)
    model.fit(rows, targets, epochs=8, batch_size=6, verbose=0)
    assert model.evaluate(rows, targets, verbose=0) < before
    assert all(
        np.any(one != other) for one, other in zip(model.get_weights(), twin.get_weights(), strict=True)
    )


@pytest.mark.parametrize("name", ["lenet5", "cnn64", "cnn64_gap"])
def test_dropout_acts_in_training_alone(name: str) -> None:
    model = models.build(name, (46, 61), 3)
    rows = np.random.default_rng(0).standard_normal((6, 46, 61, 1)).astype(np.float32)
    answer = np.asarray(model(rows, training=False))
    np.testing.assert_array_equal(np.asarray(model(rows, training=False)), answer)
    assert np.any(np.asarray(model(rows, training=True)) != answer)


@pytest.mark.parametrize(
    ("architecture", "count"),
    [
        ({}, 113_482),  # four convolutions of 64, their normalisation, 128 numbers to ten classes
        ({"pooling": "mean"}, 113_482 - 640),
        ({"pooling": "flatten"}, 113_482 - 1_280 + 4 * 7 * 64 * 10),
        ({"batch_norm": False}, 113_482 - 4 * (4 - 1) * 64),  # biases instead
    ],
)
def test_the_parts_of_cnn64_gap_can_be_chosen(architecture: dict[str, Any], count: int) -> None:
    assert models.build("cnn64_gap", SHAPE, 10, **architecture).count_params() == count


def test_spatial_dropout_of_cnn64_gap_is_as_wide_as_wished() -> None:
    model = models.build("cnn64_gap", SHAPE, 10, spatial_dropout=0.25)
    assert [layer.rate for layer in model.layers if "spatial" in layer.name] == [0.25] * 3


@pytest.mark.parametrize("less", [(0, 1), (1, 0)])
def test_nothing_smaller_than_the_smallest_can_be_built(less: tuple[int, int]) -> None:
    shape = (models.SMALLEST[0] - less[0], models.SMALLEST[1] - less[1])
    with pytest.raises(ValueError, match="zero or negative"):
        models.build("cnn64", shape, 10)


@pytest.mark.parametrize("name", models.MODELS)
def test_the_smallest_can_be_built(name: str) -> None:
    assert models.build(name, models.SMALLEST, 2).output_shape == (None, 2)


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(KeyError, match="lenet6"):
        models.build("lenet6", SHAPE, 10)


def test_every_model_has_a_title_and_may_be_named_in_params_and_at_the_terminal() -> None:
    names = list(models.MODELS)
    assert list(models.TITLES) == names
    assert list(get_args(ModelName)) == names
    assert list(get_args(get_type_hints(cli.audit)["model"])) == names
