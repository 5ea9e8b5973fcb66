"""The network as an ONNX graph: a session starts in milliseconds and needs no TensorFlow."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from . import audio, logmel
from .calibration import Calibration
from .errors import DataError
from .normalise import Normaliser

_BATCH: Final = 4  # slices at a time: CNN-64 takes 45 MB for each, and more at a time are no faster


class Network:
    """An ONNX graph with its card: audio bytes to probabilities.

    Parameters
    ----------
    graph
        The ``.onnx`` file.
    card
        Classes, normaliser and spectrogram, as the stage ``train`` writes them, and the calibration of the
        stage ``evaluate``; without it the graph's own probabilities are the answer.
    """

    def __init__(self, graph: Path, card: dict[str, Any]) -> None:
        import onnxruntime

        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.classes: list[str] = card["classes"]
        self.settings = logmel.LogMel(**card["spectrogram"])
        self.normaliser = Normaliser.from_dict(card["normaliser"])
        self.calibration = Calibration.from_card(card)

    def of_features(self, features: np.ndarray) -> np.ndarray:
        """Return float32 (n_slices, n_classes) for stored features, float16 (n_slices, n_mels, frames)."""
        inputs = self.normaliser(features)[..., None]
        answers = self.session.run(None, {self.input: inputs})[0]
        return self.calibration.correct(answers, self.calibration.is_familiar(features))

    def of_audio(self, encoded: bytes, *, max_seconds: float = audio.MAX_SECONDS) -> np.ndarray:
        """Return float32 (n_slices, n_classes) for an audio file's content.

        Raises
        ------
        DataError
            The content is no audio, longer than ``max_seconds``, or has samples that are not finite.
        """
        if not isinstance(encoded, bytes | bytearray):
            raise DataError(f"expected an audio file's bytes, received {type(encoded).__name__}")
        slices = audio.slices(audio.load(encoded, max_seconds=max_seconds))
        found = []
        while batch := list(islice(slices, _BATCH)):
            found.append(self.of_features(logmel.features(batch, self.settings)))
        return np.concatenate(found)
