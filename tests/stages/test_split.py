"""Properties that every protocol keeps, on libraries that hypothesis makes up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pipeline import files
from pipeline.errors import DataError
from pipeline.params import SplitParams
from pipeline.stages import split
from pipeline.tables.splits import LEAKY, PARTS, SPLIT_COLUMNS, read_split, split_path
from pipeline.training.folds import group_names, track_groups

ARTISTS = ("", "Ella", "ella", " Ella ", "Bob", "BOB", "Nina", "Otis", "Aretha", "Muddy", "Etta", "Ray")
property_test = settings(
    max_examples=40,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def params_of(protocol: str, *, valid: float = 0.25, test: float = 0.25) -> SplitParams:
    return SplitParams.model_validate({"protocol": protocol, "valid": valid, "test": test})


def catalogue(n: int, **columns: Any) -> pd.DataFrame:
    """Return a catalogue of n tracks of unknown artists; columns given replace its own."""
    track_id = [f"t{number:03}" for number in range(n)]
    blank = {"artist": "", "duplicate_of": "", "filtered_split": "", "n_slices": 3}
    return pd.DataFrame({"track_id": track_id, "sha256": track_id, **blank, **columns})


def labels_of(tracks: pd.DataFrame, n_classes: int = 3) -> pd.DataFrame:
    number = np.arange(len(tracks)) % n_classes
    return pd.DataFrame({"track_id": tracks["track_id"], "label": [f"c{one}" for one in number]})


def run(
    tracks: pd.DataFrame, protocol: str, *, table: pd.DataFrame | None = None, seed: int = 0, **shares: float
) -> pd.DataFrame:
    table = labels_of(tracks) if table is None else table
    return split.split(table, tracks, params_of(protocol, **shares), seed=seed, copies=True)


@st.composite
def libraries(draw: st.DrawFn) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw a catalogue and labels: some artists, some duplicates named, some of equal content."""
    n = draw(st.integers(12, 60))
    artist = draw(st.lists(st.sampled_from(ARTISTS), min_size=n, max_size=n))
    tracks = catalogue(n, artist=artist)
    for _ in range(draw(st.integers(0, 4))):
        one, other = draw(st.integers(0, n - 1)), draw(st.integers(0, n - 1))
        column = draw(st.sampled_from(["duplicate_of", "sha256"]))
        if one != other:
            tracks.loc[one, column] = tracks.loc[other, "track_id" if column == "duplicate_of" else "sha256"]
    label = draw(st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=n, max_size=n))
    return tracks, pd.DataFrame({"track_id": tracks["track_id"], "label": label})


def attempt(tracks: pd.DataFrame, table: pd.DataFrame, protocol: str, seed: int) -> pd.DataFrame:
    """Split; leave out libraries that are too small for it."""
    try:
        return run(tracks, protocol, table=table, seed=seed)
    except DataError:
        assume(False)
        raise


def straddling(out: pd.DataFrame, key: pd.Series) -> list[str]:
    """Return the keys that occur in more than one part; blank is no key."""
    parts = out["part"].groupby(key.to_numpy()).nunique()
    return [str(one) for one in parts.index[parts > 1] if one]


@property_test
@given(libraries(), st.integers(0, 5), st.sampled_from(["artist", "track"]))
def test_the_parts_cover_every_track_once(library: Any, seed: int, protocol: str) -> None:
    tracks, table = library
    out = attempt(tracks, table, protocol, seed)
    assert out["track_id"].tolist() == table["track_id"].tolist()
    assert out["label"].tolist() == table["label"].tolist()
    assert set(out["part"]) == {"train", "valid", "test"}
    assert list(out.columns) == list(SPLIT_COLUMNS)
    assert set(out["protocol"]) == {protocol}
    assert out[["slice", "copy"]].isna().all(axis=None)


@property_test
@given(libraries(), st.integers(0, 5), st.sampled_from(["artist", "track"]))
def test_nothing_that_belongs_together_is_parted(library: Any, seed: int, protocol: str) -> None:
    tracks, table = library
    out = attempt(tracks, table, protocol, seed)
    part = out.set_index("track_id")["part"]
    assert not straddling(out, out["group"])
    assert not straddling(out, tracks["sha256"])
    for one, other in zip(tracks["track_id"], tracks["duplicate_of"], strict=True):
        assert not other or part[one] == part[other]
    if protocol == "artist":
        assert not straddling(out, tracks["artist"].str.strip().str.lower())


@property_test
@given(libraries(), st.integers(0, 3), st.sampled_from(["artist", "track", "shuffled"]))
def test_the_split_depends_on_the_seed_alone(library: Any, seed: int, protocol: str) -> None:
    tracks, table = library
    out = attempt(tracks, table, protocol, seed)
    order = np.random.default_rng(seed).permutation(len(tracks))
    pd.testing.assert_frame_equal(out, run(tracks, protocol, table=table, seed=seed))
    pd.testing.assert_frame_equal(out, run(tracks.iloc[order], protocol, table=table, seed=seed))


@property_test
@given(libraries(), st.booleans(), st.integers(0, 9))
def test_groups_do_not_depend_on_the_order_of_rows(library: Any, by_artist: bool, seed: int) -> None:
    tracks, _ = library
    order = np.random.default_rng(seed).permutation(len(tracks))
    shuffled = tracks.iloc[order].reset_index(drop=True)
    here = dict(zip(tracks["track_id"], track_groups(tracks, by_artist=by_artist), strict=True))
    there = dict(zip(shuffled["track_id"], track_groups(shuffled, by_artist=by_artist), strict=True))
    assert here == there


@pytest.mark.parametrize("protocol", ["artist", "track", "shuffled"])
def test_another_seed_gives_another_split(protocol: str) -> None:
    tracks = catalogue(60)
    assert run(tracks, protocol, seed=0)["part"].tolist() != run(tracks, protocol, seed=1)["part"].tolist()


def test_a_group_goes_by_its_first_track() -> None:
    tracks = catalogue(7, artist=["", "Ella", "Bob", " ELLA", "", "", ""])
    tracks.loc[4, "duplicate_of"] = "t002"  # joins Bob's
    tracks.loc[5, "sha256"] = "t003"  # joins Ella's, through t003
    assert track_groups(tracks, by_artist=True).tolist() == [
        "t000",
        "t001",
        "t002",
        "t001",
        "t002",
        "t001",
        "t006",
    ]
    assert track_groups(tracks, by_artist=False).tolist() == [
        "t000",
        "t001",
        "t002",
        "t003",
        "t002",
        "t003",
        "t006",
    ]


@pytest.mark.parametrize("by_artist", [True, False])
def test_a_group_keeps_its_name_when_a_duplicate_or_a_track_of_its_artist_comes(by_artist: bool) -> None:
    tracks = catalogue(6, artist=["", "Beyonce\u0301", "Beyonc\xe9 ", "", "", ""])
    tracks.loc[[3, 5], "duplicate_of"] = ["t000", "t001"]
    tracks["sha256"] = [f"{9 - number} of t{number}" for number in range(6)]
    names = [
        group_names(some, track_groups(some, by_artist=by_artist), by_artist=by_artist).tolist()
        for some in (tracks.iloc[[0, 1, 4]].assign(track_id=["x", "y", "z"]), tracks)
    ]
    assert [names[1][row] for row in (0, 1, 4)] == names[0]
    assert names[1][3] == names[0][0]
    assert names[1][5] == names[0][1]


def test_groups_are_transitive() -> None:
    tracks = catalogue(4, artist=["Ella", "Ella", "Bob", "Bob"])
    tracks.loc[2, "duplicate_of"] = "t001"
    assert set(track_groups(tracks, by_artist=True)) == {"t000"}


def test_unknown_artists_are_not_one_artist() -> None:
    assert track_groups(catalogue(5), by_artist=True).nunique() == 5
    assert track_groups(catalogue(5, artist="  "), by_artist=True).nunique() == 5


def test_duplicates_of_a_track_without_a_label_belong_together() -> None:
    tracks = catalogue(40)
    tracks.loc[[3, 17, 28], "duplicate_of"] = "t039"
    table = labels_of(tracks).iloc[:39]  # t039 has no label
    for seed in range(8):
        part = run(tracks, "artist", table=table, seed=seed).set_index("track_id")["part"]
        assert part["t003"] == part["t017"] == part["t028"]


def test_duplicates_of_a_track_that_is_not_there_belong_together() -> None:
    tracks = catalogue(40)
    tracks.loc[[3, 17, 28], "duplicate_of"] = "t039"
    assert track_groups(tracks.iloc[:39], by_artist=False).iloc[[3, 17, 28]].nunique() == 1


@pytest.mark.parametrize("share", [0.1, 0.2, 0.25])
def test_the_shares_are_kept_and_stratified(share: float) -> None:
    tracks = catalogue(400)
    out = run(tracks, "track", table=labels_of(tracks, 4), valid=share, test=share)
    counts = out.groupby(["part", "label"]).size().unstack()
    np.testing.assert_allclose(counts.loc[["test", "valid"]].sum(axis=1), 400 * share, atol=12)
    assert counts.loc[["test", "valid"]].to_numpy().max() < 250 * share


@pytest.mark.parametrize("protocol", ["artist", "track"])
def test_a_class_with_a_single_group_stays_in_train(protocol: str) -> None:
    tracks = catalogue(40, artist=["Solo", "solo ", *["" for _ in range(38)]])
    table = labels_of(tracks)
    table.loc[[0, 1] if protocol == "artist" else [0], "label"] = "rare"
    for seed in range(5):
        out = run(tracks, protocol, table=table, seed=seed)
        assert set(out.loc[out["label"] == "rare", "part"]) == {"train"}


def test_a_class_with_two_groups_may_be_held_out_and_stays_in_train() -> None:
    tracks = catalogue(60)
    table = labels_of(tracks)
    table.loc[[0, 1], "label"] = "rare"
    parts = [set(run(tracks, "track", table=table, seed=seed).loc[[0, 1], "part"]) for seed in range(20)]
    assert all("train" in part for part in parts)


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_groups_say_so(n: int) -> None:
    with pytest.raises(DataError, match=r"none in .*\. Add tracks until a class has three groups \(artists"):
        run(catalogue(n), "artist", table=labels_of(catalogue(n), 1))


def test_many_tracks_of_too_few_artists_say_so() -> None:
    tracks = catalogue(40, artist=["Ella", "Bob"] * 20)
    with pytest.raises(DataError, match=r"Add tracks until a class has three groups \(artists"):
        run(tracks, "artist", table=labels_of(tracks, 3))


@pytest.mark.parametrize("protocol", ["artist", "track"])
def test_three_groups_of_a_class_are_one_of_each_part(protocol: str) -> None:
    tracks = catalogue(30)
    out = run(tracks, protocol, table=labels_of(tracks, 10))
    assert (out.groupby("label")["part"].nunique() == 3).all()


def test_the_protocol_shuffled_shuffles_slices_and_copies() -> None:
    tracks = catalogue(100)
    tracks.loc[0, "n_slices"] = 5
    out = run(tracks, "shuffled", valid=0.1, test=0.1)
    n = (99 * 3 + 5) * 6
    assert len(out) == n
    assert not out.duplicated(["track_id", "slice", "copy"]).any()
    assert set(out["copy"]) == set(range(6))
    assert set(out.loc[out["track_id"] == "t000", "slice"]) == set(range(5))
    counts = out["part"].value_counts()
    assert (counts["test"], counts["valid"]) == (round(n * 0.1), round(n * 0.1))
    assert counts["train"] == n - counts["test"] - counts["valid"]


def test_the_protocol_shuffled_leaks() -> None:
    out = run(catalogue(100), "shuffled", valid=0.1, test=0.1)
    train, test = (set(out.loc[out["part"] == part, "track_id"]) for part in ("train", "test"))
    assert len(train & test) > 50
    slices = [
        set(map(tuple, out.loc[out["part"] == part, ["track_id", "slice"]].to_numpy())) for part in PARTS
    ]
    assert slices[0] & slices[2], "copies of one slice are on both sides"
    assert "shuffled" in LEAKY
    assert LEAKY.isdisjoint({"artist", "track", "fault_filtered"})


def test_the_protocol_shuffled_without_copies() -> None:
    tracks = catalogue(30)
    out = split.split(labels_of(tracks), tracks, params_of("shuffled"), seed=0, copies=False)
    assert len(out) == 90
    assert set(out["copy"]) == {0}


def test_fault_filtered_is_the_published_list() -> None:
    published = ["train", "", "valid", "test", "train", "test", ""]
    out = run(catalogue(7, filtered_split=published), "fault_filtered")
    assert out["track_id"].tolist() == ["t000", "t002", "t003", "t004", "t005"]
    assert out["part"].tolist() == ["train", "valid", "test", "train", "test"]


def test_fault_filtered_does_not_depend_on_the_seed() -> None:
    tracks = catalogue(6, filtered_split=["train", "valid", "test"] * 2)
    pd.testing.assert_frame_equal(run(tracks, "fault_filtered"), run(tracks, "fault_filtered", seed=7))


@pytest.mark.parametrize("published", ["", "train"])
def test_fault_filtered_without_a_list_says_so(published: str) -> None:
    with pytest.raises(
        DataError, match=r"protocol fault_filtered: .*none in .*test.*GTZAN's published lists"
    ):
        run(catalogue(6, filtered_split=published), "fault_filtered")


def test_fault_filtered_refuses_duplicates_on_both_sides() -> None:
    tracks = catalogue(6, filtered_split=["train", "valid", "test"] * 2)
    tracks.loc[2, "duplicate_of"] = "t000"
    with pytest.raises(DataError, match=r"expected each group in one part, received \['t000'\] in two"):
        run(tracks, "fault_filtered")


def test_unlabelled_tracks_are_left_out() -> None:
    tracks = catalogue(40)
    table = labels_of(tracks).iloc[::2]
    assert run(tracks, "track", table=table)["track_id"].tolist() == table["track_id"].tolist()


@pytest.mark.parametrize("protocol", ["artist", "shuffled"])
def test_a_split_comes_back_from_its_file(workspace: Path, protocol: str) -> None:
    out = run(catalogue(40), protocol)
    files.write_csv(split_path("genre"), out)
    back = read_split("genre")
    assert list(back.columns) == list(SPLIT_COLUMNS)
    assert str(back["slice"].dtype) == "Int64"
    for name in SPLIT_COLUMNS:
        assert back[name].dropna().tolist() == out[name].dropna().tolist()


@pytest.mark.parametrize("name", ["None", "NA", "null", "nan"])
def test_a_track_may_be_called_what_pandas_takes_for_nothing(workspace: Path, name: str) -> None:
    tracks = catalogue(40)
    tracks.loc[0, "track_id"] = name
    files.write_csv(split_path("genre"), run(tracks, "track"))
    assert read_split("genre")["track_id"].tolist() == tracks["track_id"].tolist()
