"""CNN-64 made for small libraries: shallower input, batch normalisation, pooling over the whole slice.

Keras only, on any of its backends. How it is trained beside is in `pipeline.training.fit`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import keras

    from pipeline.params import Pooling

_FIRST: Final = (2, 4)  # (bands, frames) averaged before all else: CNN-64's work divided by eight
_BLOCKS: Final = 4
_FILTERS: Final = 64
_LAST_DROPOUT: Final = 0.3  # as CNN-64's last
_MOMENTUM: Final = 0.9  # of the moving statistics: a small library has a few hundred steps in all


def cnn64_gap(
    shape: tuple[int, int],
    n_classes: int,
    *,
    batch_norm: bool = True,
    pooling: Pooling = "mean_max",
    spatial_dropout: float = 0.1,
) -> keras.Model:
    """Build the network: 113,482 parameters for ten classes, whatever the shape, unless it is flattened.

    Parameters
    ----------
    shape
        (n_mels, frames) of a slice.
    n_classes
        Length of the output.
    batch_norm
        Behind each convolution, before its ReLU.
    pooling
        How the last maps become numbers: their mean, mean and maximum, or all their values.
    spatial_dropout
        Share of whole feature maps left out behind each block but the last.
    """
    from keras import Model, layers

    inputs = layers.Input((*shape, 1))  # (batch, 128, 431, 1)
    maps = layers.AveragePooling2D(_FIRST)(inputs)  # (batch, 64, 107, 1)
    for number in range(1, _BLOCKS + 1):
        maps = layers.Conv2D(_FILTERS, 3, padding="same", use_bias=not batch_norm)(maps)
        if batch_norm:
            maps = layers.BatchNormalization(momentum=_MOMENTUM)(maps)
        maps = layers.ReLU()(maps)
        if number < _BLOCKS:
            maps = layers.SpatialDropout2D(spatial_dropout)(layers.MaxPooling2D(2)(maps))
    numbers = layers.Dropout(_LAST_DROPOUT)(_pooled(maps, pooling))  # maps: (batch, 8, 13, 64)
    outputs = layers.Dense(n_classes, activation="softmax", dtype="float32")(numbers)
    return Model(inputs, outputs, name="cnn64_gap")


def _pooled(maps: Any, pooling: Pooling) -> Any:
    """Return (batch, n_numbers) of (batch, bands, frames, 64)."""
    from keras import layers

    if pooling == "flatten":
        return layers.Flatten()(layers.MaxPooling2D(2, padding="same")(maps))
    mean = layers.GlobalAveragePooling2D()(maps)
    if pooling == "mean":
        return mean
    return layers.Concatenate()([mean, layers.GlobalMaxPooling2D()(maps)])
