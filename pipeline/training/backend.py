"""Keras' engine: imported without its banner, seeded, and at home on CPU and GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stderr_closed() -> Iterator[None]:
    """Drop what native code writes to stderr; Python's own exceptions pass."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def prepare(seed: int) -> str:
    """Seed everything and make the GPU, if there is one, usable by others; return the device in words.

    On a GPU memory grows as needed and computation is in mixed precision. On a CPU it is float32 and, with
    the seed, the same to the bit from run to run.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    with stderr_closed():  # TensorFlow's ten lines about what it was not built for
        import keras

    keras.utils.clear_session()  # layers are numbered from one again: their names are in the weights file
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() != "tensorflow":
        return f"{keras.backend.backend()} backend"
    return _prepare_tensorflow()


def _prepare_tensorflow() -> str:
    import keras
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    with stderr_closed():  # looking for a GPU where there is none is reported as an error
        gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "CPU, float32"
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    keras.mixed_precision.set_global_policy("mixed_float16")
    return f"{len(gpus)} GPU, memory growth, mixed precision (float16)"
