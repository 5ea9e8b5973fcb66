"""Ask a registered version: always by the code that it ships, whatever the workspace's code has become."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from pipeline.errors import DataError
from pipeline.files import read_json
from pipeline.registry import alone

FIRST_NAME: Final = "pipeline"  # as which versions of the first releases ship their code


def folder_of(name: str, version: str) -> Path:
    """Return a local folder with a version's files.

    Raises
    ------
    DataError
        They are not there.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    uri = f"models:/{name}/{version}"
    try:
        folder = Path(mlflow.artifacts.download_artifacts(uri))
    except (MlflowException, OSError) as error:
        raise _missing(uri, error) from None
    if not any(folder.glob("artifacts/*.json")):
        raise _missing(uri, FileNotFoundError(f"no card in {folder}"))
    return folder


def _missing(uri: str, error: Exception) -> DataError:
    return DataError(
        f"{uri}: expected the version's files, received {type(error).__name__}: {error}. "
        "Bring them back, or move mlruns/ away: `make registry` fills a new one."
    )


def card_of(folder: Path) -> dict[str, Any]:
    """Return the card in a version's folder."""
    return read_json(next(folder.glob("artifacts/*.json")))


def is_first_release(folder: Path) -> bool:
    """Return whether a version ships its code by a name that is taken in this process."""
    return (folder / "code" / FIRST_NAME).exists()


def predict(folder: Path, files: Sequence[Path]) -> pd.DataFrame:
    """Return a version's probabilities.

    Parameters
    ----------
    folder
        From `folder_of`.
    files
        Audio files.

    Returns
    -------
    pd.DataFrame
        One row per file, one column per class, float64; NaN where the version refuses the file.
    """
    classes = card_of(folder)["classes"]
    if not files:
        return pd.DataFrame(columns=classes, dtype=float)
    ask = _in_a_process if is_first_release(folder) else _here
    return ask(folder, files).reindex(columns=classes).astype(float).reset_index(drop=True)


def _here(folder: Path, files: Sequence[Path]) -> pd.DataFrame:
    return alone.ask(str(folder), [str(path) for path in files])


def _in_a_process(folder: Path, files: Sequence[Path]) -> pd.DataFrame:
    """Ask in a process of its own that has imported nothing of this project."""
    with tempfile.TemporaryDirectory() as exchange:
        question, answer = Path(exchange) / "files.json", Path(exchange) / "answer.json"
        question.write_text(json.dumps([str(path.resolve()) for path in files]), encoding="utf-8")
        arguments = [str(folder.resolve()), str(question), str(answer)]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(
            [sys.executable, "-P", alone.__file__, *arguments],
            cwd=exchange,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise DataError(f"{folder}: expected a version that loads and answers, received {last}")
        return pd.DataFrame(json.loads(answer.read_text(encoding="utf-8")))
