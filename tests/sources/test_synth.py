"""The sound of the sample: same streams same samples, audible, unclipped, and tables without a slip."""

import re

import numpy as np
import pytest

from pipeline.sources import synth
from pipeline.taxonomy import GTZAN_GENRES, MOODS

SECOND = synth.SAMPLE_RATE


def _clip(genre: str, mood: str, *, band: int = 0, track: int = 0, samples: int = SECOND) -> np.ndarray:
    artist = synth.draw_artist(np.random.default_rng(band))
    return synth.render(genre, mood, artist, samples=samples, rng=np.random.default_rng(track))


def test_same_streams_same_samples():
    clip = _clip("jazz", "Other")
    assert (clip.shape, clip.dtype) == ((SECOND,), np.int16)
    np.testing.assert_array_equal(clip, _clip("jazz", "Other"))


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


def test_there_is_a_style_for_every_genre_and_mood_and_no_other():
    assert (set(synth.GENRES), set(synth.MOOD_STYLES)) == (set(GTZAN_GENRES), set(MOODS))


@pytest.mark.parametrize("genre", GTZAN_GENRES)
def test_tables_of_a_genre_are_sound(genre):
    style = synth.GENRES[genre]
    assert len(style.parts) <= synth.MOST_PARTS
    _check_parts(style.parts, style.drums)


@pytest.mark.parametrize("mood", MOODS)
def test_tables_of_a_mood_are_sound(mood):
    _check_parts(synth.MOOD_STYLES[mood].parts, synth.MOOD_STYLES[mood].percussion)


def _check_parts(parts, drums):
    for pattern in [part.pattern for part in parts] + list(drums.values()):
        assert len(pattern) % synth.STEPS_PER_BAR == 0
        assert re.fullmatch(r"[.1-9]+", pattern)
    assert {part.voice for part in parts} <= set(synth.VOICES)
    assert {part.contour for part in parts} <= set(synth.CONTOURS)
    assert set(drums) <= set(synth.KIT)


def test_a_note_has_its_pitch():
    tone = synth.render_note(synth.VOICES["glass"], synth.SAMPLE_RATE, 69)
    assert np.abs(np.fft.rfft(tone)).argmax() == pytest.approx(440, abs=1)


def test_a_chord_is_folded_into_its_octave():
    chord = synth.Chord(synth.MAJOR, tonic=0, degree=4)
    notes = synth.CONTOURS["chord"](chord, 60, 0, np.random.default_rng(0))
    assert sorted(notes) == [62, 67, 71]  # G major above middle C: D, G, B


def test_equaliser_raises_its_frequency_by_its_gain():
    time = np.arange(synth.SAMPLE_RATE) / synth.SAMPLE_RATE
    tone = np.sin(2 * np.pi * 1000 * time)
    louder = synth.equalise(tone, ((1000, 6.0, 1.0),))
    assert np.std(louder[5000:]) / np.std(tone[5000:]) == pytest.approx(10 ** (6 / 20), rel=0.01)


def test_reverberation_repeats_a_click():
    click = np.zeros(5000)
    click[0] = 1
    echoes = np.flatnonzero(synth.comb_filter(click, 1116, 0.8))
    assert list(echoes) == [0, 1116, 2232, 3348, 4464]
