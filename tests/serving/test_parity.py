"""The command, HTTP and the registered model give the same answer, whatever the format."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
import soxr
from fastapi.testclient import TestClient

from benchmarks import parity
from serving.api import create_app
from serving.limits import UploadLimits
from serving.listener import Listener
from tests.listener import listener

__all__ = ["listener"]  # a fixture

FORMATS = {
    "wav": {"subtype": "FLOAT"},
    "au": {"subtype": "PCM_16"},
    "flac": {},
    "mp3": {},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
}


@pytest.fixture
def files(listener: Listener) -> dict[str, Path]:
    """Return a track of each format, whose loudness is between those that the classes are of."""
    found = {}
    for number, (suffix, options) in enumerate(FORMATS.items()):
        samples, rate = soundfile.read(sorted(Path("data").rglob("*.wav"))[number])
        if suffix == "opus":
            samples, rate = soxr.resample(samples, rate, 48_000), 48_000
        found[suffix] = Path(f"in.{suffix}")
        soundfile.write(found[suffix], samples * 0.8**number, rate, **options)
    return found


def test_all_ways_give_the_same_probabilities(listener: Listener, files: dict[str, Path]) -> None:
    champion = listener.champions["genre"]
    answers = parity.by_command(files, champion)
    assert answers.round(3).nunique().min() > 1  # they are not all the same anyway
    with TestClient(create_app(Path("other.sqlite"), UploadLimits(workers=1))) as client:
        over_http = parity.by_http(files, champion, client)
    registered = parity.by_registered_model(files, champion)
    assert (answers - over_http).abs().max(axis=None) <= parity.TOLERANCE
    assert (answers - registered).abs().max(axis=None) <= parity.TOLERANCE
