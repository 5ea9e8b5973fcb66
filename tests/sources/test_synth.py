"""The sound of the sample: same samples on every CPU, audible, unclipped; tables without a slip."""

import json
import os
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from pipeline.quality import sample_files
from pipeline.sources import synth
from pipeline.taxonomy import GTZAN_GENRES, MOODS
from tests.inference.test_feature_bytes import CPUS

SECOND = synth.SAMPLE_RATE
STYLES = synth.GENRES | synth.MOOD_STYLES


def _clip(genre: str, mood: str, *, band: int = 0, track: int = 0, samples: int = SECOND) -> np.ndarray:
    artist = synth.draw_artist(np.random.default_rng(band))
    return synth.render(genre, mood, artist, samples=samples, rng=np.random.default_rng(track))


def test_same_streams_same_samples():
    clip = _clip("jazz", "Other")
    assert (clip.shape, clip.dtype) == ((SECOND,), np.int16)
    np.testing.assert_array_equal(clip, _clip("jazz", "Other"))


@pytest.mark.parametrize("cpu", CPUS)
def test_two_tracks_are_equal_on_every_cpu(cpu):
    """Whole files of the sample, whose hashes are committed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.sources.sample_hashes"],
        env=os.environ | CPUS[cpu],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    digests = json.loads(done.stdout)
    assert len(digests) == 2
    assert set(digests) <= sample_files.hashes()


@pytest.mark.parametrize(
    "other",
    [{"genre": "metal"}, {"mood": "CalmButWarm"}, {"band": 1}, {"track": 1}],
    ids=lambda other: next(iter(other)),
)
def test_genre_mood_artist_and_track_are_each_heard(other):
    assert not np.array_equal(_clip(**({"genre": "jazz", "mood": "Other"} | other)), _clip("jazz", "Other"))


@pytest.mark.parametrize(
    ("genre", "mood", "unknown"), [("polka", "Other", "polka"), ("jazz", "Bored", "Bored")]
)
def test_unknown_genre_or_mood_is_named(genre, mood, unknown):
    with pytest.raises(KeyError, match=unknown):
        _clip(genre, mood)


@pytest.mark.parametrize("genre", GTZAN_GENRES)
def test_every_genre_is_audible_and_unclipped_in_every_mood(genre):
    for mood in MOODS:
        clip = _clip(genre, mood, samples=2 * SECOND) / 32768
        assert np.sqrt(np.mean(clip**2)) > 0.03, mood
        assert np.abs(clip).max() <= synth.PEAK, mood


def test_a_mood_has_its_loudness():
    loud, soft = (np.std(_clip("pop", mood) / 32768) for mood in ("TotallyPositive", "CalmButWarm"))
    assert (loud, soft) == pytest.approx(
        [synth.MOOD_STYLES[mood].loudness for mood in ("TotallyPositive", "CalmButWarm")], rel=0.01
    )


def test_there_is_a_style_for_every_genre_and_mood_and_no_other():
    assert (set(synth.GENRES), set(synth.MOOD_STYLES)) == (set(GTZAN_GENRES), set(MOODS))


def test_no_two_equalisers_are_alike():
    """Else what tells a genre or mood would be taken for another."""
    curves = {name: synth.sliders(style.equaliser) for name, style in STYLES.items()}
    assert {curve.shape for curve in curves.values()} == {(len(synth.SLIDERS_HZ),)}
    for (name, one), (other, two) in combinations(curves.items(), 2):
        assert np.corrcoef(one, two)[0, 1] < 0.25, (name, other)


@pytest.mark.parametrize("genre", GTZAN_GENRES)
def test_parts_of_a_genre_have_their_gains_and_progressions_their_degrees(genre):
    style = synth.GENRES[genre]
    assert len(style.parts) <= synth.MOST_PARTS
    assert re.fullmatch(r"[0-6]+", "".join(style.progressions))


@pytest.mark.parametrize("name", STYLES)
def test_tables_are_without_a_slip(name):
    style = STYLES[name]
    for pattern in [part.pattern for part in style.parts] + list(style.drums.values()):
        assert len(pattern) % synth.STEPS_PER_BAR == 0
        assert re.fullmatch(r"[.1-9]+", pattern)
    for part in style.parts:
        assert part.voice in synth.VOICES
        assert re.fullmatch(r"[?*]|[0-9a-f ]+", part.notes)
    assert set(style.drums) <= set(synth.KIT)


def test_a_note_has_its_pitch():
    tone = synth.render_note(synth.VOICES["glass"], synth.SAMPLE_RATE, 69)
    assert np.abs(np.fft.rfft(tone)).argmax() == pytest.approx(440, abs=1)


def test_chords_are_folded_into_their_octave_and_climb_out_of_it():
    score = synth.Score(SECOND, step=1000, swing=0, scale=synth.MAJOR, tonic=0, roots=(0, 4))
    # G major above middle C: D, G, B.
    assert sorted(score.pitch(1, degree, 60) for degree in (0, 2, 4)) == [62, 67, 71]
    assert score.pitch(0, 7, 60) == 72


def test_swing_delays_every_second_eighth():
    score = synth.Score(SECOND, step=1000, swing=0.5, scale=synth.MAJOR, tonic=0, roots=(0,))
    assert [start for start, _, _ in score.onsets("9.6.")][:4] == [0, 2500, 4000, 6500]
    assert [loudness for _, _, loudness in score.onsets("9.6.")][:2] == [1, 6 / 9]
