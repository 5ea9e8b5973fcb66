"""The evidence: a benchmark that shows a bar fails when the bar is missed, and computes what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import intake, labelling
from pipeline.errors import run_main
from pipeline.taxonomy import MOODS
from tests.conftest import Library


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
    assert "store equals the clean set: True (200 rows)" in said


def failure(capsys: pytest.CaptureFixture[str]) -> str:
    """Run the benchmark and return the one line that it fails with, on standard error with exit code 1."""
    with pytest.raises(SystemExit) as exit_:
        run_main(intake.main)
    said = capsys.readouterr().err.splitlines()[-1]
    assert exit_.value.code == 1
    assert said.startswith("error: expected every planted fault found")
    return said


def test_emotify_fails_when_a_fault_is_missed(
    ratings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_fault(row: intake.Row, rng: np.random.Generator) -> intake.Row:
        return row | {"annotator": "planted-1"}

    monkeypatch.setattr(intake, "FAULTS", intake.FAULTS | {no_fault: "known_mood"})
    monkeypatch.setattr(intake, "FAULTY", 11 / 200)
    said = failure(capsys)
    assert "Received: 1 of 11 faults missed, first batch-0.csv line " in said
    assert "(no_fault): accepted" in said
    assert "a store of 201 rows that is not the clean set of 200" in said
    assert "good rows rejected" not in said


def test_emotify_fails_when_a_good_row_is_rejected(
    ratings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(intake, "misspell", lambda mood, rng: "Other?")
    said = failure(capsys)
    assert "good rows rejected, first batch-0.csv line " in said
    assert "known_mood" in said
    assert "missed" not in said


def test_a_store_that_differs_is_a_shortfall_of_its_own() -> None:
    clean = pd.DataFrame({"mood": ["Other", "CalmButWarm"]})
    assert intake.shortfalls(intake.Tally(), store=clean.copy(), clean=clean) == []
    assert intake.shortfalls(intake.Tally(), store=clean[::-1].reset_index(drop=True), clean=clean) == [
        "a store of 2 rows that is not the clean set of 2"
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
