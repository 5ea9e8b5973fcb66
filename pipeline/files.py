"""Write files so that a kill at any moment leaves the old content or the new, never a part.

Importing this imports neither pandas nor NumPy.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import DataError, DiskFullError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

WEIGHTS_SUFFIX: Final = ".weights.h5"  # Keras insists on both parts

_CHUNK_BYTES: Final = 1 << 20
_FULL_BYTES: Final = 1 << 20  # with less than this free, an unexplained failure to write is a full disk


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it over ``path`` when the block succeeds.

    The temporary name keeps the suffix, since some writers choose their format by it.

    Raises
    ------
    DiskFullError
        The disk is full; ``path`` is as it was.
    """
    suffix = WEIGHTS_SUFFIX if path.name.endswith(WEIGHTS_SUFFIX) else path.suffix
    temporary = path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-", suffix=suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        _require_room(path, error)
        raise
    finally:
        if temporary != path:
            temporary.unlink(missing_ok=True)


def _require_room(path: Path, error: OSError) -> None:
    """Raise `DiskFullError` if a full disk, or a full quota, was why ``path`` was not written."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    free = shutil.disk_usage(folder).free
    # NumPy and h5py do not pass the system's error number on.
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or (error.errno is None and free < _FULL_BYTES):
        raise DiskFullError(
            f"{path}: expected room on the disk, received a full one: {free / 1e6:.0f} MB free in {folder}. "
            "Free some (`dvc gc --workspace` removes what DVC keeps of earlier runs) and run again."
        ) from None


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 ``text`` atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as sorted, indented JSON; NaN is refused, as JSON has none."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    DataError
        The content is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: expected JSON, received {error}. Run `dvc repro`, or restore it.") from None


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write ``table`` without its index, with Unix line ends, atomically."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def write_array(path: Path, array: np.ndarray) -> None:
    """Write one ``.npy`` atomically."""
    import numpy as np

    with replacing(path) as temporary:
        np.save(temporary, array)


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
