"""Write and read a trained model of the workspace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import DataError
from pipeline.files import read_json, replacing, sha256
from pipeline.tables.trained_models import card_path, weights_path
from pipeline.training import models

if TYPE_CHECKING:
    import keras


def save_weights(model: keras.Model, path: Path) -> None:
    """Write ``.weights.h5`` atomically: equal weights give equal bytes, ``.keras`` files do not."""
    with replacing(path) as temporary:
        model.save_weights(temporary)


def load_model(task: str, name: str) -> tuple[keras.Model, dict[str, Any]]:
    """Return a trained model of the workspace and its card."""
    card, weights = read_json(card_path(task, name)), weights_path(task, name)
    # Weights of another run would load as well, and answer nonsense under these classes.
    if not weights.exists() or sha256(weights) != card["weights_sha256"]:
        raise DataError(
            f"{weights}: expected the weights that {card_path(task, name)} describes, received "
            f"{'others' if weights.exists() else 'no file'}. Run the stage train again."
        )
    own = card.get("architecture", {})
    model = models.build(name, models.input_shape(card), len(card["classes"]), **own)
    model.load_weights(weights)
    return model, card
