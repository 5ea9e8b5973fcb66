"""Broken data through the real stages: named, and either left out or stopped before training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from tests import project as projects
from tests.project import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return projects.make(tmp_path)


def audio(project: Project, name: str) -> Path:
    return project.root / f"data/gtzan/{name.split('.')[0]}/{name}"


def test_broken_files_are_named_and_left_out(project: Project) -> None:
    valid = audio(project, "blues.00000.au").read_bytes()
    audio(project, "blues.00001.au").write_bytes(b"")
    audio(project, "disco.00001.au").write_bytes(b"no audio at all")
    audio(project, "metal.00001.au").write_bytes(valid[:20])
    soundfile.write(audio(project, "blues.00090.wav"), np.full(50_000, np.nan, np.float32), 22_050, "FLOAT")
    soundfile.write(audio(project, "blues.00091.wav"), np.zeros(50_000), 22_050)
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(200_000) / 44_100)
    soundfile.write(audio(project, "blues.00092.wav"), np.stack([tone, tone], axis=1), 44_100)
    output = project.stage("catalog").stdout
    tracks = pd.read_csv(project.root / "artifacts/catalog/tracks.csv").set_index("track_id")
    for broken in ("blues.00001", "disco.00001", "metal.00001", "blues.00090", "blues.00091"):
        assert not tracks.loc[broken, "usable"]
        assert tracks.loc[broken, "reason"]
        assert broken in output
    assert tracks.loc["blues.00092", "usable"]
    assert "blues.00092" not in output  # 44.1 kHz and stereo are converted, and normal
    project.edit_params({"tasks": ["genre"]})
    project.stage("labels")
    computed = project.stage("spectrogram").stdout
    assert "10 tracks, 10 spectrograms computed" in computed
    assert np.load(project.root / "artifacts/features/blues.00092.npy").shape == (1, 64, 108)


@pytest.fixture(scope="module")
def catalogued(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Make one project after the stage ``catalog``, for tests that put back what they change."""
    project = projects.make(tmp_path_factory.mktemp("catalogued"))
    project.dvc("repro", "catalog")
    return project


@pytest.fixture
def shared(catalogued: Project) -> Iterator[Project]:
    """The one project; its labels and parameters are put back."""
    changed = [catalogued.root / name for name in ("data/mood_labels.csv", "params.yaml")]
    before = [path.read_bytes() for path in changed]
    yield catalogued
    for path, content in zip(changed, before, strict=True):
        path.write_bytes(content)


def test_bad_labels_stop_before_training_and_name_the_rows(shared: Project) -> None:
    """All at once; tests/quality/test_labels.py shows that each one is enough."""
    path = shared.root / "data/mood_labels.csv"
    first = len(path.read_text().splitlines()) + 1
    bad = {
        "blues.00000,Gloomy,dora,2024-03-06T10:00:00Z": "Gloomy",
        "blues.99999,Other,dora,2024-03-06T10:00:00Z": "blues.99999",
        "blues.00000,Other,ann,2024-03-06T10:00:00Z": "unique_annotation",
        "blues.00000,Other,dora,yesterday": "yesterday",
    }
    with path.open("a") as stream:
        stream.writelines(f"{row}\n" for row in bad)
    done = shared.dvc("repro", check=False)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    for line, named in enumerate(bad.values(), start=first):
        assert named in said
        assert f"line {line}" in said
    assert not (shared.root / "artifacts/models").exists()
    assert not any(name.startswith("train") for name in projects.stages_run(done.stdout))


def test_missing_column_is_named_with_exit_code_2(shared: Project) -> None:
    path = shared.root / "data/mood_labels.csv"
    pd.read_csv(path, dtype=str).drop(columns="mood").to_csv(path, index=False)
    done = shared.stage("labels", check=False)
    assert done.returncode == 2
    assert "mood" in done.stderr
    assert "Traceback" not in done.stderr


def test_library_without_moods_says_so_and_runs_genre_alone(shared: Project) -> None:
    (shared.root / "data/mood_labels.csv").write_text("track_id,mood,annotator,labelled_at\n")
    done = shared.stage("labels", check=False)
    assert done.returncode == 2
    assert "tasks: [genre]" in done.stderr
    shared.edit_params({"tasks": ["genre"]})
    assert "moods are neither checked nor used" in shared.stage("labels").stdout


@pytest.mark.parametrize("stage", ["catalog", "labels", "spectrogram", "register", "promote", "report"])
def test_stage_without_its_inputs_ends_with_one_clear_line(tmp_path: Path, stage: str) -> None:
    projects.copy_sources(tmp_path)
    done = Project(tmp_path).stage(stage, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: expected")
    assert "Traceback" not in done.stderr
