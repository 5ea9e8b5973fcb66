"""Decoding, measuring, mixing and cutting, against closed forms and numpy's own array_split."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import DataError
from pipeline.inference import audio
from pipeline.quality.measures import measure

RATE = audio.SAMPLE_RATE


def tone(hertz: float, *, seconds: float = 1.0, rate: int = RATE, level: float = 0.5) -> np.ndarray:
    """Return float32 (n_samples,)."""
    time = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def encode(samples: np.ndarray, rate: int, form: str, subtype: str | None = None) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=form, subtype=subtype)
    return stream.getvalue()


def stream_of(samples: np.ndarray, rate: int, *, block: int = 1000) -> audio.Stream:
    """Return samples (n, channels) as they would come from a file."""
    blocks = (samples[start : start + block] for start in range(0, len(samples), block))
    return audio.Stream(rate, samples.shape[1], blocks)


def decode(source: Path | bytes) -> tuple[np.ndarray, int]:
    """Return a file's samples, float32 (n, channels), and rate."""
    with audio.opened(source) as stream:
        return np.concatenate(list(stream.blocks)), stream.rate


def peak_hertz(samples: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum)) * rate / len(samples)


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize(
    ("form", "subtype", "step"),
    [
        ("AU", "PCM_16", 2**-15),
        ("AU", "FLOAT", 0),
        ("WAV", "PCM_U8", 2**-7),
        ("WAV", "PCM_16", 2**-15),
        ("WAV", "PCM_24", 2**-23),
        ("WAV", "FLOAT", 0),
        ("WAV", "DOUBLE", 0),
        ("FLAC", "PCM_16", 2**-15),
        ("FLAC", "PCM_24", 2**-23),
    ],
)
def test_lossless_formats_decode_to_what_was_written(
    form: str, subtype: str, step: float, rate: int, channels: int
) -> None:
    written = np.stack([tone(300 * (1 + one), seconds=0.1, rate=rate) for one in range(channels)], axis=1)
    samples, decoded_rate = decode(encode(written, rate, form, subtype))
    assert decoded_rate == rate
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, written, atol=1.01 * step)


@pytest.mark.parametrize("form", ["OGG", "MP3"])
@pytest.mark.parametrize("rate", [22_050, 44_100])
def test_lossy_formats_keep_the_tone(form: str, rate: int) -> None:
    samples, decoded_rate = decode(encode(tone(440, rate=rate), rate, form))
    assert decoded_rate == rate
    assert abs(len(samples) - rate) < 3000  # the codecs pad to whole frames
    assert peak_hertz(samples[:, 0], rate) == pytest.approx(440, abs=1)
    assert measure(stream_of(samples, rate)).rms == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_a_path_and_its_content_decode_alike(tmp_path: Path) -> None:
    path = tmp_path / "blues.00000.au"
    soundfile.write(path, tone(440), RATE)
    np.testing.assert_array_equal(audio.load(path), audio.load(path.read_bytes()))


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"track_id,mood\n", b"RIFF", b"fLaC" + bytes(100), b".snd" + bytes(8), bytes(5000)],
    ids=["empty", "zero", "text", "riff", "flac", "au", "zeros"],
)
def test_what_is_no_audio(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "blues.00042.au"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"expected audio, received .*blues\.00042\.au: ."):
        audio.load(path)
    with pytest.raises(DataError, match=f"expected audio, received {len(content)} bytes: ."):
        audio.load(content)


def test_a_file_that_is_not_there_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "gone.wav"
    with pytest.raises(DataError, match=r"^expected audio, received .*gone\.wav: No such file or directory$"):
        audio.load(path)


@pytest.mark.parametrize("form", ["AU", "WAV", "FLAC", "OGG"])
def test_a_header_without_samples(form: str) -> None:
    with pytest.raises(DataError, match="expected audio"):
        audio.load(encode(np.zeros((0, 1), np.float32), RATE, form))


@pytest.mark.parametrize("form", ["AU", "WAV"])
def test_a_truncated_file_gives_the_samples_it_has(form: str) -> None:
    whole = encode(tone(440), RATE, form, "PCM_16")
    half = audio.load(whole[: len(whole) // 2])
    assert len(half) == pytest.approx(RATE / 2, abs=50)
    np.testing.assert_array_equal(half, audio.load(whole)[: len(half)])


@pytest.mark.parametrize("form", ["FLAC", "OGG"])
def test_a_truncated_file_that_cannot_be_read_is_refused(form: str) -> None:
    whole = encode(tone(440), RATE, form)
    with pytest.raises(DataError, match="expected audio, received 1000 bytes"):
        audio.load(whole[:1000])


@pytest.mark.parametrize("promised", [1, 1 << 20, (1 << 36) - 1])
def test_a_header_is_not_believed(promised: int) -> None:
    """The count in the file's STREAMINFO block, 36 bits, once ruled how much memory was asked for."""
    whole = encode(tone(440), RATE, "FLAC")
    content = bytearray(whole)
    content[21] = content[21] & 0xF0 | promised >> 32
    content[22:26] = (promised & 0xFFFFFFFF).to_bytes(4, "big")
    np.testing.assert_array_equal(audio.load(bytes(content)), audio.load(whole))


WAV = encode(tone(440, seconds=0.05), RATE, "WAV", "PCM_16")
AU = encode(tone(440, seconds=0.05), RATE, "AU", "PCM_16")


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(st.sampled_from([WAV, AU]), st.integers(0, 63), st.integers(0, 255), st.integers(0, 2300))
def test_any_damage_gives_a_clip_or_a_clear_error(whole: bytes, at: int, byte: int, length: int) -> None:
    content = bytearray(whole)
    content[at] = byte
    with contextlib.suppress(DataError):
        samples, _ = decode(bytes(content[:length]))
        assert samples.ndim == 2
        assert samples.size > 0


@pytest.mark.parametrize("level", [1.0, 0.5, 0.01])
@pytest.mark.parametrize("rate", [8000, 22_050, 48_000])
def test_measures_of_a_sine(level: float, rate: int) -> None:
    measures = measure(stream_of(tone(100, rate=rate, level=level)[:, None], rate))
    assert measures.seconds == 1.0
    assert (measures.rate, measures.channels, measures.nonfinite) == (rate, 1, 0)
    assert measures.peak == pytest.approx(level, rel=1e-3)
    assert measures.rms == pytest.approx(level / np.sqrt(2), rel=1e-5)


def test_rms_is_over_all_channels() -> None:
    samples = np.stack([np.full(10, 0.6), np.full(10, -0.8)], axis=1).astype(np.float32)
    measures = measure(stream_of(samples, 10))
    assert measures.rms == pytest.approx(np.sqrt((0.36 + 0.64) / 2))
    assert (measures.peak, measures.channels, measures.seconds) == (pytest.approx(0.8), 2, 1.0)


@pytest.mark.parametrize(("full", "share"), [(0, 0.0), (25, 0.25), (100, 1.0)])
@pytest.mark.parametrize("value", [1.0, -1.0, 32_767 / 32_768])
def test_the_share_of_clipped_samples(full: int, share: float, value: float) -> None:
    samples = np.full((100, 1), 32_766 / 32_768, np.float32)
    samples[:full] = value
    assert measure(stream_of(samples, RATE)).clipped == pytest.approx(share)


def test_samples_that_are_not_finite_are_counted_and_taken_for_silence() -> None:
    samples = np.full((100, 2), 0.5, np.float32)
    samples[3, 0], samples[4, 1], samples[5, 0] = np.nan, np.inf, -np.inf
    measures = measure(stream_of(samples, RATE))
    assert measures.nonfinite == 3
    assert measures.peak == 0.5
    assert measures.rms == pytest.approx(0.5 * np.sqrt(197 / 200))


def test_silence_measures_zero() -> None:
    measures = measure(stream_of(np.zeros((100, 1), np.float32), RATE))
    assert (measures.peak, measures.rms, measures.clipped) == (0.0, 0.0, 0.0)


def test_mono_at_the_right_rate_is_left_as_it_is() -> None:
    samples = tone(440)
    np.testing.assert_array_equal(audio.mono(stream_of(samples[:, None], RATE)), samples)


def test_mono_is_the_mean_of_the_channels() -> None:
    left, right = tone(440), tone(700, level=0.3)
    mixed = audio.mono(stream_of(np.stack([left, right], axis=1), RATE))
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(mixed, (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 32_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_resampling_keeps_length_pitch_and_level(rate: int, channels: int) -> None:
    samples = np.repeat(tone(1000, seconds=1.003, rate=rate)[:, None], channels, axis=1)
    resampled = audio.mono(stream_of(samples, rate))
    assert resampled.dtype == np.float32
    assert abs(len(resampled) - len(samples) * RATE / rate) <= 1
    assert peak_hertz(resampled, RATE) == pytest.approx(1000, abs=1.5)
    assert np.abs(resampled[1000:-1000]).max() == pytest.approx(0.5, rel=0.01)


def test_resampling_down_removes_what_does_not_fit() -> None:
    above = audio.mono(stream_of(tone(15_000, rate=44_100)[:, None], 44_100))
    assert np.abs(above[1000:-1000]).max() < 1e-3


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_mono_refuses_samples_that_are_not_finite(value: float) -> None:
    samples = tone(440)[:, None].copy()
    samples[7] = value
    with pytest.raises(DataError, match="finite"):
        audio.mono(stream_of(samples, RATE))


@pytest.mark.parametrize(
    ("n_samples", "expected"),
    [
        (2205, 1),
        (220_500, 1),
        (330_896, 1),
        (330_898, 2),
        (660_000, 3),
        (661_500, 3),
        (661_794, 3),
        (675_808, 3),
        (992_250, 4),
        (1_323_000, 6),
    ],
)
def test_the_number_of_slices(n_samples: int, expected: int) -> None:
    assert audio.n_slices(n_samples / RATE) == expected
    assert len(list(audio.slices(np.zeros(n_samples, np.float32)))) == expected


@pytest.mark.parametrize("n_samples", [1, 2205, 220_598, 220_599, 660_000, 661_794, 675_808, 992_250])
def test_slices_are_array_split_padded_or_cut(n_samples: int) -> None:
    samples = np.random.default_rng(n_samples).standard_normal(n_samples).astype(np.float32)
    slices = list(audio.slices(samples))
    assert {one.dtype for one in slices} == {np.dtype(np.float32)}
    parts = np.array_split(samples, len(slices))
    for one, part in zip(slices, parts, strict=True):
        expected = np.concatenate([part, np.zeros(220_598, np.float32)])[:220_598]
        np.testing.assert_array_equal(one, expected)


@pytest.mark.parametrize("n_samples", [0, 100, 220_598, 300_000])
def test_fix_length(n_samples: int) -> None:
    fixed = audio.fix_length(np.ones(n_samples, np.float32))
    assert fixed.shape == (220_598,)
    assert fixed.sum() == min(n_samples, 220_598)
    assert np.all(np.diff(fixed) <= 0), "zeros stand at the end"


@pytest.mark.parametrize("rate", [1, 999, 1_000_000])
def test_impossible_sample_rate_is_refused(rate: int) -> None:
    stream = io.BytesIO()
    soundfile.write(stream, np.zeros(2_000), rate, format="WAV")
    with pytest.raises(DataError, match=f"sample rate of {rate} Hz"):
        audio.load(stream.getvalue())


def test_absurdly_large_samples_count_as_not_finite() -> None:
    samples = np.full((100, 1), 1e25, np.float32)
    assert measure(stream_of(samples, RATE)).nonfinite == 100
    with pytest.raises(DataError, match="infinity or larger"):
        audio.mono(stream_of(samples, RATE))
