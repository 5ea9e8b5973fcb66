"""Stage ``promote``: the better of each task's best model and the present champion serves.

Both answer the same audio, each by the code that it ships: what is measured is what serves. What comes out
depends on the registry, so the decision is written where the registry is (tags of the version, a run named
"promotion", the alias ``champion``), and for who called the stage in ``mlruns/promotion.json``. The stage's
DVC output says only which candidates were compared, and by which parameters: without an output, a fresh
clone, whose ``dvc.lock`` knows the stage already, would never promote. Running it again changes nothing.

``python -m pipeline.stages.promote --confirm TASK`` promotes what the rule leaves to a person.
"""

from __future__ import annotations

import argparse
import getpass
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from pipeline import params, promotion_rule, tracking
from pipeline.errors import DataError, ParamsError, UnavailableError
from pipeline.files import read_json, write_json
from pipeline.promotion_rule import Candidate, Comparison, Decision, Floor, Measure, Terms, Version
from pipeline.registry import answers, lease, repacked, seen, versions
from pipeline.registry import candidates as workspace
from pipeline.registry.versions import champion_entry, model_name, version_summary
from pipeline.stage_run import run_stage
from pipeline.tables.champions import CHAMPIONS, champion_facts
from pipeline.tables.labels import read_labels
from pipeline.tables.predictions import predictions_path
from pipeline.tables.tracks import read_tracks
from pipeline.taxonomy import SOFT, TASKS
from pipeline.training.scores import gain_interval

INPUTS: Final = Path("mlruns/promotion_inputs.json")
OUTCOME: Final = tracking.ROOT / "promotion.json"
_NONE: Final = "none"  # what the tag champion_before says of a first champion
_TRIES: Final = 5
_TINY: Final = 1e-7


class _MovedError(Exception):
    """The alias was set by somebody who holds no lease: compare again."""


@dataclass
class Stand:
    """What a task's registry holds now, and a candidate's test tracks; files and answers are read once."""

    client: Any
    task: str
    folders: dict[str, Path] = field(default_factory=dict)
    answered: dict[str, pd.DataFrame] = field(default_factory=dict)

    def card(self, number: str) -> dict[str, Any]:
        """Return the card that a version ships."""
        if number not in self.folders:
            self.folders[number] = answers.folder_of(model_name(self.task), number)
        return answers.card_of(self.folders[number])

    def version(self, number: str) -> Version:
        """Return what the rule must know of a version."""
        return promotion_rule.version_of(number, self.card(number))

    def champion(self) -> Version | None:
        """Return the version that serves."""
        entry = champion_entry(self.client, self.task)
        return None if entry is None else self.version(str(entry.version))

    def history(self) -> list[Version]:
        """Return the versions promoted before, latest first, but for those whose files are gone."""
        found = []
        for entry in versions.promoted_entries(self.client, self.task):
            try:
                found.append(self.version(str(entry.version)))
            except DataError as error:
                print(f"{model_name(self.task)}: version {entry.version} is left out of the history: {error}")
        return found

    def predicted(self, number: str, tracks: pd.DataFrame, classes: Sequence[str]) -> pd.Series:
        """Return the most probable of ``classes`` by track id; blank where the version refuses the file."""
        table = self._asked(number, tracks, classes)
        known = table.notna().all(axis=1)
        return table.fillna(0.0).idxmax(axis=1).where(known, "")

    def probabilities(self, number: str, tracks: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
        """Return the probabilities of ``classes``; all equal where the version refuses the file."""
        return self._asked(number, tracks, classes).fillna(1.0 / len(classes)).to_numpy()

    def _asked(self, number: str, tracks: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
        if number not in self.answered:
            self.card(number)
            table = answers.predict(self.folders[number], [Path(path) for path in tracks["path"]])
            self.answered[number] = table.set_index(tracks["track_id"].to_numpy())
        return self.answered[number].loc[tracks["track_id"], list(classes)]


def held_out_tracks(task: str, model: str) -> pd.DataFrame:
    """Return a candidate's test tracks: the catalogue's columns and ``label``."""
    text = dict.fromkeys(("track_id", "part", "label", "predicted"), str)
    table = pd.read_csv(predictions_path(task, model), dtype=text, keep_default_na=False)
    test = table.loc[table["part"] == "test", ["track_id", "label"]]
    return test.merge(read_tracks(), on="track_id", how="left", validate="one_to_one")


def new_to_both(
    tracks: pd.DataFrame, candidate: Version, rival: Version, card: dict[str, Any]
) -> pd.DataFrame:
    """Return those test tracks that a rival has not seen either, of the classes that both know."""
    catalogue = read_tracks()
    seen_ids = set(catalogue.loc[seen.is_seen(catalogue, card), "track_id"])
    common = candidate.classes & rival.classes
    if len(common) < 2:
        return tracks.iloc[:0]
    return tracks[~tracks["track_id"].isin(seen_ids) & tracks["label"].isin(common)]


def macro_f1(label: pd.Series, predicted: pd.Series) -> float:
    """Return the mean F1 over the classes that occur in ``label``."""
    from sklearn.metrics import f1_score

    classes = sorted(set(label))
    return float(f1_score(label, predicted, labels=classes, average="macro", zero_division=0))


def compare(
    stand: Stand, tracks: pd.DataFrame, candidate: Version, rival: Version, *, noise: bool = False
) -> Comparison:
    """Let both answer the tracks new to both; of their probabilities, those of common classes count.

    Parameters
    ----------
    noise
        Also resample the tracks.
    """
    measure: Measure = "cross-entropy" if stand.task in SOFT else "macro-F1"
    new = new_to_both(tracks, candidate, rival, stand.card(rival.number))
    if new.empty:
        return Comparison(rival, 0, float("nan"), float("nan"), measure)
    classes = sorted(candidate.classes & rival.classes)
    stand.predicted(candidate.number, tracks, classes)  # all of them at once: the floor needs them too
    judge = losses if measure == "cross-entropy" else answers_of
    own, other = (judge(stand, version.number, new, classes) for version in (candidate, rival))
    everything = np.arange(len(new))
    found = Comparison(rival, len(new), own(everything), other(everything), measure)
    if not noise:
        return found
    sign = 1 if measure == "macro-F1" else -1
    return replace(found, noise=gain_interval(lambda index: sign * (own(index) - other(index)), len(new)))


def answers_of(
    stand: Stand, number: str, new: pd.DataFrame, classes: Sequence[str]
) -> Callable[[np.ndarray], float]:
    """Return a version's macro-F1 as a function of the rows of ``new`` that count."""
    label, said = new["label"].to_numpy(), stand.predicted(number, new, classes).to_numpy()
    return lambda index: macro_f1(label[index], said[index])


def losses(
    stand: Stand, number: str, new: pd.DataFrame, classes: Sequence[str]
) -> Callable[[np.ndarray], float]:
    """Return a version's cross-entropy against the annotators' shares, by the rows of ``new`` that count.

    What a version refuses, it knows nothing of: all common classes are equally probable.
    """
    table = read_labels(stand.task).set_index("track_id")
    shares = table.loc[new["track_id"], [f"p_{name}" for name in classes]].to_numpy(float)
    said = stand.probabilities(number, new, classes)
    both = [values / np.maximum(values.sum(axis=1, keepdims=True), _TINY) for values in (shares, said)]
    entropy = -(both[0] * np.log(np.clip(both[1], _TINY, 1.0))).sum(axis=1)
    return lambda index: float(entropy[index].mean())


def floor_of(stand: Stand, tracks: pd.DataFrame, candidate: Version) -> Floor:
    """Let a candidate answer its test tracks, by the code that it ships."""
    if tracks.empty:
        return Floor(0, 0, 0)
    predicted = stand.predicted(candidate.number, tracks, sorted(candidate.classes)).to_numpy()
    right = int((predicted == tracks["label"].to_numpy()).sum())
    return Floor(len(tracks), right, int(tracks["label"].value_counts().max()))


def decide(stand: Stand, model: str, number: str | None, champion: Version | None, terms: Terms) -> Decision:
    """Apply the rule to a registered candidate; measure what it asks for.

    Parameters
    ----------
    stand
        The task's registry.
    model, number
        The candidate's name in the workspace, and its version; None: there is no candidate.
    champion, terms
        As for `pipeline.promotion_rule`.
    """
    candidate = stand.version(number) if number else None
    history = [] if _is_enough(candidate, champion) else stand.history()
    early = promotion_rule.without_comparison(candidate, champion, history)
    if early or candidate is None:
        return early or Decision(False, "there is no candidate")
    tracks = held_out_tracks(stand.task, model)

    def n_common(rival: Version) -> int:
        return len(new_to_both(tracks, candidate, rival, stand.card(rival.number)))

    rivals = promotion_rule.rivals(candidate, champion, history, n_common, terms.min_tracks)
    if isinstance(rivals, Decision):
        return rivals
    noise = terms.margin is None
    comparisons = [compare(stand, tracks, candidate, rival, noise=noise) for rival in rivals]
    floor = None
    if promotion_rule.needs_floor(candidate, champion, terms):
        floor = floor_of(stand, tracks, candidate)
    return promotion_rule.decide(candidate, champion, comparisons, floor, terms)


def _is_enough(candidate: Version | None, champion: Version | None) -> bool:
    """Return whether the champion alone decides; else files of all versions promoted before are fetched."""
    if candidate is None or champion is None or candidate.synthetic or champion.synthetic:
        return False
    return candidate.classes == champion.classes


def promote(task: str, candidate: Candidate | None, settings: params.PromoteParams) -> dict[str, Any]:
    """Decide on one task's candidate, move the alias, and log the decision; one process at a time.

    Returns
    -------
    dict
        ``promoted``, ``reason``, the ``candidate``'s version, the ``champion`` that now serves and the one
        ``before`` (version, model and test metrics each; None where there is none).

    Raises
    ------
    UnavailableError
        Somebody else kept moving the alias, or held the lease for too long.
    """
    client = tracking.configure().MlflowClient()
    for _ in range(_TRIES):
        try:
            with lease.hold(client, model_name(task)) as held:
                return _promote(Stand(client, task), candidate, Terms(**settings.model_dump()), held)
        except (_MovedError, lease.LeaseLostError) as error:
            print(f"{model_name(task)}: {type(error).__name__}, so the comparison starts over")
    raise UnavailableError(
        f"{model_name(task)}: expected the champion to stay while a candidate is compared with it, received "
        f"another {_TRIES} times. Try again later."
    )


def _promote(stand: Stand, candidate: Candidate | None, terms: Terms, held: lease.Lease) -> dict[str, Any]:
    client, task = stand.client, stand.task
    repacked.repack_champion(client, task, held)
    champion = stand.champion()
    before = version_summary(client, task, champion.number) if champion else None
    number = workspace.ensure_version(client, task, candidate) if candidate else None
    if champion and number == champion.number:
        earlier = _decided_before(client, task, champion.number)
        if earlier:
            return earlier
    decision = decide(stand, candidate.model if candidate else "", number, champion, terms)
    if number and not (champion and champion.number == number):
        _carry_out(client, task, number, decision, champion, held)
    return _outcome(client, task, number, decision, before)


def _outcome(
    client: Any, task: str, number: str | None, decision: Decision, before: dict[str, Any] | None
) -> dict[str, Any]:
    own = version_summary(client, task, number) if number else None
    return {
        "promoted": decision.promote,
        "reason": decision.reason,
        "candidate": own,
        "champion": own if decision.promote else before,
        "before": before,
    }


def _carry_out(
    client: Any, task: str, number: str, decision: Decision, champion: Version | None, held: lease.Lease
) -> None:
    """Log a decision, and move the alias if it says so and nobody has moved it meanwhile.

    Raises
    ------
    _MovedError, lease.LeaseLostError
        Somebody has.
    """
    if not decision.promote:
        _log_decision(client, task, number, decision, champion)
        return
    _check_unmoved(client, task, champion, held)
    _log_decision(client, task, number, decision, champion)  # first: a kill between must not lose it
    _check_unmoved(client, task, champion, held)
    client.set_registered_model_alias(model_name(task), tracking.PROMOTED, number)
    now = datetime.now(UTC).isoformat()
    client.set_model_version_tag(model_name(task), number, versions.PROMOTED_AT, now)


def _check_unmoved(client: Any, task: str, champion: Version | None, held: lease.Lease) -> None:
    held.check()
    entry = champion_entry(client, task)
    if (None if entry is None else str(entry.version)) != (champion.number if champion else None):
        raise _MovedError(model_name(task))


def _decided_before(client: Any, task: str, version: str) -> dict[str, Any] | None:
    """Return the outcome of the same retrain's earlier try, which promoted the version and then failed."""
    tags = client.get_model_version(model_name(task), version).tags
    retrain = os.environ.get(tracking.RETRAIN)
    if retrain is None or tags.get("decided_by") != retrain:
        return None
    before, now = tags["champion_before"], version_summary(client, task, version)
    return {
        "promoted": True,
        "reason": tags["reason"],
        "candidate": now,
        "champion": now,
        "before": None if before == _NONE else version_summary(client, task, before),
    }


def serving(task: str) -> dict[str, Any] | None:
    """Return the facts of a task's present champion; None if there is none.

    Raises
    ------
    UnavailableError
        The registry's server does not answer.
    """
    client = tracking.configure().MlflowClient()
    with tracking.reachable():
        entry = champion_entry(client, task)
        return None if entry is None else version_summary(client, task, str(entry.version))


def sentence(outcome: dict[str, Any]) -> str:
    """Return the decision in words."""
    if outcome["promoted"]:
        return f"promoted version {outcome['candidate']['version']}: {outcome['reason']}"
    return f"{'kept champion' if outcome['champion'] else 'not promoted'}, because {outcome['reason']}"


def _log_decision(client: Any, task: str, version: str, decision: Decision, champion: Version | None) -> None:
    tags = {
        "decision": "promoted" if decision.promote else "kept champion",
        "reason": decision.reason,
        "champion_before": champion.number if champion else _NONE,
        "decided_by": os.environ.get(tracking.RETRAIN, ""),
    }
    for key, value in tags.items():
        client.set_model_version_tag(model_name(task), version, key, value)
    with tracking.run(task, "promotion", tags | {"version": version}):
        pass


def confirm(task: str, number: str | None, candidate: Candidate | None, *, why: str) -> dict[str, Any]:
    """Promote a version because a person says so; who, when and why go into its tags and a run.

    Parameters
    ----------
    task
        Whose champion.
    number
        The version; None: the one that ``candidate`` is.
    candidate
        From `candidates.best_of`; None: there is none.
    why
        The person's reason.

    Raises
    ------
    ParamsError
        There is no such version, and no candidate.
    """
    client = tracking.configure().MlflowClient()
    with lease.hold(client, model_name(task)) as held:
        stand = Stand(client, task)
        entry = champion_entry(client, task)  # its files may be gone: that is no reason to keep it
        if number is None and candidate:
            number = workspace.ensure_version(client, task, candidate)
        if number is None:
            raise ParamsError(f"{model_name(task)}: expected --version, as there is no candidate. Name one.")
        _check_exists(client, task, number)
        stand.card(number)  # what cannot be loaded must not serve
        before = None if entry is None else version_summary(client, task, str(entry.version))
        decision = Decision(True, f"confirmed by {getpass.getuser()}: {why}")
        champion = None if before is None else Version(before["version"], "", False, frozenset())
        _carry_out(client, task, number, decision, champion, held)
        return _outcome(client, task, number, decision, before)


def _check_exists(client: Any, task: str, number: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.get_model_version(model_name(task), number)
    except MlflowException as error:
        raise ParamsError(
            f"--version: expected a version of {model_name(task)}, received {number}: {error.message}"
        ) from None


def _decide_all(settings: params.Params) -> None:
    """Decide on every task's champion."""
    compared, champions = {}, {}
    for task in settings.tasks:
        candidate = workspace.best_of(task, list(settings.models))
        if tracking.is_temporary_checkout():
            print(
                f"{model_name(task)}: an experiment promotes nothing; `dvc exp apply`, then `dvc repro` does"
            )
        else:
            with tracking.reachable():
                outcome = promote(task, candidate, settings.promote)
            _report_outcome(task, outcome)
            champions[task] = champion_facts(outcome["champion"])
        compared[task] = {
            "candidate": candidate and candidate.weights_sha256,
            **settings.promote.model_dump(),
        }
    write_json(INPUTS, compared)
    write_json(CHAMPIONS, champions)


def _report_outcome(task: str, outcome: dict[str, Any]) -> None:
    write_json(OUTCOME, (read_json(OUTCOME) if OUTCOME.exists() else {}) | {task: outcome})
    print(f"{model_name(task)}: {sentence(outcome)}")
    if promotion_rule.CONFIRM in outcome["reason"] and not outcome["promoted"]:
        command = f'python -m pipeline.stages.promote --confirm {task} --reason "my reason"'
        print(f"to promote it all the same: {command}")


def main() -> None:
    """Decide on every task's champion; or promote what a person confirms."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.stages.promote", description=main.__doc__)
    parser.add_argument("--confirm", choices=TASKS, metavar="TASK", help="promote this task's candidate")
    parser.add_argument("--version", help="of the registered model (default: what the workspace has trained)")
    parser.add_argument("--reason", default="no reason given", help="why; it is logged")
    args, settings = parser.parse_args(), params.read()
    if not args.confirm:
        _decide_all(settings)
        return
    with tracking.reachable():
        candidate = None if args.version else workspace.best_of(args.confirm, list(settings.models))
        outcome = confirm(args.confirm, args.version, candidate, why=args.reason)
    _report_outcome(args.confirm, outcome)
    champions = read_json(CHAMPIONS) if CHAMPIONS.exists() else {}
    write_json(CHAMPIONS, champions | {args.confirm: champion_facts(outcome["champion"])})
    print("now: dvc repro, so that the report says so")


if __name__ == "__main__":
    run_stage(main)
