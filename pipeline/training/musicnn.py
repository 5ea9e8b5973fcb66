"""Make musicnn's ONNX graph from the weights that the package ``musicnn`` ships; its code is never imported.

The weights are those of the checkpoint ``MSD_musicnn`` (ISC licence, Music Technology Group, Universitat
Pompeu Fabra). The graph ends in the 1,506 numbers behind the pooling over time, and in the 200 that the dense
layer before the tags makes of them; the tags are left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipeline.array_cache import code_digest
from pipeline.errors import DataError
from pipeline.files import replacing, sha256
from pipeline.inference import musicnn
from pipeline.training import backend

CACHE: Final = Path(".cache/front_ends")
LICENCE: Final = "ISC, Music Technology Group, Universitat Pompeu Fabra 2019"

_CHECKPOINT: Final = "MSD_musicnn"
_DATA: Final = ".data-00000-of-00001"
_SHA256: Final = (
    "8579734ee6388f799ed0def4bbd0d1fdcbeaf213ef2a9dc860917bd76a303de6"  # of the weights in musicnn 0.1.0
)
_EPSILON: Final = 1e-3  # of the batch normalisations, TensorFlow's default
_OPSET: Final = 17
_IR_VERSION: Final = 8


def checkpoint() -> Path:
    """Return the folder of the published weights.

    Raises
    ------
    DataError
        The package is not installed, or holds other weights.
    """
    found = find_spec("musicnn")
    folder = Path(next(iter(found.submodule_search_locations or [""]))) / _CHECKPOINT if found else Path()
    data = folder / _DATA
    if not found or not data.is_file() or sha256(data) != _SHA256:
        raise DataError(
            f"expected the weights of musicnn 0.1.0, received {data if found else 'no such package'}. "
            "Run `make setup`."
        )
    return folder


def graph() -> Path:
    """Return the network as an ONNX graph, made from the published weights at the first call."""
    digest = hashlib.sha256(f"{_SHA256}|{code_digest(build, _Builder)}".encode()).hexdigest()
    path = CACHE / f"musicnn-{digest[:16]}.onnx"
    if not path.exists():
        made = build(_read(checkpoint()))
        with replacing(path) as temporary:
            temporary.write_bytes(made)
    return path


def front_end() -> musicnn.FrontEnd:
    """Open the network."""
    return musicnn.FrontEnd(graph())


def _read(folder: Path) -> Callable[[str], np.ndarray]:
    """Return a reader of the checkpoint's variables by name."""
    with backend.stderr_closed():  # TensorFlow's lines about what it was not built for
        import tensorflow as tf

    return tf.compat.v1.train.NewCheckpointReader(f"{folder}/").get_tensor


class _Builder:
    """Nodes and weights of a graph; tensors are (window, channel, frame, band)."""

    def __init__(self, weights: Callable[[str], np.ndarray]) -> None:
        self.weights = weights
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return its output's name."""
        from onnx import helper

        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, array: np.ndarray) -> str:
        """Add a constant and return its name."""
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def normalised(self, tensor: str, number: int) -> str:
        """Add the batch normalisation of that number."""
        name = "batch_normalization" + (f"_{number}" if number else "")
        parts = ("gamma", "beta", "moving_mean", "moving_variance")
        given = [self.constant(self.weights(f"{name}/{part}")) for part in parts]
        return self.add("BatchNormalization", tensor, *given, epsilon=_EPSILON)

    def convolved(self, tensor: str, number: int, pads: tuple[int, int], *, bands: bool = False) -> str:
        """Add the convolution of that number with ReLU and the batch normalisation behind it.

        ``bands``: the kernel's width lies over channels, which TensorFlow had as bands.
        """
        name = "conv2d" + (f"_{number}" if number else "")
        kernel = self.weights(f"{name}/kernel")  # (frames, bands, in, out)
        kernel = kernel.transpose(3, 1, 0, 2) if bands else kernel.transpose(3, 2, 0, 1)
        given = [self.constant(kernel), self.constant(self.weights(f"{name}/bias"))]
        found = self.add("Relu", self.add("Conv", tensor, *given, pads=[pads[0], 0, pads[1], 0]))
        return self.normalised(found, number + 1)


def build(weights: Callable[[str], np.ndarray]) -> bytes:
    """Return the graph: ``mel`` float32 (n, 187, 96) to ``pooled`` (n, 1506) and ``embedding`` (n, 200).

    Parameters
    ----------
    weights
        The checkpoint's variables by name.
    """
    from onnx import TensorProto, helper

    net = _Builder(weights)
    mel = net.normalised(net.add("Unsqueeze", "mel", net.constant(np.array([1]))), 0)  # (n, 1, 187, 96)
    # Two timbral kernels of 7 frames, then temporal ones of 128, 64 and 32; "same" pads the odd one behind.
    pads = ((3, 3), (3, 3), (63, 64), (31, 32), (15, 16))
    fronts = [net.convolved(mel, number, pad) for number, pad in enumerate(pads)]
    peaks = [net.add("ReduceMax", front, axes=[3], keepdims=1) for front in fronts]
    front = net.add("Concat", *peaks, axis=1)  # (n, 561, 187, 1)
    first = net.convolved(front, 5, (3, 3), bands=True)  # (n, 64, 187, 1)
    second = net.add("Add", net.convolved(first, 6, (3, 3), bands=True), first)
    third = net.add("Add", net.convolved(second, 7, (3, 3), bands=True), second)
    maps = net.add("Concat", front, first, second, third, axis=1)  # (n, 753, 187, 1)
    pools = [net.add(kind, maps, axes=[2], keepdims=1) for kind in ("ReduceMax", "ReduceMean")]
    both = net.add("Concat", *pools, axis=3)  # (n, 753, 1, 2): maximum and mean of a map are neighbours
    net.nodes.append(helper.make_node("Flatten", [both], ["pooled"]))
    dense = [net.constant(net.weights(f"dense/{part}")) for part in ("kernel", "bias")]
    last = net.normalised(net.add("Relu", net.add("Gemm", net.normalised("pooled", 9), *dense)), 10)
    net.nodes.append(helper.make_node("Identity", [last], ["embedding"]))
    given = helper.make_tensor_value_info("mel", TensorProto.FLOAT, ["n", musicnn.WINDOW, musicnn.N_MELS])
    answers = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in (("pooled", musicnn.N_NUMBERS), ("embedding", musicnn.N_EMBEDDING))
    ]
    made = helper.make_graph(net.nodes, "musicnn", [given], answers, net.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    return model.SerializeToString(deterministic=True)
