"""LeNet-5 and CNN-64 as the project report's notebook has them; Keras only, on any of its backends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

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


MODELS: Final[dict[str, Callable[[tuple[int, int], int], keras.Model]]] = {"lenet5": lenet5, "cnn64": cnn64}
TITLES: Final = {"lenet5": "LeNet-5", "cnn64": "CNN-64"}  # as the report calls them
SMALLEST: Final = (46, 46)  # (n_mels, frames) below which CNN-64's four poolings leave nothing


def build(name: str, shape: tuple[int, int], n_classes: int) -> keras.Model:
    """Build an untrained model.

    Parameters
    ----------
    name
        A key of ``MODELS``.
    shape
        (n_mels, frames) of a slice.
    n_classes
        Length of the output, probabilities that sum to 1.
    """
    return MODELS[name](shape, n_classes)
