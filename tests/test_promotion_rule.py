"""Every branch of the promotion rule as a table, and the rule as a whole on random histories."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from pipeline import promotion_rule
from pipeline.promotion_rule import (
    Candidate,
    Comparison,
    Decision,
    Floor,
    Terms,
    Version,
    best,
    candidate_of,
    decide,
    is_above,
    rivals,
    version_of,
    without_comparison,
)

NAN = float("nan")
CLASSES = frozenset({"blues", "pop"})
MORE = CLASSES | {"rock"}
NEW = Version("5", "new", False, CLASSES)
OLD = Version("3", "old", False, CLASSES)
TERMS = Terms(margin=0.0, min_tracks=10, floor_confidence=0.95)
GOOD, POOR = Floor(30, 25, 3), Floor(30, 4, 3)


def synthetic(version: Version, number: str | None = None) -> Version:
    return replace(version, synthetic=True, number=number or version.number)


@pytest.mark.parametrize(
    ("candidate", "champion", "history", "reason"),
    [
        (None, None, [], "no candidate"),
        (None, OLD, [OLD], "no candidate"),
        (NEW, None, [], None),
        (NEW, OLD, [OLD], None),
        (replace(OLD), OLD, [OLD], "version 3 is champion already"),
        (replace(NEW, weights_sha256="old"), OLD, [OLD], None),
        (
            replace(NEW, weights_sha256="old", number="2"),
            OLD,
            [OLD],
            "version 3 has the same weights and later",
        ),
        (replace(NEW, weights_sha256="old", number="12"), OLD, [OLD], None),
        (synthetic(NEW), OLD, [OLD], "synthetic data never replaces"),
        (synthetic(NEW), None, [OLD], "synthetic data never replaces"),
        (synthetic(NEW), synthetic(OLD), [synthetic(OLD), replace(OLD, number="1")], "synthetic data never"),
        (synthetic(NEW), synthetic(OLD), [synthetic(OLD)], None),
        (NEW, synthetic(OLD), [synthetic(OLD)], None),
        (NEW, replace(OLD, classes=MORE), [], "it lacks rock, which version 3 knows; a person must confirm"),
        (NEW, None, [replace(OLD, classes=MORE)], "it lacks rock, which version 3 knows"),
        (NEW, synthetic(replace(OLD, classes=MORE)), [], None),
        (NEW, replace(OLD, classes=frozenset({"a", "b"})), [], "it lacks a, b"),
        (replace(NEW, classes=MORE), OLD, [OLD], None),
    ],
)
def test_what_is_decided_without_a_comparison(
    candidate: Version | None, champion: Version | None, history: list[Version], reason: str | None
) -> None:
    found = without_comparison(candidate, champion, history)
    assert (found is None) == (reason is None)
    if found:
        assert not found.promote
        assert str(reason) in found.reason


@pytest.mark.parametrize(
    ("candidate", "champion", "history", "common", "expected"),
    [
        (NEW, None, [], {}, []),
        (NEW, OLD, [OLD], {"3": 10}, ["3"]),
        (
            NEW,
            OLD,
            [OLD, replace(OLD, number="2")],
            {"3": 9, "2": 50},
            "9 tracks are new to it and to version 3",
        ),
        (NEW, None, [OLD], {"3": 10}, ["3"]),
        (NEW, None, [OLD], {"3": 9}, "9 tracks are new to it and to version 3"),
        (NEW, None, [OLD, replace(OLD, number="2")], {"3": 0, "2": 10}, ["2"]),
        (OLD, None, [OLD, replace(OLD, number="2")], {}, []),
        (replace(OLD, number="2"), None, [OLD, replace(OLD, number="2")], {"3": 10}, ["3"]),
        (replace(OLD, number="2"), None, [OLD, replace(OLD, number="2")], {"3": 3}, "3 tracks are new"),
        (NEW, synthetic(OLD), [synthetic(OLD)], {"3": 50}, []),
        (NEW, synthetic(OLD), [synthetic(OLD), replace(OLD, number="2")], {"2": 10, "3": 50}, ["2"]),
        (NEW, synthetic(OLD), [synthetic(OLD), replace(OLD, number="2")], {"2": 9}, "9 tracks are new"),
        (replace(NEW, classes=MORE), OLD, [OLD], {"3": 10}, ["3"]),
        (
            replace(NEW, classes=MORE),
            OLD,
            [OLD, replace(OLD, number="2", classes=MORE), replace(OLD, number="1", classes=MORE)],
            {"3": 10, "2": 10, "1": 10},
            ["3", "2"],
        ),
        (replace(NEW, weights_sha256="old"), OLD, [OLD], {"3": 1}, ["3"]),
    ],
)
def test_whom_a_candidate_must_beat(
    candidate: Version,
    champion: Version | None,
    history: list[Version],
    common: dict[str, int],
    expected: list[str] | str,
) -> None:
    found = rivals(candidate, champion, history, lambda one: common.get(one.number, 0), 10)
    if isinstance(found, Decision):
        assert not found.promote
        assert found.confirm
        assert str(expected) in found.reason
    else:
        assert [one.number for one in found] == expected


@pytest.mark.parametrize(
    ("candidate", "rival", "scores", "floor", "promote", "reason"),
    [
        (
            NEW,
            None,
            None,
            GOOD,
            True,
            "there was no champion; accuracy 0.833 [0.664, 0.927] on 30 test tracks",
        ),
        (NEW, None, None, POOR, False, "is not surely better than always the most frequent class, 0.100"),
        (NEW, None, None, Floor(0, 0, 0), False, "no test track says"),
        (NEW, None, None, None, True, "there was no champion"),
        (
            NEW,
            OLD,
            (0.9, 0.1),
            GOOD,
            True,
            "macro-F1 0.900 against 0.100 of version 3 on 50 tracks, unseen by",
        ),
        (NEW, OLD, (0.9, 0.1), POOR, False, "a person must confirm"),
        (NEW, OLD, (0.5, 0.6), GOOD, False, "macro-F1 0.500 against 0.600"),
        (NEW, OLD, (0.5, 0.5), GOOD, False, "0.500 against 0.500"),
        (NEW, OLD, (NAN, 0.0), GOOD, False, "nan against 0.000"),
        (NEW, OLD, (0.5, NAN), GOOD, False, "0.500 against nan"),
        (replace(NEW, classes=MORE), OLD, (0.5, 0.5), GOOD, True, "as it knows rock as well"),
        (replace(NEW, classes=MORE), OLD, (0.4, 0.5), GOOD, False, "of the 2 classes both know"),
        (replace(NEW, weights_sha256="old"), OLD, (0.5, 0.5), None, True, "must be no worse"),
        (replace(NEW, weights_sha256="old"), OLD, (0.4, 0.5), None, False, "must be no worse"),
        (NEW, synthetic(OLD), None, GOOD, True, "real data replaces one of synthetic"),
        (NEW, synthetic(OLD), None, POOR, False, "a person must confirm"),
    ],
)
def test_every_branch_of_the_decision(
    candidate: Version,
    rival: Version | None,
    scores: tuple[float, float] | None,
    floor: Floor | None,
    promote: bool,
    reason: str,
) -> None:
    comparisons = [Comparison(rival, 50, *scores)] if rival and scores else []
    found = decide(candidate, rival, comparisons, floor, TERMS)
    assert found.promote == promote
    assert reason in found.reason


@pytest.mark.parametrize(("new", "promote"), [(0.62, True), (0.60, False), (0.6000001, True)])
def test_the_margin_is_strict(new: float, promote: bool) -> None:
    found = decide(NEW, OLD, [Comparison(OLD, 20, new, 0.5)], GOOD, replace(TERMS, margin=0.1))
    assert found.promote == promote


def test_every_rival_must_be_beaten() -> None:
    lost, won = Comparison(OLD, 20, 0.5, 0.9), Comparison(replace(OLD, number="2"), 20, 0.5, 0.1)
    assert not decide(NEW, OLD, [won, lost], GOOD, TERMS).promote


@pytest.mark.parametrize(
    ("floor", "above"),
    [(Floor(30, 8, 3), True), (Floor(30, 6, 3), False), (Floor(2, 2, 1), False), (Floor(10, 10, 6), True)],
)
def test_the_floor_is_the_lower_end_of_the_interval(floor: Floor, above: bool) -> None:
    """Wilson by hand for 8 of 30: centre 0.2931, half width 0.1509, so 0.142 > 0.1; for 6: 0.095."""
    assert is_above(floor, 0.95) == above


def candidate(model: str, valid_f1: float, *, leaky: bool = False) -> Candidate:
    return Candidate(model, model, "artist", leaky, False, ("a", "b"), valid_f1)


@pytest.mark.parametrize(
    ("candidates", "winner"),
    [
        ([], None),
        ([candidate("a", 0.5), candidate("b", 0.6)], "b"),
        ([candidate("a", 0.5), candidate("b", 0.5)], "a"),
        ([candidate("a", NAN), candidate("b", 0.1)], "b"),
        ([candidate("a", NAN)], None),
        ([candidate("a", 0.9, leaky=True), candidate("b", 0.1)], "b"),
        ([candidate("a", 0.9, leaky=True)], None),
    ],
)
def test_the_best_candidate(candidates: list[Candidate], winner: str | None) -> None:
    chosen = best(candidates)
    assert (chosen and chosen.model) == winner


def test_candidate_and_version_are_built_from_metrics_and_card() -> None:
    card = {
        "model": "cnn64",
        "weights_sha256": "abc",
        "protocol": "artist",
        "leaky": False,
        "dataset": {"name": "sample", "synthetic": True},
        "classes": ["blues", "pop"],
    }
    metrics = {"valid": {"track": {"macro_f1": 0.75}}}
    assert candidate_of(metrics, card) == Candidate(
        "cnn64", "abc", "artist", False, True, ("blues", "pop"), 0.75
    )
    assert version_of("7", card) == Version("7", "abc", True, CLASSES)


def test_a_leaky_card_of_an_earlier_version_is_read_and_never_promoted() -> None:
    """Its protocol is called ``seed``, which is no protocol now; ``leaky`` decides."""
    card = {"model": "cnn64", "weights_sha256": "abc", "protocol": "seed", "leaky": True, "classes": ["pop"]}
    card["dataset"] = {"name": "sample", "synthetic": True}
    earlier = candidate_of({"valid": {"track": {"macro_f1": 0.99}}}, card)
    assert (earlier.protocol, best([earlier])) == ("seed", None)


# Random histories: whether a model answers a recording rightly is fixed by both; the registry is a list.

NAMES = ("blues", "metal", "pop", "rock")
N_SEQUENCES = 500


@dataclass
class Model:
    """A trained model: how often it is right, what it knows, what it has seen (by content)."""

    number: int
    skill: float
    classes: frozenset[str]
    synthetic: bool
    seen: frozenset[int]
    weights: str

    def answers(self, content: int, label: str, among: frozenset[str]) -> str:
        chance = zlib.crc32(f"{self.weights}/{content}".encode())
        if chance % 1000 < 1000 * self.skill and label in self.classes:
            return label
        wrong = sorted(among - {label})
        return wrong[chance % len(wrong)] if wrong else label

    @property
    def version(self) -> Version:
        return Version(str(self.number), self.weights, self.synthetic, self.classes)


@dataclass
class World:
    """A library (content to label), models in the order of registration, the alias, promotions."""

    rng: random.Random
    recordings: dict[int, str] = field(default_factory=dict)
    models: list[Model] = field(default_factory=list)
    alias: Model | None = None
    promoted: list[Model] = field(default_factory=list)  # latest first
    next_content: int = 0
    synthetic: bool = False
    last: tuple[Model, dict[int, str]] | None = None

    def add(self, n: int) -> None:
        for _ in range(n):
            self.recordings[self.next_content] = self.rng.choice(NAMES[:3])
            self.next_content += 1

    def train(self) -> tuple[Model, dict[int, str]]:
        """Return a model and its test tracks."""
        shift = 0 if self.rng.random() < 0.8 else self.rng.randrange(3)  # the split mostly stays as it was
        test = {one: label for one, label in self.recordings.items() if (one // 3 + shift) % 3 == 0}
        number = len(self.models) + 1
        model = Model(
            number,
            skill=self.rng.choice((0.1, 0.3, 0.5, 0.7, 0.9, 1.0)),
            classes=frozenset(self.recordings.values()),
            synthetic=self.synthetic,
            seen=frozenset(self.recordings) - test.keys(),
            weights=f"{self.rng.random()}",
        )
        self.models.append(model)
        return model, test


def common_tracks(one: Model, other: Model, test: dict[int, str]) -> dict[int, str]:
    classes = one.classes & other.classes
    if len(classes) < 2:
        return {}
    return {
        content: label for content, label in test.items() if content not in other.seen and label in classes
    }


def f1(model: Model, tracks: dict[int, str], among: frozenset[str]) -> float:
    """Return the macro-F1 by its definition."""
    guesses = {content: model.answers(content, label, among) for content, label in tracks.items()}
    each = []
    for name in set(tracks.values()):
        right = sum(guesses[one] == name == tracks[one] for one in tracks)
        total = sum(guess == name for guess in guesses.values()) + sum(
            label == name for label in tracks.values()
        )
        each.append(2 * right / total)
    return sum(each) / len(each)


def floor_of(model: Model, test: dict[int, str]) -> Floor:
    right = sum(model.answers(content, label, model.classes) == label for content, label in test.items())
    labels = list(test.values())
    return Floor(len(test), right, max((labels.count(name) for name in set(labels)), default=0))


def apply_rule(world: World, model: Model, test: dict[int, str]) -> Decision:
    """Decide on a model as `pipeline.stages.promote.decide` does, with this world's answers."""
    by_number = {str(one.number): one for one in world.models}
    champion = world.alias.version if world.alias else None
    history = [one.version for one in world.promoted]
    early = without_comparison(model.version, champion, history)
    if early:
        return early

    def n_common(rival: Version) -> int:
        return len(common_tracks(model, by_number[rival.number], test))

    chosen = rivals(model.version, champion, history, n_common, TERMS.min_tracks)
    if isinstance(chosen, Decision):
        return chosen
    comparisons = []
    for one in chosen:
        other = by_number[one.number]
        tracks, among = common_tracks(model, other, test), model.classes & other.classes
        scores = (f1(model, tracks, among), f1(other, tracks, among)) if tracks else (NAN, NAN)
        comparisons.append(Comparison(one, len(tracks), *scores))
    floor = floor_of(model, test) if promotion_rule.needs_floor(model.version, champion, TERMS) else None
    return decide(model.version, champion, comparisons, floor, TERMS)


def promote(world: World, model: Model, test: dict[int, str]) -> None:
    before, history = world.alias, list(world.promoted)
    decision = apply_rule(world, model, test)
    check(world, model, test, before, history, decision)
    if decision.promote:
        world.alias = model
        world.promoted = [model, *(one for one in world.promoted if one is not model)]


def check(
    world: World,
    model: Model,
    test: dict[int, str],
    before: Model | None,
    history: Sequence[Model],
    decision: Decision,
) -> None:
    """Assert what must never happen, from the definitions and not from the rule's own steps."""
    alike = [one for one in ([before] if before else []) + list(history) if one.synthetic == model.synthetic]
    latest = alike[0] if alike else None
    if decision.promote:
        assert before is not model
        assert not (
            model.synthetic and any(not one.synthetic for one in [*history, *([before] if before else [])])
        )
        if latest and latest is not model:
            tracks, among = common_tracks(model, latest, test), model.classes & latest.classes
            if before is latest or len(tracks) >= TERMS.min_tracks:
                assert latest.classes <= model.classes
                assert len(tracks) >= TERMS.min_tracks
                own, other = f1(model, tracks, among), f1(latest, tracks, among)
                assert own > other or (own == other and model.classes > latest.classes), "a worse one serves"
        assert is_above(floor_of(model, test), 0.95)
    elif latest and latest is not model and latest.classes <= model.classes:
        tracks, among = common_tracks(model, latest, test), model.classes & latest.classes
        if len(tracks) >= TERMS.min_tracks and not any(
            one.synthetic != model.synthetic for one in [*history, *([before] if before else [])]
        ):
            assert "tracks are new to it" not in decision.reason, "kept out for lack of comparison"
            rivals_of = [one for one in [latest, *history] if one.classes == model.classes or one is latest]
            better = all(
                f1(model, shared, model.classes & one.classes) > f1(one, shared, model.classes & one.classes)
                for one in rivals_of
                if one is not model and len(shared := common_tracks(model, one, test)) >= TERMS.min_tracks
            )
            assert not (better and is_above(floor_of(model, test), 0.95)), "a better one stays out"


def retrain(world: World) -> None:
    world.last = world.train()
    promote(world, *world.last)


def again(world: World) -> None:
    if world.last:
        promote(world, *world.last)


def two_at_once(world: World) -> None:
    """Two are trained on the same library before either is promoted; the lease lets one after the other."""
    for trained in [world.train(), world.train()]:
        promote(world, *trained)


def rename_class(world: World) -> None:
    name = world.rng.choice(NAMES[:3])
    world.recordings = {one: "rock" if label == name else label for one, label in world.recordings.items()}


def restore_classes(world: World) -> None:
    world.recordings = {one: NAMES[one % 3] for one in world.recordings}


def remove(world: World) -> None:
    for one in world.rng.sample(sorted(world.recordings), len(world.recordings) // 4):
        del world.recordings[one]


def delete_version(world: World) -> None:
    if world.promoted:
        gone = world.rng.choice(world.promoted)
        world.promoted.remove(gone)
        world.alias = None if world.alias is gone else world.alias


def delete_alias(world: World) -> None:
    world.alias = None


def switch_data(world: World) -> None:
    world.synthetic = not world.synthetic
    world.recordings.clear()
    world.add(60)


STEPS: tuple[Callable[[World], None], ...] = (
    *[retrain] * 6,
    again,
    two_at_once,
    lambda world: world.add(10),
    rename_class,
    restore_classes,
    remove,
    delete_version,
    delete_alias,
    switch_data,
)


def test_no_order_of_events_lets_a_worse_one_in_or_keeps_a_better_one_out() -> None:
    n_promoted = n_kept = 0
    for seed in range(N_SEQUENCES):
        world = World(random.Random(seed))
        world.add(60)
        for _ in range(12):
            world.rng.choice(STEPS)(world)
            if len(world.recordings) < 30:
                world.add(30)
        n_promoted += len(world.promoted)
        n_kept += len(world.models) - len(world.promoted)
    assert n_promoted > N_SEQUENCES
    assert n_kept > N_SEQUENCES


@pytest.mark.parametrize(
    ("gain", "noise", "margin", "promoted"),
    [
        (0.05, (0.01, 0.09), None, True),
        (0.05, (-0.02, 0.12), None, False),
        (0.05, None, None, False),
        (0.05, (-0.02, 0.12), 0.0, True),
        (0.05, (0.01, 0.09), 0.1, False),
        (NAN, (NAN, NAN), None, False),
    ],
)
def test_a_gain_must_be_larger_than_its_noise_or_than_the_margin_that_is_set(
    gain: float, noise: tuple[float, float] | None, margin: float | None, promoted: bool
) -> None:
    terms = replace(TERMS, margin=margin)
    found = decide(NEW, OLD, [Comparison(OLD, 20, 0.5 + gain, 0.5, noise=noise)], GOOD, terms)
    assert found.promote == promoted
    lower_is_better = Comparison(OLD, 20, 2.0 - gain, 2.0, "cross-entropy", noise)
    again = decide(NEW, OLD, [lower_is_better], GOOD, terms)
    assert again.promote == promoted
    assert again.reason.startswith("cross-entropy ")


def test_the_same_weights_need_no_gain_beyond_noise() -> None:
    fixed = replace(NEW, weights_sha256="old")
    same = Comparison(OLD, 20, 0.5, 0.5, noise=(0.0, 0.0))
    assert decide(fixed, OLD, [same], None, replace(TERMS, margin=None)).promote


def test_moods_are_ranked_by_cross_entropy() -> None:
    def trained(model: str, macro_f1: float, entropy: float | None) -> Candidate:
        return Candidate(model, model, "artist", False, False, ("a", "b"), macro_f1, entropy)

    frequent, honest = trained("frequent", 0.4, 2.1), trained("honest", 0.3, 1.9)
    assert best([frequent, honest]) == honest
    assert best([trained("x", 0.4, None), trained("y", 0.3, None)]) == trained("x", 0.4, None)
    assert best([trained("x", 0.4, NAN)]) is None
