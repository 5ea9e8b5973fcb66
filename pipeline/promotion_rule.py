"""Which model may be champion: pure functions, no registry in sight.

A candidate is promoted if it is better than the version that serves, on tracks whose content neither has
seen, over the classes that both know; and if it is better than always answering the most frequent class.
Where no version serves that it can be compared with (the alias was deleted, the champion is of synthetic
data) the latest version promoted before takes the champion's place. What the rule cannot compare, a person
must confirm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

Measure = Literal["macro-F1", "cross-entropy"]

CONFIRM: Final = "a person must confirm it"


@dataclass(frozen=True)
class Candidate:
    """A trained model that asks to be promoted.

    Parameters
    ----------
    model, weights_sha256
        Which one.
    protocol, leaky
        How it was measured; a leaky protocol bars it.
    synthetic
        Trained on synthetic data.
    classes
        What it answers.
    valid_macro_f1
        Macro-F1 on the validation tracks, by which candidates are ranked; may be NaN.
    valid_cross_entropy
        Against the annotators' shares of the validation tracks; where there is one, candidates are ranked by
        it instead.
    """

    model: str
    weights_sha256: str
    protocol: str
    leaky: bool
    synthetic: bool
    classes: tuple[str, ...]
    valid_macro_f1: float
    valid_cross_entropy: float | None = None

    @property
    def score(self) -> float:
        """Return what candidates are ranked by; larger is better, and it may be NaN."""
        return self.valid_macro_f1 if self.valid_cross_entropy is None else -self.valid_cross_entropy


@dataclass(frozen=True)
class Version:
    """What the rule must know of a version in the registry."""

    number: str
    weights_sha256: str
    synthetic: bool
    classes: frozenset[str]


@dataclass(frozen=True)
class Comparison:
    """How well a candidate and a ``rival`` do on ``n_tracks`` tracks new to both, over common classes.

    Parameters
    ----------
    rival, n_tracks
        With whom, and on how many tracks.
    candidate, champion
        Macro-F1 of the two, or their cross-entropy; may be NaN.
    measure
        Which of the two it is.
    noise
        95 % interval of the candidate's gain over resampled tracks; None: it was not asked for.
    """

    rival: Version
    n_tracks: int
    candidate: float
    champion: float
    measure: Measure = "macro-F1"
    noise: tuple[float, float] | None = None

    @property
    def gain(self) -> float:
        """Return by how much the candidate is better; negative: worse."""
        gain = self.candidate - self.champion
        return gain if self.measure == "macro-F1" else -gain


@dataclass(frozen=True)
class Floor:
    """How a candidate does on the test tracks it has not seen, all of them.

    Parameters
    ----------
    n_tracks, n_right
        Test tracks, and those answered rightly.
    n_most_frequent
        Test tracks of the most frequent class: what always answering it would get right.
    """

    n_tracks: int
    n_right: int
    n_most_frequent: int


@dataclass(frozen=True)
class Terms:
    """The params section ``promote``.

    Parameters
    ----------
    margin
        Macro-F1, or nats of cross-entropy, by which a candidate must be better; None: by more than the noise
        of the tracks that they are compared on.
    min_tracks
        Tracks that a comparison needs.
    floor_confidence
        Of the interval by which a candidate must be better than the most frequent class; 0: no floor.
    """

    margin: float | None
    min_tracks: int
    floor_confidence: float


@dataclass(frozen=True)
class Decision:
    """Whether to promote, and why; ``confirm``: the rule cannot tell, and a person may."""

    promote: bool
    reason: str
    confirm: bool = False


def candidate_of(metrics: dict[str, Any], card: dict[str, Any]) -> Candidate:
    """Build a candidate from the metrics and the card of a trained model."""
    return Candidate(
        model=card["model"],
        weights_sha256=card["weights_sha256"],
        protocol=card["protocol"],
        leaky=card["leaky"],
        synthetic=card["dataset"]["synthetic"],
        classes=tuple(card["classes"]),
        valid_macro_f1=float(metrics["valid"]["track"]["macro_f1"]),
        valid_cross_entropy=metrics["valid"]["track"].get("cross_entropy"),
    )


def version_of(number: str, card: dict[str, Any]) -> Version:
    """Build a version from its number and the card that it ships."""
    return Version(
        number=number,
        weights_sha256=card["weights_sha256"],
        synthetic=card["dataset"]["synthetic"],
        classes=frozenset(card["classes"]),
    )


def best(candidates: list[Candidate]) -> Candidate | None:
    """Return the candidate with the best validation score; None if all leak or are NaN.

    Of equals the first wins, so that the outcome does not change from run to run.
    """
    able = [candidate for candidate in candidates if not candidate.leaky and not math.isnan(candidate.score)]
    return max(able, key=lambda candidate: candidate.score, default=None)


def without_comparison(
    candidate: Version | None, champion: Version | None, history: Sequence[Version]
) -> Decision | None:
    """Decide where measuring is not needed; None where it is.

    Parameters
    ----------
    candidate
        None: `best` found none.
    champion
        None: no version serves.
    history
        Versions promoted before, latest first.
    """
    if candidate is None:
        return Decision(False, "no candidate may be promoted: each one's protocol leaks or its score is NaN")
    if champion and candidate.number == champion.number:
        return Decision(False, f"version {champion.number} is champion already")
    if champion and is_same_model(candidate, champion) and int(candidate.number) < int(champion.number):
        return Decision(False, f"version {champion.number} has the same weights and later code")
    known = [champion, *history] if champion else list(history)
    if candidate.synthetic and not all(version.synthetic for version in known):
        return Decision(False, "a model of synthetic data never replaces one of real data", confirm=True)
    before = next((version for version in known if version.synthetic == candidate.synthetic), None)
    lost = sorted(before.classes - candidate.classes) if before else []
    if before and lost:
        return Decision(
            False, f"it lacks {', '.join(lost)}, which version {before.number} knows; {CONFIRM}", confirm=True
        )
    return None


def is_same_model(candidate: Version, champion: Version | None) -> bool:
    """Return whether a candidate is the champion with other code, a fix of what it ships."""
    return (
        champion is not None
        and candidate.weights_sha256 == champion.weights_sha256
        and candidate.synthetic == champion.synthetic
    )


def rivals(
    candidate: Version,
    champion: Version | None,
    history: Sequence[Version],
    n_common: Callable[[Version], int],
    min_tracks: int,
) -> list[Version] | Decision:
    """Return the versions that a candidate must be better than, or the decision that none can be compared.

    Parameters
    ----------
    candidate, champion, history
        As for `without_comparison`, which has left the decision open.
    n_common
        The number of tracks new to the candidate and to a version, of classes that both know.
    min_tracks
        Tracks that a comparison needs.

    Returns
    -------
    list of Version or Decision
        The champion; and where it knows other classes, or is of synthetic data, the latest version before it
        with the candidate's classes, else the latest with some of them. Empty: the candidate is the first.
    """
    if champion and is_same_model(candidate, champion):
        return [champion]
    chosen: list[Version] = []
    if champion and champion.synthetic == candidate.synthetic:
        if n_common(champion) < min_tracks:
            return _too_few(champion, n_common(champion), min_tracks)
        if champion.classes == candidate.classes:
            return [champion]
        chosen = [champion]
    before = [version for version in history if version.synthetic == candidate.synthetic]
    if not chosen and before and before[0].number == candidate.number:
        return []  # the latest one itself, whose alias is gone
    taken = {candidate.number, champion.number if champion else ""}
    before = [version for version in before if version.number not in taken]
    comparable = [version for version in before if n_common(version) >= min_tracks]
    if before and not comparable and not chosen:
        return _too_few(before[0], n_common(before[0]), min_tracks)
    same = [version for version in comparable if version.classes == candidate.classes]
    return chosen + (same[:1] or ([] if chosen else comparable[:1]))


def _too_few(rival: Version, n_tracks: int, min_tracks: int) -> Decision:
    return Decision(
        False,
        f"{n_tracks} tracks are new to it and to version {rival.number}, "
        f"{min_tracks} are needed to compare; {CONFIRM}",
        confirm=True,
    )


def decide(
    candidate: Version,
    champion: Version | None,
    comparisons: Sequence[Comparison],
    floor: Floor | None,
    terms: Terms,
) -> Decision:
    """Decide whether ``candidate`` becomes champion.

    Parameters
    ----------
    candidate, champion
        `without_comparison` has left the decision open.
    comparisons
        With each of `rivals`.
    floor
        None: `needs_floor` does not ask for it.
    terms
        Margin, tracks and confidence.
    """
    for comparison in comparisons:
        if not _is_better(candidate, comparison, terms.margin):
            return Decision(False, _in_words(candidate, comparison, terms.margin))
    above = f"; {in_words(floor, terms.floor_confidence)}" if floor else ""
    if floor and not is_above(floor, terms.floor_confidence):
        return Decision(False, f"{in_words(floor, terms.floor_confidence)}; {CONFIRM}", confirm=True)
    return Decision(True, "; ".join(_reasons(candidate, champion, comparisons, terms.margin)) + above)


def needs_floor(candidate: Version, champion: Version | None, terms: Terms) -> bool:
    """Return whether a candidate must show that it is better than the most frequent class.

    Not where it is the champion itself with other code: then a fix would wait for a person.
    """
    return terms.floor_confidence > 0 and not is_same_model(candidate, champion)


def _is_better(candidate: Version, comparison: Comparison, margin: float | None) -> bool:
    """Return whether a candidate beats a rival; false where either score is NaN.

    With the same weights, or with more classes than the rival, it need not be better, only no worse.
    """
    if is_same_model(candidate, comparison.rival) or candidate.classes > comparison.rival.classes:
        return comparison.gain >= 0
    if margin is None:
        return comparison.noise is not None and comparison.noise[0] > 0
    return comparison.gain > margin


def _reasons(
    candidate: Version, champion: Version | None, comparisons: Sequence[Comparison], margin: float | None
) -> list[str]:
    said = [_in_words(candidate, comparison, margin) for comparison in comparisons]
    if champion is None:
        return ["there was no champion", *said]
    if champion.synthetic and not candidate.synthetic:
        return ["a model of real data replaces one of synthetic data", *said]
    return said


def _in_words(candidate: Version, comparison: Comparison, margin: float | None) -> str:
    """Say what a comparison found, and by which measure."""
    common = candidate.classes & comparison.rival.classes
    of = "" if candidate.classes == comparison.rival.classes else f" of the {len(common)} classes both know"
    if is_same_model(candidate, comparison.rival):
        bar = "the same weights with other code must be no worse"
    elif candidate.classes > comparison.rival.classes:
        bar = f"no worse is enough, as it knows {', '.join(sorted(candidate.classes - common))} as well"
    elif margin is None:
        low, high = comparison.noise or (float("nan"), float("nan"))
        bar = f"a gain of {comparison.gain:+.3f} [{low:+.3f}, {high:+.3f}], all of which must be above 0"
    else:
        bar = f"margin {margin:g}"
    return (
        f"{comparison.measure} {comparison.candidate:.3f} against {comparison.champion:.3f} of version "
        f"{comparison.rival.number} on {comparison.n_tracks} tracks{of}, unseen by both, {bar}"
    )


def is_above(floor: Floor, confidence: float) -> bool:
    """Return whether the lower end of the accuracy's interval is above the most frequent class's share."""
    return floor.n_tracks > 0 and interval(floor, confidence)[0] > floor.n_most_frequent / floor.n_tracks


def interval(floor: Floor, confidence: float) -> tuple[float, float]:
    """Return Wilson's interval of the accuracy."""
    from scipy.stats import binomtest

    found = binomtest(floor.n_right, floor.n_tracks).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def in_words(floor: Floor, confidence: float) -> str:
    """Say how a candidate does against always answering the most frequent class."""
    if not floor.n_tracks:
        return "no test track says whether it is better than always the most frequent class"
    low, high = interval(floor, confidence)
    share = floor.n_most_frequent / floor.n_tracks
    verdict = "better than" if is_above(floor, confidence) else "not surely better than"
    return (
        f"accuracy {floor.n_right / floor.n_tracks:.3f} [{low:.3f}, {high:.3f}] on {floor.n_tracks} test "
        f"tracks is {verdict} always the most frequent class, {share:.3f}"
    )
