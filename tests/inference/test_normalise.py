"""Normalisation, by its defining properties."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.inference.normalise import Kind, Normaliser
from pipeline.training.normaliser import fit

KINDS: tuple[Kind, ...] = ("l2", "standard")


def clips(n: int = 5, *, seed: int = 0, n_mels: int = 16, frames: int = 31) -> list[np.ndarray]:
    """Return clips of one to n slices, float16 in dB; each band has a level and a spread of its own."""
    rng = np.random.default_rng(seed)
    level, spread = rng.uniform(-80, 0, (n_mels, 1)), rng.uniform(1, 20, (n_mels, 1))
    return [
        (level + spread * rng.standard_normal((1 + one, n_mels, frames))).astype(np.float16)
        for one in range(n)
    ]


def test_l2_gives_each_band_unit_norm() -> None:
    out = fit("l2", [])(clips()[3])
    assert out.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(out, axis=-1), 1, atol=1e-5)


def test_l2_divides_by_the_norm_over_time() -> None:
    band = np.array([[[3.0, 4.0], [-6.0, 8.0]]])
    np.testing.assert_allclose(fit("l2", [])(band), [[[0.6, 0.8], [-0.6, 0.8]]], atol=1e-6)


def test_standard_gives_the_fitted_data_mean_0_and_sd_1() -> None:
    data = clips()
    out = fit("standard", data)(np.concatenate(data))
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.mean(axis=(0, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(out.std(axis=(0, 2)), 1, atol=1e-4)


def test_standard_in_closed_form() -> None:
    fitted = fit("standard", [np.array([[[1.0, 3.0]]]), np.array([[[5.0, 7.0]]])])
    assert fitted.mean == (4.0,)
    assert fitted.std[0] == pytest.approx(np.sqrt(5))
    np.testing.assert_allclose(fitted(np.array([[[4.0 + np.sqrt(5)]]])), 1, atol=1e-6)


def test_clips_count_by_their_slices_not_alike() -> None:
    data = clips()
    whole = np.concatenate(data).astype(np.float64)
    fitted = fit("standard", iter(data))
    np.testing.assert_allclose(fitted.mean, whole.mean(axis=(0, 2)), atol=1e-9)
    np.testing.assert_allclose(fitted.std, whole.std(axis=(0, 2)), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", [0.0, -100.0, -37.3125])
def test_a_band_that_never_changes_is_safe(kind: Kind, level: float) -> None:
    data = [clip.copy() for clip in clips()]
    for clip in data:
        clip[:, 2] = level
    out = fit(kind, data)(data[4])
    assert np.isfinite(out).all()
    if kind == "standard" or level == 0:
        np.testing.assert_allclose(out[:, 2], 0, atol=1e-3)


def test_a_band_that_never_changed_in_training_does_not_explode_later() -> None:
    data = [clip.copy() for clip in clips()]
    for clip in data:
        clip[:, 2] = -100
    out = fit("standard", data)(clips()[0])
    assert np.abs(out[:, 2]).max() < 1000


@pytest.mark.parametrize("kind", KINDS)
def test_silence_is_safe(kind: Kind) -> None:
    silent = np.full((2, 16, 31), -100.0, np.float16)
    assert np.isfinite(fit(kind, clips())(silent)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_as_dict_and_back_through_json(kind: Kind) -> None:
    fitted = fit(kind, clips())
    back = Normaliser.from_dict(json.loads(json.dumps(fitted.as_dict())))
    assert back == fitted
    np.testing.assert_array_equal(back(clips()[2]), fitted(clips()[2]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_float_type_of_the_input_does_not_matter(kind: Kind) -> None:
    fitted, clip = fit(kind, clips()), clips()[2]
    for other in (np.float32, np.float64):
        np.testing.assert_array_equal(fitted(clip.astype(other)), fitted(clip))


@pytest.mark.parametrize("kind", KINDS)
def test_a_slice_is_the_same_alone_and_among_others(kind: Kind) -> None:
    fitted, clip = fit(kind, clips()), clips()[4]
    together = fitted(clip)
    for one, alone in zip(together, clip, strict=True):
        np.testing.assert_array_equal(one, fitted(alone))
    np.testing.assert_array_equal(fitted(clip[::-1]), together[::-1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_input_is_left_as_it_is(kind: Kind) -> None:
    clip = clips()[1].astype(np.float32)
    before = clip.copy()
    fit(kind, clips())(clip)
    np.testing.assert_array_equal(clip, before)
