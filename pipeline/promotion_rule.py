"""Which model may be champion: pure functions, no registry in sight."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


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
    """

    model: str
    weights_sha256: str
    protocol: str
    leaky: bool
    synthetic: bool
    classes: tuple[str, ...]
    valid_macro_f1: float


@dataclass(frozen=True)
class Champion:
    """What the rule must know of the model that serves now."""

    version: str
    weights_sha256: str
    synthetic: bool
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Macro-F1 of both on the ``n_tracks`` tracks that neither has trained on or been chosen by."""

    n_tracks: int
    candidate: float
    champion: float


@dataclass(frozen=True)
class Decision:
    """Whether to promote, and why."""

    promote: bool
    reason: str


def candidate_of(metrics: dict[str, Any], card: dict[str, Any]) -> Candidate:
    """Build a candidate from a model's metrics and card."""
    return Candidate(
        model=card["model"],
        weights_sha256=card["weights_sha256"],
        protocol=card["protocol"],
        leaky=card["leaky"],
        synthetic=card["dataset"]["synthetic"],
        classes=tuple(card["classes"]),
        valid_macro_f1=float(metrics["valid"]["track"]["macro_f1"]),
    )


def best(candidates: list[Candidate]) -> Candidate | None:
    """Return the candidate with the best validation macro-F1; None if all leak or are NaN.

    Of equals the first wins, so that the outcome does not change from run to run.
    """
    able = [one for one in candidates if not one.leaky and not math.isnan(one.valid_macro_f1)]
    return max(able, key=lambda one: one.valid_macro_f1, default=None)


def needs_comparison(candidate: Candidate, champion: Champion | None) -> bool:
    """Return whether the decision depends on how both do on unseen tracks."""
    return champion is not None and _without_comparison(candidate, champion) is None


def _without_comparison(candidate: Candidate, champion: Champion) -> Decision | None:
    """Decide where measuring is not needed, or would not be fair."""
    if candidate.weights_sha256 == champion.weights_sha256:
        return Decision(False, f"version {champion.version} has the same weights and is champion already")
    if candidate.synthetic and not champion.synthetic:
        return Decision(False, "a model of synthetic data never replaces one of real data")
    if champion.synthetic and not candidate.synthetic:
        return Decision(True, "a model of real data replaces one of synthetic data")
    lost = sorted(set(champion.classes) - set(candidate.classes))
    if lost and set(candidate.classes) < set(champion.classes):
        return Decision(False, f"it lacks {', '.join(lost)}, which the champion answers")
    if candidate.classes != champion.classes:
        return Decision(True, "the champion answers other classes than the data now has")
    return None


def decide(
    candidate: Candidate | None,
    champion: Champion | None,
    comparison: Comparison | None,
    *,
    margin: float,
    min_tracks: int,
) -> Decision:
    """Decide whether ``candidate`` becomes champion.

    Parameters
    ----------
    candidate
        From `best`.
    champion
        None: the registry has none yet.
    comparison
        Needed where `needs_comparison` says so.
    margin
        Macro-F1 by which the candidate must be better.
    min_tracks
        Tracks that a comparison needs.
    """
    if candidate is None:
        return Decision(False, "no candidate may be promoted: each one's protocol leaks or its score is NaN")
    if champion is None:
        return Decision(True, "there was no champion")
    early = _without_comparison(candidate, champion)
    if early is not None:
        return early
    if comparison is None or comparison.n_tracks < min_tracks:
        n_tracks = comparison.n_tracks if comparison else 0
        return Decision(False, f"{n_tracks} tracks are unseen by both, {min_tracks} are needed to compare")
    scores = (
        f"macro-F1 {comparison.candidate:.3f} against {comparison.champion:.3f} "
        f"on {comparison.n_tracks} tracks unseen by both, margin {margin:g}"
    )
    better = comparison.candidate > comparison.champion + margin  # false where either is NaN
    return Decision(better, scores)
