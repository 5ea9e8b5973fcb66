"""No model is kept at an epoch that its accuracy shows to be untrained."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from pipeline.training import scores
from pipeline.training.best_epoch import Epoch, choose, smoothed, track_scores

# CNN-64 on real GTZAN, as issue and curves had it: the validation loss is lowest after the first epoch.
OVERCONFIDENT = [
    Epoch(0.28, 2.02, 0.17),
    Epoch(0.29, 2.10, 0.35),
    Epoch(0.31, 2.20, 0.50),
    Epoch(0.33, 2.60, 0.66),
    Epoch(0.38, 2.80, 0.80),
    Epoch(0.40, 3.00, 0.90),
]


def test_a_rising_loss_does_not_keep_the_first_epoch() -> None:
    assert choose(OVERCONFIDENT, window=3, chance=0.2) == 5
    by_loss = [epoch._replace(score=-epoch.loss) for epoch in OVERCONFIDENT]
    assert choose(by_loss, window=1, chance=0.0) == 0, "as before 0.3"


def test_an_untrained_epoch_is_kept_only_where_all_are() -> None:
    lucky = [Epoch(0.5, 2.0, 0.15), Epoch(0.2, 2.0, 0.3), Epoch(0.3, 2.0, 0.4), Epoch(0.3, 2.1, 0.5)]
    assert choose(lucky, window=1, chance=0.2) == 2
    assert choose(lucky, window=1, chance=0.9) == 0


def test_one_lucky_epoch_does_not_win_over_a_good_stretch() -> None:
    noisy = [Epoch(score, 2.0, 1.0) for score in (0.1, 0.1, 0.1, 0.9, 0.1, 0.6, 0.6, 0.6)]
    assert choose(noisy, window=1, chance=0.2) == 3
    assert choose(noisy, window=3, chance=0.2) == 7


def test_of_equals_the_lowest_loss_is_kept() -> None:
    solved = [Epoch(1.0, loss, 1.0) for loss in (0.9, 0.5, 0.3, 0.2, 0.4)]
    assert choose(solved, window=1, chance=0.2) == 3


def test_no_number_no_epoch() -> None:
    broken = Epoch(math.nan, math.nan, math.nan)
    assert choose([broken], window=3, chance=0.2) is None
    assert choose([OVERCONFIDENT[0], broken], window=3, chance=0.2) == 0


@pytest.mark.parametrize("window", [1, 2, 3])
def test_the_kept_epoch_only_moves_forward(window: int) -> None:
    """So that the weights of one epoch are enough to hold."""
    rng = np.random.default_rng(window)
    for _ in range(50):
        epochs = [Epoch(*(float(one) for one in rng.choice([0.1, 0.2, 0.3, 0.4], 3))) for _ in range(9)]
        kept = [choose(epochs[:n], window, 0.2) for n in range(1, 10)]
        assert all(after in (before, n) for n, (before, after) in enumerate(pairwise(kept), start=1))


def test_smoothing_looks_back_only() -> None:
    assert smoothed([3.0, 0.0, 3.0, 0.0], 3) == [3.0, 1.5, 2.0, 1.0]


def test_tracks_count_by_the_mean_of_their_rows() -> None:
    from pipeline.training.batches import Rows

    targets = np.array([[0.75, 0.25], [0.75, 0.25], [0.0, 1.0]], np.float32)
    rows = Rows(np.array(["a", "a", "b"], object), np.arange(3), np.zeros(3, int), targets, np.ones(3))
    answers = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]])
    found = track_scores(rows, answers)
    assert found["val_accuracy"] == pytest.approx(2 / 3)
    assert found["val_agreement"] == pytest.approx((0.75 + 1.0) / 2)
    assert found["val_macro_f1"] == 1.0
    hard = track_scores(rows.take(np.array([2])), answers[2:])
    assert hard["val_loss"] == pytest.approx(-np.log(0.7)) == scores.log_loss(np.array([1]), answers[2:])
