"""The evidence: a benchmark that shows a bar fails when the bar is missed, and computes what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import deletion, intake, labelling, model_study, mood_ranking, unsure
from pipeline import files, params
from pipeline.errors import run_main
from pipeline.labelling import audit
from pipeline.stages import catalog, labels
from pipeline.tables.labels import classes_of, labels_path, read_labels
from pipeline.tables.tracks import TRACKS
from pipeline.taxonomy import MOODS
from serving.listener import Listener
from tests.conftest import Library
from tests.listener import listener

__all__ = ["listener"]  # a fixture


@pytest.fixture
def ratings(library: Library, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make 200 ratings of 20 tracks, and one batch of them: ten planted faults, one of each kind."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "track_id": [f"emotify.rock.{number // 10:05}" for number in range(200)],
            "mood": rng.choice(MOODS, 200),
            "annotator": [f"listener-{number:05}" for number in range(200)],
            "labelled_at": intake.TIME,
        }
    )
    table.to_csv("ratings.csv", index=False)
    monkeypatch.setattr(intake, "BATCHES", 1)
    monkeypatch.setattr("sys.argv", ["intake", "emotify", "ratings.csv"])
    return Path("ratings.csv")


@pytest.mark.slow
def test_emotify_says_what_was_found(ratings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_main(intake.main)
    said = capsys.readouterr().out
    assert "200 real rows, 10 planted" in said
    assert "missed 0, good rows rejected 0" in said
    assert "merged labels equal the clean set: True (200 rows)" in said


def failure(
    capsys: pytest.CaptureFixture[str],
    main: Callable[[], None] = intake.main,
    bar: str = "every planted fault found",
) -> str:
    """Run the benchmark and return the one line that it fails with, on standard error with exit code 1."""
    with pytest.raises(SystemExit) as exit_:
        run_main(main)
    said = capsys.readouterr().err.splitlines()[-1]
    assert exit_.value.code == 1
    assert said.startswith(f"error: expected {bar}")
    return said


def test_emotify_fails_when_a_fault_is_missed(
    ratings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_fault(row: intake.Row, rng: np.random.Generator) -> intake.Row:
        return row | {"annotator": "planted-1"}

    monkeypatch.setattr(intake, "FAULTS", intake.FAULTS | {no_fault: "known_mood"})
    monkeypatch.setattr(intake, "FAULTY", 11 / 200)
    said = failure(capsys)
    assert "received 1 of 11 faults missed, first batch-0.csv line " in said
    assert "(no_fault): accepted" in said
    assert "merged labels of 201 rows that are not the clean set of 200" in said
    assert "good rows rejected" not in said


def test_emotify_fails_when_a_good_row_is_rejected(
    ratings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(intake, "misspell", lambda mood, rng: "Other?")
    said = failure(capsys)
    assert "good rows rejected, first batch-0.csv line " in said
    assert "known_mood" in said
    assert "missed" not in said


def test_labels_that_differ_are_a_shortfall_of_their_own() -> None:
    clean = pd.DataFrame({"mood": ["Other", "CalmButWarm"]})
    assert intake.shortfalls(intake.Tally(), merged=clean.copy(), clean=clean) == []
    assert intake.shortfalls(intake.Tally(), merged=clean[::-1].reset_index(drop=True), clean=clean) == [
        "merged labels of 2 rows that are not the clean set of 2"
    ]


def test_entropy_and_disagreement_are_in_nats() -> None:
    assert labelling.entropy(np.array([[1.0, 0.0], [0.5, 0.5]])) == pytest.approx(np.log(2) / 2)
    table = pd.DataFrame({"track_id": ["a", "a", "b"], "mood": ["Other", "calm but warm", "Other"]})
    assert labelling.disagreement(table) == pytest.approx(np.log(2) / 2)


def test_aggregation_is_shown_for_simulated_annotators_and_for_a_file(
    ratings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["labelling", "aggregation", str(ratings), "--seeds", "1"])
    run_main(labelling.main)
    said = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in said[:3]] == list(labelling.CROWDS)
    assert said[3].startswith("ratings.csv: 200 annotations of 20 tracks, disagreement ")
    nats = said[3].removesuffix(" nats").split()[-1]
    assert f"keeps {nats} nats, 0% of the winners" in said[4]
    assert [line.split(":")[0].strip() for line in said[4:]] == list(labelling.METHODS)


def test_aggregation_fails_when_the_majority_is_as_good(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["labelling", "aggregation", "--seeds", "1"])
    monkeypatch.setattr(labelling, "accuracy", lambda table, truth, method: 0.7)
    said = failure(capsys, labelling.main, "Dawid–Skene above the majority where reliability differs")
    assert "received reliability 0.2 to 0.9: dawid_skene 0.700, majority 0.700; reliability" in said
    assert (
        "three spammers: dawid_skene 0.700, majority 0.700. Correct pipeline/labelling/aggregation.py" in said
    )
    assert "five of reliability 0.75" not in said, "equals have nothing to tell apart"


def test_aggregation_fails_when_share_loses_the_disagreement(
    ratings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["labelling", "aggregation", str(ratings), "--seeds", "1"])
    right = labels.mood_labels
    monkeypatch.setattr(labels, "mood_labels", lambda one, two, method: right(one, two, "majority"))
    assert "received share: keeps " in failure(capsys, labelling.main, "Dawid–Skene above")


def test_soft_labels_must_sum_to_one_and_keep_the_nats() -> None:
    even = np.array([[0.5, 0.5]])
    assert labelling.kept_shortfalls({"share": even, "majority": np.eye(2)}, np.log(2)) == []
    assert labelling.kept_shortfalls({"share": even}, 1.009 * np.log(2)) == []
    assert labelling.kept_shortfalls({"share": even}, 1.02 * np.log(2)) == [
        "share: keeps 0.693 of 0.707 nats"
    ]
    off = {"share": even, "dawid_skene": even + 0.0001}
    assert labelling.kept_shortfalls(off, np.log(2)) == ["dawid_skene: sums off 1 by 2e-04"]


def test_confidence_is_no_loss_of_disagreement(ratings: Path) -> None:
    stated = pd.read_csv(ratings).assign(confidence=[1, 3] * 100)
    files.write_csv(ratings, stated)
    assert labelling.show_kept(ratings) == []


@pytest.fixture
def flipping(library: Library, settings: params.Params, monkeypatch: pytest.MonkeyPatch) -> Library:
    """Make the tiny library's labels; one of its twelve tracks is flipped."""
    tracks, _ = catalog.build(settings.catalog.model_copy(update={"min_tracks_per_genre": 1}))
    files.write_csv(TRACKS, tracks)
    files.write_csv(labels_path("genre"), labels.genre_labels(tracks))
    files.write_csv(labels_path("mood"), labels.build_moods(settings.labels)[0])
    monkeypatch.setattr("sys.argv", ["labelling", "audit"])
    return library


def believe(monkeypatch: pytest.MonkeyPatch, table_of: Callable[[str], pd.DataFrame]) -> None:
    """Put a cross-validation in place that believes a table's labels, at 0.9."""

    def crossvalidate(task: str, name: str, n_folds: int, settings: params.Params) -> None:
        table = table_of(task)
        classes = classes_of(table)
        soft = np.where(np.array(classes) == table[["label"]].to_numpy(), 0.9, 0.1 / (len(classes) - 1))
        shares = pd.DataFrame(soft, columns=[f"p_{one}" for one in classes])
        files.write_csv(audit.out_of_fold_path(task, name), table[["track_id", "label"]].join(shares))

    monkeypatch.setattr(labelling.crossvalidate, "crossvalidate", crossvalidate)


def test_audit_finds_what_was_flipped(
    flipping: Library, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    true = {task: read_labels(task) for task in ("genre", "mood")}
    believe(monkeypatch, true.__getitem__)
    run_main(labelling.main)
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"{task}, seed 0: 1.00 of the first 1 were flipped (chance 0.08)" for task in ("genre", "mood")
    ]
    assert read_labels("genre").equals(true["genre"]), "the labels of data/ are as they were"


def test_audit_fails_when_what_was_flipped_is_not_found(
    flipping: Library, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    believe(monkeypatch, lambda task: read_labels(task).assign(label=lambda table: table["label"].iloc[0]))
    monkeypatch.setattr(labelling, "flip", lambda table, rng: (table, {table["track_id"].iloc[0]}))
    said = failure(capsys, labelling.main, "precision >= 3 x chance, received genre, seed 0: 0.00 of the")
    assert "(chance 0.08); mood, seed 0: 0.00" in said
    assert "cmg labels audit" in said


def test_deletion_says_what_removing_does(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(deletion, "REGIONS", 2)
    monkeypatch.setattr("sys.argv", ["deletion", "-n", "3"])
    monkeypatch.setattr(deletion, "BAR", 0.0)
    run_main(deletion.main)
    said = capsys.readouterr().out
    assert said.startswith("genre-classifier/1 (lenet5, tiny), 3 held-out tracks\nwhat decided is ")
    assert "more than the mean of 2 on" in said
    monkeypatch.setattr(deletion, "BAR", 1.1)
    with pytest.raises(SystemExit, match=r"^error: expected 110% of the tracks, received"):
        run_main(deletion.main)


def test_a_pair_of_poles_fits_a_song_as_far_as_listeners_heard_both() -> None:
    ratings = pd.DataFrame(
        {
            "track_id": ["a", "a", "b", "b", "b", "b"],
            "ratings": ["calmness power", "calmness", "calmness", "solemnity amazement", "amazement", np.nan],
        }
    )
    found = mood_ranking.relevance(ratings, ["b", "a"], "calm but epic")
    assert found.tolist() == [0.25, 0.5]  # b: 1 of 4 calm, 2 of 4 amazed; a: 2 of 2 calm, 1 of 2 power


def test_the_order_of_forecasts_that_listeners_share_is_better_than_chance() -> None:
    rng = np.random.default_rng(0)
    classes = ["NegativeButHopeful", "CalmButEpic", "CalmButWarm", "TotallyPositive"]
    ticked = ["sadness nostalgia", "calmness power", "calmness tenderness", "joyful_activation"]
    truth = rng.integers(0, 4, 200)
    tracks = [f"{n}" for n in range(200)]
    ratings = pd.DataFrame({"track_id": tracks, "ratings": [ticked[n] for n in truth]})
    forecasts = pd.DataFrame(0.1 + 0.6 * np.eye(4)[truth], columns=[f"p_{name}" for name in classes])
    found = mood_ranking.scores(forecasts.assign(track_id=tracks), ratings)
    assert found.loc[list(mood_ranking.NAMED), "ours"].tolist() == [1.0] * 3
    assert found.loc[list(mood_ranking.NAMED), "random"].between(0.1, 0.5).all()


def test_what_is_no_music_is_within_full_scale_and_each_clip_another() -> None:
    made = dict(unsure._made())
    assert len(made) + len(unsure.VOICES) == 40
    assert all(np.abs(samples).max() <= 1 for samples in made.values())
    assert len({samples.tobytes() for samples in made.values()}) == 26


def test_unsure_names_each_bar_that_is_missed_and_none_that_cannot_be_measured() -> None:
    good = {"not music, not sure": 0.95, "coverage": None, "error": 0.08}
    assert unsure.missed(good) == []
    assert unsure.missed(good | {"coverage": 0.5}) == ["coverage 0.50, expected 0.60 or more"]
    assert len(unsure.missed({"not music, not sure": 0.9, "coverage": 0.1, "error": 0.2})) == 3


def test_each_variant_of_the_study_has_valid_parameters() -> None:
    base = params.read()
    for variant in model_study.VARIANTS:
        name, settings = model_study.settings_of(variant, base)
        assert name in settings.train.models


def test_the_study_judges_each_rule_on_the_same_trainings() -> None:
    rows = [
        {"epoch": 1, "val_loss": 1.0, "val_agreement": 0.1, "test_right": 2},
        {"epoch": 2, "val_loss": 2.0, "val_agreement": 0.9, "test_right": 8},
        {"epoch": 3, "val_loss": 3.0, "val_agreement": 0.2, "test_right": 5},
    ]
    table = pd.DataFrame(rows).assign(
        variant="a", seed=0, fold=1, accuracy=0.5, val_macro_f1=0.5, test_tracks=10, cpu_seconds=1.0
    )
    found = model_study.summary(table).iloc[0]
    assert (found["loss"], found["agreement"], found["last"]) == (0.2, 0.8, 0.5)
    assert found["agreement, 3 epochs"] == 0.5, "the first two have too little to be averaged with"
