"""Which tracks come first, and how many really fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import taxonomy
from serving.listener import pole_matrix, poles
from serving.query import Query
from serving.ranking import Percentiles, rank

MOODS = list(taxonomy.read().moods)
POLES = list(pole_matrix())


def library(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(len(MOODS), 0.3), n).astype(np.float32)


@given(st.integers(0, 99), st.sampled_from(POLES), st.sampled_from(POLES), st.floats(0.1, 0.9))
def test_raising_a_weight_never_lowers_the_track_that_has_more_of_it(
    seed: int, pole: str, other: str, weight: float
) -> None:
    if pole == other:
        return
    means = library(2, seed)
    strength = poles(means, MOODS)[pole]
    more, less = np.argmax(strength), np.argmin(strength)
    gap = []
    for raised in (weight, 1.0):
        # Without the division by the sum of weights, by which no order changes.
        score = rank(Query({pole: raised, other: 1.0}), {"mood": means}, {"mood": MOODS}).score
        gap.append((np.log(score[more]) - np.log(score[less])) * (raised + 1.0))
    assert gap[1] >= gap[0] - 1e-6


@pytest.mark.parametrize("planted", [0, 1, 3, 20])
def test_it_says_how_many_tracks_really_fit(planted: int) -> None:
    means = np.zeros((200, len(MOODS)), np.float32)
    means[:, MOODS.index("TotallyPositive")] = 1.0
    means[:planted] = np.eye(len(MOODS), dtype=np.float32)[MOODS.index("NegativeButHopeful")]
    ranking = rank(
        Query({"negative": 1.0, "hopeful": 1.0}, ("NegativeButHopeful",)), {"mood": means}, {"mood": MOODS}
    )
    assert ranking.fitting == planted
    assert set(ranking.order[:planted].tolist()) == set(range(planted))


def test_two_good_poles_beat_one_perfect_and_one_middling() -> None:
    # Both poles in their 95th percentile, or one in the 100th and the other in the 50th.
    classes = ["CalmButWarm", "CalmButEpic", "TotallyNegative"]
    rows = [[0.5, 0.45, 0.05], [1.0, 0.0, 0.0]] + [[0.2, 0.1, 0.7]] * 10
    means = {"mood": np.array(rows, np.float32)}
    order = rank(Query({"warm": 1.0, "epic": 1.0}), means, {"mood": classes}).order
    assert order[0] == 0


def test_seeds_are_not_in_the_result_and_the_alike_come_first() -> None:
    means = {"mood": np.eye(len(MOODS), dtype=np.float32)[[0, 0, 1, 2, 0]]}
    order = rank(Query({}), means, {"mood": MOODS}, like=[0], unlike=[3]).order
    assert set(order[:2].tolist()) == {1, 4}
    assert not {0, 3} & set(order.tolist())


def test_only_the_genres_asked_for() -> None:
    means = {"mood": library(4, 0), "genre": np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]}
    classes = {"mood": MOODS, "genre": ["jazz", "pop"]}
    assert set(rank(Query({"calm": 1.0}, genres=("pop",)), means, classes).order.tolist()) == {1, 3}


@pytest.mark.parametrize("n", [0, 1, 2, 5, 7, 15, 100, 1000])
def test_percentiles_are_shares_of_tracks_that_one_is_not_below(n: int) -> None:
    values = np.random.default_rng(n).integers(0, max(2, n // 3), n) / 8  # with ties
    found = Percentiles(values)
    shares = [float((values <= value).mean()) for value in values]
    assert [found[number] for number in range(n)] == shares
    for share in (0.1, 0.2, 0.5):
        assert found.top(share).tolist() == [one >= 1 - share - 1e-9 for one in shares]
