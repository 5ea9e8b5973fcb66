"""Probabilities mean what they say, and audio that is no music is not answered surely."""

from __future__ import annotations

import io
import json
import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from pipeline.inference import audio, logmel
from pipeline.inference.calibration import Calibration, Domain, band_statistics
from pipeline.training import calibrate, scores
from pipeline.training.batches import Rows

RATE = audio.SAMPLE_RATE
SECONDS = 10
TIME = np.arange(SECONDS * RATE) / RATE


def rows_of(targets: np.ndarray) -> Rows:
    """Return rows of as many tracks."""
    n = len(targets)
    names = np.array([f"t{number:04}" for number in range(n)], object)
    return Rows(names, np.zeros(n, int), np.zeros(n, int), targets.astype(np.float32), np.ones(n, np.float32))


def drawn(n: int, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Return truth drawn from probabilities, and these with logits ``sharpness`` times as large."""
    rng = np.random.default_rng(0)
    honest = rng.dirichlet(np.full(4, 0.7), n)
    truth = (rng.random(n)[:, None] > honest.cumsum(axis=1)).sum(axis=1)
    return truth, Calibration(1 / sharpness).soften(honest)


@pytest.mark.parametrize("sharpness", [1.0, 2.0, 3.0])
def test_temperature_undoes_what_made_probabilities_too_sure(sharpness: float) -> None:
    truth, said = drawn(4_000, sharpness)
    found = calibrate.fit_temperature(rows_of(np.eye(4)[truth]), said, np.ones(4, bool))
    assert found == pytest.approx(sharpness, rel=0.1)
    shares = scores.certain(truth, said.shape[1])
    before = scores.calibration_error(shares, said)
    after = scores.calibration_error(shares, Calibration(found).soften(said))
    assert after < 0.03
    assert after <= before + 0.01


def test_temperature_fits_soft_labels() -> None:
    shares = np.array([[0.7, 0.3], [0.3, 0.7]])
    said = Calibration(0.25).soften(shares)
    found = calibrate.fit_temperature(rows_of(shares), said, np.ones(2, bool))
    assert found == pytest.approx(4.0, rel=0.01)


def test_answers_are_never_made_surer() -> None:
    truth, said = drawn(400, 0.5)
    assert calibrate.fit_temperature(rows_of(np.eye(4)[truth]), said, np.ones(4, bool)) < 1.01


def test_one_track_of_a_class_without_training_tracks_does_not_level_all_answers() -> None:
    truth, said = drawn(40, 2.0)
    known = np.array([True] * 4 + [False])
    said = np.column_stack([said, np.full(len(said), 1e-12)])
    with_stranger = rows_of(np.eye(5)[np.append(truth[:-1], 4)])
    found = calibrate.fit_temperature(with_stranger, said, known)
    assert found == pytest.approx(2.0, rel=0.3)
    assert calibrate.fit_temperature(with_stranger, said, np.ones(5, bool)) > 3


def test_the_default_changes_no_bit() -> None:
    """Versions that were registered before there was a calibration serve as they did."""
    rng = np.random.default_rng(0)
    answers = rng.dirichlet(np.ones(3), 5).astype(np.float32)
    old = Calibration.from_card({"classes": ["a", "b", "c"]})
    assert old == Calibration()
    features = np.zeros((5, 8, 60), np.float16)
    np.testing.assert_array_equal(old.correct(answers, old.is_familiar(features)), answers)
    assert old.is_sure(answers[0]) is None


def test_a_threshold_is_as_precise_as_wanted_or_none() -> None:
    rng = np.random.default_rng(0)
    likely = rng.uniform(0.4, 1.0, 200)
    right = rng.random(200) < likely
    shares = np.column_stack([likely, *[(1 - likely) / 2] * 2])
    truth = np.where(right, 0, 1)
    threshold = calibrate.fit_threshold(truth, shares, 0.8)
    assert threshold is not None
    sure = likely >= threshold
    assert right[sure].mean() >= 0.8
    assert sure.sum() >= 10
    assert calibrate.fit_threshold(np.full(200, 2), shares, 0.8) is None, "never right"
    assert calibrate.fit_threshold(truth[:9], shares[:9], 0.1) is None, "too few tracks"
    assert calibrate.fit_threshold(np.zeros(20, int), np.tile([0.6, 0.4], (20, 1)), 0.8) == 0.6


def test_random_labels_are_seldom_sure() -> None:
    rng = np.random.default_rng(0)
    truth, shares = rng.integers(0, 10, 300), rng.dirichlet(np.ones(10), 300)
    assert calibrate.fit_threshold(truth, shares, 0.8) is None


def clip(samples: np.ndarray) -> np.ndarray:
    """Return the first slice of samples as they would be decoded."""
    stream = io.BytesIO()
    soundfile.write(stream, np.clip(samples, -1, 1), RATE, format="WAV", subtype="PCM_16")
    return logmel.features(audio.slices(audio.load(stream.getvalue())), logmel.LogMel())[0]


def music(seed: int) -> np.ndarray:
    """Return a band: chords over a bass, a beat, and noise that is struck."""
    rng = np.random.default_rng(seed)
    tempo, root, level = rng.uniform(1.5, 3), rng.uniform(60, 130), rng.uniform(0.1, 0.4)
    beat = np.exp(-rng.uniform(4, 12) * (TIME * tempo % 1))
    steps = np.floor(TIME * tempo / 2).astype(int) % 4
    pitch = root * np.array([1, 4 / 3, 3 / 2, 6 / 5])[steps]
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    tone = sum(np.sin(k * phase) / k for k in range(1, rng.integers(4, 30)))
    melody = np.sin(2 * phase * rng.integers(2, 5)) * np.exp(-3 * (TIME * tempo * 2 % 1))
    struck = rng.standard_normal(len(TIME)) * beat * rng.uniform(0.2, 1)
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * TIME / rng.uniform(3, 9))
    return level * swell * (tone * (0.3 + beat) + melody + struck) / 3


NOISE = np.random.default_rng(9).standard_normal(len(TIME))
NO_MUSIC = {
    "white noise": 0.3 * NOISE,
    "quiet noise": 0.01 * NOISE,
    "brown noise": 0.1 * np.cumsum(NOISE) / np.abs(np.cumsum(NOISE)).max(),
    "silence": 0 * TIME,
    "nearly silence": 1e-4 * NOISE,
    "a sine": 0.3 * np.sin(2 * np.pi * 440 * TIME),
    "a high sine": 0.3 * np.sin(2 * np.pi * 5_000 * TIME),
    "hum": 0.2 * np.sin(2 * np.pi * 50 * TIME) + 0.001 * NOISE,
    "an offset": 0.1 + 0 * TIME,
}


@pytest.fixture(scope="module")
def domain() -> Domain:
    made = np.array([band_statistics(clip(music(seed))) for seed in range(60)])
    return calibrate.fit_domain(made[:45], made[45:])


@pytest.mark.parametrize("name", NO_MUSIC)
def test_what_is_no_music_is_unfamiliar_and_unsure(domain: Domain, name: str) -> None:
    strange = clip(NO_MUSIC[name])
    own = Calibration(temperature=1.0, threshold=0.5, domain=domain)
    certain = np.array([[0.98, 0.01, 0.01]], np.float32)
    answer = own.correct(certain, own.is_familiar(strange[None]))
    assert answer.argmax() == 0, "the best class stays"
    assert answer.sum() == pytest.approx(1)
    assert own.is_sure(answer.mean(axis=0)) is False
    assert Calibration(domain=domain).is_sure(answer.mean(axis=0)) is False, "without a threshold as well"


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="no espeak-ng")
@pytest.mark.parametrize("voice", ["en", "en-us+f3", "de"])
def test_speech_is_unfamiliar(domain: Domain, voice: str) -> None:
    text = "A speaker reads the news of the day, and then the forecast of the weather for tomorrow. " * 3
    done = subprocess.run(["espeak-ng", "-v", voice, "--stdout", text], capture_output=True, check=True)
    spoken = audio.load(done.stdout)[: len(TIME)]
    assert not domain.is_familiar(clip(spoken))


def test_music_is_familiar(domain: Domain) -> None:
    new = [domain.is_familiar(clip(music(seed))) for seed in range(100, 140)]
    assert np.mean(new) >= 0.85


def test_padding_of_a_short_clip_is_not_heard(domain: Domain) -> None:
    short = music(200)[: 4 * RATE]
    assert domain.is_familiar(clip(short))


def test_a_card_holds_all_of_it(domain: Domain) -> None:
    own = Calibration(1.7, 0.4, domain)
    card = json.loads(json.dumps({"calibration": own.as_dict()}))
    assert Calibration.from_card(card) == own
    assert Calibration.from_card({"calibration": None}) == Calibration()


@pytest.mark.parametrize("shape", [(8, 60), (5, 100), (128, 431), (46, 46)])
def test_any_spectrogram_has_statistics(shape: tuple[int, int]) -> None:
    found = band_statistics(np.random.default_rng(0).normal(-40, 9, shape).astype(np.float16))
    assert found.shape == (2 * min(16, shape[0]) + 1,)
    assert np.isfinite(found).all()
    assert np.isfinite(band_statistics(np.full(shape, -100, np.float16))).all()
