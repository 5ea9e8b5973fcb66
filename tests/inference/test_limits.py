"""Small files that decode to gigabytes, and headers that lie, cost little time and memory."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from pipeline.errors import DataError
from pipeline.inference import audio, logmel, recordings
from pipeline.inference.network import Network
from pipeline.inference.normalise import Normaliser
from pipeline.quality.measures import measure

RATE = audio.SAMPLE_RATE


def silence(path: Path, *, hours: float) -> Path:
    """Write hours of silence at 8 kHz; a codec makes little of them."""
    with soundfile.SoundFile(path, "w", 8_000, 1) as file:
        for _ in range(round(hours * 720)):
            file.write(np.zeros(40_000, np.float32))  # libvorbis takes no more at a time
    return path


def repeated(path: Path, frame: bytes, *, hours: float, seconds: float) -> Path:
    """Write hours of one frame."""
    path.write_bytes(frame * round(hours * 3_600 / seconds))
    return path


def mp3_frame() -> bytes:
    """Return a frame of silence at 8 kHz, 72 ms."""
    stream = io.BytesIO()
    soundfile.write(stream, np.zeros(8_000), 8_000, format="MP3")
    stream.seek(0)
    at, _, frame = list(recordings._mpeg_frames(stream, 0, len(stream.getvalue())))[-1]
    return stream.getvalue()[at : at + frame.length]


AAC_FRAME = bytes.fromhex("fff16c40017ffc01182007")  # silence at 8 kHz, 128 ms


# Prints, for serving and for the catalogue, what was said of each file and by how many MB the process grew.
MEASURE = """
import json, resource, sys
import av
from pathlib import Path
from pipeline.inference import audio
from pipeline.quality.measures import measure

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before, seconds, errors = peak(), [], []
for path in map(Path, sys.argv[1:]):
    with audio.opened(path) as stream:
        measured = measure(stream, max_seconds=900.0)
    seconds.append(measured.seconds if measured.longer else None)
catalogue = peak() - before
for path in map(Path, sys.argv[1:]):
    try:
        audio.load(path.read_bytes())
    except audio.DataError as error:
        errors.append(str(error))
print(json.dumps([seconds, catalogue, errors, peak() - before]))
"""


def test_hours_of_silence_are_refused_in_bounded_memory(tmp_path: Path) -> None:
    """A 2.4 MB Ogg of 10 h took more than 9 GB in serving, a 2.6 MB FLAC more than 14 GB in the catalogue."""
    paths = (
        silence(tmp_path / "x.flac", hours=2),
        silence(tmp_path / "x.ogg", hours=0.6),
        repeated(tmp_path / "x.aac", AAC_FRAME, hours=2, seconds=0.128),
        repeated(tmp_path / "x.mp3", mp3_frame(), hours=10, seconds=0.072),
    )
    assert all(path.stat().st_size < 700_000 for path in paths[:3])
    command = [sys.executable, "-c", MEASURE, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    seconds, catalogue, errors, serving = json.loads(done.stdout)
    assert seconds == [pytest.approx(900, rel=0.1)] * 4
    assert errors == ["expected at most 1800 s of audio, received more. Cut the file"] * 4
    assert catalogue < 60
    assert serving < 250  # the 30 minutes that are decoded are 159 MB


def test_no_more_is_decoded_than_the_limit_needs() -> None:
    taken = 0

    def endless() -> Any:
        nonlocal taken
        while True:
            taken += RATE
            yield np.zeros((RATE, 1), np.float32)

    with pytest.raises(DataError, match="expected at most 3 s of audio, received more"):
        audio.mono(audio.Stream(RATE, 1, endless()), max_seconds=3)
    assert taken == 4 * RATE
    assert measure(audio.Stream(RATE, 1, endless()), max_seconds=3).longer
    assert taken == 8 * RATE


@pytest.mark.parametrize(("n_samples", "accepted"), [(3 * RATE, True), (3 * RATE + 1, False)])
def test_the_limit_is_exact(n_samples: int, accepted: bool) -> None:
    def stream() -> audio.Stream:
        return audio.Stream(RATE, 1, iter([np.zeros((n_samples, 1), np.float32)]))

    assert measure(stream(), max_seconds=3).longer is not accepted
    if accepted:
        assert len(audio.mono(stream(), max_seconds=3)) == n_samples
    else:
        with pytest.raises(DataError):
            audio.mono(stream(), max_seconds=3)


@pytest.mark.parametrize("channels", [33, 1000])
def test_a_header_of_many_channels_is_refused(channels: int) -> None:
    stream = io.BytesIO()
    soundfile.write(stream, np.zeros((10, channels)), RATE, format="WAV")
    with pytest.raises(
        DataError, match=f"at most 32 channels, received {len(stream.getvalue())} bytes: {channels}"
    ):
        audio.load(stream.getvalue())


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    with path.open("wb") as file:
        file.truncate((1 << 30) + 1)  # sparse: takes no room
    with pytest.raises(DataError, match=r"at most 1073741824 bytes, received .*x\.wav: 1073741825"):
        audio.load(path)


@pytest.mark.parametrize("form", ["MP3", "OGG", "FLAC", "WAV"])
@pytest.mark.parametrize("rate", [22_050, 44_100])
def test_blocks_are_the_whole_file(monkeypatch: pytest.MonkeyPatch, form: str, rate: int) -> None:
    """soundfile seeks after every block, after which an MP3 goes on with other samples."""
    stream = io.BytesIO()
    noise = 0.1 * np.random.default_rng(0).standard_normal((5 * rate + 13, 2))
    soundfile.write(stream, noise, rate, format=form)
    with audio.opened(stream.getvalue()) as opened:
        whole = np.concatenate(list(opened.blocks))
    monkeypatch.setattr(audio, "_BLOCK", 9_999)
    with audio.opened(stream.getvalue()) as opened:
        blocks = list(opened.blocks)
    assert len(blocks) > 20
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    # soundfile's own way of reading a file seeks once at the start: a float32's last bit in MP3.
    expected, _ = soundfile.read(io.BytesIO(stream.getvalue()), dtype="float32", always_2d=True)
    np.testing.assert_allclose(whole, expected, atol=2e-7)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_resampling_in_blocks_is_resampling_as_a_whole(rate: int) -> None:
    samples = (0.1 * np.random.default_rng(0).standard_normal((3 * rate + 17, 2))).astype(np.float32)
    blocks = (samples[start : start + 1_001] for start in range(0, len(samples), 1_001))
    ours = audio.mono(audio.Stream(rate, 2, blocks))
    whole = soxr.resample(samples.mean(axis=1), rate, RATE, quality="HQ")
    np.testing.assert_array_equal(ours, whole)


class CountingNetwork(Network):
    """A network that answers each slice's mean, and counts how many slices it is given at a time."""

    def __init__(self) -> None:
        self.settings = logmel.LogMel(1024, 4096, 16)
        self.normaliser = Normaliser("l2")
        self.batches: list[int] = []

    def of_features(self, features: np.ndarray) -> np.ndarray:
        self.batches.append(len(features))
        return features.astype(np.float64).mean(axis=(1, 2))[:, None]


def wav(samples: np.ndarray) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, RATE, format="WAV", subtype="FLOAT")
    return stream.getvalue()


def test_a_long_clip_is_classified_a_few_slices_at_a_time() -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, 20 * audio.SLICE_SAMPLES).astype(np.float32)
    samples *= np.linspace(0.01, 1, len(samples), dtype=np.float32)
    network = CountingNetwork()
    answer = network.of_audio(wav(samples))
    assert network.batches == [4, 4, 4, 4, 4]
    features = logmel.features(audio.slices(samples), network.settings)
    np.testing.assert_array_equal(answer, CountingNetwork().of_features(features))
