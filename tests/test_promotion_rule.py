"""Every branch of the promotion rule, as a table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.promotion_rule import (
    Candidate,
    Champion,
    Comparison,
    best,
    candidate_of,
    decide,
    needs_comparison,
)

NAN = float("nan")
CLASSES = ("blues", "pop")
NEW = Candidate("cnn64", "new", "artist", False, False, CLASSES, 0.6)
OLD = Champion("3", "old", False, CLASSES)


def versus(candidate: float, champion: float, n_tracks: int = 50) -> Comparison:
    return Comparison(n_tracks, candidate, champion)


@pytest.mark.parametrize(
    ("candidate", "champion", "comparison", "promote", "reason"),
    [
        (None, None, None, False, "no candidate"),
        (None, OLD, versus(0.9, 0.1), False, "no candidate"),
        (NEW, None, None, True, "no champion"),
        (replace(NEW, synthetic=True), None, None, True, "no champion"),
        (replace(NEW, weights_sha256="old"), OLD, versus(0.9, 0.1), False, "version 3 has the same weights"),
        (replace(NEW, synthetic=True), OLD, versus(0.9, 0.1), False, "synthetic data never replaces"),
        (NEW, replace(OLD, synthetic=True), None, True, "real data replaces"),
        (NEW, replace(OLD, synthetic=True), versus(0.1, 0.9), True, "real data replaces"),
        (replace(NEW, classes=("pop", "blues")), OLD, None, True, "other classes"),
        (replace(NEW, classes=("blues", "pop", "rock")), OLD, versus(0.1, 0.9), True, "other classes"),
        (replace(NEW, synthetic=True, classes=("a",)), OLD, None, False, "synthetic data never replaces"),
        (NEW, OLD, None, False, "0 tracks are unseen by both, 10 are needed"),
        (NEW, OLD, versus(0.9, 0.1, 9), False, "9 tracks are unseen by both, 10 are needed"),
        (NEW, OLD, versus(0.9, 0.1, 10), True, "macro-F1 0.900 against 0.100 on 10 tracks"),
        (NEW, OLD, versus(0.5, 0.6), False, "macro-F1 0.500 against 0.600 on 50 tracks"),
        (NEW, OLD, versus(0.5, 0.5), False, "0.500 against 0.500"),
        (NEW, OLD, versus(NAN, 0.0), False, "nan against 0.000"),
        (NEW, OLD, versus(NAN, NAN), False, "nan"),
        (
            replace(NEW, synthetic=True),
            replace(OLD, synthetic=True),
            versus(0.7, 0.6),
            True,
            "0.700 against 0.600",
        ),
    ],
)
def test_every_branch(
    candidate: Candidate | None,
    champion: Champion | None,
    comparison: Comparison | None,
    promote: bool,
    reason: str,
) -> None:
    decision = decide(candidate, champion, comparison, margin=0.0, min_tracks=10)
    assert decision.promote is promote
    assert reason in decision.reason


@pytest.mark.parametrize(
    ("new", "promote"), [(0.75, False), (0.7500001, True), (0.7499, False), (0.6, False), (NAN, False)]
)
def test_the_margin_is_strict(new: float, promote: bool) -> None:
    decision = decide(NEW, OLD, versus(new, 0.5), margin=0.25, min_tracks=10)
    assert decision.promote is promote
    assert "margin 0.25" in decision.reason


@pytest.mark.parametrize(
    ("candidate", "champion", "needed"),
    [
        (NEW, OLD, True),
        (replace(NEW, synthetic=True), replace(OLD, synthetic=True), True),
        (NEW, None, False),
        (replace(NEW, weights_sha256="old"), OLD, False),
        (replace(NEW, synthetic=True), OLD, False),
        (NEW, replace(OLD, synthetic=True), False),
        (replace(NEW, classes=("a", "b")), OLD, False),
    ],
)
def test_a_comparison_is_asked_for_where_it_decides(
    candidate: Candidate, champion: Champion | None, needed: bool
) -> None:
    assert needs_comparison(candidate, champion) is needed
    outcomes = {
        decide(candidate, champion, versus(*pair), margin=0.0, min_tracks=1).promote
        for pair in ((0.0, 1.0), (1.0, 0.0))
    }
    assert (len(outcomes) == 2) is needed


def scored(model: str, score: float, *, leaky: bool = False) -> Candidate:
    return replace(NEW, model=model, valid_macro_f1=score, leaky=leaky)


@pytest.mark.parametrize(
    ("candidates", "winner"),
    [
        ([], None),
        ([scored("a", 0.5)], "a"),
        ([scored("a", 0.5), scored("b", 0.6)], "b"),
        ([scored("a", 0.6), scored("b", 0.5)], "a"),
        ([scored("a", 0.6), scored("b", 0.6)], "a"),
        ([scored("a", NAN), scored("b", 0.0)], "b"),
        ([scored("b", 0.0), scored("a", NAN)], "b"),
        ([scored("a", NAN)], None),
        ([scored("a", 0.99, leaky=True), scored("b", 0.1)], "b"),
        ([scored("a", 0.99, leaky=True)], None),
        ([scored("a", 0.99, leaky=True), scored("b", NAN)], None),
    ],
)
def test_the_best_candidate(candidates: list[Candidate], winner: str | None) -> None:
    chosen = best(candidates)
    assert (chosen.model if chosen else None) == winner


def test_a_leaky_model_never_becomes_champion() -> None:
    decision = decide(best([scored("a", 1.0, leaky=True)]), None, None, margin=0.0, min_tracks=1)
    assert not decision.promote
    assert "leaks" in decision.reason


def test_a_candidate_is_built_from_its_metrics_and_card() -> None:
    card = {
        "model": "cnn64",
        "weights_sha256": "new",
        "protocol": "artist",
        "leaky": False,
        "classes": ["blues", "pop"],
        "dataset": {"name": "tiny", "synthetic": False},
    }
    metrics = {"valid": {"track": {"macro_f1": 0.6}}, "test": {"track": {"macro_f1": 0.9}}}
    assert candidate_of(metrics, card) == NEW


def test_model_that_lost_a_class_never_replaces_the_champion() -> None:
    one = Candidate("lenet5", "new", "artist", False, False, ("blues", "metal"), 1.0)
    champion = Champion("1", "old", False, ("blues", "metal", "pop"))
    decision = decide(one, champion, None, margin=0.0, min_tracks=1)
    assert not decision.promote
    assert "pop" in decision.reason
