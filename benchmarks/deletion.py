"""Does what decided really decide? ``python -m benchmarks.deletion -n 50`` after ``make repro``.

For each of n held-out tracks the region that speaks most for the predicted class is removed from the audio,
which is then answered anew; so are random cells of the same area, and the same region moved to other places.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from pipeline.errors import CmgError, run_main
from pipeline.tables.predictions import predictions_path
from pipeline.tables.tracks import read_tracks
from serving.champions import Champion, champions
from serving.explanation import AREA, Explainer, chosen

BAR: Final = 0.8  # of the tracks
REGIONS: Final = 20  # random ones of each kind a track


def held_out(champion: Champion, number: int) -> list[Path]:
    """Return files of the validation and test part, in random order."""
    table = pd.read_csv(predictions_path(champion.task, champion.model))
    ids = table[table["part"] != "train"]["track_id"].unique()
    paths = read_tracks().set_index("track_id")["path"]
    return [Path(paths[one]) for one in np.random.default_rng(0).permutation(ids)[:number]]


def measure(explainer: Explainer, samples: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """Return the predicted class's probability: of a track, without what decided, without other regions."""
    whole = explainer.probabilities(samples)
    label = int(whole.argmax())
    found = explainer.explain(samples, explainer.classes[label])
    region = found.region(AREA)
    area = float(found.grid.area[region].sum())

    def probability(audio: np.ndarray) -> float:
        return float(explainer.probabilities(audio)[label])

    def without(cells: np.ndarray) -> float:
        return probability(explainer.without(samples, found.grid, cells))

    cells = [without(chosen(found.grid, rng.random(region.shape), area)) for _ in range(REGIONS)]
    steps = [(rng.integers(region.shape[0]), rng.integers(1, region.shape[1])) for _ in range(REGIONS)]
    moved = [without(np.roll(region, step, axis=(0, 1))) for step in steps]
    return {
        "whole": float(whole[label]),
        "without": without(region),
        "only": probability(explainer.only(samples, found.grid, region)),
        "without cells": float(np.mean(cells)),
        "without moved": float(np.mean(moved)),
        "lowest cells": min(cells),
        "lowest moved": min(moved),
        "area": area,
    }


def main() -> None:
    """Print what removing what decided does; exit code 1 if it does too little."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deletion", description=main.__doc__)
    parser.add_argument("--task", default="genre", choices=("genre", "mood"))
    parser.add_argument("-n", type=int, default=50, help="tracks; default %(default)s")
    args = parser.parse_args()
    champion = champions()[args.task]
    explainer, rng = champion.explainer(), np.random.default_rng(0)
    package, _ = champion.open()
    table = pd.DataFrame(
        measure(explainer, package.audio.load(path), rng) for path in held_out(champion, args.n)
    )
    if table.empty:
        raise CmgError("expected held-out tracks, received none. `dvc repro` makes them.")
    mean = table.mean()
    print(f"{champion.name} ({champion.model}, {champion.dataset}), {len(table)} held-out tracks")
    print(
        f"what decided is {mean['area']:.0%} of each; probability {mean['whole']:.2f}, without it "
        f"{mean['without']:.2f}, of it alone {mean['only']:.2f}"
    )
    for kind, words in (("cells", "random cells"), ("moved", "the region moved")):
        lower = (table["without"] < table[f"without {kind}"]).mean()
        lowest = (table["without"] < table[f"lowest {kind}"]).mean()
        print(
            f"without {words} {mean[f'without {kind}']:.2f}; what decided lowers it more than the mean of "
            f"{REGIONS} on {lower:.0%} of the tracks, more than every one on {lowest:.0%}"
        )
    reached = (table["without"] < table["lowest cells"]).mean()
    if reached < BAR:
        raise SystemExit(f"error: expected {BAR:.0%} of the tracks, received {reached:.0%}")


if __name__ == "__main__":
    run_main(main)
