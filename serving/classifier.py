"""The registered model: encoded audio in, one probability per class out.

MLflow runs this file when it loads the model ("models from code"), so nothing is pickled. The network is an
ONNX graph: a session starts in milliseconds and needs no TensorFlow. Registered, the file imports the copy of
the inference code that the version ships (`pipeline.registry.shipped`).
"""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel

from pipeline.inference.errors import DataError
from pipeline.inference.network import Network

_MOST_NAMED: Final = 20  # bad rows of a batch


class Classifier(PythonModel):
    """Classify the column ``audio``: one row per track, or per slice with ``params={"per_slice": True}``."""

    def load_context(self, context: Any) -> None:
        """Open the graph and read the card."""
        card = json.loads(Path(context.artifacts["card"]).read_text(encoding="utf-8"))
        self.network = Network(Path(context.artifacts["graph"]), card)

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return one column per class; per slice also ``row`` and ``slice``.

        Raises
        ------
        MlflowException
            Some rows are no audio; each is named. A server answers 400 with the message, and no stack trace.
        """
        each = self._answers(model_input["audio"].tolist())
        classes = self.network.classes
        if not (params or {}).get("per_slice", False):
            return pd.DataFrame([slices.mean(axis=0) for slices in each], columns=classes)
        where = [(row, number) for row, slices in enumerate(each) for number in range(len(slices))]
        none = np.empty((0, len(classes)), np.float32)  # for a table without rows
        table = pd.DataFrame(np.concatenate([none, *each]), columns=classes)
        table.insert(0, "row", [row for row, _ in where])
        table.insert(1, "slice", [number for _, number in where])
        return table

    def _answers(self, column: list[Any]) -> list[np.ndarray]:
        """Return float32 (n_slices, n_classes) for each row; name the rows that have none."""
        answers, faults = [], []
        for row, value in enumerate(column):
            try:
                answers.append(self.network.of_audio(content(value)))
            except DataError as error:
                faults.append(f"row {row}: {error}")
        if faults:
            more = len(faults) - _MOST_NAMED
            named = faults[:_MOST_NAMED] + ([f"and {more} more"] if more > 0 else [])
            raise MlflowException("; ".join(named), INVALID_PARAMETER_VALUE)
        return answers


def content(value: Any) -> Any:
    """Return a cell's bytes; base64, as which JSON carries audio, is decoded: no audio looks like it.

    Raises
    ------
    DataError
        The cell is text, and no base64.
    """
    value = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str | bytes) else value
    except (binascii.Error, ValueError):
        if isinstance(value, bytes):
            return value
    raise DataError(f"expected audio as bytes or base64, received text of {len(value)} letters")


set_model(Classifier())
