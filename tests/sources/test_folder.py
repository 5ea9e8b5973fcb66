"""Any library: which files are tracks, which names are refused, what is written down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline import data_folder
from pipeline.errors import DataError
from pipeline.inference import audio
from pipeline.sources import folder, kept_labels, sample
from pipeline.tables.dataset import write_dataset
from pipeline.tables.index import INDEX_COLUMNS
from pipeline.tables.label_history import HISTORY_COLUMNS
from pipeline.tables.mood_labels import LABEL_COLUMNS, write_labels

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
    (source / "folk" / "gone.mp3").symlink_to("/annex/objects/SHA256E-s1--1.mp3")
    os.mkfifo(source / "techno" / "pipe.wav")
    scan = folder.scan_folder(source)
    assert scan.ignored == {
        "hidden": [".git/x.wav", "folk/._b.wav"],
        "no audio by their suffix": ["README.txt", "folk/cover.jpg"],
        "audio elsewhere than in <genre>/": ["folk/live/e.wav", "loose.wav"],
        "links whose content is not there (git-annex and DataLad fetch it by `get`)": ["folk/gone.mp3"],
        "no regular files": ["techno/pipe.wav"],
    }
    files = [path for path in source.rglob("*") if not path.is_dir()]
    assert len(scan.tracks) + sum(map(len, scan.ignored.values())) == len(files) == 13


def test_a_library_of_links_without_content_says_so(tmp_path: Path) -> None:
    """Case 08: a git-annex or DataLad library that is not fetched."""
    (tmp_path / "jazz").mkdir()
    (tmp_path / "jazz" / "1.wav").symlink_to("/not/fetched/1.wav")
    with pytest.raises(DataError, match=r"received links whose content is not there .*: 1: jazz/1\.wav\."):
        folder.scan_folder(tmp_path)


@pytest.mark.parametrize("suffix", audio.SUFFIXES)
def test_every_suffix_that_is_decoded_is_taken(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "jazz" / f"1{suffix.upper()}"
    path.parent.mkdir()
    path.write_bytes(b"x")
    assert folder.scan_folder(tmp_path).tracks == (path,)


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
    with pytest.raises(DataError, match=r"received no file at all"):
        folder.scan_folder(tmp_path)
    (tmp_path / "a.wav").write_bytes(b"x")
    with pytest.raises(DataError, match=r"received audio elsewhere than in <genre>/: 1: a.wav"):
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
    said = folder.summary(index, ignored={"hidden": [".x"], "no audio by their suffix": ["x.txt"]})
    assert "exact duplicates: 0" in said
    assert "ignored files: 2\n    hidden: 1: .x\n    no audio by their suffix: 1: x.txt" in said
    assert list(index.columns) == list(INDEX_COLUMNS)


HEADER = "track_id,mood,annotator,labelled_at,confidence\n"
LABELS = HEADER + "".join(
    f"{track},Other,{who},2026-01-01T00:00:00Z,\n" for track, who in (("a", "me"), ("b", "me"), ("b", "you"))
)
HISTORY = ",".join(HISTORY_COLUMNS) + "\nbatch.csv" + "," * 10 + "\n"


def label(data: Path, *, labels: str = LABELS) -> None:
    """Write labels into a data folder, as intakes would."""
    (data / "mood_labels.csv").write_bytes(labels.encode())
    (data / "label_history.csv").write_text(HISTORY)


def texts(data: Path) -> tuple[str, str]:
    names = ("mood_labels.csv", "label_history.csv")
    labels, history = ((data / name).read_bytes().decode() for name in names)
    return labels, history


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a data folder of the library "My Music" with three labels of two tracks."""
    (tmp_path / "data").mkdir()
    write_dataset(tmp_path / "data", name="My Music", description="some")
    label(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    """Return a new data folder that has no labels yet."""
    (tmp_path / "staging").mkdir()
    write_labels(tmp_path / "staging", None)
    return tmp_path / "staging"


def test_tracks_are_added_and_removed_and_the_labels_stay(
    source: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = repository / "data"
    folder.ingest(source, data=data)
    label(data)
    tone(source / "techno" / "new.wav", hertz=880)
    capsys.readouterr()
    folder.ingest(source, data=data)
    assert "labels kept: 3 of 2 tracks\n" in capsys.readouterr().out
    assert texts(data) == (LABELS, HISTORY)

    (source / "folk" / "b.wav").unlink()
    before = (repository / "data.dvc").read_text().split("md5: ")[1].split("\n")[0]
    folder.ingest(source, data=data)
    said = capsys.readouterr().out
    assert "labels kept: 1 of 1 tracks; dropped: 2 of tracks that are gone (1: b). DVC's cache" in said
    assert f"before, it was {before}" in said
    assert texts(data) == (HEADER + LABELS.splitlines(keepends=True)[1], HISTORY)


def test_a_given_label_file_replaces_labels_and_history(source: Path, repository: Path) -> None:
    given = source.parent / "labels.csv"
    given.write_text(HEADER)
    folder.ingest(source, data=repository / "data")
    label(repository / "data")
    folder.ingest(source, data=repository / "data", labels=given)
    assert texts(repository / "data") == (HEADER, ",".join(HISTORY_COLUMNS) + "\n")


def test_labels_that_all_stay_are_kept_to_the_byte(data: Path, staging: Path) -> None:
    odd = "\ufefftrack_id,mood,annotator,labelled_at\r\n a , Other,me,2026-01-01T00:00:00Z\r\n"
    label(data, labels=odd)
    assert "labels kept: 1 of 1" in kept_labels.carry_over(
        staging, data=data, names={"My Music"}, track_ids={"a"}
    )
    assert texts(staging) == (odd, HISTORY)


def test_labels_without_a_history_are_kept(data: Path, staging: Path) -> None:
    (data / "label_history.csv").unlink()
    kept_labels.carry_over(staging, data=data, names={"My Music"}, track_ids={"a", "b"})
    assert texts(staging) == (LABELS, ",".join(HISTORY_COLUMNS) + "\n")


@pytest.mark.parametrize("identity", [{"name": "My Music", "synthetic": True}, None])
def test_nothing_of_the_sample_or_of_an_unknown_library_is_kept(
    data: Path, staging: Path, identity: dict[str, object] | None
) -> None:
    before = texts(staging)
    (data / "dataset.json").unlink()
    if identity:
        (data / "dataset.json").write_text(json.dumps(identity))
    assert kept_labels.carry_over(staging, data=data, names={"My Music"}, track_ids={"a", "b"}) == ""
    assert texts(staging) == before


def test_nothing_of_another_library_is_kept_and_it_is_said(data: Path, staging: Path) -> None:
    before = texts(staging)
    said = kept_labels.carry_over(staging, data=data, names={"Yours"}, track_ids={"a", "b"})
    assert "none, as" in said
    assert "with --name 'My Music'." in said
    assert texts(staging) == before


def test_a_first_import_has_nothing_to_keep(tmp_path: Path, staging: Path) -> None:
    assert kept_labels.carry_over(staging, data=tmp_path / "none", names={"My Music"}, track_ids={"a"}) == ""


def test_labels_that_cannot_be_read_stop_the_import_and_stay(source: Path, repository: Path) -> None:
    data = repository / "data"
    folder.ingest(source, data=data)
    label(data, labels=HEADER + "a,Other\n")
    with pytest.raises(DataError, match=r"mood_labels\.csv, line 2"):
        folder.ingest(source, data=data)
    assert texts(data) == (HEADER + "a,Other\n", HISTORY)
    assert not list(repository.glob(".data-*"))


def test_the_sample_gives_way_to_a_library_with_its_ids(tmp_path: Path, repository: Path) -> None:
    data_folder.publish(
        partial(sample.write_library, genres=("blues",), seconds=0.2), data=repository / "data"
    )
    assert "blues.00001" in texts(repository / "data")[0]
    tone(tmp_path / "sample" / "blues" / "blues.00001.wav")
    folder.ingest(tmp_path / "sample", data=repository / "data")
    assert texts(repository / "data")[0] == ",".join(LABEL_COLUMNS) + "\n"
