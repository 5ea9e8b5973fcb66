"""The front end of musicnn: a slice's log-mel windows, and what the frozen network makes of them.

musicnn (Pons and Serra 2019) learned 50 tags of the Million Song Dataset. What it knows before its last
layers is a description of music from which a small model learns (`pipeline.training.probe`).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import soxr
from scipy.sparse import csr_array

from . import audio, logmel

SAMPLE_RATE: Final = 16_000  # Hz
N_FFT: Final = 512
HOP_LENGTH: Final = 256
N_MELS: Final = 96
WINDOW: Final = 187  # frames, 3 s: what the network was trained on
N_NUMBERS: Final = 1_506  # maximum and mean over a window of each of 753 feature maps
N_EMBEDDING: Final = 200  # of the dense layer before the tags: alike where music is
GRAPH: Final = "front_end.onnx"  # its name beside the graph of a model that needs it

_OUTPUTS: Final = ("pooled", "embedding")  # of the graph
_GAIN: Final = np.float32(10_000)
_BELS: Final = np.float32(0.1)


@lru_cache(maxsize=1)
def _filters() -> csr_array:
    return logmel.mel_filters(N_MELS, N_FFT, SAMPLE_RATE)


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Return ``log10(10000 S + 1)`` of a clip's mel power spectrogram S, equal to the bit on every CPU.

    Parameters
    ----------
    samples
        float32 (n_samples,) at 16 kHz, more than 256; frames are centred, the ends reflected.

    Returns
    -------
    np.ndarray
        float32 (n_frames, 96).

    Examples
    --------
    >>> log_mel(np.zeros(16_000, np.float32)).shape
    (63, 96)
    """
    padded = np.pad(samples, N_FFT // 2, mode="reflect")
    power = logmel.mel_frames(padded, N_FFT, HOP_LENGTH, _filters())
    power *= _GAIN
    power += 1
    return (logmel.decibels(power) * _BELS).T


def windows(samples: np.ndarray) -> np.ndarray:
    """Return a slice's whole windows, one after the other.

    Parameters
    ----------
    samples
        float32 (220598,) at 22 050 Hz, from `pipeline.inference.audio.slices`.

    Returns
    -------
    np.ndarray
        float32 (3, 187, 96).
    """
    mel = log_mel(soxr.resample(samples, audio.SAMPLE_RATE, SAMPLE_RATE, quality="HQ"))
    whole = len(mel) // WINDOW
    return np.ascontiguousarray(mel[: whole * WINDOW]).reshape(whole, WINDOW, N_MELS)


class FrontEnd:
    """The frozen network.

    Parameters
    ----------
    graph
        The ``.onnx`` file that `pipeline.training.musicnn` makes of the published weights.
    """

    def __init__(self, graph: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # tracks are asked at the same time, and sums keep their order
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def features(self, slices: Iterable[np.ndarray]) -> np.ndarray:
        """Return float32 (n_slices, 1506, 1): each slice's mean over its windows, independent of the others.

        Parameters
        ----------
        slices
            Each float32 (220598,), from `pipeline.inference.audio.slices`.
        """
        return self.described(slices)[0]

    def described(self, slices: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return the features, and float32 (n_slices, 200): each slice's embedding, mean over its windows."""
        made = [
            [numbers.mean(axis=0) for numbers in self.session.run(_OUTPUTS, {"mel": windows(one)})]
            for one in slices
        ]
        pooled, embeddings = zip(*made, strict=True)
        return np.stack(pooled)[..., None], np.stack(embeddings)
