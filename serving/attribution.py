"""What each place of the last feature map adds to a class's logit, read from an ONNX graph as it is.

Behind its last feature map a network has dense layers alone. With one (CNN-64, the probe) the logit is the
sum of map times weights over all places, plus the bias: each place's share is exact. With several (LeNet-5)
the shares are those of DeepLIFT's rescale rule (Shrikumar et al. 2017), which for one layer is the same. They
add up as exactly, but each depends on the other places too; so does that of a maximum over the map.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pipeline.errors import CmgError

if TYPE_CHECKING:
    import onnx

_TINY: Final = 1e-9  # change of a unit below which its slope is taken instead
_KEPT: Final = frozenset({"Identity", "Cast", "Dropout"})  # change no number
_POOLS: Final = frozenset({"MaxPool", "AveragePool"})
_GLOBAL: Final = {"GlobalAveragePool": "mean", "GlobalMaxPool": "max"}
_MOVES_NOTHING: Final = frozenset({"Relu", "Add", "BatchNormalization", "Reshape", *_KEPT})
_TO_CHANNELS_LAST: Final = [0, 2, 3, 1]
_TO_CHANNELS_FIRST: Final = [0, 3, 1, 2]


class UnexplainableError(CmgError):
    """A version's graph is none of the kinds whose decisions can be taken apart."""


@dataclass(frozen=True)
class Dense:
    """A dense layer: ``x @ weights + bias``, then a ReLU if it has one."""

    weights: np.ndarray
    bias: np.ndarray
    has_relu: bool


@dataclass(frozen=True)
class Axis:
    """Where the places of a map lie on one axis of the input: place i is centred at ``first + i * step``."""

    first: float
    step: float


@dataclass(frozen=True)
class Head:
    """What a graph ends in.

    Parameters
    ----------
    tensor
        The name of the last feature map; of the input where there are dense layers alone.
    channels_first
        Whether the map is (n, channels, rows, columns), and not with the channels last.
    layers
        From the numbers to the logits.
    rows, columns
        Where its places lie on the input.
    pools
        How the map becomes numbers: ``mean`` and ``max`` over all places, one after the other; flattened with
        the channels last if there is none.
    """

    tensor: str
    channels_first: bool
    layers: tuple[Dense, ...]
    rows: Axis
    columns: Axis
    pools: tuple[str, ...] = ()

    def numbers(self, maps: np.ndarray) -> np.ndarray:
        """Return what the dense layers are given, (n, k), for maps (n, n_rows, n_columns, n_channels)."""
        if not self.pools:
            return maps.reshape(len(maps), -1)
        each = {"mean": maps.mean(axis=(1, 2)), "max": maps.max(axis=(1, 2))}
        return np.concatenate([each[pool] for pool in self.pools], axis=1)

    def shares(self, maps: np.ndarray, reference: np.ndarray, slopes: np.ndarray) -> np.ndarray:
        """Return what each place adds, (n, n_rows, n_columns).

        Parameters
        ----------
        maps, reference
            (n, n_rows, n_columns, n_channels).
        slopes
            From `multipliers`, (n, k). A change of the maximum belongs to the place where it is.
        """
        if not self.pools:
            return ((maps - reference) * slopes.reshape(maps.shape)).sum(axis=3)
        found = np.zeros(maps.shape[:3])
        for pool, own in zip(self.pools, np.split(slopes, len(self.pools), axis=1), strict=True):
            if pool == "mean":
                found += ((maps - reference) @ own[:, None, :, None])[..., 0] / found[0].size
                continue
            flat, places = maps.reshape(len(maps), -1, maps.shape[3]), found.reshape(len(maps), -1)
            gains = (flat.max(axis=1) - reference.max(axis=(1, 2))) * own
            np.add.at(places, (np.arange(len(maps))[:, None], flat.argmax(axis=1)), gains)
        return found


def multipliers(
    layers: tuple[Dense, ...], flat: np.ndarray, reference: np.ndarray, direction: np.ndarray
) -> np.ndarray:
    """Take apart by how much a combination of logits is another than that of a reference.

    Parameters
    ----------
    layers
        Of a `Head`.
    flat, reference
        Flattened feature maps, float32 (n, k).
    direction
        How much of each class's logit: 1 for the class and 0 for all others gives its logit, (n_classes,).

    Returns
    -------
    np.ndarray
        float64 (n, k). Times ``flat - reference`` it is what each number of the map adds: the sum over k is
        the difference of the logits. Where the reference is zero and there is one layer, that is the logit
        less the bias.

    Examples
    --------
    >>> layer = Dense(np.array([[2.0, 0.0], [1.0, 1.0]]), np.array([0.5, 0.0]), has_relu=False)
    >>> multipliers((layer,), np.array([[3.0, 4.0]]), np.zeros((1, 2)), np.array([1.0, 0.0])).tolist()
    [[2.0, 1.0]]
    """
    slopes = []
    for layer in layers:
        flat, reference = (value @ layer.weights + layer.bias for value in (flat, reference))
        if layer.has_relu:
            slopes.append(_relu_slopes(flat, reference))
            flat, reference = np.maximum(flat, 0), np.maximum(reference, 0)
        else:
            slopes.append(np.ones(flat.shape))
    found = np.broadcast_to(direction, flat.shape).astype(np.float64)
    for layer, slope in zip(reversed(layers), reversed(slopes), strict=True):
        found = (found * slope) @ layer.weights.T
    return found


def _relu_slopes(value: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return how much of a unit's change passes its ReLU: DeepLIFT's rescale rule."""
    change = value - reference
    passed = np.maximum(value, 0) - np.maximum(reference, 0)
    return np.divide(passed, change, out=(value > 0).astype(np.float64), where=np.abs(change) > _TINY)


def logits(layers: tuple[Dense, ...], flat: np.ndarray) -> np.ndarray:
    """Return (n, n_classes) for flattened feature maps (n, k)."""
    value = flat
    for layer in layers:
        value = value @ layer.weights + layer.bias
        value = np.maximum(value, 0.0) if layer.has_relu else value
    return value


def open_graph(path: Path) -> tuple[Any, Head]:
    """Open a graph such that it gives its last feature map; the file stays as it is.

    Parameters
    ----------
    path
        An ``.onnx`` file that ends in a softmax.

    Returns
    -------
    onnxruntime.InferenceSession, Head
        With one thread; its one output is the tensor that the head names, if that is not the input itself,
        and the head says what follows.

    Raises
    ------
    UnexplainableError
        It does not end in dense layers.
    """
    import onnx  # 0.4 s of CPU, so only who asks why pays for it
    import onnxruntime

    model = onnx.load(path)
    head = read_head(model.graph)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # as whoever answers: workers share the cores
    if head.tensor != model.graph.input[0].name:
        kept = onnx.helper.make_tensor_value_info(head.tensor, onnx.TensorProto.FLOAT, None)
        del model.graph.output[:]
        model.graph.output.append(kept)
    content = model.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"]), head


def read_head(graph: onnx.GraphProto) -> Head:
    """Find the last feature map and the dense layers behind it."""
    from onnx import numpy_helper

    makers = {name: node for node in graph.node for name in node.output}
    constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    end = _maker(makers, graph.output[0].name)
    if end is None or end.op_type != "Softmax":
        raise _unexplainable("a graph that ends in a softmax", end)
    layers: list[Dense] = []
    tensor = end.input[0]
    while (found := _dense(makers, constants, tensor)) is not None:
        layer, tensor = found
        layers.insert(0, layer)
    if not layers:
        raise _unexplainable("a dense layer before the softmax", _maker(makers, tensor))
    name, pools = _numbers(makers, tensor)
    channels_first = bool(pools)
    turned = _maker(makers, name)
    if turned is not None and turned.op_type == "Transpose" and not pools:
        if list(_attribute(turned, "perm", [])) != _TO_CHANNELS_LAST:
            raise _unexplainable("a map turned to channels last", turned)
        name, channels_first = turned.input[0], True
    rows, columns = _axes(graph, makers, constants, name)
    return Head(name, channels_first, tuple(layers), rows, columns, pools)


def _numbers(makers: Mapping[str, onnx.NodeProto], tensor: str) -> tuple[str, tuple[str, ...]]:
    """Return the map that becomes the dense layers' numbers, and how: by pools, or flattened if none."""
    node = _maker(makers, tensor)
    parts = list(node.input) if node is not None and node.op_type == "Concat" else [tensor]
    found = []
    for part in parts:
        node = _maker(makers, part)
        if node is None or node.op_type not in ("Reshape", "Flatten", "Squeeze"):
            raise _unexplainable("a feature map, flattened or pooled, before the dense layers", node)
        pool = _maker(makers, node.input[0])
        if pool is not None and pool.op_type in _GLOBAL:
            found.append((pool.input[0], _GLOBAL[pool.op_type]))
        elif len(parts) == 1:
            return node.input[0], ()
    if len(found) != len(parts) or len({name for name, _ in found}) != 1:
        raise _unexplainable("pools of one feature map", node)
    return found[0][0], tuple(pool for _, pool in found)


def _dense(
    makers: Mapping[str, onnx.NodeProto], constants: Mapping[str, np.ndarray], tensor: str
) -> tuple[Dense, str] | None:
    """Return the dense layer that makes a tensor, and what it is given; None if another node makes it."""
    node, has_relu, bias = _maker(makers, tensor), False, None
    if node is not None and node.op_type == "Relu":
        node, has_relu = _maker(makers, node.input[0]), True
    if node is not None and node.op_type == "Add":
        given = [name for name in node.input if name not in constants]
        if len(given) != 1:
            return None
        bias = next(constants[name] for name in node.input if name in constants)
        node = _maker(makers, given[0])
    if node is None or node.op_type not in ("MatMul", "Gemm") or node.input[1] not in constants:
        return None
    weights = constants[node.input[1]]
    if node.op_type == "Gemm":
        weights = weights.T if _attribute(node, "transB", 0) else weights
        if len(node.input) > 2:
            bias = constants[node.input[2]]
    flat_bias = (
        np.zeros(weights.shape[1]) if bias is None else np.broadcast_to(bias.ravel(), weights.shape[1])
    )
    return Dense(weights, flat_bias, has_relu), node.input[0]


def _axes(
    graph: onnx.GraphProto,
    makers: Mapping[str, onnx.NodeProto],
    constants: Mapping[str, np.ndarray],
    name: str,
) -> tuple[Axis, Axis]:
    """Follow the map's places back to the input, through windows and what does not move them."""
    firsts, steps = np.zeros(2), np.ones(2)
    while name != graph.input[0].name:
        node = _maker(makers, name)
        if node is None or not _is_followed(node):
            raise _unexplainable("convolutions and pooling before the map", node)
        if node.op_type in {"Conv", *_POOLS}:
            kernel, stride, before = _window(node, constants)
            firsts = stride * firsts - before + (kernel - 1) / 2
            steps = steps * stride
        name = next(one for one in node.input if one not in constants)
    return Axis(firsts[0], steps[0]), Axis(firsts[1], steps[1])


def _is_followed(node: onnx.NodeProto) -> bool:
    if node.op_type == "Transpose":
        return list(_attribute(node, "perm", [])) == _TO_CHANNELS_FIRST
    return node.op_type in {"Conv", *_POOLS, *_MOVES_NOTHING}


def _window(
    node: onnx.NodeProto, constants: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a window's size, its steps and the padding before, each (2,)."""
    size = np.array(_attribute(node, "kernel_shape", None) or constants[node.input[1]].shape[2:])
    size = (size - 1) * np.array(_attribute(node, "dilations", [1, 1])) + 1
    stride = np.array(_attribute(node, "strides", [1, 1]))
    before = np.array(_attribute(node, "pads", [0, 0, 0, 0])[:2])
    if str(_attribute(node, "auto_pad", "NOTSET")).startswith("SAME"):
        # What a step of more than one pads depends on the input's size, but for windows of two.
        if ((stride > 1) & (size > 2)).any():
            raise _unexplainable("windows whose padding is known", node)
        before = (size - 1) // 2
    return size, stride, before


def _maker(makers: Mapping[str, onnx.NodeProto], name: str) -> onnx.NodeProto | None:
    """Return the node that makes a tensor, past those that change no number."""
    node = makers.get(name)
    while node is not None and node.op_type in _KEPT:
        node = makers.get(node.input[0])
    return node


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    from onnx import helper

    value = next((helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)
    return value.decode() if isinstance(value, bytes) else value


def _unexplainable(expected: str, node: onnx.NodeProto | None) -> UnexplainableError:
    found = "none" if node is None else node.op_type
    return UnexplainableError(f"this version cannot say what decided: expected {expected}, received {found}")
