"""The log-mel spectrogram against librosa's, on signals of every kind."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import scipy.signal

from pipeline.inference.audio import SAMPLE_RATE, SLICE_SAMPLES, slices
from pipeline.inference.logmel import LogMel, _mel_filters, _window, features, logmel, mel_power, quantise

N = SLICE_SAMPLES
TIME = np.arange(N) / SAMPLE_RATE


def music_like() -> np.ndarray:
    """Return chords, a beat and noise, driven into clipping."""
    chord = sum(np.sin(2 * np.pi * hertz * TIME) for hertz in (110, 220, 277.2, 329.6, 1760))
    beat = scipy.signal.sawtooth(2 * np.pi * 2 * TIME) ** 8 * np.random.default_rng(1).standard_normal(N)
    return np.clip(0.5 * chord + 0.7 * beat, -1, 1)


SIGNALS = {
    "noise": 0.1 * np.random.default_rng(0).standard_normal(N),
    "loud noise": np.random.default_rng(0).uniform(-1, 1, N),
    "sweep": 0.5 * scipy.signal.chirp(TIME, 20, TIME[-1], 11_000),
    "clipped music": music_like(),
    "quiet music": 1e-4 * music_like(),
    "half silent": np.where(TIME < 5, music_like(), 0),
    "silence": np.zeros(N),
    "impulse": (np.arange(N) == N // 3).astype(float),
    "constant": np.full(N, 0.25),
    "short, padded": np.where(np.arange(N) < 2205, music_like(), 0),
}


def reference(samples: np.ndarray, settings: LogMel) -> np.ndarray:
    power = librosa.feature.melspectrogram(
        y=samples,
        sr=SAMPLE_RATE,
        n_fft=settings.n_fft,
        hop_length=settings.hop_length,
        n_mels=settings.n_mels,
    )
    return librosa.power_to_db(power, ref=1.0)


@pytest.mark.parametrize("name", SIGNALS)
def test_equal_to_librosa(name: str) -> None:
    samples = SIGNALS[name].astype(np.float32)
    ours = logmel(samples, LogMel())
    assert ours.shape == (128, 431)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, reference(samples, LogMel()), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "settings",
    [LogMel(1024, 256, 64), LogMel(4096, 1000, 128), LogMel(512, 512, 20), LogMel(2048, 512, 46)],
    ids=str,
)
@pytest.mark.parametrize("name", ["noise", "clipped music"])
def test_equal_to_librosa_with_other_parameters(settings: LogMel, name: str) -> None:
    samples = SIGNALS[name].astype(np.float32)
    ours = logmel(samples, settings)
    assert ours.shape == settings.shape
    np.testing.assert_allclose(ours, reference(samples, settings), atol=1e-3, rtol=0)


@pytest.mark.filterwarnings("ignore:n_fft=2048 is too large")
@pytest.mark.parametrize("n_samples", [1, 511, 512, 32_768, 100_000])
def test_the_power_is_equal_to_librosas_at_any_length(n_samples: int) -> None:
    samples = SIGNALS["noise"][:n_samples].astype(np.float32)
    expected = librosa.feature.melspectrogram(y=samples, sr=SAMPLE_RATE)
    np.testing.assert_allclose(mel_power(samples, LogMel()), expected, rtol=1e-4, atol=1e-9)


def test_silence_is_the_floor() -> None:
    np.testing.assert_allclose(logmel(np.zeros(N, np.float32), LogMel()), -100, atol=1e-4)


def test_nothing_lies_80_db_below_the_maximum() -> None:
    decibels = logmel(SIGNALS["impulse"].astype(np.float32), LogMel())
    assert decibels.min() == pytest.approx(max(decibels.max() - 80, -100), abs=1e-4)


def test_ten_times_the_amplitude_is_20_db_more() -> None:
    samples = SIGNALS["noise"].astype(np.float32)
    difference = logmel(10 * samples, LogMel()) - logmel(samples, LogMel())
    np.testing.assert_allclose(difference, 20, atol=1e-3)


@pytest.mark.parametrize("hertz", [110.0, 440.0, 1000.0, 5000.0, 10_000.0])
def test_a_tone_peaks_in_its_band(hertz: float) -> None:
    decibels = logmel((0.5 * np.sin(2 * np.pi * hertz * TIME)).astype(np.float32), LogMel())
    centres = librosa.mel_frequencies(n_mels=130, fmin=0, fmax=SAMPLE_RATE / 2)[1:-1]
    band = int(decibels[:, 10:-10].mean(axis=1).argmax())
    assert abs(band - np.abs(centres - hertz).argmin()) <= 1


def test_the_samples_are_left_as_they_are() -> None:
    samples = SIGNALS["noise"].astype(np.float32)
    before = samples.copy()
    logmel(samples, LogMel())
    np.testing.assert_array_equal(samples, before)


def test_a_slice_is_the_same_alone_and_among_others() -> None:
    clip = np.concatenate([SIGNALS["clipped music"], SIGNALS["silence"], SIGNALS["quiet music"]])
    parts = list(slices(clip.astype(np.float32)))
    together = features(parts, LogMel())
    assert together.dtype == np.float16
    assert together.shape == (3, 128, 431)
    for one, part in zip(together, parts, strict=True):
        np.testing.assert_array_equal(one, features(part[None], LogMel())[0])


def test_the_same_to_the_bit_every_time() -> None:
    samples = SIGNALS["clipped music"].astype(np.float32)
    assert logmel(samples, LogMel()).tobytes() == logmel(samples.copy(), LogMel()).tobytes()


def test_float16_is_off_by_half_a_step_at_most() -> None:
    decibels = np.linspace(-100, 127, 100_001, dtype=np.float32)
    error = np.abs(quantise(decibels).astype(np.float32) - decibels)
    assert quantise(decibels).dtype == np.float16
    assert error.max() <= 1 / 32
    assert error[np.abs(decibels) < 64].max() <= 1 / 64


def test_the_shape_of_a_slice() -> None:
    assert LogMel().shape == (128, 431)
    assert LogMel(hop_length=1000).frames == logmel(np.zeros(N, np.float32), LogMel(hop_length=1000)).shape[1]


@pytest.mark.parametrize(
    "settings", [LogMel(), LogMel(1024, 256, 64), LogMel(4096, 512, 128), LogMel(512, 512, 20)]
)
def test_the_filter_bank_is_librosas_to_the_bit(settings: LogMel) -> None:
    bank = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=settings.n_fft, n_mels=settings.n_mels)
    np.testing.assert_array_equal(_mel_filters(settings).toarray(), bank)


@pytest.mark.parametrize("n_fft", [512, 1024, 2048, 4096])
def test_the_window_is_scipys_to_the_bit(n_fft: int) -> None:
    window = scipy.signal.get_window("hann", n_fft, fftbins=True).astype(np.float32)
    np.testing.assert_array_equal(_window(n_fft)[:, 0], window)


def test_a_bin_feeds_two_bands_at_most() -> None:
    assert (_mel_filters(LogMel()).toarray() > 0).sum(axis=0).max() == 2
