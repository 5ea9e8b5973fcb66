"""Any library: which files are tracks, which names are refused, what is written down."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline.errors import DataError
from pipeline.sources import folder, library

ROOT = Path(__file__).parents[2]


def tone(path: Path, *, rate: int = 22_050, channels: int = 1, hertz: float = 440.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.sin(2 * np.pi * hertz * np.arange(rate // 10) / rate)
    file_format = "OGG" if path.suffix.lower() == ".ogg" else None
    soundfile.write(path, np.repeat(samples[:, None], channels, axis=1), rate, format=file_format)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "My Music"
    tone(root / "folk" / "b.wav", rate=44_100, channels=2)
    tone(root / "folk" / "a.OGG", rate=48_000)
    tone(root / "techno" / "don't stop.mp3", hertz=220)
    tone(root / "techno" / "c.flac", rate=8_000)
    tone(root / "techno" / "d.au")
    return root


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repo"
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc" / "config").write_text("[core]\nno_scm = True\nanalytics = false\ncheck_update = false\n")
    return root


def test_any_format_is_copied_as_it_is(source: Path, repository: Path) -> None:
    labels = source.parent / "labels.csv"
    labels.write_text("track_id,mood,annotator,labelled_at,why\na,Other,me,2026-01-01T00:00:00Z,x\n")
    command = [sys.executable, "-m", "pipeline.sources.folder", str(source), "--labels", str(labels)]
    done = subprocess.run(
        command, cwd=repository, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    data = repository / "data"
    audio = sorted(path.relative_to(data).as_posix() for path in data.glob("gtzan/*/*"))
    assert audio == [
        "gtzan/folk/a.ogg",
        "gtzan/folk/b.wav",
        "gtzan/techno/c.flac",
        "gtzan/techno/d.au",
        "gtzan/techno/don't stop.mp3",
    ]
    assert (data / "gtzan/folk/a.ogg").read_bytes() == (source / "folk/a.OGG").read_bytes()
    assert (data / "mood_labels.csv").read_text() == labels.read_text()
    assert json.loads((data / "dataset.json").read_text()) == {
        "name": "My Music",
        "synthetic": False,
        "description": "5 tracks of 2 genres",
    }
    assert pd.read_csv(data / "index.csv")["track_id"].tolist() == ["a", "b", "c", "d", "don't stop"]
    assert "5 tracks of 2 genres: folk 2, techno 3" in done.stdout
    assert (repository / "data.dvc").exists()


def test_other_files_are_listed_not_taken(source: Path) -> None:
    for name in (
        "README.txt",
        "loose.wav",
        "folk/cover.jpg",
        "folk/._b.wav",
        ".git/x.wav",
        "folk/live/e.wav",
    ):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    scan = folder.scan_folder(source)
    assert len(scan.tracks) == 5
    assert set(scan.ignored) == {
        *("README.txt", "loose.wav", "folk/cover.jpg", "folk/._b.wav", ".git/x.wav", "folk/live/e.wav")
    }


def test_exact_duplicates_name_the_first_by_id(source: Path) -> None:
    (source / "techno" / "z.wav").write_bytes((source / "folk" / "b.wav").read_bytes())
    tracks = list(folder.scan_folder(source).tracks)
    index = folder.describe_tracks(tracks[::-1], artists=pd.DataFrame(columns=["track_id", "artist"]))
    copies = index.set_index("track_id")["exact_duplicate_of"]
    assert copies[copies.ne("")].to_dict() == {"z": "b"}


def test_artists_where_known(source: Path) -> None:
    given = source.parent / "artists.csv"
    given.write_text('track_id,artist,title\na,"Simon, Paul",Graceland\nc,,Untitled\nunknown,X,Y\n')
    tracks = list(folder.scan_folder(source).tracks)
    index = folder.describe_tracks(tracks, artists=folder.read_artists(given)).set_index("track_id")
    assert len(index) == 5
    assert index.loc["a", ["artist", "title", "artist_source"]].tolist() == [
        "Simon, Paul",
        "Graceland",
        "given",
    ]
    assert index.loc["c", ["artist", "title", "artist_source"]].tolist() == ["", "Untitled", ""]
    assert index.loc["b", ["artist", "title", "artist_source"]].tolist() == ["", "", ""]


def test_an_artist_given_twice_is_refused(tmp_path: Path) -> None:
    given = tmp_path / "artists.csv"
    given.write_text("track_id,artist\na,X\na,Y\n")
    with pytest.raises(DataError, match="twice 1: a"):
        folder.read_artists(given)


@pytest.mark.parametrize("name", ["folk/x,y.wav", 'folk/say "hi".wav', "folk/two\nlines.wav", "a,b/x.wav"])
def test_names_that_break_a_csv_are_refused(source: Path, name: str) -> None:
    tone(source / name)
    with pytest.raises(DataError, match="Rename them"):
        folder.scan_folder(source)


@pytest.mark.parametrize("name", ["techno/a.wav", "folk/a.flac"])
def test_an_id_used_twice_is_refused(source: Path, name: str) -> None:
    tone(source / name)
    with pytest.raises(DataError, match="unique over all genres") as raised:
        folder.scan_folder(source)
    assert "folk/a.OGG" in str(raised.value)
    assert name in str(raised.value)


def test_no_folder_and_no_audio_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        folder.scan_folder(tmp_path / "none")
    with pytest.raises(DataError, match=r"Received: 0 other files"):
        folder.scan_folder(tmp_path)
    (tmp_path / "a.wav").write_bytes(b"x")
    with pytest.raises(DataError, match=r"Received: 1: a.wav"):
        folder.scan_folder(tmp_path)


@pytest.mark.parametrize("option", ["labels", "artists"])
def test_a_bad_csv_changes_nothing(source: Path, repository: Path, option: str) -> None:
    bad = source.parent / "bad.csv"
    bad.write_text("track,artist\na,b\n")
    with pytest.raises(DataError, match="Add to the header: track_id"):
        folder.ingest(source, data=repository / "data", **{option: bad})
    assert not (repository / "data").exists()
    assert not list(repository.glob(".data-*"))


def test_summary_names_what_matters(source: Path) -> None:
    scan = folder.scan_folder(source)
    index = folder.describe_tracks(list(scan.tracks), artists=pd.DataFrame(columns=["track_id", "artist"]))
    said = folder.summary(index, ignored=("x.txt",))
    assert "exact duplicates: 0" in said
    assert "ignored files: 1: x.txt" in said
    assert list(index.columns) == list(library.INDEX_COLUMNS)
