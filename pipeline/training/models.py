"""The table of models: LeNet-5 and CNN-64 as the project report's notebook has them, and later ones.

Keras only, on any of its backends.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.inference import logmel, musicnn
from pipeline.tables.features import FEATURES, front_end_folder
from pipeline.training.cnn64_gap import cnn64_gap

if TYPE_CHECKING:
    import keras


def lenet5(shape: tuple[int, int], n_classes: int) -> keras.Model:
    """Build LeNet-5: 6,117,982 parameters for (128, 431) and ten classes."""
    from keras import Sequential, layers

    return Sequential(
        [
            layers.Input((*shape, 1)),  # (batch, 128, 431, 1)
            layers.Conv2D(8, 3, activation="relu"),  # (batch, 126, 429, 8)
            layers.AveragePooling2D(pool_size=2),  # (batch, 63, 214, 8)
            layers.Dropout(0.2),
            layers.Conv2D(16, 3, activation="relu"),  # (batch, 61, 212, 16)
            layers.AveragePooling2D(pool_size=2),  # (batch, 30, 106, 16)
            layers.Dropout(0.2),
            layers.Flatten(),  # (batch, 50880)
            layers.Dense(120, activation="relu"),
            layers.Dropout(0.3),
            layers.Dense(84, activation="relu"),
            layers.Dropout(0.4),
            layers.Dense(n_classes, activation="softmax", dtype="float32"),
        ],
        name="lenet5",
    )


def cnn64(shape: tuple[int, int], n_classes: int) -> keras.Model:
    """Build CNN-64: 207,434 parameters for (128, 431) and ten classes."""
    from keras import Sequential, layers

    model = Sequential([layers.Input((*shape, 1))], name="cnn64")  # (batch, 128, 431, 1)
    for dropout in (0.2, 0.2, 0.2, 0.3):
        model.add(layers.Conv2D(64, 3, activation="relu"))
        model.add(layers.MaxPooling2D(pool_size=2))
        model.add(layers.Dropout(dropout))
    model.add(layers.Flatten())  # (batch, 6, 25, 64) -> (batch, 9600)
    model.add(layers.Dense(n_classes, activation="softmax", dtype="float32"))
    return model


def musicnn_probe(shape: tuple[int, int], n_classes: int) -> keras.Model:
    """Build the probe of musicnn: one dense layer, 15,070 parameters for (1506, 1) and ten classes.

    `pipeline.training.probe` gives it the weights of a logistic regression.
    """
    from keras import Sequential, layers

    return Sequential(
        [
            layers.Input((*shape, 1)),  # (batch, 1506, 1, 1)
            layers.Flatten(),
            layers.Dense(n_classes, activation="softmax", dtype="float32"),
        ],
        name="musicnn_probe",
    )


MODELS: Final[dict[str, Callable[..., keras.Model]]] = {
    "lenet5": lenet5,
    "cnn64": cnn64,
    "cnn64_gap": cnn64_gap,
    "musicnn_probe": musicnn_probe,
}
TITLES: Final = {  # in the report
    "lenet5": "LeNet-5",
    "cnn64": "CNN-64",
    "cnn64_gap": "CNN-64 GAP",
    "musicnn_probe": "musicnn probe",
}
# What a model is given: log-mel slices, or what the module of that name in `pipeline.inference` makes.
FRONT_ENDS: Final = {"lenet5": "logmel", "cnn64": "logmel", "cnn64_gap": "logmel", "musicnn_probe": "musicnn"}
SMALLEST: Final = (46, 46)  # (n_mels, frames) below which CNN-64's four poolings leave nothing


def build(name: str, shape: tuple[int, int], n_classes: int, **architecture: Any) -> keras.Model:
    """Build an untrained model.

    Parameters
    ----------
    name
        A key of ``MODELS``.
    shape
        (n_mels, frames) of a slice.
    n_classes
        Length of the output, probabilities that sum to 1.
    architecture
        Of a model that can be built in several ways, what its card says of it.
    """
    return MODELS[name](shape, n_classes, **architecture)


def features_folder(name: str) -> Path:
    """Return where the features that a model is given are."""
    return FEATURES if FRONT_ENDS[name] == "logmel" else front_end_folder(name)


def input_shape(card: dict[str, Any]) -> tuple[int, int]:
    """Return the shape of what the model of a card is given for a slice."""
    if card.get("front_end", "logmel") == "musicnn":
        return musicnn.N_NUMBERS, 1
    return logmel.LogMel(**card["spectrogram"]).shape
