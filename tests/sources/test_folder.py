"""Any library: which files are tracks, which names are refused, what is written down."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import mutagen
import numpy as np
import pandas as pd
import pytest
import soundfile
from mutagen import id3

from pipeline import data_folder, params, presets
from pipeline.errors import DataError
from pipeline.inference import audio
from pipeline.labelling.track_names import TrackNames
from pipeline.sources import folder, gtzan, kept_labels, music_files, sample, tasks
from pipeline.stages import labels as labels_stage
from pipeline.tables.dataset import write_dataset
from pipeline.tables.held_out import groups_path
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


SETTINGS = params.read(ROOT / "params.yaml").intake


def index_of(source: Path, **options: object) -> pd.DataFrame:
    """Return what is planned for a library, by the file's path."""
    return folder.plan_library(source, **options).index.set_index("source")


def test_any_format_is_copied_as_it_is(source: Path, repository: Path) -> None:
    labels = source.parent / "labels.tsv"
    labels.write_text("file\tlabel\nfolk/A.ogg\tother\nnobody.mp3\tOther\n")
    shutil.copy(ROOT / "params.yaml", repository)
    shutil.copytree(ROOT / "presets", repository / "presets")
    before = {path: path.stat().st_mtime_ns for path in source.rglob("*")}
    command = ["-m", "pipeline.sources.folder", str(source), "--labels", str(labels), "--annotator", "me"]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=repository,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in source.rglob("*")} == before, "it is only read"
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
    assert (data / "mood_labels.csv").read_text().splitlines()[1].startswith("a,Other,me,20")
    assert "labels.tsv" in (data / "label_history.csv").read_text()
    (rejected,) = (repository / "inbox/rejected").iterdir()
    assert "nobody.mp3" in rejected.read_text()
    assert json.loads((data / "dataset.json").read_text()) == {
        "name": "My Music",
        "synthetic": False,
        "description": "5 tracks of 2 genres",
    }
    assert pd.read_csv(data / "index.csv")["track_id"].tolist() == ["a", "b", "c", "d", "don't stop"]
    for said in (
        "5 tracks of 2 genres: folk 2, techno 3",
        "files found: 5, taken: 5, left out: 0",
        "labels: 1 of 2 rows of labels.tsv taken, by 1 annotator",
        "labels NOT taken: 1 row, with its reason in inbox/rejected/labels.csv; the first is line 3",
        "tasks: genre (params.yaml)",
    ):
        assert said in done.stdout
    assert (repository / "data.dvc").exists()


def test_every_file_is_taken_or_left_out_for_a_reason(source: Path) -> None:
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
    (source / "folk/old.wma").write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(source) + b"/folk/caf\xe9.mp3")).write_bytes(b"x")
    (source / "folk/annexed.mp3").symlink_to("nowhere")
    (source / "folk/again").symlink_to(source, target_is_directory=True)
    found = music_files.find(source)
    assert set(found.tracks) == {
        *("folk/a.OGG", "folk/b.wav", "folk/live/e.wav", "loose.wav"),
        *("techno/c.flac", "techno/d.au", "techno/don't stop.mp3"),
    }
    assert found.left_out == {
        "no audio": ("README.txt", "folk/cover.jpg"),
        "hidden": (".git/x.wav", "folk/._b.wav"),
        "audio in a format that is not read": ("folk/old.wma",),
        music_files.NOT_HERE: ("folk/annexed.mp3",),
        music_files.NOT_UTF_8: ("folk/caf\udce9.mp3",),
    }
    assert "files found: 14, taken: 7, left out: 7" in found.summary()
    assert "no audio: 2 by suffix: .txt 1, .jpg 1" in found.summary()


def test_the_genre_is_the_first_folder_at_any_depth_and_the_folder_below_an_artist(source: Path) -> None:
    tone(source / "folk/Nina/Live, at/01 one.mp3", hertz=300)
    index = index_of(source)
    assert index.loc[
        "folk/Nina/Live, at/01 one.mp3", ["track_id", "genre", "artist", "artist_source"]
    ].tolist() == [*("01 one", "folk", "Nina", "folder")]
    assert index.loc["folk/b.wav", "artist"] == ""


def test_one_name_in_two_folders_gets_two_ids(tmp_path: Path) -> None:
    for path in ("classical/1.mp3", "rock/1.mp3", "rock/2.mp3", "rock/2.flac", "rock/B/x.mp3", "pop/B/x.mp3"):
        tone(tmp_path / path)
    assert index_of(tmp_path)["track_id"].to_dict() == {
        "classical/1.mp3": "classical-1",
        "rock/1.mp3": "rock-1",
        "rock/2.mp3": "rock-2-mp3",
        "rock/2.flac": "rock-2-flac",
        "rock/B/x.mp3": "rock-B-x",
        "pop/B/x.mp3": "pop-B-x",
    }


def test_ids_stay_when_a_name_comes_to_be_used_twice(source: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    folder._fill(data, folder.plan_library(source), given=None, name="My Music", data=tmp_path / "none")
    tone(source / "techno" / "a.wav", hertz=880)
    tone(source / "folk" / "a.flac", hertz=880)
    before = folder._ids_before(data, name="My Music")
    ids = index_of(source, before=before)["track_id"]
    assert ids[["folk/a.OGG", "techno/a.wav", "folk/a.flac"]].tolist() == ["a", "techno-a", "folk-a"]
    assert folder._ids_before(data, name="Another") == {}


@pytest.mark.parametrize("name", ["folk/x,y.wav", 'folk/say "hi".wav', "folk/two\nlines.wav", "a,b/x.wav"])
def test_what_a_table_or_a_path_cannot_hold_is_no_part_of_an_id(source: Path, name: str) -> None:
    tone(source / name)
    row = index_of(source).loc[name]
    assert not set(',"\n') & {*row["track_id"], *row["genre"]}
    assert "_" in row["track_id"] + row["genre"]


def tag(path: Path, **tags: str) -> None:
    file = mutagen.File(path, easy=True)
    if file.tags is None:
        file.add_tags()
    if path.suffix == ".wav":
        frames = {"artist": id3.TPE1, "title": id3.TIT2, "genre": id3.TCON}
        for name, value in tags.items():
            file.tags.add(frames[name](encoding=3, text=[value]))
    else:
        file.update(tags)
    file.save()


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".ogg", ".wav"])
def test_artist_title_and_genre_are_from_the_tags(tmp_path: Path, suffix: str) -> None:
    tone(tmp_path / f"x{suffix}")
    tag(tmp_path / f"x{suffix}", artist="Björk\n", title="Jóga", genre="Hip-Hop/Rap")
    row = index_of(tmp_path).loc[f"x{suffix}"]
    assert row[["artist", "title", "genre", "artist_source"]].tolist() == [
        "Björk",
        "Jóga",
        "Hip-Hop_Rap",
        "tags",
    ]


def test_folders_of_artists_are_no_genres_if_the_tags_say_so(tmp_path: Path) -> None:
    for artist, genre in (("Ann", "Folk"), ("Bob", "Jazz"), ("Nina", "jazz")):
        for number in (1, 2):
            path = tmp_path / artist / "Album" / f"{number}.mp3"
            tone(path)
            tag(path, artist=artist, genre=genre)
    plan = folder.plan_library(tmp_path)
    assert plan.index["genre"].value_counts().to_dict() in ({"Jazz": 4, "Folk": 2}, {"jazz": 4, "Folk": 2})
    assert "the first folders are artists" in plan.notes[0]
    assert set(index_of(tmp_path, genre_from="folder")["genre"]) == {"Ann", "Bob", "Nina"}


def test_without_folders_and_tags_the_genre_is_unknown_and_no_class(tmp_path: Path) -> None:
    tone(tmp_path / "a.mp3")
    (tmp_path / "broken.mp3").write_bytes(b"ID3" + b"\xff" * 100)
    index = index_of(tmp_path)
    assert index["genre"].tolist() == ["unknown", "unknown"]
    tracks = index.reset_index().assign(genre=["unknown", "rock"])
    assert labels_stage.genre_labels(tracks)["label"].tolist() == ["rock"]


@pytest.mark.parametrize(
    ("genres", "labelled", "anew", "before", "after"),
    [
        (4, False, True, ["genre", "mood"], ["genre"]),
        (1, True, True, ["genre", "mood"], ["mood"]),
        (4, True, True, ["genre"], ["genre", "mood"]),
        (4, True, False, ["genre"], ["genre"]),
        (4, False, False, ["mood"], ["genre"]),
        (0, False, True, ["genre", "mood"], ["mood"]),
    ],
)
def test_the_tasks_fit_what_is_there(
    workspace: Path, genres: int, labelled: bool, anew: bool, before: list[str], after: list[str]
) -> None:
    text = params.PARAMS_FILE.read_text()
    params.PARAMS_FILE.write_text(
        text.replace("  - genre\n  - mood\n", "".join(f"  - {t}\n" for t in before))
    )
    is_possible = presets.fit_tasks(genres=genres, labelled=labelled, anew=anew)
    assert is_possible == (genres > 1 or labelled)
    assert params.read().tasks == after
    assert "# All parameters of the pipeline" in params.PARAMS_FILE.read_text()


def test_a_mood_needs_three_artists_to_be_learned() -> None:
    index = pd.DataFrame(
        {"track_id": list("abcdefg"), "artist": ["X", "X", "Y", "", "", "", "Z"]}, dtype="str"
    )
    labels = pd.DataFrame(
        [(track, "Other") for track in "abcg"]
        + [(track, "CalmButEpic") for track in "abca"]
        + [(track, "CalmButWarm") for track in "def"],
        columns=["track_id", "mood"],
    )
    assert tasks.learnable_moods(labels, index) == ["CalmButWarm", "Other"]
    assert tasks.learnable_moods(labels[:0], index) == []


def test_exact_duplicates_name_the_first_by_id(source: Path) -> None:
    (source / "techno" / "z.wav").write_bytes((source / "folk" / "b.wav").read_bytes())
    index = folder.plan_library(source).index
    copies = folder.described(index, [source / path for path in index["source"]]).set_index("track_id")
    found = copies["exact_duplicate_of"]
    assert found[found.ne("")].to_dict() == {"z": "b"}


def test_artists_where_known(source: Path) -> None:
    given = source.parent / "artists.csv"
    given.write_text('File;Artist;Title\nFOLK/a.mp3;"Simon, Paul";Graceland\nc;;Untitled\nunknown;X;Y\n')
    tag(source / "techno" / "c.flac", artist="Ann", title="Old")
    plan = folder.plan_library(source, artists=given)
    index = plan.index.set_index("track_id")
    facts = ["artist", "title", "artist_source"]
    assert index.loc["a", facts].tolist() == ["Simon, Paul", "Graceland", "given"]
    assert index.loc["c", facts].tolist() == ["Ann", "Untitled", "tags"]
    assert index.loc["b", facts].tolist() == ["", "", ""]
    assert "artists: artists.csv names 2 of the tracks" in plan.notes


def test_the_published_facts_on_gtzan_are_taken_over(tmp_path: Path) -> None:
    """As the index of GTZAN has them: duplicates, and the fault-filtered lists."""
    tone(tmp_path / "genres_original" / "jazz" / "jazz.00001.wav")
    index = index_of(tmp_path / "genres_original", artists=gtzan.INDEX).loc["jazz/jazz.00001.wav"]
    published = gtzan.read_index().set_index("track_id").loc["jazz.00001"]
    columns = ["artist", "title", "exact_duplicate_of", "filtered_split"]
    assert index[columns].tolist() == published[columns].tolist()
    assert published["filtered_split"] == "train"


def test_an_artist_given_twice_is_refused(tmp_path: Path) -> None:
    given = tmp_path / "artists.csv"
    given.write_text("track_id,artist\na,X\na.mp3,Y\n")
    with pytest.raises(DataError, match="twice 1: a"):
        folder.read_artists(given, tracks=TrackNames({"a": "a"}))


def test_no_folder_and_no_audio_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"received no file at all"):
        music_files.find(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"x")
    with pytest.raises(DataError, match=r"received no audio: 1 by suffix: .txt 1"):
        music_files.find(tmp_path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none/at/all", r"which does not exist; .*/here does\. Check the spelling"),
        ("music.zip", "an archive. Unpack it and name the folder"),
        ("song.MP3", r"one audio file\. Name the folder that holds your music, such as .*/here\."),
        ("notes.txt", "which is no folder"),
    ],
)
def test_what_is_no_folder_is_told_apart(tmp_path: Path, name: str, said: str) -> None:
    here = tmp_path / "here"
    here.mkdir()
    if "/" not in name:
        (here / name).write_bytes(b"x")
    with pytest.raises(DataError, match=said):
        music_files.find(here / name)


def test_copies_in_the_project_itself_are_no_music(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "My Music" / "project"
    tone(project / "data" / "audio" / "folk" / "b.wav")
    monkeypatch.chdir(project)
    assert len(music_files.find(source).tracks) == 6
    (project / "dvc.yaml").touch()
    found = music_files.find(source)
    assert len(found.tracks) == 5
    assert found.left_out == {music_files.OWN_FOLDER: ("project",)}
    with pytest.raises(DataError, match="the folder of this project, not looked into"):
        music_files.find(Path())


def test_make_folder_without_a_folder_says_what_it_expects() -> None:
    environ = {name: value for name, value in os.environ.items() if name != "SRC"}
    made = subprocess.run(
        ["make", "-o", "setup", "folder"], cwd=ROOT, env=environ, capture_output=True, text=True
    )
    assert made.returncode == 2
    assert "error: expected make folder SRC=FOLDER" in made.stderr


@pytest.mark.parametrize(
    ("option", "content", "said"),
    [
        ("labels", "artist,title\na,b\n", "track_id, mood is missing"),
        ("labels", "file,mood\nz.mp3,Other\n", r"received 1 row, none valid; line 2: track_id: known_track"),
        (
            "labels",
            "file,mood\nb.wav,TotallyPositve\nz,Other\n",
            r"mean TotallyPositive\?.*reasons, 1 in all",
        ),
        (
            "labels",
            "file,mood,date\nb.wav,Other,03/04/2026\n",
            "expected an ISO 8601 time with .*2026-04-03 or 2026-03-04",
        ),
        ("artists", "track,singer_songwriter\na,b\n", "Add to the header: artist"),
    ],
)
def test_a_bad_csv_changes_nothing(
    source: Path, repository: Path, option: str, content: str, said: str
) -> None:
    bad = source.parent / "bad.csv"
    bad.write_text(content)
    with pytest.raises(DataError, match=said):
        folder.ingest(source, data=repository / "data", settings=SETTINGS, **{option: bad})
    assert sorted(path.name for path in repository.iterdir()) == [".dvc"]


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


def test_what_was_held_out_is_kept_with_the_library(source: Path, repository: Path) -> None:
    data, header = repository / "data", "task,protocol,seed,valid,test,key,part\n"
    folder.ingest(source, data=data)
    assert not (data / "held_out.csv").exists()
    groups = groups_path("genre", repository)
    groups.parent.mkdir(parents=True)
    groups.write_text(f"{header}genre,artist,0,0.25,0.25,artist a,test\n")
    folder.ingest(source, data=data)
    assert (data / "held_out.csv").read_text() == groups.read_text()
    groups.unlink()
    folder.ingest(source, data=data)
    assert (data / "held_out.csv").exists()
    folder.ingest(source, data=data, name="another library")
    assert not (data / "held_out.csv").exists()


def test_a_given_label_file_replaces_labels_and_history(source: Path, repository: Path) -> None:
    given = source.parent / "labels.csv"
    given.write_text("track_id;mood;annotator;labelled_at\nd.AU;Other;zoe;2024-03-05T14:00:00Z\n")
    folder.ingest(source, data=repository / "data")
    label(repository / "data")
    folder.ingest(source, data=repository / "data", labels=given, settings=SETTINGS)
    labels, history = texts(repository / "data")
    assert labels == "track_id,mood,annotator,labelled_at\nd,Other,zoe,2024-03-05T14:00:00Z\n"
    assert [row.split(",")[0] for row in history.splitlines()] == ["file", "labels.csv"]


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
    assert "labels kept: none; the 3 labels of the library before, 'My Music'" in said
    assert "--name 'My Music'`." in said
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


def test_a_library_of_links_without_content_says_so(tmp_path: Path) -> None:
    """Case 08: a git-annex or DataLad library that is not fetched."""
    (tmp_path / "jazz").mkdir()
    (tmp_path / "jazz" / "1.wav").symlink_to("/not/fetched/1.wav")
    os.mkfifo(tmp_path / "jazz" / "2.wav")
    with pytest.raises(DataError, match=r"received links whose content .*: 1: jazz/1\.wav; no regular"):
        music_files.find(tmp_path)


@pytest.mark.parametrize("suffix", audio.SUFFIXES)
def test_every_suffix_that_is_decoded_is_taken(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "jazz" / f"1{suffix.upper()}"
    path.parent.mkdir()
    path.write_bytes(b"x")
    assert music_files.find(tmp_path).tracks == (f"jazz/{path.name}",)
