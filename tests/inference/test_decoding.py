"""Files of 13 formats, whole and with four faults: they sound as with FFmpeg, or a fault says why."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import pytest
import soundfile

from pipeline.errors import DataError
from pipeline.inference import audio, mpeg4
from pipeline.inference.recordings import Fault

SECONDS: Final = 6.0  # the pages of libsndfile's Opus are of a second each
TOLERANCE: Final = 0.05  # s


def music(rate: int, channels: int) -> np.ndarray:
    """Return float32 (n, channels): a rising tone, the second half with noise, so that bit rates vary."""
    rng, time = np.random.default_rng(0), np.arange(round(SECONDS * rate)) / rate
    noise = np.where(time > SECONDS / 2, 0.1, 0.001) * rng.standard_normal(len(time))
    tones = [
        0.3 * np.sin(2 * np.pi * (220 + 110 * each) * time * (1 + 0.1 * time)) for each in range(channels)
    ]
    return np.stack([tone + noise for tone in tones], axis=1).astype(np.float32)


def by_libsndfile(form: str, subtype: str, rate: int, channels: int, **more: Any) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, music(rate, channels), rate, format=form, subtype=subtype, **more)
    return stream.getvalue()


def by_ffmpeg(path: Path, form: str, codec: str, *, muxer: Any = None, encoder: Any = None) -> bytes:
    """Encode 44.1 kHz stereo; through a file, since the index of MPEG-4 is moved to its start afterwards."""
    rate = 44_100
    with av.open(path, "w", format=form, options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=encoder or {})
        stream.layout = "stereo"
        stream.codec_context.open()
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(music(rate, 2).T), "fltp", "stereo")
        frame.sample_rate = rate
        size = stream.codec_context.frame_size or None
        convert = av.AudioResampler(stream.codec_context.format, "stereo", rate, frame_size=size)
        for part in (*convert.resample(frame), *convert.resample(None), None):
            container.mux(stream.encode(part))
    return path.read_bytes()


VARIABLE: Final = {"flags": "qscale", "global_quality": str(4 * 118)}
WRITERS: Final[dict[str, Callable[[Path], bytes]]] = {
    "wav": lambda _: by_libsndfile("WAV", "PCM_16", 22_050, 1),
    "wav float": lambda _: by_libsndfile("WAV", "FLOAT", 44_100, 2),
    "au": lambda _: by_libsndfile("AU", "PCM_16", 44_100, 2),
    "aiff": lambda _: by_libsndfile("AIFF", "PCM_24", 44_100, 2),
    "aifc": lambda _: by_libsndfile("AIFF", "ULAW", 22_050, 1),
    "flac": lambda _: by_libsndfile("FLAC", "PCM_16", 44_100, 2),
    "vorbis": lambda _: by_libsndfile("OGG", "VORBIS", 44_100, 2),
    "opus": lambda _: by_libsndfile("OGG", "OPUS", 48_000, 2),
    "mp3": lambda _: by_libsndfile("MP3", "MPEG_LAYER_III", 22_050, 1),
    "mp3 vbr": lambda path: by_ffmpeg(path, "mp3", "libmp3lame", encoder=VARIABLE),
    "mp3 vbr without header": lambda path: by_ffmpeg(
        path, "mp3", "libmp3lame", muxer={"write_xing": "0"}, encoder=VARIABLE
    ),
    "m4a": lambda path: by_ffmpeg(path, "ipod", "aac", muxer={"movflags": "faststart"}),
    "aac": lambda path: by_ffmpeg(path, "adts", "aac"),
}
PCM: Final = ("wav", "wav float", "au", "aiff", "aifc")

DAMAGE: Final = np.random.default_rng(1).bytes(2_000)
FAULTS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "whole": lambda whole: whole,
    "cut": lambda whole: whole[: len(whole) // 3],
    "padded": lambda whole: whole + bytes(4_096),
    "damaged": lambda whole: whole[: len(whole) // 2] + DAMAGE + whole[len(whole) // 2 + len(DAMAGE) :],
    "joined": lambda whole: whole + whole,
}


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("made")
    return {name: write(folder / name) for name, write in WRITERS.items()}


def ours(content: bytes) -> tuple[np.ndarray, int, list[Fault]]:
    with audio.opened(content) as stream:
        return np.concatenate(list(stream.blocks)), stream.rate, stream.faults


def ffmpegs(content: bytes) -> np.ndarray:
    """Return what FFmpeg decodes, float32 (n, channels)."""
    blocks = []
    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.audio[0]
        to_float = av.AudioResampler("flt", stream.layout, stream.rate)
        for packet in container.demux(stream):
            with contextlib.suppress(av.FFmpegError, ValueError):  # damaged, or of another format by damage
                frames = packet.decode()
                blocks += [part.to_ndarray() for frame in frames for part in to_float.resample(frame)]
    return np.concatenate(blocks, axis=1).reshape(-1, stream.channels)


def expected_fault(form: str, fault: str) -> str:
    """Return the fault that is to be named; ``""`` for what nothing in such a file shows."""
    if fault == "cut":
        return "truncated"
    if fault == "damaged" and form not in PCM:
        return "damaged"
    return "joined" if fault == "joined" and form != "aac" else ""


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("form", WRITERS)
def test_the_sound_is_ffmpegs_or_a_fault_says_why_not(
    wholes: dict[str, bytes], form: str, fault: str
) -> None:
    content = FAULTS[fault](wholes[form])
    samples, rate, faults = ours(content)
    assert {each.kind for each in faults} == {expected_fault(form, fault)} - {""}
    theirs = ffmpegs(content)
    if not faults:
        assert abs(len(samples) - len(theirs)) <= TOLERANCE * rate
    # Up to the damage they are the same, sample by sample; codecs of two makes round differently.
    common = slice(0, min(len(samples), len(theirs), round(0.9 * rate)))
    np.testing.assert_allclose(samples[common], theirs[common], atol=2e-3)


@pytest.mark.parametrize("form", WRITERS)
def test_a_whole_file_is_what_was_written(wholes: dict[str, bytes], form: str) -> None:
    samples, rate, _ = ours(wholes[form])
    written = music(rate, samples.shape[1])
    assert len(samples) / rate == pytest.approx(SECONDS, abs=TOLERANCE)
    # MP3 without a header starts 25 ms late, and no codec keeps phases and noise.
    spectra = [np.abs(np.fft.rfft(each[: round(5.9 * rate), 0])[:6_000]) for each in (samples, written)]
    assert np.corrcoef(*spectra)[0, 1] > 0.9


@pytest.mark.parametrize("form", sorted(WRITERS.keys() - {"mp3 vbr without header", "m4a", "aac"}))
def test_joined_files_are_both_heard(wholes: dict[str, bytes], form: str) -> None:
    """Only the first was. MPEG-4 is read by its first index; what has no header goes on without a gap."""
    whole, rate, _ = ours(wholes[form])
    joined, _, faults = ours(2 * wholes[form])
    np.testing.assert_array_equal(joined, np.concatenate([whole, whole]))
    assert faults == [Fault("joined", f"another recording from {len(whole) / rate:.1f} s on")]


@pytest.mark.parametrize("form", PCM)
def test_a_third_of_a_file_is_a_third_of_its_length(wholes: dict[str, bytes], form: str) -> None:
    samples, rate, faults = ours(FAULTS["cut"](wholes[form]))
    assert len(samples) / rate == pytest.approx(SECONDS / 3, abs=0.01)
    assert faults == [Fault("truncated", "2.0 of 6.0 s")]


def test_mpeg4_that_is_cut_says_how_much_is_there(wholes: dict[str, bytes]) -> None:
    samples, rate, faults = ours(FAULTS["cut"](wholes["m4a"]))
    assert faults == [Fault("truncated", f"{len(samples) / rate:.1f} of 6.0 s")]


@pytest.mark.parametrize("form", ["flac", "vorbis", "mp3", "mp3 vbr", "mp3 vbr without header"])
def test_damage_is_left_out_and_what_follows_is_heard(wholes: dict[str, bytes], form: str) -> None:
    whole, rate, _ = ours(wholes[form])
    damaged, _, faults = ours(FAULTS["damaged"](wholes[form]))
    assert len(whole) - rate < len(damaged) < len(whole)
    np.testing.assert_allclose(damaged[-rate // 4 :], whole[-rate // 4 :], atol=1e-6)
    place = float(faults[0].words.removeprefix("at ").removesuffix(" s"))
    differs = np.flatnonzero(np.abs(damaged - whole[: len(damaged)]).max(axis=1) > 1e-6)[0] / rate
    assert place == pytest.approx(differs, abs=0.2)


def test_formats_that_change_within_a_file_are_refused(wholes: dict[str, bytes]) -> None:
    for first, second in (("mp3", "mp3 vbr"), ("wav", "wav float")):
        with pytest.raises(DataError, match=r"another recording from 6\.0 s on, of 44100 Hz and 2 channels"):
            audio.load(wholes[first] + wholes[second])


def test_mpeg4_without_pyav_says_what_to_install(
    wholes: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    for form in ("m4a", "aac"):
        with pytest.raises(DataError, match=r"pip install 'composite-mood-genre\[m4a\]'"):
            audio.load(wholes[form])
    assert len(audio.load(wholes["mp3"])) > 0


def test_mpeg4_that_is_cut_before_its_index_says_so(tmp_path: Path) -> None:
    whole = by_ffmpeg(tmp_path / "x.m4a", "ipod", "aac")
    with pytest.raises(DataError, match=r"without its index \(moov\): the file is cut"):
        audio.load(whole[: len(whole) // 3])


def test_aac_that_is_cut_anywhere_in_a_frame_plays_up_to_it(tmp_path: Path) -> None:
    """In the header of a frame FFmpeg cannot tell the packet, elsewhere it cannot decode it."""
    whole = by_ffmpeg(tmp_path / "x.aac", "adts", "aac")
    frame = whole.index(whole[:2], len(whole) // 3)
    for n_bytes in (1, 4, 8, 40):
        faults: list[Fault] = []
        rate, _, blocks = mpeg4.open_audio(io.BytesIO(whole[: frame + n_bytes]), faults)
        seconds = sum(map(len, blocks)) / rate
        assert seconds == pytest.approx(whole[:frame].count(whole[:2]) * 1024 / rate, abs=0.05)
        assert [fault.kind for fault in faults] == ["truncated"]
