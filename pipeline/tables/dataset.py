"""``data/dataset.json``: the library's name, whether it is synthetic, and a description."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from pipeline.errors import DataError
from pipeline.files import read_json

DATASET: Final = Path("data/dataset.json")


def read_dataset() -> dict[str, Any]:
    """Return what ``data/dataset.json`` says: name, synthetic or not, description."""
    if not DATASET.exists():
        raise DataError(f"expected {DATASET}, received no such file. Fill data/ again.")
    return read_json(DATASET)
