"""Print the SHA-256 of some clips' features as JSON: run under other CPU settings by the test beside it."""

from __future__ import annotations

import hashlib
import io
import json

import numpy as np
import soundfile

from pipeline.inference import audio, logmel, musicnn


def clips() -> dict[str, bytes]:
    """Return WAV files of integers from a fixed recurrence, so that the input is the same everywhere."""
    return {
        "mono 22050": encode(noise(1, 22_050 * 11), 22_050),
        "stereo 44100": encode(np.stack([noise(2, 44_100 * 3), noise(3, 44_100 * 3)], axis=1), 44_100),
        "six channels 48000": encode(
            np.stack([noise(seed, 48_000) for seed in range(4, 10)], axis=1), 48_000
        ),
    }


def noise(seed: int, length: int) -> np.ndarray:
    """Return int16 (length,): noise whose level rises in steps from silence to full scale."""
    numbers = (np.arange(length, dtype=np.uint64) + np.uint64(seed << 32)) * np.uint64(0x9E3779B97F4A7C15)
    numbers ^= numbers >> np.uint64(29)
    numbers *= np.uint64(0xBF58476D1CE4E5B9)
    shift = np.uint64(48) + np.arange(length, dtype=np.uint64)[::-1] * np.uint64(16) // np.uint64(length)
    return (numbers.view(np.int64) >> shift.view(np.int64)).astype(np.int16)


def encode(samples: np.ndarray, rate: int) -> bytes:
    """Return a 16-bit WAV file."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format="WAV", subtype="PCM_16")
    return stream.getvalue()


def features_of(content: bytes) -> np.ndarray:
    """Return the clip's features with the default settings."""
    return logmel.features(audio.slices(audio.load(content)), logmel.LogMel())


def windows_of(content: bytes) -> np.ndarray:
    """Return what musicnn's network is given of a clip: resampled to 16 kHz, other bands, other windows."""
    return np.concatenate([musicnn.windows(one) for one in audio.slices(audio.load(content))])


if __name__ == "__main__":
    arrays = {name: features_of(content) for name, content in clips().items()}
    arrays |= {f"{name}, musicnn": windows_of(content) for name, content in clips().items()}
    print(json.dumps({name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}))
