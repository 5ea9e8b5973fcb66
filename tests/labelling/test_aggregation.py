"""Annotations that differ become one label: closed-form cases, and annotators of known reliability."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.labelling import EQUAL, METHODS, MIXED, SPAMMERS, accuracy, simulate
from pipeline.labelling import aggregation
from pipeline.params import Aggregation
from pipeline.stages import labels
from pipeline.tables.labels import classes_of, soft_labels
from pipeline.taxonomy import MOODS

CLASSES = ("c", "a", "b")
ADVERSARIES = {f"swap{n}": -0.6 for n in range(2)}  # mostly the next class instead of the true one


def annotate(*rows: tuple[str, str] | tuple[str, str, float]) -> pd.DataFrame:
    full = [(*row, 1.0)[:3] for row in rows]
    return pd.DataFrame(full, columns=["track_id", "label", "weight"])


def test_the_majority_wins() -> None:
    table = aggregation.aggregate(annotate(("t1", "a"), ("t1", "b"), ("t1", "b"), ("t0", "c")), CLASSES)
    assert list(table.columns) == ["track_id", "label", "n_labels", "agreement", "p_c", "p_a", "p_b"]
    assert table.to_dict("records") == [
        {"track_id": "t0", "label": "c", "n_labels": 1, "agreement": 1.0, "p_c": 1.0, "p_a": 0.0, "p_b": 0.0},
        {
            "track_id": "t1",
            "label": "b",
            "n_labels": 3,
            "agreement": 0.666667,
            "p_c": 0.0,
            "p_a": 0.333333,
            "p_b": 0.666667,
        },
    ]


@pytest.mark.parametrize(("chosen", "winner"), [("ba", "a"), ("abc", "c"), ("bcbc", "c"), ("bbaca", "a")])
def test_of_equals_the_first_class_wins(chosen: str, winner: str) -> None:
    table = aggregation.aggregate(annotate(*(("t1", one) for one in chosen)), CLASSES)
    assert table["label"].tolist() == [winner]


def test_the_order_of_annotations_does_not_matter() -> None:
    rows = [("t2", "a"), ("t1", "b"), ("t2", "c"), ("t1", "a"), ("t1", "a")]
    pd.testing.assert_frame_equal(
        aggregation.aggregate(annotate(*rows), CLASSES),
        aggregation.aggregate(annotate(*reversed(rows)), CLASSES),
    )


def test_weights_count() -> None:
    table = aggregation.aggregate(annotate(("t1", "a", 3.0), ("t1", "b", 1.0), ("t1", "b", 1.0)), CLASSES)
    assert table.loc[0, ["label", "n_labels", "agreement", "p_b"]].tolist() == ["a", 3, 0.6, 0.4]


def test_soft_labels_sum_to_one() -> None:
    rng = np.random.default_rng(0)
    rows = [(f"t{rng.integers(40)}", CLASSES[rng.integers(3)], float(rng.integers(1, 4))) for _ in range(300)]
    table = aggregation.aggregate(annotate(*rows), CLASSES)
    shares = soft_labels(table)
    assert shares.dtype == np.float32
    assert shares.shape == (len(table), 3)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    winner = [classes_of(table).index(one) for one in table["label"]]
    np.testing.assert_allclose(shares[np.arange(len(table)), winner], shares.max(axis=1), atol=1e-5)
    np.testing.assert_allclose(table["agreement"], shares.max(axis=1), atol=1e-5)


def test_majority_is_one_hot_and_keeps_the_agreement() -> None:
    rows = annotate(("t1", "a"), ("t1", "b"), ("t1", "b"), ("t0", "c"))
    table = aggregation.aggregate(rows, CLASSES, "majority")
    np.testing.assert_array_equal(soft_labels(table), [[1, 0, 0], [0, 0, 1]])
    assert table["agreement"].tolist() == [1.0, 0.666667]
    assert table["n_labels"].tolist() == [1, 3]


@pytest.mark.parametrize(("chosen", "winner"), [("ba", "a"), ("abc", "c"), ("bcbc", "c")])
def test_majority_breaks_ties_as_shares_do(chosen: str, winner: str) -> None:
    table = aggregation.aggregate(annotate(*(("t1", one) for one in chosen)), CLASSES, "majority")
    assert table["label"].tolist() == [winner]
    assert table[f"p_{winner}"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("crowd", "margin"),
    [
        (MIXED, 0.01),
        (MIXED | SPAMMERS, 0.05),
        (MIXED | ADVERSARIES, 0.10),
        (MIXED | SPAMMERS | ADVERSARIES, 0.15),
    ],
    ids=["mixed", "spammers", "adversaries", "both"],
)
@pytest.mark.parametrize("seed", range(5))
def test_dawid_skene_beats_majority_where_annotators_differ(
    crowd: dict[str, float], margin: float, seed: int
) -> None:
    table, truth = simulate(crowd, seed=seed)
    assert accuracy(table, truth, "dawid_skene") >= accuracy(table, truth, "majority") + margin


@pytest.mark.parametrize("seed", range(5))
def test_dawid_skene_loses_little_where_all_are_equally_good(seed: int) -> None:
    table, truth = simulate(EQUAL, seed=seed)
    assert accuracy(table, truth, "dawid_skene") >= accuracy(table, truth, "majority") - 0.05


@pytest.mark.parametrize("seed", range(3))
def test_reliability_is_the_one_simulated(seed: int) -> None:
    chances = {"poor": 0.4, "fair": 0.6, "good": 0.8, "best": 0.95, "other": 0.7, "another": 0.7}
    table, truth = simulate(chances, seed=seed, n_tracks=400)
    _, found = aggregation.dawid_skene(table, tuple(sorted(table["label"].unique())))
    right = (table["label"] == table["track_id"].map(truth)).groupby(table["annotator"]).mean()
    assert found.index.tolist() == sorted(chances)
    assert (found - right).abs().max() < 0.08


def test_reliability_weighs_the_classes_by_how_often_they_occur() -> None:
    """One who always says the same is right as often as that class is true."""
    rng = np.random.default_rng(0)
    truth = np.where(rng.random(300) < 0.7, "a", rng.choice(["b", "c"], 300))
    rows = [(f"t{n:03}", who, one) for n, one in enumerate(truth) for who in ("ann", "bob", "cy")]
    rows += [(f"t{n:03}", "spam", "a") for n in range(300)]
    table = pd.DataFrame(rows, columns=["track_id", "annotator", "label"])
    _, found = aggregation.dawid_skene(table, CLASSES)
    assert found["spam"] == pytest.approx((truth == "a").mean(), abs=0.01)
    assert found["ann"] == pytest.approx(1, abs=0.01)


def test_the_posterior_is_the_same_to_the_last_bit_in_any_order() -> None:
    table, _ = simulate(EQUAL | SPAMMERS, seed=1, n_tracks=40)
    classes = tuple(sorted(table["label"].unique()))
    once, _ = aggregation.dawid_skene(table, classes)
    for seed in range(3):
        again, _ = aggregation.dawid_skene(table.sample(frac=1, random_state=seed), classes)
        pd.testing.assert_frame_equal(once, again, check_exact=True)


def test_annotators_of_few_labels_share_what_is_learned_of_them() -> None:
    table, truth = simulate(EQUAL, seed=0, n_tracks=200)
    anonymous = table.assign(annotator=[f"listener {n}" for n in range(len(table))])
    classes = tuple(sorted(table["label"].unique()))
    posterior, reliability = aggregation.dawid_skene(anonymous, classes)
    assert reliability.nunique() == 1
    assert reliability.iloc[0] == pytest.approx(0.75 + 0.25 / 4, abs=0.05)
    assert (posterior.idxmax(axis=1) == truth).mean() > 0.9
    assert posterior.std().min() > 0.3, "each alone would leave every track with the same probabilities"


def test_an_annotator_called_like_the_occasional_ones_stays_apart() -> None:
    table, _ = simulate({"occasional": 0.9, "ann": 0.9, "bob": 0.9}, seed=0, n_tracks=60)
    few = pd.DataFrame({"track_id": "t000", "annotator": ["x", "y"], "label": "class 1"})
    _, reliability = aggregation.dawid_skene(pd.concat([table, few]), tuple(f"class {n}" for n in range(4)))
    assert reliability["x"] == reliability["y"]
    assert reliability["x"] not in reliability[["ann", "bob", "occasional"]].tolist()


def listeners() -> pd.DataFrame:
    """Return annotations shaped as Emotify's: a dozen or more a track, each by a listener of one label."""
    rng = np.random.default_rng(0)
    liked = rng.dirichlet(np.full(len(MOODS), 0.5), size=25)  # (tracks, moods)
    rows = [
        (f"emotify.rock.{track:05}", MOODS[mood])
        for track, chances in enumerate(liked)
        for mood in rng.choice(len(MOODS), size=rng.integers(11, 40), p=chances)
    ]
    table = pd.DataFrame(rows, columns=["track_id", "mood"])
    return table.assign(annotator=[f"listener-{number:05}" for number in range(len(table))])


def entropy_by_track(soft: np.ndarray) -> np.ndarray:
    """Return each row's entropy in nats, float (n_tracks,)."""
    return np.array([-sum(one * np.log(one) for one in row if one > 0) for row in soft.astype(float)])


@pytest.mark.parametrize("method", METHODS)
def test_soft_labels_of_many_listeners_of_one_label_sum_to_one(method: Aggregation) -> None:
    table = listeners()
    found = labels.mood_labels(table, table, method)
    assert found["track_id"].tolist() == sorted(table["track_id"].unique())
    assert found["n_labels"].sum() == len(table)
    stored = found[[f"p_{mood}" for mood in MOODS]].to_numpy()
    np.testing.assert_allclose(stored.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(soft_labels(found).sum(axis=1), 1, atol=1e-6)


def test_shares_keep_the_listeners_disagreement_and_the_other_methods_less_of_it() -> None:
    table = listeners()
    said = pd.crosstab(table["track_id"], table["mood"], normalize="index").to_numpy()
    soft = {method: soft_labels(labels.mood_labels(table, table, method)) for method in METHODS}
    kept = {method: entropy_by_track(one) for method, one in soft.items()}
    np.testing.assert_allclose(kept["share"], entropy_by_track(said), atol=1e-4)
    assert kept["share"].mean() == pytest.approx(entropy_by_track(said).mean(), abs=1e-5)
    assert kept["share"].mean() > 1
    assert kept["majority"].max() == 0
    assert kept["dawid_skene"].mean() < kept["share"].mean()


@pytest.mark.parametrize("method", METHODS)
def test_nothing_depends_on_the_order_of_rows_and_all_repeats(method: Aggregation) -> None:
    table, _ = simulate(EQUAL | SPAMMERS, seed=1, n_tracks=40)
    classes = tuple(sorted(table["label"].unique()))
    once = aggregation.aggregate(table, classes, method)
    shuffled = table.sample(frac=1, random_state=2)
    pd.testing.assert_frame_equal(once, aggregation.aggregate(shuffled, classes, method))


LABELLED = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from("uvwxyz"), st.sampled_from(CLASSES)), min_size=1, max_size=40
)


@given(rows=LABELLED, method=st.sampled_from(METHODS))
@settings(max_examples=40, deadline=None)
def test_whatever_is_said_each_track_has_one_label_and_shares_that_sum_to_one(
    rows: list[tuple[int, str, str]], method: Aggregation
) -> None:
    table = pd.DataFrame(rows, columns=["track_id", "annotator", "label"]).assign(weight=1.0)
    table["track_id"] = table["track_id"].astype(str)
    found = aggregation.aggregate(table, CLASSES, method)
    soft = found[[f"p_{name}" for name in CLASSES]].to_numpy()
    assert found["track_id"].tolist() == sorted(table["track_id"].unique())
    np.testing.assert_allclose(soft.sum(axis=1), 1, atol=3e-6)
    assert (soft >= 0).all()
    chosen = [CLASSES.index(one) for one in found["label"]]
    assert (soft[np.arange(len(soft)), chosen] >= soft.max(axis=1) - 1e-6).all()
    said = [
        (table["label"][table["track_id"] == row.track_id] == row.label).mean() for row in found.itertuples()
    ]
    np.testing.assert_allclose(found["agreement"], said, atol=1e-6)
