"""The audit: planted errors are found, the list says who gave what, the page plays every clip."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline import audit, catalog, crossvalidate, files, labels, params
from pipeline.errors import DataError, ParamsError
from tests.conftest import ROOT

if TYPE_CHECKING:
    from conftest import Library

WRONG = "metal.00002"


@pytest.fixture
def audited(library: Library, settings: params.Params) -> Library:
    """The tiny library after the stages, and a cross-validation that doubts the label of one track."""
    tracks, _ = catalog.build(settings.catalog.model_copy(update={"min_tracks_per_genre": 1}))
    files.write_csv(catalog.TRACKS, tracks)
    files.write_csv(labels.path_of("genre"), labels.genre_labels(tracks))
    files.write_csv(labels.path_of("mood"), labels.build_moods(settings.labels)[0])
    for task in ("genre", "mood"):
        write_out_of_fold(task)
    return library


def write_out_of_fold(task: str) -> pd.DataFrame:
    """Write probabilities of 0.7 for every label but the wrong one, which gets 0.02."""
    table = labels.read(task)
    classes = labels.classes_of(table)
    rows = []
    for track, label in zip(table["track_id"], table["label"], strict=True):
        likely, share = ("pop" if task == "genre" else "CalmButEpic", 0.9) if track == WRONG else (label, 0.7)
        rest = (1 - share) / (len(classes) - 1)
        rows.append([share if one == likely else rest for one in classes])
    out = table[["track_id", "label"]].assign(part="fold 1", predicted="")
    out = pd.concat([out, pd.DataFrame(rows, columns=[f"p_{one}" for one in classes])], axis=1)
    files.write_csv(audit.out_of_fold_path(task, "lenet5"), out)
    return out


@pytest.mark.parametrize("seed", range(5))
def test_flipped_labels_come_first(seed: int) -> None:
    """A model right on 74 %, less sure of its errors; a tenth flipped: three times chance, or more."""
    rng, n, k = np.random.default_rng(seed), 300, 30
    truth = rng.integers(8, size=n)
    leaning = np.where(rng.random(n) < 0.7, truth, rng.integers(8, size=n))
    logits = rng.normal(0, 1, (n, 8))
    logits[np.arange(n), leaning] += np.where(leaning == truth, 3.5, 2.0)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    flipped = rng.choice(n, k, replace=False)
    given = truth.copy()
    given[flipped] = (truth[flipped] + rng.integers(1, 8, size=k)) % 8
    ranked = audit.rank(given, probabilities)
    assert np.isin(ranked.index[:k], flipped).mean() >= 0.3
    assert ranked["quality"].is_monotonic_increasing
    np.testing.assert_array_equal(
        ranked["quality"], probabilities[ranked.index, given[ranked.index]].round(4)
    )
    assert ranked.loc[ranked["suspect"], "quality"].mean() < ranked.loc[~ranked["suspect"], "quality"].mean()


def test_classes_without_a_track_do_not_matter() -> None:
    probabilities = np.full((12, 10), 0.02)
    probabilities[np.arange(12), np.arange(12) % 3] = 0.82
    given = np.arange(12) % 3
    given[5] = 0
    ranked = audit.rank(given, probabilities)
    assert ranked.index[0] == 5
    assert ranked.loc[5, ["suggested", "quality"]].tolist() == [2, 0.02]


def test_the_list_says_who_said_what_and_where_it_is(audited: Library) -> None:
    found = audit.likely_errors("mood")
    assert list(found.rows.columns) == list(audit.COLUMNS)
    assert len(found.rows) == found.n_tracks == 12
    assert (found.n_changed, found.n_left_out, found.notes()) == (0, 0, [])
    worst = found.rows.iloc[0].to_dict()
    given = labels.read("mood").set_index("track_id")["label"][WRONG]
    assert (worst["track_id"], worst["given"], worst["suggested"]) == (WRONG, given, "CalmButEpic")
    assert (worst["confidence"], worst["annotators"]) == (0.9, "ann, bob")
    assert worst["path"] == audited.path_of(WRONG).as_posix()


def test_genres_have_no_annotators(audited: Library) -> None:
    found = audit.likely_errors("genre")
    assert set(found.rows["annotators"]) == {""}
    assert found.rows.loc[0, ["track_id", "given", "suggested"]].tolist() == [WRONG, "metal", "pop"]


def test_labels_that_changed_or_came_later_are_said(audited: Library) -> None:
    table = labels.read("genre")
    table.loc[table["track_id"] == "blues.00000", "label"] = "pop"
    files.write_csv(labels.path_of("genre"), table)
    path = audit.out_of_fold_path("genre", "lenet5")
    files.write_csv(path, pd.read_csv(path).iloc[:-2])
    found = audit.likely_errors("genre")
    assert (found.n_tracks, found.n_changed, found.n_left_out) == (10, 1, 2)
    assert found.rows.loc[found.rows["track_id"] == "blues.00000", "given"].tolist() == ["pop"]
    assert [note.split(":")[0] for note in found.notes()] == [
        "1 labels have changed since the cross-validation",
        "2 labelled tracks are newer than the cross-validation and left out",
    ]


def test_without_a_cross_validation_the_command_is_named(audited: Library) -> None:
    audit.out_of_fold_path("mood", "lenet5").unlink()
    with pytest.raises(
        DataError, match=r"python -m pipeline\.crossvalidate --task mood --model lenet5.*--run"
    ):
        audit.likely_errors("mood")


def test_a_cross_validation_of_other_classes_is_refused(audited: Library) -> None:
    audit.out_of_fold_path("genre", "lenet5").write_bytes(
        audit.out_of_fold_path("mood", "lenet5").read_bytes()
    )
    with pytest.raises(
        DataError, match=r"expected the classes blues, metal, pop, received NegativeButHopeful"
    ):
        audit.likely_errors("genre")


def test_a_cross_validation_of_other_tracks_is_refused(audited: Library) -> None:
    path = audit.out_of_fold_path("genre", "lenet5")
    files.write_csv(path, pd.read_csv(path).assign(track_id="x.0"))
    with pytest.raises(DataError, match="received none of them"):
        audit.likely_errors("genre")


def test_a_label_of_a_track_that_is_gone(audited: Library) -> None:
    files.write_csv(catalog.TRACKS, catalog.read().iloc[1:])
    with pytest.raises(DataError, match=r"tracks\.csv: expected blues\.00000.*dvc repro"):
        audit.likely_errors("genre")


def test_the_page_plays_what_it_lists_and_fetches_nothing(audited: Library) -> None:
    audit.audit("mood", top=3)
    audit.audit("genre", top=2)
    page = audit.PAGE.read_text()
    played = re.findall(r'<audio[^>]* src="([^"]+)"', page)
    assert len(played) == 5
    for clip in played:
        info = soundfile.info(audit.FOLDER / unquote(clip))
        assert (info.format, info.samplerate, info.channels) == ("FLAC", 22_050, 1)
        assert info.duration == pytest.approx(1.5, abs=0.01), "the tones are shorter than ten seconds"
    assert not re.findall(r"https?://|src=\"//|@import|url\(", page)
    assert "Synthetic data" in page
    rows = pd.read_csv(audit.FOLDER / "mood.csv", keep_default_na=False)
    assert rows["track_id"].tolist() == audit.likely_errors("mood").head(3).rows["track_id"].tolist()
    plain = json.loads((audit.FOLDER / "mood.json").read_text())
    assert plain["n_tracks"] == 12
    assert len(plain["rows"]) == 3


def test_a_clip_is_the_middle_ten_seconds(workspace: Path) -> None:
    seconds = np.arange(30 * 22_050) / 22_050
    soundfile.write("long.wav", np.where(abs(seconds - 15) < 5, 0.5, 0.0), 22_050)
    audit.write_clip("a b#1", Path("long.wav"))
    samples, _ = soundfile.read(audit.clip_path("a b#1"))
    assert len(samples) == 220_500
    assert samples[1:].min() == samples.max() == 0.5


def test_names_that_html_and_addresses_give_a_meaning(audited: Library) -> None:
    rows = audit.likely_errors("genre").head(1).rows.assign(track_id="a&b #1 <i>", annotators="<script>")
    audit.publish(audit.Audit("genre", "lenet5", 12, 1, 0, 0, rows))
    page = audit.PAGE.read_text()
    assert "<script>" not in page
    assert "<i>" not in page
    (clip,) = re.findall(r'<audio[^>]* src="([^"]+)"', page)
    assert (audit.FOLDER / unquote(clip)).exists()


def test_a_second_audit_leaves_no_old_clips(audited: Library) -> None:
    audit.audit("genre", top=5)
    audit.audit("genre", top=1)
    assert [path.stem for path in audit.CLIPS.iterdir()] == [WRONG]


def test_the_same_audit_writes_the_same_bytes(audited: Library) -> None:
    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in audit.FOLDER.rglob("*") if path.is_file()}

    audit.audit("mood", top=4)
    before = content()
    audit.audit("mood", top=4)
    assert content() == before


@pytest.mark.parametrize("top", [0, -3])
def test_a_list_of_nothing_is_refused(audited: Library, top: int) -> None:
    with pytest.raises(ParamsError, match=rf"--top: expected at least 1, received {top}"):
        audit.audit("genre", top=top)


def test_the_command_line(audited: Library) -> None:
    command = [sys.executable, "-m", "pipeline.audit", "--task", "genre", "--top", "2"]
    environment = {"PYTHONPATH": str(ROOT)}
    good = subprocess.run(command, capture_output=True, env=environment, text=True)
    assert good.returncode == 0, good.stderr
    assert WRONG in good.stdout
    assert "listen to them in label_audit/index.html" in good.stdout
    bad = subprocess.run([*command, "--model", "cnn64"], capture_output=True, env=environment, text=True)
    assert bad.returncode == 2
    assert bad.stderr.startswith(
        "error: expected out-of-fold probabilities in mlruns/crossvalidation/genre-cnn64"
    )
    assert bad.stderr.count("\n") == 1


def test_it_reads_what_the_cross_validation_writes() -> None:
    assert (
        audit.out_of_fold_path("mood", "lenet5") == crossvalidate.FOLDER / "mood-lenet5" / "out_of_fold.csv"
    )
