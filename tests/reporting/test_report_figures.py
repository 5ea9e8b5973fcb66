import io

import librosa
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.reporting import report_figures


def table(*rows):
    return pd.DataFrame(rows, columns=["track_id", "label", "n_labels", "agreement"])


def test_the_example_is_the_track_most_agreed_upon_then_most_labelled_then_first():
    labels = table(
        ("a.2", "a", 3, 1.0),
        ("a.1", "a", 2, 1.0),
        ("a.0", "a", 9, 0.5),
        ("b.1", "b", 1, 1.0),
        ("b.0", "b", 1, 1.0),
    )
    assert report_figures.examples(labels, ["b", "none of it", "a"]) == {"b": "b.0", "a": "a.2"}


@pytest.mark.parametrize("n_mels", [16, 128])
def test_a_bands_own_frequency_lies_on_its_number(n_mels):
    centres = librosa.mel_frequencies(n_mels + 2, fmin=0, fmax=11025)[1:-1]
    np.testing.assert_allclose(report_figures.mel_bands(tuple(centres), n_mels), np.arange(n_mels))


def test_a_band_is_where_its_filter_peaks():
    filters = librosa.filters.mel(sr=22050, n_fft=1 << 16, n_mels=32)
    peaks = filters.argmax(axis=1) * 22050 / (1 << 16)
    np.testing.assert_allclose(report_figures.mel_bands(tuple(peaks), 32), np.arange(32), atol=0.02)


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), int)


def test_a_spectrogram_has_its_low_bands_at_the_bottom_and_time_to_the_right():
    clip = np.full((64, 100), -80.0)
    clip[:32, 50:] = 0.0  # low and late
    image = pixels(report_figures.spectrogram(clip, 512))
    brightness = image.sum(axis=2)
    height, width = brightness.shape
    inside = brightness[int(0.1 * height) : int(0.7 * height), int(0.25 * width) : int(0.6 * width)]
    upper, lower = np.array_split(inside, 2)
    (lower_left, lower_right), upper_right = (
        np.array_split(lower, 2, axis=1),
        np.array_split(upper, 2, axis=1)[1],
    )
    assert lower_right[-20:, -20:].min() > 600
    assert lower_left[-20:, :20].max() < 60
    assert upper_right[:20, -20:].max() < 60


def test_only_the_level_below_the_maximum_counts():
    clip = np.random.default_rng(0).uniform(-60, 0, (16, 20)).astype(np.float16)
    assert report_figures.spectrogram(clip, 512) == report_figures.spectrogram(
        (clip.astype(float) - 12).astype(float), 512
    )


def test_the_same_points_give_the_same_bytes_without_metadata():
    points = {
        "genre": [
            report_figures.Point("one", 0.4, (0.3, 0.5), "promotable"),
            report_figures.Point("two", 0.8, None, "leaky"),
        ]
    }
    first, second = (report_figures.comparison(points, {"genre": 0.1}) for _ in range(2))
    assert first == second
    assert not Image.open(io.BytesIO(first)).text


def test_kinds_have_their_colours():
    def ink(kind):
        image = pixels(
            report_figures.comparison(
                {"genre": [report_figures.Point("x", 0.5, (0.2, 0.8), kind)]}, {"genre": 0.1}
            )
        )
        wanted = [int(report_figures._INK[kind][i : i + 2], 16) for i in (1, 3, 5)]
        return (np.abs(image - wanted).max(axis=2) < 8).sum()

    assert all(ink(kind) > 300 for kind in ("promotable", "optimistic", "leaky"))
    with pytest.raises(KeyError):
        ink("unheard of")
