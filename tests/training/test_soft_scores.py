"""Moods are measured as what they are; each number has a case that can be computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.training import soft_scores
from pipeline.training.soft_scores import per_mood, rank_correlations, soft_summary

SHARES = np.array([[0.5, 0.5, 0.0], [0.25, 0.75, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
PRIOR = np.array([0.5, 0.25, 0.25])


def test_a_perfect_forecast_reaches_what_is_possible() -> None:
    found = soft_summary(SHARES, SHARES, PRIOR)
    assert found["agreement"] == found["agreement_best"] == pytest.approx((0.5 + 0.75 + 1 + 1) / 4)
    entropy = (np.log(2) - 0.25 * np.log(0.25) - 0.75 * np.log(0.75)) / 4
    assert found["cross_entropy"] == found["cross_entropy_floor"] == pytest.approx(entropy, abs=1e-6)
    assert found["rank_correlation"] == 1


def test_the_prior_is_what_needs_no_audio() -> None:
    found = soft_summary(SHARES, np.tile(PRIOR, (4, 1)), PRIOR)
    assert found["agreement"] == found["agreement_prior"] == pytest.approx(1.75 / 4)
    by_hand = -(SHARES @ np.log(PRIOR)).mean()
    assert found["cross_entropy"] == found["cross_entropy_prior"] == pytest.approx(by_hand, abs=1e-6)
    assert found["rank_correlation"] == 0, "it ranks nothing"


def test_no_forecast_beats_the_floor() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        shares, forecast = rng.dirichlet(np.ones(4), 12), rng.dirichlet(np.ones(4), 12)
        found = soft_summary(shares, forecast, shares.mean(axis=0))
        assert found["cross_entropy"] >= found["cross_entropy_floor"]
        assert found["cross_entropy_prior"] >= found["cross_entropy_floor"]
        assert found["agreement"] <= found["agreement_best"]


def test_ranks_know_no_scale() -> None:
    assert rank_correlations(SHARES, SHARES**3) == [1, 1, 1]
    shares = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6]])
    swapped = shares[[1, 0, 2, 3]]  # 1 - 6 * (1 + 1) / (4 * 15)
    assert rank_correlations(shares, swapped) == pytest.approx([0.8, 0.8])
    assert rank_correlations(np.full((3, 2), 0.5), np.eye(3, 2)) == [None, None]


def test_the_top_of_a_mood_is_judged_by_a_random_annotator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soft_scores, "TOP", 2)
    found = per_mood(SHARES, np.array([[0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8], [0.9, 0.1, 0.0]]))
    assert [one["top"] for one in found] == [(1 + 0.25) / 2, (0.5 + 0.75) / 2, 0.5]
    assert found[0]["share"] == 1.75 / 4


def test_shuffled_labels_give_chance() -> None:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(5, 0.5), 2_000)
    found = soft_summary(rng.permutation(shares), shares, shares.mean(axis=0))
    assert found["agreement"] == pytest.approx(0.2, abs=0.03)
    assert abs(found["rank_correlation"]) < 0.03
    assert found["cross_entropy"] > found["cross_entropy_prior"]
