"""A group once held out stays held out: stability, shares and coverage of classes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import split_stability
from pipeline import params
from pipeline.sources import sample
from pipeline.stages.split import split
from pipeline.taxonomy import GTZAN_GENRES
from pipeline.training import hold_out
from tests.project import ROOT

SHARES = params.SplitParams.model_validate({"protocol": "artist", "valid": 0.25, "test": 0.25})
SEEDS = range(8)


def catalogue_of(plan: list[sample.Track]) -> pd.DataFrame:
    """Return a catalogue with both tasks' intended classes."""
    columns = ["track_id", "genre", "mood", "artist"]
    tracks = pd.DataFrame([[getattr(one, name) for name in columns] for one in plan], columns=columns)
    return tracks.assign(
        sha256=tracks["track_id"] + " by " + tracks["artist"], duplicate_of="", filtered_split=""
    )


def the_sample(artists: int = sample.ARTISTS_PER_GENRE, seed: int = sample.SEED) -> pd.DataFrame:
    plan = sample.plan_tracks(seed, GTZAN_GENRES, artists, sample.TRACKS_PER_ARTIST)
    return catalogue_of(plan)


def parts_of(tracks: pd.DataFrame, labelled: pd.DataFrame, task: str, seed: int) -> pd.Series:
    """Return the part of each labelled track, by its content."""
    table = labelled[["track_id"]].assign(label=labelled[task])
    part = split(table, tracks, SHARES, seed=seed, copies=False)["part"].to_numpy()
    return pd.Series(part, index=labelled["sha256"])


def kept(before: pd.Series, after: pd.Series) -> tuple[float, float]:
    """Return which shares of the earlier test tracks that are still there test, and train, now."""
    now = after[after.index.intersection(before.index[before == "test"])]
    return float((now == "test").mean()), float((now == "train").mean())


@pytest.mark.parametrize("task", ["genre", "mood"])
@pytest.mark.parametrize("is_noted", [True, False])
def test_ten_per_cent_of_tracks_leave_the_test_part_as_it_was(task: str, is_noted: bool) -> None:
    """Where the earlier split is noted, always; by chance alone most of it."""
    table = split_stability.sample_library(task)
    found = pd.DataFrame([split_stability.measure(table, 0.25, seed, is_noted=is_noted) for seed in SEEDS])
    assert found["largest error of a share"].max() <= 3
    assert found["added: largest error"].max() <= 3
    for change in ("added", "removed"):
        still_test = found[f"{change}: still test"]
        assert still_test.min() >= 95 if is_noted else still_test.mean() >= 85
        assert found[f"{change}: now train"].mean() <= 0.5


def test_new_and_changed_labels_leave_the_test_part_as_it_was() -> None:
    tracks, outcomes = the_sample(), []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        labelled = tracks.iloc[rng.permutation(len(tracks))[:100]]
        changed = pd.concat([labelled, tracks.drop(labelled.index)[:10]])
        changed.iloc[:5, changed.columns.get_loc("mood")] = changed["mood"].iloc[5:10].to_numpy()
        outcomes.append(
            kept(parts_of(tracks, labelled, "mood", seed), parts_of(tracks, changed, "mood", seed))
        )
    still_test, now_train = np.mean(outcomes, axis=0)
    assert still_test >= 0.95
    assert now_train <= 0.01


@pytest.mark.parametrize("seed", range(4))
def test_ten_batches_of_labels_always_find_common_unseen_tracks(seed: int) -> None:
    """Whatever earlier split a champion was trained on, most of today's test tracks are new to it."""
    tracks, rng = the_sample(), np.random.default_rng(seed)
    tracks = tracks.iloc[rng.permutation(len(tracks))].reset_index(drop=True)
    history: list[pd.Series] = []
    for n_labelled in range(60, 111, 5):
        row = rng.integers(n_labelled)
        tracks.loc[row, "mood"] = rng.choice(tracks["mood"])  # listeners disagree: a label changes as well
        history.append(parts_of(tracks, tracks[:n_labelled], "mood", seed))
    for number, champion in enumerate(history):
        seen = champion.index[champion != "test"]
        for today in history[number:]:
            unseen = today.index[today == "test"].difference(seen)
            assert len(unseen) >= min(10, 0.9 * (today == "test").sum())


def test_a_large_library_moves_nothing_but_what_is_new() -> None:
    names = [f"artist {number}" for number in range(3000)]
    label = pd.Series([f"class {number % 3}" for number in range(3000)])
    places = pd.Series([hold_out.place(name, 0) for name in names])
    whole = hold_out.parts(label, pd.Series(names), places, valid=0.2, test=0.2)
    less = slice(None, 2000)
    part = hold_out.parts(label[less], pd.Series(names)[less], places[less], valid=0.2, test=0.2)
    assert (whole[less] == part).all()
    assert (part == np.select([places[less] < 0.2, places[less] < 0.4], ["test", "valid"], "train")).all()


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3)), min_size=12, max_size=60), st.integers(0, 99)
)
def test_every_class_of_three_groups_trains_and_is_tested(groups: list[tuple[int, int]], seed: int) -> None:
    rows = [(f"g{number}", f"c{label}") for number, (n, label) in enumerate(groups) for _ in range(n)]
    table = pd.DataFrame(rows, columns=["group", "label"])
    places = table["group"].map(lambda name: hold_out.place(name, seed))
    part = hold_out.parts(table["label"], table["group"], places, valid=0.25, test=0.25)
    assert (part.groupby(table["group"]).nunique() == 1).all()
    found = part.groupby(table["label"]).agg(set)
    n_groups = table.groupby("label")["group"].nunique()
    assert (found[n_groups == 1] == {"train"}).all() if (n_groups == 1).any() else True
    for label in n_groups.index[n_groups >= 2]:
        assert {"train", "test"} <= found[label]
    for label in n_groups.index[n_groups >= 3]:
        assert found[label] == {"train", "valid", "test"}


@pytest.mark.parametrize("share", [0.15, 0.2, 0.25])
def test_shares_are_within_three_points_on_gtzan(share: float) -> None:
    index = pd.read_csv(ROOT / "pipeline/sources/gtzan_index.csv", keep_default_na=False)
    name = index["artist"].where(index["artist"] != "", index["sha256"]).str.casefold()
    for seed in range(4):
        places = name.map(lambda one, seed=seed: hold_out.place(one, seed))
        part = hold_out.parts(index["genre"], name, places, valid=share, test=share)
        assert abs((part == "test").mean() - share) <= 0.03
        assert abs((part == "valid").mean() - share) <= 0.03
        assert (part.groupby(index["genre"]).nunique() == 3).all()


def test_places_follow_from_the_seed_and_are_uniform() -> None:
    places = np.sort([hold_out.place(f"artist {number}", 0) for number in range(2000)])
    assert np.abs(places - np.linspace(0, 1, 2000)).max() < 0.04  # Kolmogorov-Smirnov, p about 0.003
    assert hold_out.place("ella", 0) != hold_out.place("ella", 1)


def test_order_of_rows_and_names_of_tracks_do_not_matter() -> None:
    tracks = the_sample()
    before = parts_of(tracks, tracks, "genre", 0)
    renamed = tracks.assign(
        track_id=[f"x{number}" for number in range(len(tracks))][::-1],
        artist=tracks["artist"].str.upper() + " ",
    ).iloc[::-1]
    pd.testing.assert_series_equal(parts_of(renamed, renamed, "genre", 0)[before.index], before)


@pytest.mark.parametrize("n_groups", range(3, 13))
def test_shares_are_near_the_wish_whatever_the_number_of_artists_of_a_class(n_groups: int) -> None:
    """Where a class has five artists, two of each were held out once: 40 % instead of 25."""
    rows = [(f"g{label}.{group}", f"c{label}") for label in range(10) for group in range(n_groups)]
    table = pd.DataFrame(rows, columns=["group", "label"])
    for seed in SEEDS:
        places = table["group"].map(lambda name, seed=seed: hold_out.place(name, seed))
        part = hold_out.parts(table["label"], table["group"], places, valid=0.25, test=0.25)
        assert abs((part == "test").mean() - 0.25) <= (0.03 if n_groups > 3 else 0.1)  # one in three at least
