"""``data/dataset.json``: the library's name, whether it is synthetic, and a description."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from pipeline import files
from pipeline.errors import DataError
from pipeline.files import read_json

DATASET: Final = Path("data/dataset.json")
DATASET_FILE: Final = DATASET.name


def read_dataset() -> dict[str, Any]:
    """Return what ``data/dataset.json`` says: name, synthetic or not, description."""
    if not DATASET.exists():
        raise DataError(f"expected {DATASET}, received no such file. Fill data/ again.")
    return read_json(DATASET)


def write_dataset(folder: Path, *, name: str, description: str, synthetic: bool = False) -> None:
    """Write the data's name and description; no dates and no paths, so that equal data has an equal MD5."""
    identity = {"name": name, "description": description, "synthetic": synthetic}
    files.write_json(folder / DATASET_FILE, identity)


def dataset_of(folder: Path) -> dict[str, Any]:
    """Return what a data folder's ``dataset.json`` says; nothing where there is no such file."""
    path = folder / DATASET_FILE
    return files.read_json(path) if path.exists() else {}
