r"""Whether a track of another edition of GTZAN (``.wav``, …) has the samples of the published ``.au`` file.

The published files differ in one thing beside their samples, the header's annotation: four zeros, a line of
MARSYAS, or the name of the file that they were made of. So from the samples of any lossless edition the
published file can be written again, and compared by the SHA-256 that the index has.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from pipeline.inference import audio

_FIELDS: Final = struct.Struct(">4s5I")  # magic, offset of the samples, their bytes, encoding, rate, channels
_PCM_16: Final = 3
_FULL_SCALE: Final = 1 << 15
_MARSYAS: Final = b"MARSYAS 2001, George Tzanetakis.\n"
# Names from before the tracks were numbered anew: rock.00016 was hardrock.00048.wav.
_OTHER_WORDS: Final = ("classical", "hardrock")
_NUMBERS: Final = 100


def has_published_samples(path: Path, *, sha256: str, size: int) -> bool:
    """Return whether a file decodes to the samples of the published one.

    Parameters
    ----------
    path
        ``<genre>.NNNNN.<suffix>``.
    sha256, size
        Of the published file, in bytes.

    Raises
    ------
    DataError
        It does not decode.
    """
    with audio.opened(path) as stream:
        blocks = list(stream.blocks)
    if (stream.rate, stream.channels) != (audio.SAMPLE_RATE, 1):
        return False
    samples = np.rint(np.concatenate(blocks)[:, 0] * _FULL_SCALE)
    body = samples.clip(-_FULL_SCALE, _FULL_SCALE - 1).astype(">i2").tobytes()
    n_annotation = size - _FIELDS.size - len(body)
    return any(
        hashlib.sha256(_header(annotation, body) + body).hexdigest() == sha256
        for annotation in _annotations(path.stem)
        if len(annotation) == n_annotation
    )


def _header(annotation: bytes, body: bytes) -> bytes:
    offset = _FIELDS.size + len(annotation)
    return _FIELDS.pack(b".snd", offset, len(body), _PCM_16, audio.SAMPLE_RATE, 1) + annotation


def _annotations(track_id: str) -> Iterator[bytes]:
    """Yield the annotations that a track's header may have, the likely ones first."""
    yield bytes(4)
    yield _MARSYAS
    genre, _, number = track_id.partition(".")
    nearest = sorted(range(_NUMBERS), key=lambda n: abs(n - int(number)))
    for word in dict.fromkeys((genre, *_OTHER_WORDS)):
        for n in nearest:
            yield f"{word}.{n:05}.wav".encode() + b"\0"
            yield f"{word}{n:03}.wav".encode()
