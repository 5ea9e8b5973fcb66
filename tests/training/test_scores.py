"""Scores in closed form, and as scikit-learn has them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from pipeline.training import scores

CLASSES = 10


def random_case(n: int = 200, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return truth and probabilities that are right more often than chance."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES, n)
    logits = rng.standard_normal((n, CLASSES)) + 2 * np.eye(CLASSES)[truth]
    return truth, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


PERFECT = np.arange(CLASSES), np.eye(CLASSES)
UNIFORM = np.arange(CLASSES), np.full((CLASSES, CLASSES), 1 / CLASSES)


def test_a_perfect_model() -> None:
    assert scores.summary(*PERFECT, n_bins=10) == {
        "accuracy": 1.0,
        "macro_f1": 1.0,
        "top3": 1.0,
        "log_loss": pytest.approx(0.0, abs=1e-6),
        "ece": 0.0,
    }


def test_a_model_that_knows_nothing() -> None:
    assert scores.summary(*UNIFORM, n_bins=10) == {
        "accuracy": 0.1,
        "macro_f1": pytest.approx(2 / 11 / 10, abs=1e-6),
        "top3": 0.3,
        "log_loss": pytest.approx(np.log(10), abs=1e-6),
        "ece": pytest.approx(0.0, abs=1e-6),
    }


def test_a_model_that_is_sure_and_wrong() -> None:
    truth, probabilities = np.arange(CLASSES), np.roll(np.eye(CLASSES), 1, axis=1)
    summary = scores.summary(truth, probabilities, n_bins=10)
    assert (summary["accuracy"], summary["macro_f1"]) == (0.0, 0.0)
    assert summary["ece"] == 1.0
    assert summary["log_loss"] == pytest.approx(-np.log(1e-7), abs=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_agreement_with_scikit_learn(seed: int) -> None:
    truth, probabilities = random_case(seed=seed)
    labels, predicted = range(CLASSES), probabilities.argmax(axis=1)
    assert scores.accuracy(truth, probabilities) == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert scores.macro_f1(truth, probabilities) == pytest.approx(
        metrics.f1_score(truth, predicted, average="macro")
    )
    assert scores.log_loss(truth, probabilities) == pytest.approx(
        metrics.log_loss(truth, probabilities, labels=labels)
    )
    for k in (1, 3, 5):
        expected = metrics.top_k_accuracy_score(truth, probabilities, k=k, labels=labels)
        assert scores.top_k(truth, probabilities, k) == pytest.approx(expected)


def test_macro_f1_leaves_out_classes_that_do_not_occur() -> None:
    truth, probabilities = np.array([0, 0, 1, 1]), np.eye(3)[[0, 0, 1, 2]]
    assert scores.macro_f1(truth, probabilities) == pytest.approx((1 + 2 / 3) / 2)


def test_top_k_counts_ranks() -> None:
    probabilities = np.array([[0.4, 0.3, 0.2, 0.1]] * 4)
    assert [scores.top_k(np.arange(4), probabilities, k) for k in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1.0]


def test_log_loss_in_closed_form() -> None:
    probabilities = np.array([[0.5, 0.5], [0.25, 0.75]])
    assert scores.log_loss(np.array([0, 1]), probabilities) == pytest.approx(
        -(np.log(0.5) + np.log(0.75)) / 2
    )
    assert np.isfinite(scores.log_loss(np.array([0]), np.array([[0.0, 1.0]])))


def test_calibration_error_in_closed_form() -> None:
    sure = np.tile([0.95, 0.05], (10, 1))  # 5 of 10 right at 0.95
    half = np.tile([0.55, 0.45], (10, 1))  # 10 of 10 right at 0.55
    truth = np.array([0] * 5 + [1] * 5 + [0] * 10)
    expected = 0.5 * (0.95 - 0.5) + 0.5 * (1 - 0.55)
    shares, said = scores.certain(truth, 2), np.concatenate([sure, half])
    assert scores.calibration_error(shares, said) == pytest.approx(expected)
    assert scores.calibration_error(shares, said, n_bins=1) == pytest.approx(0.0)


def test_calibrated_probabilities_have_little_error() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(CLASSES, 0.3), 20_000)
    truth = (probabilities.cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)
    assert scores.calibration_error(scores.certain(truth, CLASSES), probabilities) < 0.02
    assert scores.calibration_error(scores.certain(np.roll(truth, 1), CLASSES), probabilities) > 0.2


def test_a_forecast_of_a_divided_audience_is_judged_by_the_audience() -> None:
    shares = np.random.default_rng(0).dirichlet(np.full(CLASSES, 0.5), 500)
    truth = shares.argmax(axis=1)
    by_audience = scores.summary(truth, shares, n_bins=10, shares=shares)["ece"]
    by_majority = scores.summary(truth, shares, n_bins=10)["ece"]
    assert by_audience == pytest.approx(0, abs=1e-6)
    assert by_majority > 0.4  # each answer is the majority's, and none is said to be certain


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_nan_is_never_a_number() -> None:
    truth, probabilities = random_case()
    probabilities[3] = np.nan
    summary = scores.summary(truth, probabilities, n_bins=10)
    for name in ("macro_f1", "log_loss", "ece"):
        assert np.isnan(summary[name]), name


def test_the_interval_covers_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        probabilities = np.eye(2)[(rng.random(40) < 0.9).astype(int)]
        low, high = scores.accuracy_interval(np.ones(40, int), probabilities)
        covered += low <= 0.9 <= high
    assert 0.91 <= covered / 400 <= 0.99


@pytest.mark.parametrize(
    ("right", "n", "low", "high"), [(0, 15, 0.0, 0.204), (15, 15, 0.796, 1.0), (1, 1, 0.207, 1)]
)
def test_the_interval_has_a_width_where_none_or_all_are_right(
    right: int, n: int, low: float, high: float
) -> None:
    probabilities = np.eye(2)[[1] * right + [0] * (n - right)]
    assert scores.accuracy_interval(np.ones(n, int), probabilities) == pytest.approx((low, high), abs=5e-4)


def test_mean_by_averages_rows_of_the_same_key() -> None:
    keys = np.array(["b", "a", "b", "c"], object)
    unique, mean = scores.mean_by(keys, np.array([[1.0, 0], [0.2, 0.8], [0, 1], [0.5, 0.5]], np.float32))
    assert unique.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(mean, [[0.2, 0.8], [0.5, 0.5], [0.5, 0.5]], atol=1e-7)


def test_mean_by_does_not_depend_on_the_order_of_rows() -> None:
    keys = np.repeat([f"track{one}" for one in range(20)], 3)
    _, probabilities = random_case(60)
    order = np.random.default_rng(1).permutation(60)
    for one, other in zip(
        scores.mean_by(keys, probabilities), scores.mean_by(keys[order], probabilities[order]), strict=True
    ):
        if one.dtype.kind == "f":
            np.testing.assert_allclose(one, other, rtol=1e-12)
        else:
            np.testing.assert_array_equal(one, other)


def test_per_class_agrees_with_the_confusion_matrix() -> None:
    truth, probabilities = np.array([0, 0, 0, 1]), np.eye(3)[[0, 0, 1, 1]]
    rows = scores.per_class(truth, probabilities, ["blues", "pop", "rock"])
    assert rows == [
        {"class": "blues", "precision": 1.0, "recall": 0.666667, "f1": 0.8, "tracks": 3},
        {"class": "pop", "precision": 0.5, "recall": 1.0, "f1": 0.666667, "tracks": 1},
        {"class": "rock", "precision": 0.0, "recall": 0.0, "f1": 0.0, "tracks": 0},
    ]
