"""How much of the test part stays when tracks or labels change: ``python -m benchmarks.split_stability``.

Once with the earlier split noted, as in ``data/held_out.csv``, and once by chance alone.
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


def parts(table: pd.DataFrame, share: float, seed: int, before: pd.Series | None = None) -> pd.Series:
    """Return each track's part, by its id; ``before`` is the same of an earlier split."""
    places = table["group"].map({name: hold_out.place(name, seed) for name in table["group"].unique()})
    noted = None
    if before is not None:
        known = table["track_id"].map(before)
        seen = known.notna()
        noted = pd.DataFrame(
            {"part": known.groupby(table["group"]).transform("first").fillna(""), "seen": seen}
        )
    part = hold_out.parts(table["label"], table["group"], places, valid=share, test=share, before=noted)
    return pd.Series(part.to_numpy(), index=table["track_id"])


def largest_error(part: pd.Series, share: float) -> float:
    """Return by how many points of a hundred a share is off."""
    return 100 * max(abs(float((part == name).mean()) - share) for name in ("test", "valid"))


def measure(table: pd.DataFrame, share: float, seed: int, *, is_noted: bool) -> dict[str, float]:
    """Return the errors of the shares, and of each change what became of the test tracks; all in per cent."""
    before, rng = parts(table, share, seed), np.random.default_rng(seed)
    outcome = {"largest error of a share": largest_error(before, share)}
    for change in (added, removed, relabelled):
        after = parts(change(table, rng), share, seed, before if is_noted else None)
        now = after[after.index.intersection(before.index[before == "test"])]
        outcome[f"{change.__name__}: still test"] = 100 * (now == "test").mean()
        outcome[f"{change.__name__}: now train"] = 100 * (now == "train").mean()
        outcome[f"{change.__name__}: largest error"] = largest_error(after, share)
    return outcome


def main() -> None:
    """Print two rows for each library: means over the seeds, the largest errors, how often 95 % stayed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=40)
    n_seeds = parser.parse_args().seeds
    libraries = {
        "sample, genre": (sample_library("genre"), 0.25),
        "sample, mood": (sample_library("mood"), 0.25),
        "GTZAN": (gtzan_library(), 0.2),
    }
    for name, (table, share) in libraries.items():
        for is_noted in (True, False):
            found = pd.DataFrame([measure(table, share, seed, is_noted=is_noted) for seed in range(n_seeds)])
            row = found.mean()
            errors = [column for column in found if "largest error" in column]
            row[errors] = found[errors].max()
            for change in (added, removed, relabelled):
                stayed = found[f"{change.__name__}: still test"] >= 95
                row[f"{change.__name__}: at least 95 still test"] = 100 * stayed.mean()
            figures = ", ".join(f"{key} {value:.1f}" for key, value in row.items())
            print(f"{name}, {'noted' if is_noted else 'by chance alone'}: {figures}", flush=True)


if __name__ == "__main__":
    main()
