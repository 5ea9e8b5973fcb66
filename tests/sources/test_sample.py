"""The synthetic library: same seed same bytes, GTZAN's shape, balanced moods, fallible annotators."""

import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline import files
from pipeline.errors import DataError
from pipeline.sources import sample, synth
from pipeline.tables.dataset import DATASET_FILE
from pipeline.tables.index import INDEX_COLUMNS, INDEX_FILE
from pipeline.tables.mood_labels import LABEL_COLUMNS
from pipeline.taxonomy import GTZAN_GENRES, MOODS, canonical_mood

SECONDS = 3.0
GENRES = ("jazz", "metal")
SMALL = {"genres": GENRES, "tracks_per_artist": 1, "seconds": SECONDS}


def _hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): files.sha256(path) for path in folder.rglob("*") if path.is_file()}


def _plan(tracks_per_artist: int = 3, artists_per_genre: int = 4) -> list[sample.Track]:
    return sample.plan_tracks(sample.SEED, GTZAN_GENRES, artists_per_genre, tracks_per_artist)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    sample.write_library(folder, **SMALL)
    return folder


def test_same_seed_same_bytes(small, tmp_path):
    sample.write_library(tmp_path, **SMALL)
    assert _hashes(tmp_path) == _hashes(small)


def test_another_seed_other_music(small, tmp_path):
    sample.write_library(tmp_path, seed=sample.SEED + 1, **SMALL)
    audio = [name for name in _hashes(small) if name.endswith(".au")]
    assert len(audio) == 8
    assert not any(_hashes(tmp_path)[name] == _hashes(small)[name] for name in audio)


def test_a_track_does_not_depend_on_what_else_is_written(small, tmp_path):
    sample.write_library(tmp_path, **(SMALL | {"genres": ("metal",), "artists_per_genre": 1}))
    name = "gtzan/metal/metal.00000.au"
    assert _hashes(tmp_path)[name] == _hashes(small)[name]


def test_worker_processes_write_the_same(tmp_path):
    sample.write_library(tmp_path, artists_per_genre=2, tracks_per_artist=1, seconds=0.5)
    plan = _plan(tracks_per_artist=1, artists_per_genre=2)
    assert len(plan) > sample.FEW_TRACKS
    for track in plan[::7]:
        clip, _ = soundfile.read(tmp_path / "gtzan" / track.genre / f"{track.track_id}.au", dtype="int16")
        np.testing.assert_array_equal(clip, sample.render_track(track, len(clip)))


def test_audio_is_gtzans_format(small):
    for path in sorted(small.glob("gtzan/*/*.au")):
        facts = soundfile.info(path)
        assert (facts.samplerate, facts.channels) == (22_050, 1)
        assert (facts.format, facts.subtype) == ("AU", "PCM_16")
        assert facts.frames == round(SECONDS * 22_050)


def test_default_clip_has_gtzans_length():
    assert round(sample.CLIP_SECONDS * synth.SAMPLE_RATE) == 661_794


def test_every_genre_has_every_mood_and_every_artist_position_has_them_equally():
    plan = _plan()
    for genre in GTZAN_GENRES:
        assert {track.mood for track in plan if track.genre == genre} == set(MOODS)
    assert set(Counter(track.mood for track in plan).values()) == {12}
    for artist in range(4):
        played = [track.mood for track in plan if int(track.track_id[-5:]) // 3 == artist]
        assert set(Counter(played).values()) == {3}


def test_artists_and_titles_are_unique():
    plan = _plan()
    assert len({(track.genre, track.artist) for track in plan}) == len({track.artist for track in plan}) == 40
    assert len({track.title for track in plan}) == len(plan)


def test_an_artist_has_one_sound_and_no_other_has_it():
    sounds = {}
    for track in _plan():
        sound = synth.draw_artist(np.random.Generator(np.random.PCG64(track.streams[0])))
        assert sounds.setdefault(track.artist, sound) == sound
    assert len(set(sounds.values())) == 40


def test_index_tells_the_truth(small):
    index = pd.read_csv(small / INDEX_FILE, keep_default_na=False)
    assert tuple(index.columns) == INDEX_COLUMNS
    for row in index.itertuples():
        path = small / "gtzan" / row.genre / f"{row.track_id}.au"
        assert (path.stat().st_size, files.sha256(path)) == (row.bytes, row.sha256)
    assert set(index.artist_source) == {"synthetic"}
    assert set(index.filtered_split) | set(index.exact_duplicate_of) == {""}
    assert len(index) == 8


def test_dataset_says_that_it_is_synthetic(small):
    dataset = files.read_json(small / DATASET_FILE)
    assert (dataset["name"], dataset["synthetic"], dataset["seed"]) == ("sample", True, sample.SEED)
    assert "ynthetic" in dataset["description"]


def test_five_tracks_in_six_have_three_annotators_each():
    labels = sample.label_tracks(_plan(), sample.SEED)
    assert tuple(labels.columns) == LABEL_COLUMNS
    assert set(labels.groupby("track_id").annotator.nunique()) == {3}
    assert labels.track_id.nunique() == 100
    assert labels.groupby("track_id").size().eq(3).all()


def test_labelled_tracks_are_balanced_over_moods():
    labelled = set(sample.label_tracks(_plan(), sample.SEED).track_id)
    assert set(Counter(track.mood for track in _plan() if track.track_id in labelled).values()) == {10}


def test_moments_are_utc_in_order():
    moments = sample.label_tracks(_plan(), sample.SEED).labelled_at
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", moment) for moment in moments)
    assert moments.is_monotonic_increasing
    assert datetime.fromisoformat(moments.iloc[0]) == datetime(2024, 3, 5, 14, tzinfo=UTC)


def test_annotators_err_towards_neighbours_and_as_often_as_stated():
    rng = np.random.default_rng(0)
    circle = sample.MOOD_CIRCLE
    assert sorted(circle) == sorted(MOODS)
    for annotator, reliability in sample.ANNOTATORS.items():
        heard = [canonical_mood(sample.annotate(annotator, "Other", rng)) for _ in range(2000)]
        place = circle.index("Other")
        assert set(heard) == {circle[place - 1], "Other", circle[place + 1]}
        assert heard.count("Other") / len(heard) == pytest.approx(reliability, abs=0.03)


def test_one_annotator_writes_the_alias():
    labels = sample.label_tracks(_plan(), sample.SEED)
    alias = labels[labels.mood == "NegetiveButHopeful"]
    assert set(alias.annotator) == {sample.ALIAS_ANNOTATOR}
    assert labels.mood.map(canonical_mood).notna().all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"genres": ("polka",)},
        {"genres": ()},
        {"seed": -1},
        {"tracks_per_artist": 0},
        {"artists_per_genre": 99},
        {"seconds": 0.0},
    ],
)
def test_arguments_out_of_range_are_named(wrong, tmp_path):
    with pytest.raises(DataError, match=f"{next(iter(wrong))}.*received"):
        sample.write_library(tmp_path, **wrong)
    assert not any(tmp_path.iterdir())
