"""The network as an ONNX graph: a session starts in milliseconds and needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from . import audio, logmel, musicnn
from .calibration import Calibration, band_statistics
from .errors import DataError
from .normalise import Normaliser

_BATCH: Final = 4  # slices at a time: CNN-64 takes 45 MB for each, and more at a time are no faster


class Network:
    """An ONNX graph with its card: audio bytes to probabilities.

    Parameters
    ----------
    graph
        The ``.onnx`` file; beside it ``front_end.onnx``, if the card names a front end that is a network.
    card
        Classes, normaliser and spectrogram, as the stage ``train`` writes them, and the calibration of the
        stage ``evaluate``; without it the graph's own probabilities are the answer.
    """

    _frozen: musicnn.FrontEnd | None = None  # what makes the features, where it is a network
    embedding: str = ""  # the name of what `described` gives beside the features, if it does

    def __init__(self, graph: Path, card: dict[str, Any]) -> None:
        import onnxruntime

        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.classes: list[str] = card["classes"]
        self.settings = logmel.LogMel(**card["spectrogram"])
        self.front_end: Hashable = self.settings  # equal where the features are
        if card.get("front_end") == "musicnn":
            self.front_end = card["front_end_sha256"], self.settings
            self.embedding = f"musicnn/{card['front_end_sha256'][:12]}"
            self._frozen = musicnn.FrontEnd(graph.with_name(musicnn.GRAPH))
        self.normaliser = Normaliser.from_dict(card["normaliser"])
        self.calibration = Calibration.from_card(card)

    def features(self, slices: Iterable[np.ndarray]) -> np.ndarray:
        """Return what the model is given for slices: as its training had it.

        Parameters
        ----------
        slices
            Each float32 (220598,), from `pipeline.inference.audio.slices`.
        """
        return self.described(slices)[0]

    def described(self, slices: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the features, and of a front end that has one an embedding, float32 (n_slices, 200)."""
        if self._frozen is None:
            return logmel.features(slices, self.settings), None
        each = list(slices)
        # Behind the front end's numbers those by which the calibration tells unfamiliar audio.
        statistics = np.array([band_statistics(one) for one in logmel.features(each, self.settings)])
        numbers, embedding = self._frozen.described(each)
        return np.concatenate([numbers, statistics[..., None]], axis=1), embedding

    def of_features(self, features: np.ndarray) -> np.ndarray:
        """Return float32 (n_slices, n_classes) for what `features` gives."""
        numbers = features if self._frozen is None else features[:, : musicnn.N_NUMBERS]
        inputs = self.normaliser(numbers)[..., None]
        answers = self.session.run(None, {self.input: inputs})[0]
        return self.calibration.correct(answers, self._familiar(features))

    def _familiar(self, features: np.ndarray) -> np.ndarray:
        domain = self.calibration.domain
        if self._frozen is None or domain is None:
            return self.calibration.is_familiar(features)
        return np.array([domain.holds(one) for one in features[:, musicnn.N_NUMBERS :, 0]], bool)

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
            found.append(self.of_features(self.features(batch)))
        return np.concatenate(found)
