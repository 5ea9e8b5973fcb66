"""The registered model: encoded audio in, one probability a class out.

MLflow runs this file when it loads the model ("models from code"), so nothing is pickled. The network is an
ONNX graph: a session starts in milliseconds and needs no TensorFlow.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from pipeline.inference.network import Network


class Classifier(PythonModel):
    """Classify the column ``audio``; a row a track, or a row a slice with ``params={"per_slice": True}``."""

    def load_context(self, context: Any) -> None:
        """Open the graph and read the card."""
        card = json.loads(Path(context.artifacts["card"]).read_text(encoding="utf-8"))
        self.network = Network(Path(context.artifacts["graph"]), card)

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return a column a class; per slice also ``row`` and ``slice``."""
        per_slice = bool((params or {}).get("per_slice", False))
        each = [self.network.of_audio(encoded) for encoded in model_input["audio"]]
        classes = self.network.classes
        if not per_slice:
            return pd.DataFrame([one.mean(axis=0) for one in each], columns=classes)
        where = [(row, number) for row, one in enumerate(each) for number in range(len(one))]
        table = pd.DataFrame(np.concatenate(each), columns=classes)
        table.insert(0, "row", [row for row, _ in where])
        table.insert(1, "slice", [number for _, number in where])
        return table


set_model(Classifier())
