"""Whether every way to ask the champions gives what the stage ``evaluate`` forecast.

``python -m benchmarks.parity [TRACKS]``: so many of the project's tracks, of each format as many, asked by
``cmg classify``, over HTTP and of the registered model; exit code 1 if an answer is farther off than 1e-5.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Final

import httpx
import pandas as pd

from benchmarks.listening import login, server
from pipeline import tracking
from pipeline.errors import DataError, run_main
from pipeline.files import read_json
from pipeline.tables.predictions import predictions_path
from pipeline.tables.tracks import usable_tracks
from pipeline.tables.trained_models import card_path
from serving.champions import Champion, champions

TOLERANCE: Final = 1e-5

Files = Mapping[str, Path]  # by track_id


def forecasts(champion: Champion) -> pd.DataFrame:
    """Return what the stage ``evaluate`` forecast, one row per track and one column per class.

    Raises
    ------
    DataError
        The workspace's model is not the champion.
    """
    card = read_json(card_path(champion.task, champion.model))
    if card["weights_sha256"] != champion.weights_sha256:
        raise DataError(
            f"{champion.task}: expected the champion in the workspace, received another model. "
            "Run `make repro`."
        )
    table = pd.read_csv(predictions_path(champion.task, champion.model)).set_index("track_id")
    return table[[f"p_{name}" for name in champion.classes]].set_axis(champion.classes, axis=1)


def by_command(files: Files, champion: Champion) -> pd.DataFrame:
    """Ask ``cmg classify --json``."""
    command = [str(Path(sys.executable).with_name("cmg")), "classify", "--json", *map(str, files.values())]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = {record["path"]: record for record in json.loads(done.stdout)}
    return _table({track: found[str(path.absolute())] for track, path in files.items()}, champion)


def by_http(files: Files, champion: Champion, client: Any) -> pd.DataFrame:
    """Upload each file to ``/v1/classify``."""
    answers = {}
    for track, path in files.items():
        answer = client.post("/v1/classify", files={"file": (path.name, path.read_bytes())})
        answer.raise_for_status()
        [answers[track]] = answer.json()
    return _table(answers, champion)


def by_registered_model(files: Files, champion: Champion) -> pd.DataFrame:
    """Ask the version in the registry, as MLflow loads it."""
    model = tracking.configure().pyfunc.load_model(f"models:/{champion.name}")
    found = model.predict(pd.DataFrame({"audio": [path.read_bytes() for path in files.values()]}))
    return found.set_axis(list(files), axis=0)


def _table(records: Mapping[str, Mapping[str, Any]], champion: Champion) -> pd.DataFrame:
    rows = {track: record[champion.task]["probabilities"] for track, record in records.items()}
    return pd.DataFrame.from_dict(rows, orient="index")[champion.classes]


def differences(files: Files, champion: Champion, client: Any) -> pd.DataFrame:
    """Return by format and way the largest difference from the forecasts, and the number of tracks."""
    expected = forecasts(champion).loc[list(files)]
    ways: dict[str, Callable[[], pd.DataFrame]] = {
        "command": lambda: by_command(files, champion),
        "HTTP": lambda: by_http(files, champion, client),
        "registered model": lambda: by_registered_model(files, champion),
    }
    off = pd.DataFrame({way: (ask() - expected).abs().max(axis=1) for way, ask in ways.items()})
    by_format = off.groupby([path.suffix[1:] for path in files.values()])
    return by_format.max().assign(tracks=by_format.size())


def chosen(number: int) -> dict[str, Path]:
    """Return so many of the project's usable tracks, of each format in turn."""
    tracks = usable_tracks()
    by_suffix: dict[str, list[tuple[str, Path]]] = {}
    for track, path in zip(tracks["track_id"], map(Path, tracks["path"]), strict=True):
        by_suffix.setdefault(path.suffix, []).append((track, path))
    in_turn = chain.from_iterable(zip_longest(*by_suffix.values()))
    return dict(list(filter(None, in_turn))[:number])


def main() -> None:
    """Print the largest differences."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parity", description=main.__doc__)
    parser.add_argument("tracks", type=int, nargs="?", default=50)
    files, worst = chosen(parser.parse_args().tracks), 0.0
    with server() as (address, _), httpx.Client(base_url=address, auth=login(), timeout=120) as client:
        for task, champion in champions().items():
            found = differences(files, champion, client)
            worst = max(worst, found.drop(columns="tracks").to_numpy().max())
            print(f"{task}, {champion.name} ({champion.model}), {len(files)} tracks:\n{found.to_string()}")
    print(f"largest difference {worst:.1e}, allowed {TOLERANCE:g}")
    if worst > TOLERANCE:
        raise SystemExit(1)


if __name__ == "__main__":
    run_main(main)
