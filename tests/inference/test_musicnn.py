"""musicnn's log-mel is librosa's, in whole windows, and equal to the bit on every CPU."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from pipeline.inference import audio, musicnn


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    """A second of a chord and noise at 16 kHz, from loud to silent."""
    time = np.arange(16_000) / musicnn.SAMPLE_RATE
    chord = sum(np.sin(2 * np.pi * pitch * time) for pitch in (220, 277, 330, 3_000))
    noise = np.random.default_rng(0).standard_normal(16_000)
    return ((0.2 * chord + 0.05 * noise) * np.linspace(1, 0, 16_000) ** 2).astype(np.float32)


def test_the_log_mel_is_librosas(clip: np.ndarray) -> None:
    power = librosa.feature.melspectrogram(
        y=clip, sr=16_000, n_fft=512, hop_length=256, n_mels=96, pad_mode="reflect"
    )
    expected = np.log10(10_000 * power.T.astype(np.float64) + 1)
    found = musicnn.log_mel(clip)
    assert found.shape == expected.shape == (63, 96)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert expected.max() > 4
    assert expected.min() < 0.01


def test_a_slice_gives_three_whole_windows_of_a_tone_in_its_band() -> None:
    tone = np.sin(2 * np.pi * 1_000 * np.arange(audio.SLICE_SAMPLES) / audio.SAMPLE_RATE)
    found = musicnn.windows(tone.astype(np.float32))
    assert found.shape == (3, musicnn.WINDOW, musicnn.N_MELS)
    centres = librosa.mel_frequencies(n_mels=98, fmin=0, fmax=8_000)[1:-1]
    assert set(found[:, 5:-5].argmax(axis=2).ravel()) == {np.abs(centres - 1_000).argmin()}


def test_silence_is_zero() -> None:
    assert not musicnn.windows(np.zeros(audio.SLICE_SAMPLES, np.float32)).any()
