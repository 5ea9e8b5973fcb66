"""How much of the test part stays when tracks or labels change: ``python -m benchmarks.split_stability``.

The libraries are the sample's plan (40 artists, 120 tracks) and GTZAN's published artists (1,000 tracks).
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd

from pipeline.sources import gtzan, sample
from pipeline.taxonomy import GTZAN_GENRES
from pipeline.training import hold_out


def sample_library(task: str) -> pd.DataFrame:
    """Return track_id, label and group of the sample's tracks; every sixth has no mood."""
    plan = sample.plan_tracks(sample.SEED, GTZAN_GENRES, sample.ARTISTS_PER_GENRE, sample.TRACKS_PER_ARTIST)
    rows = [(one.track_id, getattr(one, task), one.artist) for one in plan]
    table = pd.DataFrame(rows, columns=["track_id", "label", "group"])
    return table if task == "genre" else table[table.index % 6 != 5].reset_index(drop=True)


def gtzan_library() -> pd.DataFrame:
    """Return track_id, label and group (artist) of GTZAN's tracks."""
    index = pd.read_csv(gtzan.INDEX, keep_default_na=False)
    group = index["artist"].str.casefold().where(index["artist"] != "", index["sha256"])
    return pd.DataFrame({"track_id": index["track_id"], "label": index["genre"], "group": group})


def added(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return the library with 10 % more tracks, every other one by a new artist (of that label)."""
    new = table.iloc[rng.choice(len(table), len(table) // 10, replace=False)].reset_index(drop=True)
    new["track_id"] = "new " + new.index.astype(str)
    new.loc[::2, "group"] = "stranger of " + new["label"] + str(rng.integers(2**40))
    return pd.concat([table, new], ignore_index=True)


def removed(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return the library without 10 % of its tracks."""
    return table.drop(rng.choice(len(table), len(table) // 10, replace=False))


def relabelled(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return the library with 10 % of the labels drawn anew."""
    rows = rng.choice(len(table), len(table) // 10, replace=False)
    label = table["label"].copy()
    label.iloc[rows] = rng.choice(table["label"].to_numpy(), len(rows))
    return table.assign(label=label)


def parts(table: pd.DataFrame, share: float, seed: int) -> pd.Series:
    """Return each track's part, by its id."""
    places = table["group"].map(lambda name: hold_out.place(name, seed))
    part = hold_out.parts(table["label"], table["group"], places, valid=share, test=share)
    return pd.Series(part.to_numpy(), index=table["track_id"])


def measure(table: pd.DataFrame, share: float, seed: int) -> dict[str, float]:
    """Return errors of the shares, and of each change what became of the test tracks; all in per cent."""
    before, rng = parts(table, share, seed), np.random.default_rng(seed)
    error = max(abs((before == part).mean() - share) for part in ("test", "valid"))
    outcome = {"largest error of a share": 100 * error}
    for change in (added, removed, relabelled):
        after = parts(change(table, rng), share, seed)
        now = after[after.index.intersection(before.index[before == "test"])]
        outcome[f"{change.__name__}: still test"] = 100 * (now == "test").mean()
        outcome[f"{change.__name__}: now train"] = 100 * (now == "train").mean()
    return outcome


def main() -> None:
    """Print a row for each library: means over the seeds, the largest error, how often 95 % stayed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=40)
    n_seeds = parser.parse_args().seeds
    libraries = {
        "sample, genre": (sample_library("genre"), 0.25),
        "sample, mood": (sample_library("mood"), 0.25),
        "GTZAN": (gtzan_library(), 0.2),
    }
    for name, (table, share) in libraries.items():
        found = pd.DataFrame([measure(table, share, seed) for seed in range(n_seeds)])
        row = found.mean()
        row.iloc[0] = found.iloc[:, 0].max()
        for change in (added, removed, relabelled):
            row[f"{change.__name__}: at least 95 still test"] = (
                100 * (found[f"{change.__name__}: still test"] >= 95).mean()
            )
        print(f"{name}: " + ", ".join(f"{key} {value:.1f}" for key, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
