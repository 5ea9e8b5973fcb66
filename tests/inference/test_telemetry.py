"""Nothing is reported to anybody by what answers: ONNX Runtime would, unless it is told not to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from tests.conftest import ROOT

_OPENED = """
import {package}.network, onnxruntime
onnxruntime.InferenceSession("graph.onnx", providers=["CPUExecutionProvider"])
"""


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Return a folder with a graph of one node, and a home where there is nothing."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    made = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "one", ends[:1], ends[1:])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "graph.onnx"))
    (tmp_path / "home").mkdir()
    return tmp_path


@pytest.mark.parametrize("package", ["pipeline.inference", "shipped"])  # as registered versions carry it
def test_a_graph_is_opened_without_a_report_to_its_makers(graph: Path, package: str) -> None:
    shutil.copytree(ROOT / "pipeline/inference", graph / "shipped")
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    env = kept | {"HOME": str(graph / "home"), "XDG_CACHE_HOME": "", "PYTHONPATH": f"{ROOT}:{graph}"}
    done = subprocess.run(
        [sys.executable, "-c", _OPENED.format(package=package)], cwd=graph, env=env, check=False
    )
    assert done.returncode == 0
    assert not list((graph / "home").rglob("*"))
