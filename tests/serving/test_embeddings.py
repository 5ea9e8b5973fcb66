"""Tracks that are alike by musicnn's numbers: kept in the index, compared, and given to researchers."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cmg import cli
from pipeline.errors import CmgError
from pipeline.inference import audio
from pipeline.inference import musicnn as inference
from pipeline.training import musicnn
from serving.listener import Listener
from serving.query import Query
from serving.ranking import rank
from serving.track_index import Library, audio_files
from tests.cmg.test_listening import cmg
from tests.listener import listener, with_moods

__all__ = ["listener"]  # a fixture


@pytest.fixture
def music(listener: Listener) -> list[Path]:
    """Return short tracks: three chords that differ in loudness alone, and noises."""
    time = np.arange(4 * audio.SAMPLE_RATE) / audio.SAMPLE_RATE
    chord = sum(np.sin(2 * np.pi * pitch * time) for pitch in (220, 277, 330, 440)) * np.exp(
        -3 * (time % 0.5)
    )
    Path("in").mkdir()
    for number in range(3):
        noise = np.random.default_rng(number).normal(0, 0.1, len(time))
        soundfile.write(f"in/chord {number}.wav", 0.05 * (1 + number) * chord, audio.SAMPLE_RATE)
        soundfile.write(f"in/noise {number}.wav", noise, audio.SAMPLE_RATE)
    return audio_files([Path("in")])[0]


def test_the_network_that_hears_says_which_tracks_are_alike(listener: Listener, music: list[Path]) -> None:
    with pytest.raises(CmgError, match=r"expected a champion with an embedding \(musicnn_probe\)"):
        cli.listening.classify(music, embedding=True)
    heard = with_moods(hears_by_musicnn=True)
    assert cmg("classify", "in", "--index").exit_code == 0

    library = Library(Path("library.sqlite"))
    assert not any(done.computed for done in library.add(music, heard, workers=1))
    tracks = library.tracks(heard.champions)
    found = library.embeddings(tracks, heard.champions)
    front_end = musicnn.front_end()
    for path, numbers in zip(tracks.paths, found, strict=True):
        slices = audio.slices(audio.load(Path(path)))
        expected = front_end.described(slices)[1].mean(axis=0)
        np.testing.assert_allclose(numbers, expected, atol=2e-3)
    assert found.shape == (6, inference.N_EMBEDDING)

    seed = "in/chord 1.wav"
    mix = json.loads(cmg("recommend", "--like", seed, "-n", "5", "--json").stdout)["tracks"]
    assert {Path(one["path"]).name for one in mix[:2]} == {"chord 0.wav", "chord 2.wav"}
    assert mix[1]["score"] > mix[2]["score"] + 0.05
    away = json.loads(
        cmg("recommend", "--genre", ",".join(heard.classes["genre"]), "--unlike", seed, "--json").stdout
    )
    assert all(Path(one["path"]).name.startswith("noise") for one in away["tracks"][:3])

    [record] = json.loads(cmg("classify", seed, "--embedding", "--json").stdout)
    np.testing.assert_allclose(record["embedding"], found[1], atol=2e-3)
    row = next(csv.DictReader(io.StringIO(cmg("classify", seed, "--embedding", "--csv").stdout)))
    assert [float(row[f"embedding_{n:03}"]) for n in range(200)] == record["embedding"]

    library.forget(Path("in").absolute())
    library.vacuum()
    assert library._value("SELECT count(*) FROM embedding") == 0
    library.close()


def test_embeddings_are_compared_by_their_cosine() -> None:
    means = {"mood": np.full((4, 2), 0.5, np.float32)}
    embeddings = np.array([[1, 0], [2, 0.1], [0, 1], [-1, 0]], np.float16)
    ranking = rank(Query({}), means, {"mood": ["a", "b"]}, like=[0], embeddings=embeddings)
    assert ranking.order.tolist() == [1, 2, 3]
    cosines = np.log(ranking.score) - np.log(ranking.score[0])
    np.testing.assert_allclose(cosines, [0, 2 / np.hypot(2, 0.1) - 1, -1, -2], atol=1e-3)
