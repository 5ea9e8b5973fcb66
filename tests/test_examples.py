"""The examples in docstrings and the scripts in ``examples/`` run as written."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[1]
SOURCES = [
    path.relative_to(ROOT)
    for room in ("cmg", "flows", "pipeline", "serving")
    for path in (ROOT / room).rglob("*.py")
]
SHOWN = sorted(
    ".".join(path.with_suffix("").parts) for path in SOURCES if ">>> " in (ROOT / path).read_text()
)
# What people call; each must have an example.
CALLED = (
    "pipeline.identity.key",
    "pipeline.identity.spelling",
    "pipeline.inference.audio.load",
    "pipeline.inference.audio.opened",
    "pipeline.inference.audio.slices",
    "pipeline.inference.logmel.features",
    "pipeline.inference.normalise.Normaliser",
    "pipeline.labelling.aggregation.aggregate",
    "pipeline.labelling.formats.read",
    "pipeline.labelling.label_studio.track_of_audio",
    "pipeline.taxonomy.canonical_mood",
    "pipeline.training.hold_out.parts",
    "pipeline.training.hold_out.place",
    "pipeline.untrusted.listing",
    "pipeline.untrusted.marked",
    "pipeline.untrusted.visible",
    "pipeline.untrusted.without_mark",
)


@pytest.mark.parametrize("name", SHOWN)
def test_examples_in_docstrings_give_what_they_say(name: str) -> None:
    """Only modules with an example are imported: the heavy ones would take the suite's time."""
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted > 0
    assert outcome.failed == 0


@pytest.mark.parametrize("name", CALLED)
def test_what_people_call_has_an_example(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    found = doctest.DocTestFinder(recurse=False).find(getattr(importlib.import_module(module), attribute))
    assert found[0].examples


def test_the_log_mel_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, 0.5 * np.sin(np.arange(30 * 22_050) / 10), 22_050)
    script = ROOT / "examples/logmel_of_a_file.py"
    done = subprocess.run(
        [sys.executable, script, path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    first, *slices = done.stdout.splitlines()
    assert first == "30.0 s"
    assert len(slices) == 3
    assert all("128 bands x 431 frames" in line for line in slices)
