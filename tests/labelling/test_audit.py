"""The audit: planted errors are found, the list says who gave what, the page plays every clip."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline import files, params
from pipeline.errors import DataError, ParamsError
from pipeline.labelling import audit
from pipeline.labelling.clips import CLIPS, clip_address, clip_path, write_clip
from pipeline.stages import catalog, labels
from pipeline.tables.labels import classes_of, labels_path, read_labels
from pipeline.tables.tracks import TRACKS, read_tracks
from pipeline.training import crossvalidate
from tests.conftest import ROOT, Library, write_library

WRONG = "metal.00002"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Library]:
    """Make the tiny library, run its stages, and a cross-validation that doubts the label of one track."""
    folder, settings = tmp_path_factory.mktemp("audited"), params.read(ROOT / "params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        library = write_library(Path("data"))
        tracks, _ = catalog.build(settings.catalog.model_copy(update={"min_tracks_per_genre": 1}))
        files.write_csv(TRACKS, tracks)
        files.write_csv(labels_path("genre"), labels.genre_labels(tracks))
        files.write_csv(labels_path("mood"), labels.build_moods(settings.labels)[0])
        for task in ("genre", "mood"):
            write_out_of_fold(task)
    return folder, library


@pytest.fixture
def audited(made: tuple[Path, Library], workspace: Path) -> Library:
    """Work in a copy of it."""
    shutil.copytree(made[0], workspace, dirs_exist_ok=True)
    return made[1]


def audit_rows(task: str) -> list[Any]:
    """Return the rows of the written list."""
    return list(pd.read_csv(audit.FOLDER / f"{task}.csv").itertuples())


def write_out_of_fold(task: str) -> pd.DataFrame:
    """Write probabilities of 0.7 for every label but the wrong one, which gets 0.02."""
    table = read_labels(task)
    classes = classes_of(table)
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
    given = read_labels("mood").set_index("track_id")["label"][WRONG]
    assert (worst["track_id"], worst["given"], worst["suggested"]) == (WRONG, given, "CalmButEpic")
    assert (worst["confidence"], worst["annotators"]) == (0.9, "ann, bob")
    assert worst["path"] == audited.path_of(WRONG).as_posix()


def test_genres_have_no_annotators(audited: Library) -> None:
    found = audit.likely_errors("genre")
    assert set(found.rows["annotators"]) == {""}
    assert found.rows.loc[0, ["track_id", "given", "suggested"]].tolist() == [WRONG, "metal", "pop"]


def test_labels_that_changed_or_came_later_are_said(audited: Library) -> None:
    table = read_labels("genre")
    table.loc[table["track_id"] == "blues.00000", "label"] = "pop"
    files.write_csv(labels_path("genre"), table)
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
        DataError, match=r"python -m pipeline\.training\.crossvalidate --task mood --model lenet5.*--run"
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


def test_how_good_the_model_is_stands_in_the_list_and_on_the_page(audited: Library) -> None:
    found = audit.audit("genre", top=2)
    assert (found.accuracy, found.baseline) == (0.9167, 0.3333), "eleven of twelve; four of twelve"
    plain = json.loads((audit.FOLDER / "genre.json").read_text())
    assert (plain["accuracy"], plain["baseline"]) == (0.9167, 0.3333)
    page = " ".join(audit.PAGE.read_text().split())
    assert "agrees with 92 % of the labels" in page
    assert "most frequent class would agree with 33 %" in page
    assert "hardly better" not in page


def test_a_model_that_guesses_is_cautioned_against(audited: Library) -> None:
    path = audit.out_of_fold_path("genre", "lenet5")
    table = pd.read_csv(path)
    shares = [name for name in table if name.startswith("p_")]
    files.write_csv(path, table.assign(**dict.fromkeys(shares, 0.3)).assign(p_pop=0.4))
    found = audit.audit("genre")
    assert (found.accuracy, found.baseline) == (0.3333, 0.3333)
    assert found.notes()[0].startswith("The model guesses hardly better than the most frequent class: listen")
    assert found.notes()[0] in audit.PAGE.read_text()


@pytest.mark.parametrize(
    ("accuracy", "baseline", "guesses"),
    [(0.59, 0.5, True), (0.6, 0.5, True), (0.61, 0.5, False), (0.4, 0.5, True), (1.0, 1.0, True)],
)
def test_guessing_ends_two_standard_errors_above_the_most_frequent_class(
    accuracy: float, baseline: float, guesses: bool
) -> None:
    """Of a hundred tracks, half of one class, the standard error is 0.05."""
    found = audit.Audit("genre", "lenet5", 100, 0, 0, 0, accuracy, baseline, pd.DataFrame())
    assert found.guesses() is guesses


def test_a_page_of_an_earlier_version_still_goes_with_a_new_one(audited: Library) -> None:
    audit.audit("genre", top=1)
    path = audit.FOLDER / "genre.json"
    old = json.loads(path.read_text())
    files.write_json(path, {name: old[name] for name in old if name not in ("accuracy", "baseline")})
    audit.audit("mood", top=1)
    assert "Out of fold the model agrees with" in audit.PAGE.read_text()


@pytest.mark.parametrize(
    ("content", "received"),
    [
        (b"", "No columns to parse"),
        (b"\x89PNG\xff\xfe", "codec can't decode"),
        (b"a,b\n1,2\n", "the columns a, b"),
        (b"track_id,label,p_pop\na,pop,1\nb,pop,1,2\n", "Expected 3 fields in line 3, saw 4"),
        (b"track_id,label,p_pop\na,pop,1\nb,po", "could not convert string to float: ''"),
        (b"track_id,label,p_pop\na,pop,much\n", "could not convert string to float: 'much'"),
    ],
)
def test_a_cross_validation_that_cannot_be_read_is_refused(
    audited: Library, content: bytes, received: str
) -> None:
    path = audit.out_of_fold_path("genre", "lenet5")
    path.write_bytes(content)
    with pytest.raises(DataError) as raised:
        audit.likely_errors("genre")
    said = str(raised.value)
    assert said.startswith(f"{path}: expected track_id, label and a probability of each class in every line")
    assert received in said
    assert said.endswith("Run `python -m pipeline.training.crossvalidate --task genre --model lenet5` again.")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("folds", "said"),
    [
        (1, r"--folds: expected at least 3 .*received 1\. Take 3 or more"),
        (50, r"artist: 6\).*class \(4\), received 50\. Take at most 4 folds, or add tracks of other artists"),
    ],
)
def test_too_few_and_too_many_folds_say_what_to_do(audited: Library, folds: int, said: str) -> None:
    with pytest.raises(ParamsError, match=said):
        audit.audit("genre", folds=folds)


def test_where_no_number_of_folds_would_do_tracks_are_asked_for(audited: Library) -> None:
    files.write_csv(TRACKS, read_tracks().assign(artist="one"))
    with pytest.raises(ParamsError, match=r"artist: 1\).*received 3\. Add tracks of other artists"):
        audit.audit("genre", folds=3)


def test_a_cross_validation_of_other_tracks_is_refused(audited: Library) -> None:
    path = audit.out_of_fold_path("genre", "lenet5")
    files.write_csv(path, pd.read_csv(path).assign(track_id="x.0"))
    with pytest.raises(DataError, match="received none of them"):
        audit.likely_errors("genre")


def test_a_label_of_a_track_that_is_gone(audited: Library) -> None:
    files.write_csv(TRACKS, read_tracks().iloc[1:])
    with pytest.raises(DataError, match=r"tracks\.csv: expected blues\.00000.*dvc repro"):
        audit.likely_errors("genre")


def test_the_page_plays_what_it_lists_and_fetches_nothing(audited: Library) -> None:
    audit.audit("mood", top=3)
    audit.audit("genre", top=2)
    page = audit.PAGE.read_text()
    played = re.findall(r'<audio[^>]* src="([^"]+)"', page)
    assert len(played) == 5
    ids = re.findall(r'<li id="([^"]+)"', page)
    tracks = [row.track_id for task in ("genre", "mood") for row in audit_rows(task)]
    assert [one.removeprefix("mood-") for one in ids] == tracks
    assert len(set(ids)) == 5, "an id stands once, also where both tasks doubt a track"
    assert ids[0] == WRONG
    assert f"mood-{WRONG}" in ids
    for clip in played:
        info = soundfile.info(audit.FOLDER / unquote(clip))
        assert (info.format, info.samplerate, info.channels) == ("FLAC", 22_050, 1)
        assert info.duration == pytest.approx(1.5, abs=0.01), "the tones are shorter than ten seconds"
    assert not re.findall(r"https?://|src=\"//|@import|url\(", page)
    assert "Synthetic data" in page
    rows = pd.read_csv(audit.FOLDER / "mood.csv", keep_default_na=False)
    assert rows["track_id"].tolist() == audit.likely_errors("mood").head(3).rows["track_id"].tolist()
    assert rows["clip"].tolist() == [f"clips/{track}.flac" for track in rows["track_id"]]
    assert set(rows["clip"]) <= set(played)
    plain = json.loads((audit.FOLDER / "mood.json").read_text())
    assert plain["n_tracks"] == 12
    assert [row["clip"] for row in plain["rows"]] == rows["clip"].tolist()
    assert len(plain["rows"]) == 3


def test_a_clip_is_the_middle_ten_seconds(workspace: Path) -> None:
    seconds = np.arange(30 * 22_050) / 22_050
    soundfile.write("long.wav", np.where(abs(seconds - 15) < 5, 0.5, 0.0), 22_050)
    write_clip("a b#1", Path("long.wav"), Path("page"))
    samples, _ = soundfile.read(clip_path(Path("page"), "a b#1"))
    assert clip_address("a b#1") == "clips/a%20b%231.flac"
    assert len(samples) == 220_500
    assert samples[1:].min() == samples.max() == 0.5


def test_names_that_html_and_addresses_give_a_meaning(audited: Library) -> None:
    rows = audit.likely_errors("genre").head(1).rows.assign(track_id="a&b #1 <i>", annotators="<script>")
    audit.publish(audit.Audit("genre", "lenet5", 12, 1, 0, 0, 0.9, 0.3, rows))
    page = audit.PAGE.read_text()
    assert "<script>" not in page
    assert "<i>" not in page
    (clip,) = re.findall(r'<audio[^>]* src="([^"]+)"', page)
    assert (audit.FOLDER / unquote(clip)).exists()


def test_the_list_holds_no_formula(audited: Library) -> None:
    """Who is called ``=HYPERLINK(…)`` had it run when the list was opened in a spreadsheet."""
    rows = audit.likely_errors("genre").head(1).rows.assign(annotators="=1+1, ann", given="@x")
    audit.publish(audit.Audit("genre", "lenet5", 12, 1, 0, 0, 0.9, 0.3, rows))
    table = pd.read_csv(audit.FOLDER / "genre.csv", dtype=str)
    assert table.loc[0, ["given", "annotators"]].tolist() == ["'@x", "'=1+1, ann"]
    assert table["clip"].tolist() == rows["clip"].tolist()


def test_a_second_audit_leaves_no_old_clips(audited: Library) -> None:
    audit.audit("genre", top=5)
    audit.audit("genre", top=1)
    assert [path.stem for path in (audit.FOLDER / CLIPS).iterdir()] == [WRONG]


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
    command = [sys.executable, "-m", "pipeline.labelling.audit", "--task", "genre", "--top", "2"]
    environment = {"PYTHONPATH": str(ROOT)}
    good = subprocess.run(command, capture_output=True, env=environment, text=True)
    assert good.returncode == 0, good.stderr
    assert WRONG in good.stdout
    first = "12 labels are suspect; lenet5's out-of-fold accuracy 0.92, share of the most frequent class 0.33"
    assert good.stdout.splitlines()[0].endswith(first)
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
