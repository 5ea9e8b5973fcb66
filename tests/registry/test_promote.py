"""Promotion of real versions in a real store: each kind of detour that once let a worse one in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline import files, tracking
from pipeline.errors import ParamsError
from pipeline.promotion_rule import Version
from pipeline.registry import candidates, lease
from pipeline.registry.versions import model_name
from pipeline.stages import promote
from pipeline.tables.labels import labels_path
from pipeline.tables.tracks import read_tracks
from tests.registry import tiny
from tests.registry.conftest import LABELS


def client() -> Any:
    return tracking.configure().MlflowClient()


def champion() -> str | None:
    entry = promote.champion_entry(client(), "genre")
    return None if entry is None else str(entry.version)


def drop_alias() -> None:
    client().delete_registered_model_alias(model_name("genre"), tracking.PROMOTED)


def test_an_untrained_model_is_no_first_champion_until_a_person_says_so(tracks: pd.DataFrame) -> None:
    bad = tiny.put_model(tracks, skilled=False)
    outcome = tiny.run(bad)
    assert not outcome["promoted"]
    assert "accuracy 0.000" in outcome["reason"]
    assert "a person must confirm" in outcome["reason"]
    assert champion() is None
    told = promote.confirm("genre", None, bad, why="only a demonstration")
    assert champion() == told["candidate"]["version"] == "1"
    tags = client().get_model_version(model_name("genre"), "1").tags
    assert tags["reason"].startswith("confirmed by ")
    assert tags["reason"].endswith("only a demonstration")
    with pytest.raises(ParamsError, match="expected a version of genre-classifier, received 7"):
        promote.confirm("genre", "7", None, why="")


def test_no_detour_lets_an_untrained_model_in(tracks: pd.DataFrame) -> None:
    """Alias deleted, a folder misspelled for one run and put right, classes in another order."""
    good = tiny.put_model(tracks)
    first = tiny.run(good)
    assert first["promoted"]
    assert first["reason"].startswith("there was no champion; accuracy 1.000")
    drop_alias()
    assert not tiny.run(tiny.put_model(tracks, skilled=False))["promoted"]
    assert champion() is None, "version 1 is better: whoever deleted its alias decides"
    assert tiny.run(tiny.put_model(tracks))["promoted"], "the latest champion itself comes back"
    misspelled = tracks.assign(label=tracks["label"].replace("pop", "rock"))
    wrong = tiny.run(tiny.put_model(misspelled, classes=("blues", "metal", "rock"), skilled=False))
    assert "it lacks pop" in wrong["reason"]
    shuffled = tiny.put_model(tracks, classes=("pop", "blues", "metal"), skilled=False)
    assert "macro-F1 0.000 against 1.000" in tiny.run(shuffled)["reason"]
    more = tiny.put_model(tracks, classes=(*tiny.CLASSES, "rock"), skilled=False)
    assert "of the 3 classes both know" in tiny.run(more)["reason"]
    assert champion() == "1"
    better = tiny.put_model(tracks, classes=(*tiny.CLASSES, "rock"))
    assert "no worse is enough" in tiny.run(better)["reason"]
    assert champion() != "1", "a class more, and no worse on the others"


def test_synthetic_champions_yield_only_to_a_real_model_that_shows_something(tracks: pd.DataFrame) -> None:
    synthetic = {"dataset": {"name": "sample", "synthetic": True}}
    assert tiny.run(tiny.put_model(tracks, **synthetic))["promoted"]
    assert not tiny.run(tiny.put_model(tracks, skilled=False))["promoted"]
    assert champion() == "1"
    real = tiny.run(tiny.put_model(tracks))
    assert real["reason"].startswith("a model of real data replaces one of synthetic data; accuracy 1.000")
    drop_alias()
    again = tiny.run(tiny.put_model(tracks, name="cnn64", **synthetic))
    assert "synthetic data never replaces" in again["reason"], "not even where the alias is gone"


def test_a_copy_of_the_sample_is_synthetic_whatever_it_is_called(
    tracks: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = frozenset(read_tracks()["sha256"])
    monkeypatch.setattr(candidates.sample_files, "hashes", lambda: sample)
    assert tiny.put_model(tracks).synthetic


def test_tracks_under_new_names_are_not_new(tracks: pd.DataFrame) -> None:
    tiny.run(tiny.put_model(tracks, skilled=False, seen=tuple(tracks["track_id"])), floor_confidence=0.0)
    table = read_tracks().assign(track_id=lambda t: "renamed." + t["track_id"])
    tiny.write_catalog(table)
    renamed = tracks.assign(track_id="renamed." + tracks["track_id"])
    outcome = tiny.run(tiny.put_model(renamed))
    assert "0 tracks are new to it and to version 1" in outcome["reason"]
    assert not outcome["promoted"]


def test_an_id_with_other_content_is_new_and_a_known_duplicate_is_not(tracks: pd.DataFrame) -> None:
    ids = tuple(tracks["track_id"])
    tiny.run(tiny.put_model(tracks, skilled=False, seen=ids), floor_confidence=0.0)
    tiny.write_tracks(LABELS, first=0)
    table = read_tracks()
    for row in table.itertuples():
        Path(row.path).write_bytes(tiny.noise(row.track_id.split(".")[0], 1000 + row.Index))
    table["sha256"] = [files.sha256(Path(path)) for path in table["path"]]
    tiny.write_catalog(table)
    assert "on 15 tracks" in tiny.run(tiny.put_model(tracks), margin=0.99999)["reason"]


def test_a_fix_of_the_served_code_becomes_a_version_and_serves_a_comment_does_neither(
    tracks: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = tiny.put_model(tracks)
    tiny.run(candidate)
    sources = candidates.shipped.sources()
    commented = {name: f"# a comment\n{text}" for name, text in sources.items()}
    monkeypatch.setattr(candidates.shipped, "sources", lambda: commented)
    assert "version 1 is champion already" in tiny.run(candidate)["reason"]
    fixed = sources | {"errors.py": sources["errors.py"] + "\nFIXED = True\n"}
    monkeypatch.setattr(candidates.shipped, "sources", lambda: fixed)
    assert "the same weights with other code must be no worse" in tiny.run(candidate)["reason"]
    assert champion() == "2"
    monkeypatch.setattr(candidates.shipped, "sources", lambda: sources)
    assert "version 2 has the same weights and later code" in tiny.run(candidate)["reason"]
    assert champion() == "2", "an older checkout does not turn it back"


def test_a_fix_that_breaks_the_answers_does_not_serve(
    tracks: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = tiny.put_model(tracks)
    tiny.run(candidate)
    sources = candidates.shipped.sources()
    louder = sources["logmel.py"].replace("_AMIN, out=power))", "_AMIN, out=power)) + np.float32(20.0)")
    assert louder != sources["logmel.py"]
    monkeypatch.setattr(candidates.shipped, "sources", lambda: sources | {"logmel.py": louder})
    assert "against 1.000 of version 1" in tiny.run(candidate)["reason"]
    assert champion() == "1"


def test_an_alias_moved_by_hand_while_models_are_compared_is_noticed(
    tracks: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.run(tiny.put_model(tracks, skilled=False), floor_confidence=0.0)
    tiny.run(tiny.put_model(tracks, skilled=False, name="cnn64"), floor_confidence=0.0)
    decide, moves = promote.decide, ["2"]

    def slow(*arguments: Any) -> Any:
        decision = decide(*arguments)
        for version in moves:
            client().set_registered_model_alias(model_name("genre"), tracking.PROMOTED, version)
        moves.clear()
        return decision

    monkeypatch.setattr(promote, "decide", slow)
    outcome = tiny.run(tiny.put_model(tracks), floor_confidence=0.0)
    assert outcome["before"]["version"] == "2"
    assert "of version 2" in outcome["reason"]


def test_whoever_lost_the_lease_starts_over(
    tracks: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = [lease.LeaseLostError("taken")]

    def check(self: lease.Lease) -> None:
        if losses:
            raise losses.pop()

    monkeypatch.setattr(lease, "BEAT", 3600.0)  # the renewals check it, too
    monkeypatch.setattr(lease.Lease, "check", check)
    assert tiny.run(tiny.put_model(tracks))["promoted"]
    assert "LeaseLostError, so the comparison starts over" in capsys.readouterr().out


def test_without_a_margin_a_gain_within_the_noise_replaces_nothing(tracks: pd.DataFrame) -> None:
    """Of fifteen tracks the skilled model answers all; the other one names another class for each."""
    tiny.run(tiny.put_model(tracks, skilled=False), floor_confidence=0.0)
    better = tiny.run(tiny.put_model(tracks, "cnn64"), margin=None)
    assert better["promoted"]
    assert "a gain of +" in better["reason"]
    again = tiny.run(tiny.put_model(tracks, "cnn64", seen=("blues.00000",)), margin=None)
    assert not again["promoted"]
    assert "a gain of +0.000 [+0.000, +0.000], all of which must be above 0" in again["reason"]


def test_moods_are_compared_by_cross_entropy_against_the_annotators_shares(empty: Path) -> None:
    """Two versions that name the same classes, one of them too surely."""
    n = 40
    rng = np.random.default_rng(0)
    ids = [f"t{number:02}" for number in range(n)]
    shares = rng.dirichlet(np.ones(3), n)
    names = ["calm", "epic", "warm"]
    table = pd.DataFrame({"track_id": ids, "label": [names[row.argmax()] for row in shares]})
    table[["n_labels", "agreement"]] = 9, 0.5
    table[[f"p_{name}" for name in names]] = shares
    files.write_csv(labels_path("mood"), table)
    rows = pd.DataFrame({"track_id": ids, "path": ids, "sha256": ids, "label": table["label"]})
    tiny.write_catalog(rows)
    surely = shares**6 / (shares**6).sum(axis=1, keepdims=True)
    surely[0] = np.nan  # a file that it refuses
    said = {"1": surely, "2": shares}
    stand = promote.Stand(
        None,
        "mood",
        answered={number: pd.DataFrame(one, columns=names, index=ids) for number, one in said.items()},
    )
    old, new = (Version(number, number, False, frozenset(names)) for number in "12")
    stand.card = lambda number: {"seen_sha256": []}  # type: ignore[method-assign]
    found = promote.compare(stand, rows, new, old, noise=True)
    floor = -(shares * np.log(shares)).sum(axis=1).mean()
    assert (found.measure, found.n_tracks) == ("cross-entropy", n)
    assert found.candidate == pytest.approx(floor, abs=1e-4)
    assert found.champion > found.candidate
    assert found.noise is not None
    assert 0 < found.noise[0] < found.gain < found.noise[1]
    half = promote.compare(stand, rows, replace(new, classes=frozenset(names[:2])), old)
    assert 0 < half.candidate < np.log(2), "shares and answers of the common classes, made to sum to 1"
