"""What to label next: uncertain before sure, far before near, typical before odd; columns to fill in."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import files, params, tracking
from pipeline.errors import ParamsError
from pipeline.inference import logmel
from pipeline.inference.normalise import Normaliser
from pipeline.labelling import formats, next_tracks
from pipeline.labelling.file_limits import Limits
from pipeline.registry import candidates
from pipeline.stages import catalog, promote, register, spectrogram
from pipeline.tables.features import features_path, logmel_of
from pipeline.tables.metrics import metrics_path
from pipeline.tables.predictions import predictions_path
from pipeline.tables.tracks import TRACKS, read_tracks
from pipeline.tables.trained_models import card_path, weights_path
from pipeline.taxonomy import MOODS
from pipeline.training import backend, models
from pipeline.training.weights import save_weights
from tests.conftest import ROOT, Library, write_library

LINE = np.array([[0.0], [1.0], [5.0], [9.0], [10.0]])
TO_FILL_IN = ["mood", "annotator", "labelled_at"]
SCORES = ["score", "uncertainty", "diversity", "typicality"]
COLUMNS = ["track_id", *TO_FILL_IN, "labelled_by", "genre", "artist", "title", *SCORES, "clip", "path"]


def flags(*positions: int, n: int = 5) -> np.ndarray:
    return np.isin(np.arange(n), positions)


def test_the_farthest_from_the_labelled_comes_first_then_from_the_chosen() -> None:
    chosen, diversity = next_tracks.choose(np.ones(5), LINE, flags(0), 4)
    assert chosen == [4, 2, 1, 3]
    assert diversity.tolist() == [10, 5, 1, 1]


def test_distance_is_the_root_mean_square_over_the_dimensions() -> None:
    plane = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    chosen, diversity = next_tracks.choose(np.ones(3), plane, flags(0, n=3), 2)
    assert chosen == [1, 2]
    np.testing.assert_allclose(diversity, [np.sqrt(12.5), np.sqrt(0.5)])


def test_what_is_worth_more_may_be_nearer() -> None:
    chosen, _ = next_tracks.choose(np.array([0, 1, 1, 1, 0.4]), LINE, flags(0), 2)
    assert chosen[0] == 3
    chosen, _ = next_tracks.choose(np.array([0, 1, 1, 0, 0]), LINE, flags(0), 3)
    assert set(chosen[:2]) == {1, 2}


def test_where_nothing_is_labelled_the_worthiest_comes_first() -> None:
    chosen, diversity = next_tracks.choose(np.array([0.1, 0.2, 0.9, 0.2, 0.1]), LINE, flags(), 2)
    assert chosen == [2, 1], "1 and 3 are as worthy and as far: the first wins"
    assert diversity[0] == 1


def test_a_copy_of_a_labelled_track_is_the_last() -> None:
    twice = np.array([[0.0], [0.0], [1.0], [2.0]])
    chosen, diversity = next_tracks.choose(np.ones(4), twice, flags(0, n=4), 3)
    assert chosen == [3, 2, 1]
    assert diversity[-1] == 0


@given(
    n_tracks=st.integers(1, 12),
    n=st.integers(1, 15),
    seed=st.integers(0, 99),
    share=st.sampled_from([0, 0.5, 1]),
)
@settings(max_examples=60, deadline=None)
def test_each_free_track_at_most_once_and_as_many_as_there_are(
    n_tracks: int, n: int, seed: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    labelled = rng.random(n_tracks) < share
    before = labelled.copy()
    chosen, diversity = next_tracks.choose(rng.random(n_tracks), rng.normal(size=(n_tracks, 3)), labelled, n)
    assert len(chosen) == len(set(chosen)) == len(diversity) == min(n, int((~labelled).sum()))
    assert not labelled[chosen].any()
    np.testing.assert_array_equal(labelled, before)


def test_entropy_is_zero_for_one_class_and_one_for_all_alike() -> None:
    found = next_tracks.entropy(np.array([[1, 0, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0]]))
    np.testing.assert_allclose(found, [0, 1, 0.5], atol=1e-9)


def test_an_outlier_is_less_typical_than_the_others() -> None:
    rng = np.random.default_rng(0)
    cloud = np.vstack([rng.normal(size=(40, 3)), [[30, 30, 30]]])
    typical = next_tracks.typicality(cloud)
    assert typical.argmin() == 40
    assert typical[40] < 0.01
    assert np.median(typical) == pytest.approx(0.5, abs=1e-6)
    assert (typical > 0).all()
    assert (typical <= 1).all()


@pytest.mark.parametrize("n", [1, 2, 15])
def test_few_or_equal_tracks_are_typical_without_a_fault(n: int) -> None:
    assert next_tracks.typicality(np.zeros((n, 4))).tolist() == [1.0] * n


def test_statistics_are_the_bands_means_and_deviations() -> None:
    decibels = np.zeros((2, 3, 4), np.float16)
    decibels[:, 1] = -10
    decibels[0, 2], decibels[1, 2] = -2, 2
    np.testing.assert_allclose(next_tracks.statistics(decibels), [0, -10, 0, 0, 0, 2])


def test_standardised_columns_have_mean_zero_and_deviation_one_or_are_zero() -> None:
    raw = np.array([[1.0, 5.0], [3.0, 5.0], [5.0, 5.0]])
    found = next_tracks.standardise(raw)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(found.std(axis=0), [1, 0])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Library]:
    """Make the tiny library, and run the stages catalog and spectrogram; only blues tracks are labelled."""
    folder, settings = tmp_path_factory.mktemp("catalogued"), params.read(ROOT / "params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        library = write_library(Path("data"))
        tracks, _ = catalog.build(settings.catalog.model_copy(update={"min_tracks_per_genre": 1}))
        files.write_csv(TRACKS, tracks)
        spectrogram.build_features(tracks, logmel_of(settings.spectrogram))
        keep_labels(library, "blues")
    return folder, library


@pytest.fixture
def catalogued(made: tuple[Path, Library], empty: Path) -> Library:
    """Work in a copy of it, with an empty store."""
    shutil.copytree(made[0], empty, dirs_exist_ok=True)
    return made[1]


def keep_labels(library: Library, *genres: str) -> None:
    table = pd.read_csv(library.labels)
    files.write_csv(library.labels, table[table["track_id"].str.split(".").str[0].isin(genres)])


def put_champion(settings: params.Params) -> None:
    """Register a real, untrained mood model."""
    backend.prepare(0)
    model = models.build("lenet5", (64, 108), len(MOODS))  # small: ONNX copies the weights dozens of times
    *_, kernel, bias = model.get_weights()
    model.set_weights([*model.get_weights()[:-2], 1000 * kernel, bias])  # untrained, yet sure of itself
    path = weights_path("mood", "lenet5")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(model, path)
    facts = {
        "task": "mood",
        "model": "lenet5",
        "params": model.count_params(),
        "classes": list(MOODS),
        "protocol": "artist",
        "leaky": False,
        "optimistic": False,
        "seed": 0,
        "dataset": {"name": "tiny", "synthetic": True},
        "spectrogram": {"n_fft": 2048, "hop_length": 2048, "n_mels": 64},
        "normaliser": Normaliser("l2").as_dict(),
        "seen_tracks": [],
        "weights_sha256": files.sha256(path),
    }
    files.write_json(card_path("mood", "lenet5"), facts)
    scores = {"accuracy": 0.5, "macro_f1": 0.5, "accuracy_ci": [0.1, 0.9]}
    part = {"n_slices": 1, "n_tracks": 1, "slice": {"accuracy": 0.5}, "track": scores}
    metrics = facts | dict.fromkeys(("train", "valid", "test"), part)
    files.write_json(metrics_path("mood", "lenet5"), metrics)
    columns = ["track_id", "part", "label", "predicted"]
    files.write_csv(predictions_path("mood", "lenet5"), pd.DataFrame(columns=columns))
    register.register("mood", ["lenet5"])
    terms = settings.promote.model_copy(update={"floor_confidence": 0.0})
    promote.promote("mood", candidates.best_of("mood", ["lenet5"]), terms)


def test_without_a_champion_diversity_decides_and_a_note_says_so(catalogued: Library) -> None:
    wanted = next_tracks.next_tracks(3)
    assert list(wanted.rows.columns) == COLUMNS
    assert wanted.n_unlabelled == 8
    assert len(wanted.rows) == 3
    assert not wanted.rows["track_id"].str.startswith("blues").any()
    assert wanted.rows["uncertainty"].isna().all()
    expected = wanted.rows["diversity"] * wanted.rows["typicality"]
    np.testing.assert_allclose(wanted.rows["score"], expected, atol=1e-3)
    assert "No mood champion is registered" in wanted.notes[0]
    assert "dvc repro" in wanted.notes[0]
    assert json.loads(json.dumps(wanted.as_dict(), allow_nan=False))["rows"][0]["uncertainty"] is None


@pytest.mark.slow
def test_the_champion_says_how_uncertain_it_is(catalogued: Library, settings: params.Params) -> None:
    put_champion(settings)
    wanted = next_tracks.next_tracks(8)
    assert wanted.notes == ()
    model = tracking.configure().pyfunc.load_model("models:/mood-classifier@champion")
    for row in wanted.rows.itertuples():
        content = catalogued.path_of(row.track_id).read_bytes()
        answer = model.predict(pd.DataFrame({"audio": [content]}))[list(MOODS)].to_numpy()
        assert row.uncertainty == pytest.approx(next_tracks.entropy(answer)[0], abs=1e-4)
        assert row.score == pytest.approx(row.uncertainty * row.diversity * row.typicality, abs=1e-3)
    assert wanted.rows["uncertainty"].max() < 0.95
    assert next_tracks.next_tracks(8).as_dict() == wanted.as_dict(), "the same every time"


def test_features_that_are_not_there_are_computed(catalogued: Library) -> None:
    track, settings = "pop.00000", logmel.LogMel(2048, 512, 128)
    path = catalogued.path_of(track)
    cached = next_tracks._features(track, path, settings)
    features_path(track).unlink()
    np.testing.assert_array_equal(next_tracks._features(track, path, settings), cached)


def test_once_all_are_labelled_second_opinions_are_wanted(catalogued: Library) -> None:
    rows = [f"{track},Other,ann,2024-03-05T14:00:00Z" for track in catalogued.track_ids]
    rows += [f"{track},Other,bob,2024-03-05T14:00:00Z" for track in catalogued.track_ids[2:6]]
    rows += [f"{track},CalmButEpic,bob,2024-03-05T14:00:00Z" for track in catalogued.track_ids[6:]]
    catalogued.labels.write_text("track_id,mood,annotator,labelled_at\n" + "\n".join(rows) + "\n")
    wanted = next_tracks.next_tracks(4)
    fewest, disputed = list(catalogued.track_ids[:2]), list(catalogued.track_ids[6:8])
    assert wanted.rows["track_id"].tolist() == fewest + disputed
    assert wanted.rows["score"].isna().all()
    assert wanted.rows["labelled_by"].tolist() == ["ann"] * 2 + ["ann; bob"] * 2
    assert wanted.n_unlabelled == 0
    assert wanted.notes[0].startswith("0 tracks without a label, so 4 are asked about once more")


def test_the_unlabelled_come_before_second_opinions(catalogued: Library) -> None:
    wanted = next_tracks.next_tracks(99)
    assert len(wanted.rows) == 12
    assert wanted.rows["score"].notna().tolist() == [True] * 8 + [False] * 4
    assert (wanted.rows["labelled_by"] != "").tolist() == [False] * 8 + [True] * 4


def test_a_library_without_any_label(catalogued: Library) -> None:
    catalogued.labels.write_text("track_id,mood,annotator,labelled_at\n")
    wanted = next_tracks.next_tracks(99)
    assert wanted.n_unlabelled == len(wanted.rows) == 12
    assert len(wanted.notes) == 1


def test_tracks_that_are_not_usable_are_not_asked_about(catalogued: Library) -> None:
    tracks = read_tracks()
    tracks.loc[tracks["genre"] == "pop", "usable"] = False
    files.write_csv(TRACKS, tracks)
    assert set(next_tracks.next_tracks(4).rows["genre"]) == {"metal"}


@pytest.mark.parametrize("n", [0, -1])
def test_nothing_wanted_is_refused(catalogued: Library, n: int) -> None:
    with pytest.raises(ParamsError, match=rf"-n: expected at least 1, received {n}"):
        next_tracks.next_tracks(n)


def test_the_command_line_writes_what_annotators_fill_in(catalogued: Library) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.labelling.next_tracks", "-n", "2"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert "2 tracks to label in label_next/tracks.csv; 8 have no label yet" in done.stdout
    text = next_tracks.FILE.read_text(encoding="utf-8")
    table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    assert list(table.columns) == COLUMNS
    assert (table[TO_FILL_IN] == "").all(axis=None)
    assert table.loc[0, "artist"].startswith("artist of ")
    assert "listen to them in label_next/index.html" in done.stdout


def filled_in(path: Path) -> bytes:
    """Return the list with an answer in every line, as a spreadsheet would save it."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table[TO_FILL_IN] = ["Other", "dora", "2024-03-05T14:00:00Z"]
    return table.to_csv(index=False, sep=";", lineterminator="\r\n").encode("utf-8-sig")


def test_the_filled_in_list_can_be_read(catalogued: Library) -> None:
    wanted = next_tracks.next_tracks(12)
    next_tracks.publish(wanted, next_tracks.FILE)
    batch = formats.read(
        filled_in(next_tracks.FILE), source=formats.Source("tracks.csv"), limits=Limits(99, 100, 3_000_000)
    )
    assert batch.rows["track_id"].tolist() == wanted.rows["track_id"].tolist()
    assert (batch.rows["mood"] == "Other").all()
    assert set(batch.dropped) <= set(next_tracks.FACT_COLUMNS), (
        "or the intake warns of columns it does not know"
    )


def test_no_line_ends_in_a_blank_which_spreadsheets_drop(catalogued: Library) -> None:
    next_tracks.publish(next_tracks.next_tracks(12), next_tracks.FILE)
    lines = next_tracks.FILE.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("track_id,mood,annotator,labelled_at,labelled_by,")
    assert len(lines) == 13
    assert not any(line.endswith(",") for line in lines)


def test_what_a_spreadsheet_would_run_is_marked_in_the_list_only(catalogued: Library) -> None:
    tracks = read_tracks().assign(artist="=1+1", title="@home")
    files.write_csv(TRACKS, tracks)
    wanted = next_tracks.next_tracks(1)
    next_tracks.publish(wanted, next_tracks.FILE)
    table = pd.read_csv(next_tracks.FILE, dtype=str, keep_default_na=False)
    assert table.loc[0, ["artist", "title"]].tolist() == ["'=1+1", "'@home"]
    assert wanted.as_dict()["rows"][0]["artist"] == "=1+1"
    assert "=1+1: @home" in next_tracks.PAGE.read_text()


def test_the_page_plays_what_the_list_asks_about(catalogued: Library) -> None:
    next_tracks.publish(next_tracks.next_tracks(9), next_tracks.FILE)
    rows = next_tracks.next_tracks(3).rows
    next_tracks.publish(next_tracks.next_tracks(3), Path("other/my list.csv"))
    page = next_tracks.PAGE.read_text()
    played = re.findall(r'<audio[^>]* src="([^"]+)"', page)
    assert played == rows["clip"].tolist() == [f"clips/{track}.flac" for track in rows["track_id"]]
    for clip in played:
        assert soundfile.info(next_tracks.PAGE.parent / unquote(clip)).samplerate == 22_050
    assert len(list((next_tracks.PAGE.parent / "clips").iterdir())) == 3, "those of the longer list are gone"
    assert re.findall(r'<li id="([^"]+)"', page) == rows["track_id"].tolist()
    assert 'href="../other/my%20list.csv"' in page
    assert "No mood champion is registered" in page
    assert not re.findall(r"https?://|src=\"//|@import|url\(", page)


def test_names_that_html_gives_a_meaning(catalogued: Library) -> None:
    files.write_csv(TRACKS, read_tracks().assign(artist="<script>", title="a & b"))
    next_tracks.publish(next_tracks.next_tracks(1), next_tracks.FILE)
    page = next_tracks.PAGE.read_text()
    assert "&lt;script&gt;: a &amp; b" in page
    assert "<script>" not in page


def test_importing_it_loads_nothing_that_only_the_page_needs() -> None:
    heavy = ["jinja2", "cleanlab", "mlflow", "tensorflow", "sklearn", "pipeline.labelling.audit"]
    imported = f"[name for name in {heavy} if name in sys.modules]"
    code = f"import sys, pipeline.labelling.next_tracks; print({imported})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
