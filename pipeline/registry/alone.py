"""Ask a registered version about audio files; also as a script that imports nothing else of this project.

Versions of the first releases ship their code under the workspace's names, ``pipeline`` and ``serving``:
only a process that has imported neither runs what they ship.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any, Final

import pandas as pd

_BATCH: Final = 16  # files in memory at a time


def ask(folder: str, files: list[str]) -> pd.DataFrame:
    """Return one row of probabilities per file; NaN for a file that the version refuses.

    Parameters
    ----------
    folder
        The version's files.
    files
        At least one path.

    Raises
    ------
    Exception
        Whatever the version raises, where it refuses every file: then it is the version that is at fault.
    """
    import mlflow

    with warnings.catch_warnings(record=True):  # MLflow's wish for type hints, which overrides filters
        model = mlflow.pyfunc.load_model(folder)
    refused: list[Exception] = []
    starts = range(0, len(files), _BATCH)
    parts = [_ask_some(model, files[start : start + _BATCH], refused) for start in starts]
    if len(refused) == len(files):
        raise refused[0]
    return pd.concat(parts, ignore_index=True)


def _ask_some(model: Any, files: list[str], refused: list[Exception]) -> pd.DataFrame:
    """Ask about a few files at once; where one of them is refused, about each alone."""
    table = pd.DataFrame({"audio": [Path(name).read_bytes() for name in files]})
    try:
        return model.predict(table)
    except Exception as error:  # each release has its own way to refuse a file
        if len(files) > 1:
            return pd.concat([_ask_some(model, [name], refused) for name in files], ignore_index=True)
        refused.append(error)
        return pd.DataFrame([{}])


def main() -> None:
    """Answer the files that a JSON list names with a JSON list of probabilities by class."""
    folder, question, answer = sys.argv[1:]
    table = ask(folder, json.loads(Path(question).read_text(encoding="utf-8")))
    Path(answer).write_text(json.dumps(table.to_dict(orient="records")), encoding="utf-8")


if __name__ == "__main__":
    main()
