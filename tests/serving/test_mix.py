"""A mix of exactly what was asked, and playlists that other programs read."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest

from pipeline.errors import ParamsError
from serving.mix import Wanted, choose, highlight
from serving.playlists import Entry, playlist
from serving.query import Query
from serving.track_index import Library, Tracks
from tests.serving.test_track_index import library, listener

__all__ = ["library", "listener"]  # fixtures

MOODS = ["NegativeButHopeful", "CalmButWarm", "TotallyPositive"]
CLASSES = {"mood": MOODS, "genre": ["jazz", "pop"]}


def tracks(moods: list[int], *, artists: list[str] | None = None, titles: list[str] | None = None) -> Tracks:
    """Return a library in which each track has one mood, half of it jazz."""
    n = len(moods)
    names = [f"{number:03}" for number in range(n)]
    shares = np.full((n, 3), 0.05, np.float32)
    shares[range(n), moods] = 0.9
    genres = np.array([[0.9, 0.1], [0.1, 0.9]], np.float32)[np.arange(n) % 2]
    return Tracks(
        names,
        names,
        np.full(n, 30.0),
        artists or [""] * n,
        titles or names,
        {"mood": shares, "genre": genres},
    )


@pytest.mark.parametrize("planted", [0, 1, 3, 20])
def test_it_says_how_many_tracks_really_fit(planted: int) -> None:
    library = tracks([0] * planted + [1] * (200 - planted))
    mix = choose(Wanted("negative but hopeful", number=30), library, CLASSES)
    assert len(mix.chosen) == 30
    assert sorted(mix.chosen[:planted]) == list(range(planted))
    assert mix.notes[0].startswith(
        f"{planted} of your 200 tracks {'is' if planted == 1 else 'are'} in your top fifth"
    )


def test_fewer_than_asked_are_given_with_a_reason_and_a_seed_never() -> None:
    library = tracks([0, 0, 0, 1])
    mix = choose(Wanted(like=("000",), genres=("jazz",), number=9), library, CLASSES)
    assert mix.chosen == (2,)  # of the two of jazz the other is the seed
    assert mix.notes == ("only 1 of the 9 asked for, as no other track is left",)
    assert mix.query.understood == ("only jazz",)


def test_an_artist_is_heard_so_often_and_a_recording_once() -> None:
    library = tracks([0] * 6, artists=["a", "a", "a", "b", "A", ""], titles=["1", "2", "3", "1", "1", "1"])
    mix = choose(Wanted("negative", per_artist=2), library, CLASSES)
    assert mix.chosen == (0, 1, 3, 5)
    assert (
        mix.notes[1] == "2 left out: 1 of the same artist, title and length as another, 1 beyond 2 per artist"
    )


def test_all_that_score_enough_are_taken_however_many() -> None:
    mix = choose(Wanted("calm but warm", least=0.5), tracks([1] * 30 + [2] * 30), CLASSES)
    assert sorted(mix.chosen) == list(range(30))


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted(), "expected words, genres or a track to resemble, received none of them"),
        (Wanted("calm", like=("no such",)), "expected the id of a track of the library, received 'no such'"),
        (Wanted(genres=("polka",)), "expected genres among jazz, pop, received polka"),
    ],
)
def test_what_cannot_be_asked_is_said(wanted: Wanted, said: str) -> None:
    with pytest.raises(ParamsError, match=said):
        choose(wanted, tracks([0, 1]), CLASSES)


def test_the_highlight_is_the_slice_that_fits_best() -> None:
    slices = {"mood": np.array([[0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.1, 0.1, 0.8]], np.float32)}
    query = Query({"negative": 1.0, "hopeful": 1.0}, ("NegativeButHopeful",), ("jazz",))
    assert highlight(query, slices, {"mood": MOODS}) == 1


@pytest.mark.parametrize("kind", ["m3u8", "xspf", "jspf"])
def test_playlists_say_where_each_track_lies_seen_from_them(kind: str) -> None:
    entries = [
        Entry(Path("/music/Café/a & b <1>.mp3"), "Björk", "Jóga\n#EXTINF", 304.6),
        Entry(Path("/music/100%.flac")),
    ]
    text = playlist(kind, entries, Path("/music/lists"))
    if kind == "m3u8":
        lines = text.splitlines()
        assert lines == [
            "#EXTM3U",
            "#EXTINF:305,Björk - Jóga #EXTINF",
            "../Café/a & b <1>.mp3",
            "#EXTINF:-1,100%",
            "../100%.flac",
        ]
        return
    if kind == "xspf":
        space = "{http://xspf.org/ns/0/}"
        found = [one.text or "" for one in ElementTree.fromstring(text).iter(f"{space}location")]
    else:
        found = [one["location"][0] for one in json.loads(text)["playlist"]["track"]]
    assert [unquote(one) for one in found] == ["../Café/a & b <1>.mp3", "../100%.flac"]


def test_an_index_of_the_first_version_is_taken_over(library: Library, listener, tmp_path: Path) -> None:
    found = [path.absolute() for path in sorted(Path("data").rglob("*.wav"))]
    list(library.add(found, listener, workers=2))
    expected = library.tracks(listener.champions)
    library.close()
    with sqlite3.connect("library.sqlite") as old:
        old.executescript(
            "DROP TABLE state; DROP TABLE embedding; DROP INDEX prediction_mean; DROP INDEX track_sha256; "
            "ALTER TABLE heard DROP COLUMN artist; ALTER TABLE heard DROP COLUMN title; "
            "ALTER TABLE prediction DROP COLUMN mean; "
            "PRAGMA user_version=1"
        )
    old.close()
    again = Library(Path("library.sqlite")).tracks(listener.champions)
    assert again.paths == expected.paths
    assert all(np.array_equal(again.means[task], expected.means[task]) for task in expected.means)


def test_odd_names_stay_whole_in_a_playlist_and_are_no_comments_or_addresses() -> None:
    names = ("#1 hit.mp3", "http:/evil/x.mp3", "nb\u00a0sp.mp3", "a\u200db\u3000c.mp3", "\u202egpj.mp3")
    entries = [Entry(Path("/music") / name, "A\n#EXTINF", "T\r\nhttp://evil") for name in names]
    lines = playlist("m3u8", entries, Path("/music")).split("\n")[:-1]
    found = [line for line in lines if not line.startswith("#")]
    assert [os.path.normpath(line) for line in found] == list(names)
    assert not any(line.startswith("http:") for line in found)
    assert len(lines) == 1 + 2 * len(names)
    assert len(playlist("m3u8", [Entry(Path("/music/a\nb\u2028c.mp3"))], Path("/music")).splitlines()) == 3
    for kind in ("xspf", "jspf"):
        assert "\n#EXTINF" not in playlist(kind, entries, Path("/music"))
