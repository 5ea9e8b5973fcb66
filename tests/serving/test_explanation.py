"""What decided: shares add up, the map lies where the network looks, and the region can be taken out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import pipeline.inference as package
from pipeline.errors import ParamsError
from pipeline.inference import audio, logmel, musicnn
from pipeline.inference.network import Network
from pipeline.training import backend, models
from pipeline.training import musicnn as front_end
from serving import attribution, masking
from serving.explanation import Explainer, Grid, chosen
from tests.registry import tiny

CLASSES = ["a", "b", "c", "d"]
KINDS = ("cnn64", "cnn64_gap", "lenet5", "musicnn_probe")
SPEC = {"n_fft": 2048, "hop_length": 512, "n_mels": 128}


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(2).normal(0, 0.1, round(seconds * audio.SAMPLE_RATE)).astype(np.float32)


@pytest.fixture(scope="module", params=KINDS)
def version(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, Path]:
    """Return an untrained network as a registered version has it, with biases that are not zero."""
    folder, name = tmp_path_factory.mktemp(request.param), request.param
    backend.prepare(seed=1)
    is_probe = name == "musicnn_probe"
    shape = (musicnn.N_NUMBERS, 1) if is_probe else (128, 431)
    model = models.build(name, shape, len(CLASSES))
    model(np.zeros((1, *shape, 1), np.float32))
    for layer in model.layers:
        own = layer.get_weights()
        layer.set_weights(
            [one if one.ndim > 1 else np.linspace(0.1, 0.5, len(one), dtype=np.float32) for one in own]
        )
    model.export(folder / "model.onnx", format="onnx", verbose=False)
    each = shape[0]
    normaliser = {"kind": "standard", "mean": [0.5 if is_probe else -40.0] * each, "std": [9.0] * each}
    card: dict[str, Any] = {"classes": CLASSES, "spectrogram": SPEC, "normaliser": normaliser}
    if is_probe:
        shutil.copyfile(front_end.graph(), folder / musicnn.GRAPH)
        card |= {"front_end": "musicnn", "front_end_sha256": ""}
    return Network(folder / "model.onnx", card), folder / "model.onnx"


@pytest.mark.slow
def test_shares_add_up_to_what_silence_lacks(version: tuple[Network, Path]) -> None:
    network, graph = version
    explainer = Explainer(package, network, graph)
    clip = noise(23.0)
    slices = list(audio.slices(clip))
    answers = network.of_features(network.features(slices))
    np.testing.assert_allclose(explainer.probabilities(clip), answers.mean(axis=0), atol=1e-5)
    # Of a softmax, logarithms of probabilities are logits up to what all classes have in common.
    logits = np.log(answers.astype(np.float64)).mean(axis=0)
    for number, label in enumerate(CLASSES):
        found = explainer.explain(clip, label)
        assert found.logit == pytest.approx(logits[number] - logits.mean(), abs=1e-4)
        assert found.shares.sum() + found.silence == pytest.approx(found.logit, abs=1e-5)
        assert found.shares.shape == found.grid.area.shape
        assert np.ptp(found.shares) > 0
    total = sum(explainer.explain(clip, label).shares for label in CLASSES)
    assert np.abs(total).max() < 1e-5  # what speaks for one class speaks against the others


@pytest.mark.slow
def test_of_a_map_of_zeros_the_shares_add_up_to_the_logit_less_the_bias(
    version: tuple[Network, Path],
) -> None:
    network, graph = version
    explainer = Explainer(package, network, graph)
    layers = explainer._head.layers
    [features] = explainer._features(noise(23.0))
    flat = explainer._flat(explainer._places(features))
    for number in range(len(CLASSES)):
        direction = np.eye(len(CLASSES))[number]
        slopes = attribution.multipliers(layers, flat, np.zeros_like(flat), direction)
        logit = attribution.logits(layers, flat)[:, number]
        bias = attribution.logits(layers, np.zeros_like(flat))[:, number]
        np.testing.assert_allclose((flat * slopes).sum(axis=1), logit - bias, atol=1e-5)
        if len(layers) == 1:
            assert bias == pytest.approx(layers[0].bias[number])
            np.testing.assert_array_equal(slopes[0], layers[0].weights[:, number])


@pytest.mark.slow
def test_a_region_and_the_rest_make_the_recording(version: tuple[Network, Path]) -> None:
    network, graph = version
    explainer = Explainer(package, network, graph)
    clip = noise(23.0)
    found = explainer.explain(clip, "b")
    region = chosen(found.grid, found.shares, 0.2)
    only = explainer.only(clip, found.grid, region)
    rest = explainer.without(clip, found.grid, region)
    np.testing.assert_allclose(only + rest, clip, atol=1e-5)
    assert 0.1 < np.square(only).sum() / np.square(clip).sum() < 0.4
    everything = explainer.without(clip, found.grid, np.zeros_like(region))
    np.testing.assert_allclose(everything, clip, atol=1e-5)


def write_graph(path: Path, weights: np.ndarray, *, kernel: int = 3) -> None:
    """Write the smallest graph with a map: one convolution that sums, a pooling, one dense layer."""
    frames = tiny.SPEC.frames
    rows, columns = (tiny.SPEC.n_mels - kernel + 1) // 2, (frames - kernel + 1) // 2
    nodes = [
        helper.make_node("Transpose", ["x"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first", "kernel"], ["sum"], kernel_shape=[kernel, kernel]),
        helper.make_node("MaxPool", ["sum"], ["map"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Transpose", ["map"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["last", "flat_shape"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["y"]),
    ]
    numbers = rows * columns
    constants = [
        helper.make_tensor("kernel", TensorProto.FLOAT, [1, 1, kernel, kernel], [1.0] * kernel**2),
        helper.make_tensor("flat_shape", TensorProto.INT64, [2], [-1, numbers]),
        helper.make_tensor("weights", TensorProto.FLOAT, [2, numbers], weights.ravel()),
        helper.make_tensor("bias", TensorProto.FLOAT, [2], [0.25, -0.25]),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *tiny.SPEC.shape, 1])
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    model = helper.make_model(
        helper.make_graph(nodes, "one map", [given], [answer], constants),
        opset_imports=[helper.make_opsetid("", 13)],
    )
    model.ir_version = 9
    onnx.save(model, str(path))


def small(tmp_path: Path, **options: Any) -> tuple[Network, Path]:
    """Return a network of two classes whose map is 3 x 12 places of 16 mel bands x 27 frames."""
    normaliser = {"kind": "standard", "mean": [0.0] * 8, "std": [1.0] * 8}
    card = {"classes": ["low", "high"], "spectrogram": vars(tiny.SPEC), "normaliser": normaliser}
    rows, columns = 3, (tiny.SPEC.frames - 2) // 2
    weights = np.zeros((2, rows, columns), np.float32)
    weights[0, 0], weights[1, 2] = 0.001, 0.001
    write_graph(tmp_path / "model.onnx", weights, **options)
    return Network(tmp_path / "model.onnx", card), tmp_path / "model.onnx"


def test_the_places_are_where_the_network_looks(tmp_path: Path) -> None:
    network, graph = small(tmp_path)
    _, head = attribution.open_graph(graph)
    # A pooling of two over windows of three: place i sees 2i to 2i + 3, the middle is 2i + 1.5.
    assert head.rows == attribution.Axis(1.5, 2.0)
    assert head.columns == attribution.Axis(1.5, 2.0)
    found = Explainer(package, network, graph).explain(noise(10.0), "low")
    assert found.grid.bands.tolist() == [0.0, 3.0, 5.0, 8.0]
    assert found.grid.times[0].tolist() == pytest.approx([0.0, 2.5 * 8192 / 22_050])
    assert found.grid.times[-1, 1] == pytest.approx(10.0)
    assert (found.shares[0] > 0).all()
    assert (found.shares[2] < 0).all()
    assert np.abs(found.shares[1]).max() == 0
    assert found.shares.sum() + found.silence == pytest.approx(found.logit, abs=1e-6)
    assert (
        Explainer(package, network, graph).explain(np.zeros(9_000, np.float32), "low").logit == found.silence
    )


def test_several_dense_layers_are_taken_apart_without_a_remainder() -> None:
    rng = np.random.default_rng(0)
    layers = tuple(
        attribution.Dense(rng.normal(size=shape), rng.normal(size=shape[1]), has_relu)
        for shape, has_relu in (((6, 5), True), ((5, 4), True), ((4, 3), False))
    )
    given, reference, one = rng.normal(size=(2, 6)), rng.normal(size=(2, 6)), np.array([0.0, 1.0, 0.0])
    slopes = attribution.multipliers(layers, given, reference, one)
    wanted, without = (attribution.logits(layers, value)[:, 1] for value in (given, reference))
    np.testing.assert_allclose(((given - reference) * slopes).sum(axis=1), wanted - without)
    # Of a reference that is hardly another they are the gradient.
    step = 1e-5 * rng.normal(size=(2, 6))
    slopes = attribution.multipliers(layers, given, given - 1e-7, one)
    moved = attribution.logits(layers, given + step)[:, 1]
    np.testing.assert_allclose(moved - wanted, (slopes * step).sum(axis=1), rtol=1e-4)


def test_a_version_of_another_kind_says_that_it_cannot(tmp_path: Path) -> None:
    tiny.other_graph(tmp_path / "model.onnx")
    with pytest.raises(attribution.UnexplainableError, match=r"^this version cannot say what decided: expec"):
        attribution.open_graph(tmp_path / "model.onnx")


def test_a_class_that_is_none_is_named(tmp_path: Path) -> None:
    network, graph = small(tmp_path)
    with pytest.raises(ParamsError, match="expected one of low, high, received 'polka'"):
        Explainer(package, network, graph).explain(noise(1.0), "polka")


def test_the_end_of_a_short_clip_has_no_size(tmp_path: Path) -> None:
    network, graph = small(tmp_path)
    found = Explainer(package, network, graph).explain(noise(3.0), "low")
    assert found.grid.times.max() == pytest.approx(3.0)
    region = found.region(0.5)
    assert region.any()
    assert not region[:, found.grid.times[:, 0] >= 3.0].any()


def test_a_region_has_the_size_that_was_asked_for() -> None:
    grid = Grid(np.array([0.0, 1.0, 4.0]), np.array([[0.0, 1.0], [1.0, 2.0], [2.0, 4.0]]))
    order = np.array([[5.0, 1.0, -np.inf], [4.0, 3.0, 2.0]])
    assert chosen(grid, order, 1 / 16).tolist() == [[True, False, False], [False, False, False]]
    assert chosen(grid, order, 4 / 16).tolist() == [[True, False, False], [True, False, False]]
    assert chosen(grid, order, 0.99).tolist() == [[True, True, False], [True, True, True]]
    assert grid.area.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("length", [1, 513, 22_050, 100_001])
def test_a_masked_tone_is_gone_and_another_stays(length: int) -> None:
    time = np.arange(length) / 22_050
    low, high = (np.sin(2 * np.pi * hertz * time).astype(np.float32) for hertz in (300, 5_000))
    rows = (np.arange(masking.N_BINS) > 200).astype(int)  # 2153 Hz
    columns = np.zeros(masking.n_frames(length), int)
    everything = masking.apply(low + high, np.ones((2, 1)), rows, columns)
    np.testing.assert_allclose(everything, low + high, atol=1e-5)
    heard = masking.apply(low + high, np.array([[1.0], [0.0]]), rows, columns)
    assert heard.dtype == np.float32
    if length > masking.N_FFT:
        assert np.abs(heard - low)[2048:-2048].max() < 1e-2


def test_rows_of_bins_follow_the_mel_bands(tmp_path: Path) -> None:
    network, graph = small(tmp_path)
    explainer = Explainer(package, network, graph)
    grid = Grid(np.array([0.0, 2.5, 4.5, 8.0]), np.array([[0.0, 1.0]]))
    rows = explainer._rows_of_bins(grid)
    assert (np.diff(rows) >= 0).all()
    assert set(rows) == {0, 1, 2}
    bank = logmel.mel_filters(8, 2048, 22_050).toarray()
    assert rows[bank[0].argmax()] == 0
    assert rows[bank[7].argmax()] == 2
