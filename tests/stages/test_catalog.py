"""Which tracks there are: found, measured, joined with what is known, and marked."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline import files, params
from pipeline.errors import DataError
from pipeline.stages import catalog
from pipeline.tables.audio_files import find_audio
from pipeline.tables.dataset import read_dataset
from pipeline.tables.index import INDEX, read_index
from pipeline.tables.tracks import TRACK_COLUMNS, TRACKS, read_tracks, usable_tracks

if TYPE_CHECKING:
    from conftest import Library


def tracks_of(**sha256: str) -> pd.DataFrame:
    """Return a table of tracks by id and content."""
    return pd.DataFrame({"track_id": list(sha256), "sha256": list(sha256.values())})


def index_of(*rows: tuple[str, str, str, str, str]) -> pd.DataFrame:
    columns = ["track_id", "artist", "title", "exact_duplicate_of", "filtered_split"]
    return pd.DataFrame(rows, columns=columns).set_index("track_id")


def test_audio_is_found_sorted(tmp_path: Path) -> None:
    for name in ("pop/b.WAV", "pop/a.au", "blues/z.mp3", "blues/notes.txt", "blues/deep/x.au", "top.au"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_audio(tmp_path)]
    assert found == ["blues/z.mp3", "pop/a.au", "pop/b.WAV"]


def test_no_audio_says_how_to_come_by_some(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"expected audio files .*<genre>.*received none\. .*pipeline\.sources\.sample"
    ):
        find_audio(tmp_path)


def test_a_file_is_described(tmp_path: Path) -> None:
    path = tmp_path / "blues" / "blues.00042.wav"
    path.parent.mkdir()
    soundfile.write(path, np.tile([[0.5, -0.5]], (88_200, 1)), 44_100, subtype="PCM_16")
    assert catalog.describe(path) == {
        "track_id": "blues.00042",
        "genre": "blues",
        "path": path.as_posix(),
        "seconds": 2.0,
        "longer": "",
        "n_slices": 1,
        "sample_rate": 44_100,
        "channels": 2,
        "peak": 0.5,
        "rms": 0.5,
        "clipped": 0.0,
        "nonfinite": 0,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "error": "",
        "truncated": "",
        "damaged": "",
        "joined": "",
    }


@pytest.mark.parametrize(
    "content", [b"", b"<html>404 Not Found</html>", bytes(3000)], ids=["empty", "text", "zeros"]
)
@pytest.mark.parametrize("suffix", ["au", "wav", "flac", "ogg", "mp3"])
def test_a_broken_file_has_no_measures_and_a_reason(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(content)
    facts = catalog.describe(path)
    assert f"received {path}" in facts["error"]
    assert facts["sha256"] == hashlib.sha256(content).hexdigest()
    for name in ("seconds", "n_slices", "sample_rate", "channels", "peak", "rms", "clipped", "nonfinite"):
        assert facts[name] == 0, name


def test_a_file_that_is_cut_and_one_of_two_recordings_are_used_and_named(
    library: Library, settings: params.Params
) -> None:
    cut, twice = library.path_of("blues.00000"), library.path_of("pop.00001")
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) * 4 // 5])
    twice.write_bytes(2 * twice.read_bytes())
    tracks, found = catalog.build(settings.catalog)
    seconds = tracks.set_index("track_id")["seconds"]
    assert tracks["usable"].all()
    assert seconds["pop.00001"] == pytest.approx(2 * seconds["pop.00002"])
    faults = {each.check: dict(each.rows) for each in found if each.check in ("truncated", "joined")}
    there, promised = seconds["blues.00000"], seconds["blues.00001"]
    assert faults == {
        "truncated": {"blues.00000": f"{there:.1f} of {promised:.1f} s"},
        "joined": {"pop.00001": f"another recording from {seconds['pop.00002']:.1f} s on"},
    }


def test_a_link_without_content_is_named(library: Library, settings: params.Params) -> None:
    path = library.path_of("pop.00003")
    path.unlink()
    path.symlink_to("/annex/objects/SHA256E-s1--1.wav")
    tracks, _ = catalog.build(settings.catalog)
    assert "a link whose content is not there" in tracks.set_index("track_id").loc["pop.00003", "reason"]
    assert tracks["usable"].sum() == 11


def test_a_track_the_index_does_not_know_has_blanks() -> None:
    joined = catalog.join_index(tracks_of(a="1", b="2"), index_of(("b", "Ella", "Song", "", "train")))
    assert joined[["artist", "title", "filtered_split", "duplicate_of"]].to_numpy().tolist() == [
        ["", "", "", ""],
        ["Ella", "Song", "train", ""],
    ]


def test_equal_content_is_a_duplicate_of_the_first_id() -> None:
    joined = catalog.join_index(tracks_of(c="1", a="1", d="2", b="1"), index_of())
    assert dict(zip(joined["track_id"], joined["duplicate_of"], strict=True)) == {
        "a": "",
        "b": "a",
        "c": "a",
        "d": "",
    }
    assert joined["track_id"].tolist() == ["c", "a", "d", "b"], "rows stay in order"


def test_duplicates_the_index_names() -> None:
    index = index_of(
        ("a", "", "", "", ""), ("b", "", "", "a", ""), ("c", "", "", "gone", ""), ("d", "", "", "d", "")
    )
    joined = catalog.join_index(tracks_of(a="1", b="2", c="3", d="4"), index)
    assert joined["duplicate_of"].tolist() == ["", "a", "", ""], (
        "only of a track that is there, never of itself"
    )


def test_duplicates_of_a_missing_track_are_duplicates_of_each_other() -> None:
    index = index_of(*((one, "", "", "gone", "") for one in "bc"), ("d", "", "", "lost", ""))
    joined = catalog.join_index(tracks_of(a="1", b="2", c="3", d="4"), index)
    assert joined["duplicate_of"].tolist() == ["", "", "b", ""]


def test_equal_content_goes_before_what_the_index_names() -> None:
    index = index_of(("c", "", "", "b", ""))
    joined = catalog.join_index(tracks_of(a="1", b="2", c="1"), index)
    assert joined["duplicate_of"].tolist() == ["", "", "a"]


def test_tracks_are_marked_with_their_reasons() -> None:
    joined = catalog.join_index(tracks_of(a="1", b="2"), index_of()).reindex(
        columns=[name for name in TRACK_COLUMNS if name not in ("usable", "reason")]
    )
    marked = catalog.mark_usable(joined.assign(error="x"), {"b": "duration: too short"})
    assert list(marked.columns) == list(TRACK_COLUMNS)
    assert marked["usable"].tolist() == [True, False]
    assert marked["reason"].tolist() == ["", "duration: too short"]


def test_the_library_is_catalogued(library: Library, settings: params.Params) -> None:
    broken = library.path_of("pop.00003")
    broken.write_bytes(b"")
    library.path_of("metal.00001").write_bytes(library.path_of("metal.00000").read_bytes())
    tracks, found = catalog.build(settings.catalog)
    again, _ = catalog.build(settings.catalog)
    pd.testing.assert_frame_equal(tracks, again)
    assert tracks["track_id"].tolist() == sorted(library.track_ids)
    assert list(tracks.columns) == list(TRACK_COLUMNS)
    row = tracks.set_index("track_id").loc
    assert not row["pop.00003", "usable"]
    assert "decodes" in row["pop.00003", "reason"]
    assert row["pop.00003", "n_slices"] == 0
    assert row["metal.00001", "duplicate_of"] == "metal.00000"
    assert row["metal.00001", "usable"]
    assert row["blues.00002", "artist"] == row["blues.00003", "artist"] != row["blues.00001", "artist"]
    assert tracks["usable"].sum() == 11
    assert {"decodes", "duplicate_content"} <= {finding.check for finding in found}


def test_the_catalogue_comes_back_from_its_file(library: Library, settings: params.Params) -> None:
    library.path_of("pop.00003").write_bytes(b"")
    tracks, _ = catalog.build(settings.catalog)
    tracks.loc[0, ["artist", "title"]] = ["None", "NA"]
    files.write_csv(TRACKS, tracks)
    pd.testing.assert_frame_equal(read_tracks(), tracks)
    assert usable_tracks()["track_id"].tolist() == tracks["track_id"].tolist()[:-1]
    assert usable_tracks().index.tolist() == list(range(11))


def test_short_and_silent_tracks_are_not_used(library: Library, settings: params.Params) -> None:
    soundfile.write(library.path_of("blues.00000"), np.full(2205, 0.5), 22_050)
    soundfile.write(library.path_of("blues.00001"), np.zeros(44_100), 22_050)
    row = catalog.build(settings.catalog)[0].set_index("track_id").loc
    assert "duration" in row["blues.00000", "reason"]
    assert "silence" in row["blues.00001", "reason"]
    assert not row["blues.00000", "usable"]
    assert not row["blues.00001", "usable"]


def test_a_missing_index_says_so(library: Library) -> None:
    library.index.unlink()
    with pytest.raises(
        DataError, match=r"expected data/index\.csv .*received no such file\. Fill data/ again"
    ):
        read_index(INDEX)


@pytest.mark.parametrize("text", ["", "name,artist\na,b\n", "track_id,artist\na,b\n", "track_id\n\xff"])
def test_an_index_without_its_columns_says_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "index.csv"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=r"index\.csv"):
        catalog.join_index(tracks_of(a="1"), read_index(path))


def test_an_index_with_a_track_twice_says_so(tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    files.write_csv(path, index_of(*[("a", "", "", "", "")] * 2).reset_index())
    with pytest.raises(DataError, match=r"index\.csv.*\ba\b"):
        catalog.join_index(tracks_of(a="1"), read_index(path))


def test_what_the_dataset_is(library: Library) -> None:
    assert read_dataset() == {"name": "tiny", "synthetic": True, "description": "twelve tones"}
    library.dataset.unlink()
    with pytest.raises(
        DataError, match=r"expected data/dataset\.json, received no such file\. Fill data/ again"
    ):
        read_dataset()


class Terminal(io.StringIO):
    """A stream that is shown to somebody."""

    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("seconds", "stream", "is_shown"),
    [(0.0, Terminal, True), (60.0, Terminal, False), (0.0, io.StringIO, False)],
)
def test_progress_is_shown_on_a_terminal_if_it_takes_a_while(
    settings: params.Params,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    stream: type[io.StringIO],
    is_shown: bool,
) -> None:
    shown = stream()
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setattr(catalog, "_BAR_SECONDS", seconds)
    catalog.build(settings.catalog)
    assert ("catalog: 100%" in shown.getvalue()) == is_shown
    assert is_shown or not shown.getvalue()
