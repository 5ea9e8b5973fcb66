"""``artifacts/features/<track_id>.npy``: a track's log-mel slices; ``artifacts/copies``: augmented copies.

``artifacts/front_ends/<model>/``: ``front_end.json``, which says what the model is given, and where that is
not the log-mel, a file for each track.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from pipeline import params
from pipeline.inference import logmel

FEATURES: Final = Path("artifacts/features")

COPIES_FOLDER: Final = Path("artifacts/copies")

COPIES_ORDER: Final = COPIES_FOLDER / "order.json"  # DVC wants a folder that is never empty


FRONT_ENDS: Final = Path("artifacts/front_ends")


def front_end_folder(model: str) -> Path:
    """Return the folder of a model's own front end."""
    return FRONT_ENDS / model


def front_end_path(model: str) -> Path:
    """Return the file that names a model's front end; DVC wants a folder that is never empty."""
    return front_end_folder(model) / "front_end.json"


def features_path(track_id: str, folder: Path = FEATURES) -> Path:
    """Return where a track's features are."""
    return folder / f"{track_id}.npy"


def load_features(track_id: str, folder: Path = FEATURES) -> np.ndarray:
    """Memory-map a track's features: float16 (n_slices, n_mels, frames) in dB."""
    return np.load(features_path(track_id, folder), mmap_mode="r")


def logmel_of(settings: params.SpectrogramParams) -> logmel.LogMel:
    """Return the spectrogram's parameters without the stage's other parameters."""
    return logmel.LogMel(settings.n_fft, settings.hop_length, settings.n_mels)
