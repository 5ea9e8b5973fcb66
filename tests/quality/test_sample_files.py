"""The synthetic library is known by its content, wherever it is taken in from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import files
from pipeline.quality import sample_files
from pipeline.sources import sample, synth
from pipeline.sources.folder import ingest


def test_the_list_is_of_what_the_sample_makes(tmp_path: Path) -> None:
    """One whole track, as `sample` writes it."""
    track = sample.plan_tracks(
        sample.SEED, sample.GTZAN_GENRES, sample.ARTISTS_PER_GENRE, sample.TRACKS_PER_ARTIST
    )[0]
    n_samples = round(sample.CLIP_SECONDS * synth.SAMPLE_RATE)
    _, digest = sample._write_track(tmp_path, n_samples, track)
    assert digest in sample_files.hashes()
    assert len(sample_files.hashes()) == 120


@pytest.mark.parametrize(
    ("n_sample", "n_other", "known"), [(4, 0, True), (2, 2, True), (1, 3, False), (0, 0, False)]
)
def test_half_of_the_files_make_a_copy_of_the_sample(n_sample: int, n_other: int, known: bool) -> None:
    hashes = sorted(sample_files.hashes())[:n_sample] + ["0" * 64] * n_other
    assert sample_files.is_sample(hashes) == known


def test_a_copy_of_the_sample_taken_in_as_a_folder_stays_synthetic(
    workspace: Path, library, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], check=True)
    source = workspace / "my-own-music"
    library.audio.rename(source)
    hashes = frozenset(files.sha256(path) for path in source.rglob("*.au"))
    monkeypatch.setattr(sample_files, "hashes", lambda: hashes)
    ingest(source)
    told = files.read_json(Path("data/dataset.json"))
    assert told["synthetic"]
    assert "a copy of the sample" in told["description"]
