"""The project report's copies do what they say to a tone and to beats; SpecAugment stays in its bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.inference.audio import SAMPLE_RATE, SLICE_SAMPLES
from pipeline.params import SpecAugmentParams
from pipeline.training import augment

TIME = np.arange(SLICE_SAMPLES) / SAMPLE_RATE
OFF: dict[str, Any] = {
    "time_masks": 0,
    "time_mask_frames": 0,
    "mel_masks": 0,
    "mel_mask_bands": 0,
    "gain_db": 0.0,
    "shift_frames": 0,
    "mixup_alpha": 0.0,
}
ALL = SpecAugmentParams(
    time_masks=2,
    time_mask_frames=40,
    mel_masks=2,
    mel_mask_bands=12,
    gain_db=3.0,
    shift_frames=20,
    mixup_alpha=0.4,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def decibels(n: int = 4, *, frames: int = 431) -> np.ndarray:
    return rng(1).uniform(-80, 20, (n, 128, frames)).astype(np.float32)


def peak_hertz(samples: np.ndarray) -> float:
    return (
        float(np.abs(np.fft.rfft(samples * np.hanning(len(samples)))).argmax()) * SAMPLE_RATE / len(samples)
    )


@pytest.fixture(scope="module")
def tone() -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * TIME)).astype(np.float32)


@pytest.fixture(scope="module")
def copies(tone: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(augment.COPIES, augment.waveform_copies(tone, rng()), strict=True))


@pytest.fixture(scope="module")
def beats() -> dict[str, np.ndarray]:
    """Return the copies of noise that swells twice a second."""
    samples = 0.1 * rng().standard_normal(SLICE_SAMPLES) * (1 + np.cos(2 * np.pi * 2 * TIME))
    return dict(zip(augment.COPIES, augment.waveform_copies(samples.astype(np.float32), rng()), strict=True))


def beat_hertz(samples: np.ndarray) -> float:
    """Return how often a second the level swells: where its spectrum peaks between 0.5 and 10 Hz."""
    hop = SAMPLE_RATE // 50
    level = np.square(samples[: len(samples) // hop * hop]).reshape(-1, hop).sum(axis=1)
    hertz = np.fft.rfftfreq(10 * len(level), hop / SAMPLE_RATE)
    spectrum = np.abs(np.fft.rfft((level - level.mean()) * np.hanning(len(level)), 10 * len(level)))
    return float(hertz[np.where((hertz > 0.5) & (hertz < 10), spectrum, 0).argmax()])


def test_the_copies_have_the_slices_shape(copies: dict[str, np.ndarray]) -> None:
    assert list(copies) == ["pitch_up_4", "pitch_up_6", "stretch_half", "stretch_double", "noise"]
    for copy in copies.values():
        assert copy.shape == (SLICE_SAMPLES,)
        assert copy.dtype == np.float32


@pytest.mark.parametrize(("name", "semitones"), [("pitch_up_4", 4), ("pitch_up_6", 6)])
def test_a_pitch_copy_moves_the_tone(copies: dict[str, np.ndarray], name: str, semitones: int) -> None:
    assert peak_hertz(copies[name]) == pytest.approx(440 * 2 ** (semitones / 12), rel=2e-3)


@pytest.mark.parametrize("name", ["stretch_half", "stretch_double", "noise"])
def test_the_other_copies_keep_the_pitch(copies: dict[str, np.ndarray], name: str) -> None:
    assert peak_hertz(copies[name][: SLICE_SAMPLES // 2]) == pytest.approx(440, rel=2e-3)


def test_stretch_double_is_half_as_long(copies: dict[str, np.ndarray]) -> None:
    half = SLICE_SAMPLES // 2
    assert np.all(copies["stretch_double"][half + 10 :] == 0)
    assert np.abs(copies["stretch_double"][half - 4000 : half]).max() > 0.1
    assert np.abs(copies["stretch_half"][-4000:]).max() > 0.1


@pytest.mark.parametrize(
    ("name", "hertz"),
    [("pitch_up_4", 2), ("pitch_up_6", 2), ("stretch_half", 1), ("stretch_double", 4), ("noise", 2)],
)
def test_stretching_changes_the_tempo_and_nothing_else_does(
    beats: dict[str, np.ndarray], name: str, hertz: float
) -> None:
    sounding = beats[name][: SLICE_SAMPLES // 2]  # all that stretch_double fills
    assert beat_hertz(sounding) == pytest.approx(hertz, rel=0.05)


def test_the_noise_is_white_with_sigma_0_005(tone: np.ndarray, copies: dict[str, np.ndarray]) -> None:
    noise = copies["noise"] - tone
    assert noise.std() == pytest.approx(0.005, rel=0.01)
    assert abs(noise.mean()) < 1e-4
    power = np.square(np.abs(np.fft.rfft(noise)))[: 4 * 27_000].reshape(4, -1).mean(axis=1)
    np.testing.assert_allclose(power / power.mean(), 1, atol=0.05)


def test_the_copies_depend_on_the_rng_alone(tone: np.ndarray, copies: dict[str, np.ndarray]) -> None:
    again = dict(zip(augment.COPIES, augment.waveform_copies(tone, rng()), strict=True))
    other = dict(zip(augment.COPIES, augment.waveform_copies(tone, rng(1)), strict=True))
    for name in augment.COPIES:
        np.testing.assert_array_equal(again[name], copies[name])
    assert np.any(other["noise"] != copies["noise"])


def test_spec_leaves_its_input_untouched_and_repeats() -> None:
    batch = decibels()
    before = batch.copy()
    out = augment.specaugment(batch, ALL, rng())
    np.testing.assert_array_equal(batch, before)
    assert out.shape == batch.shape
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, augment.specaugment(batch, ALL, rng()))
    assert np.any(out != augment.specaugment(batch, ALL, rng(1)))


def test_spec_turned_off_changes_nothing() -> None:
    batch = decibels()
    np.testing.assert_array_equal(augment.specaugment(batch, SpecAugmentParams(**OFF), rng()), batch)


def test_the_gain_is_one_number_a_slice_within_its_range() -> None:
    batch = decibels(200, frames=5)
    gain = augment.specaugment(batch, SpecAugmentParams(**OFF | {"gain_db": 3.0}), rng()) - batch
    np.testing.assert_allclose(gain, np.broadcast_to(gain[:, :1, :1], gain.shape), atol=1e-4)
    assert np.abs(gain).max() <= 3.0001
    assert gain.min() < -2
    assert gain.max() > 2


def test_shifts_roll_in_time_within_their_range() -> None:
    batch = np.zeros((300, 3, 50), np.float32)
    batch[:, :, 25] = 1
    out = augment.specaugment(batch, SpecAugmentParams(**OFF | {"shift_frames": 4}), rng())
    np.testing.assert_array_equal(out.sum(axis=2), 1)
    position = out.argmax(axis=2)
    assert np.all(position == position[:, :1]), "all bands move together"
    assert set(position[:, 0].tolist()) == set(range(21, 30))


@pytest.mark.parametrize(
    ("masks", "axis", "longest"),
    [
        ({"time_masks": 1, "time_mask_frames": 40}, 2, 40),
        ({"mel_masks": 1, "mel_mask_bands": 12}, 1, 12),
        ({"time_masks": 1, "time_mask_frames": 1_000}, 2, 431),
        ({"mel_masks": 1, "mel_mask_bands": 1_000}, 1, 128),
    ],
)
def test_a_mask_is_one_stripe_of_the_slices_mean(masks: dict[str, int], axis: int, longest: int) -> None:
    batch = decibels(60)
    out = augment.specaugment(batch, SpecAugmentParams(**OFF | masks), rng())
    widths = []
    for one, before in zip(out, batch, strict=True):
        changed = (one != before).any(axis=2 - axis)
        widths.append(int(changed.sum()))
        assert np.all(np.diff(np.flatnonzero(changed)) == 1), "a single stripe"
        assert np.all((one != before).all(axis=2 - axis) == changed), "over the whole other axis"
        np.testing.assert_allclose(one[one != before], before.mean(), atol=1e-3)
    assert max(widths) <= longest
    assert max(widths) > 0.8 * longest
    assert len(set(widths)) > 5


def test_as_many_masks_as_asked_for() -> None:
    out = augment.specaugment(
        decibels(80), SpecAugmentParams(**OFF | {"time_masks": 3, "time_mask_frames": 20}), rng()
    )
    changed = (out != decibels(80)).all(axis=1)
    stripes = (np.diff(np.pad(changed, ((0, 0), (1, 0))).astype(int), axis=1) == 1).sum(axis=1)
    assert stripes.max() == 3


def test_mixup_blends_inputs_and_targets_by_the_same_share() -> None:
    targets = np.eye(10, dtype=np.float32)
    batch = np.broadcast_to(targets[:, :, None, None], (10, 10, 4, 1)).copy()
    blended, mixed = augment.mixup(batch, targets, 0.4, rng())
    np.testing.assert_allclose(mixed.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(blended, np.broadcast_to(mixed[:, :, None, None], batch.shape), atol=1e-6)
    assert np.all(np.diagonal(mixed) >= 0.5), "each row stays the larger part of its blend"
    assert np.any(np.diagonal(mixed) < 1)
    assert blended.dtype == mixed.dtype == np.float32
    np.testing.assert_array_equal(targets, np.eye(10, dtype=np.float32))


def test_mixup_keeps_soft_targets_sums() -> None:
    targets = rng(3).dirichlet(np.ones(10), 32).astype(np.float32)
    mixed = augment.mixup(decibels(32, frames=3), targets, 1.0, rng())[1]
    np.testing.assert_allclose(mixed.sum(axis=1), 1, atol=1e-5)


def test_mixup_repeats_by_its_rng() -> None:
    batch, targets = decibels(8, frames=3), np.eye(8, dtype=np.float32)
    first, again, other = (augment.mixup(batch, targets, 0.4, rng(seed))[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_alpha_zero_changes_nothing() -> None:
    batch, targets = decibels(4, frames=3), np.eye(4, dtype=np.float32)
    blended, mixed = augment.mixup(batch, targets, 0.0, rng())
    np.testing.assert_array_equal(blended, batch)
    np.testing.assert_array_equal(mixed, targets)
