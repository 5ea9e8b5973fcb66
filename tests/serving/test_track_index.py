"""Champions out of a real registry, kept as files; answers of a library kept by content."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline import tracking
from pipeline.errors import CmgError, DataError
from pipeline.registry import answers, versions
from serving import champions, track_index
from serving.listener import Listener
from serving.track_index import Library, audio_files
from tests.conftest import ROOT
from tests.listener import listener
from tests.registry import tiny

__all__ = ["listener"]  # a fixture


@pytest.fixture
def library(listener: Listener) -> Iterator[Library]:
    found = Library(Path("library.sqlite"))
    yield found
    found.close()


def add(library: Library, listener: Listener, *folders: str) -> dict[str, tuple[bool, str]]:
    """Return by file name whether it was computed, and why not answered."""
    found, _ = audio_files([Path(folder) for folder in folders])
    done = library.add(found, listener, workers=2)
    return {outcome.path.name: (outcome.computed, outcome.reason) for outcome in done}


def test_the_cached_champion_answers_what_the_registered_version_does(listener: Listener) -> None:
    files = sorted(Path("data").rglob("*.wav"))[:6]
    expected = answers.predict(answers.folder_of("genre-classifier", "1"), files)
    heard = np.array([listener.hear(file).slices["genre"].mean(axis=0) for file in files])
    assert listener.classes["genre"] == list(expected.columns)
    assert np.abs(heard - expected.to_numpy()).max() <= 1e-5
    record = listener.record(files[0], listener.hear(files[0]))
    assert record["model"] == {"genre": "genre-classifier/1"}
    assert record["trained_on"] == {"genre": "tiny"}
    assert json.loads(json.dumps(record)) == record


def test_without_a_registry_the_cache_still_answers_and_a_changed_file_does_not(listener: Listener) -> None:
    shutil.rmtree("mlruns")
    assert champions.champions()["genre"].version == "1"
    graph = next(champions.cache_folder().glob("genre-1-*/model.onnx"))
    graph.write_bytes(graph.read_bytes() + b" ")
    with pytest.raises(DataError, match=r"model\.onnx: expected the file as fetched.*cmg models pull"):
        champions.champions()


def test_a_new_champion_is_noticed_and_fetched(listener: Listener) -> None:
    first = champions.champions()["genre"]
    assert champions.newer(first) is None
    Path("mlruns/champions.json").write_text(
        json.dumps({"genre": {"version": "2", "weights_sha256": "other"}})
    )
    assert champions.newer(first) == "2"


def test_where_nothing_serves_it_is_said(empty: Path) -> None:
    Path("params.yaml").write_text("")
    with pytest.raises(CmgError, match="expected a champion in the registry, received none"):
        champions.pull()


def test_where_a_version_waits_its_reason_and_the_command_are_said(empty: Path) -> None:
    Path("params.yaml").write_text("")
    client = tracking.configure().MlflowClient()
    client.create_registered_model("mood-classifier")
    client.create_model_version("mood-classifier", "a", tags={"reason": "older"})
    client.create_model_version("mood-classifier", "b", tags={"reason": "8 test tracks are few"})
    said = "mood-classifier version 2 is not promoted: 8 test tracks are few.*promote --confirm mood --reason"
    with pytest.raises(CmgError, match=said):
        champions.pull()


def test_what_is_known_is_not_computed_again_wherever_it_moves(library: Library, listener: Listener) -> None:
    first = add(library, listener, "data")
    assert len(first) == 15
    assert all(computed for computed, _ in first.values())
    assert not any(computed for computed, _ in add(library, listener, "data").values())
    shutil.move("data/gtzan", "moved")
    assert not any(computed for computed, _ in add(library, listener, "moved").values())
    found = library.tracks(listener.champions)
    paths, means, digests = found.paths, found.means, found.digests
    assert len(paths) == len(set(digests)) == len(means["genre"]) == 15
    assert library.forget(Path("data").absolute()) == 15
    assert library.forget(Path("moved").absolute()) == 15
    library.vacuum()
    assert library.status()["answers"] == {}


def test_unreadable_files_are_kept_with_the_reason_until_they_change(
    library: Library, listener: Listener
) -> None:
    Path("in").mkdir()
    Path("in/text.mp3").write_text("no music")
    Path("in/empty.wav").write_bytes(b"")
    Path("in/gone.flac").symlink_to("nowhere")
    shutil.copy(next(Path("data").rglob("*.wav")), "in/good.wav")
    soundfile.write("in/nan.wav", np.full(22_050, np.nan), 22_050, subtype="FLOAT")
    done = add(library, listener, "in")
    assert {name for name, (_, reason) in done.items() if reason} == {
        "text.mp3",
        "empty.wav",
        "gone.flac",
        "nan.wav",
    }
    assert [Path(path).name for path in library.tracks(listener.champions).paths] == ["good.wav"]
    assert not any(
        computed for name, (computed, _) in add(library, listener, "in").items() if name != "gone.flac"
    )
    shutil.copy(next(Path("data").rglob("*.wav")), "in/text.mp3")
    assert add(library, listener, "in")["text.mp3"] == (False, "")  # by its content, which is known


def test_an_answer_of_an_earlier_champion_does_not_count(library: Library, listener: Listener) -> None:
    add(library, listener, "data")
    tracks = pd.read_csv("artifacts/predictions/genre-lenet5.csv")[["track_id", "label"]]
    tiny.run(tiny.put_model(tracks, seen=("nothing",)))
    client = tracking.configure().MlflowClient()
    client.set_registered_model_alias(versions.model_name("genre"), "champion", "2")
    later = Listener(champions.pull())
    assert later.champions["genre"].version == "2"
    assert library.tracks(later.champions).paths == []
    assert all(computed for computed, _ in add(library, later, "data").values())
    assert len(library.tracks(listener.champions).paths) == 15  # the earlier answers are still there


def test_what_is_read_is_kept_until_somebody_writes(
    library: Library, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path("library.sqlite.tracks")
    add(library, listener, "data")
    library.tracks(listener.champions, keep=True)
    assert not copy.exists()  # of few tracks
    monkeypatch.setattr(track_index, "_MOST_AT_ONCE", 10)
    own = pd.DataFrame(
        {"sha256": [library.tracks(listener.champions).digests[3]], "artist": ["Ä"], "title": "b"}
    )
    for change in (
        lambda: None,
        lambda: own.to_csv("data/index.csv"),
        lambda: library.forget(next(Path("data").rglob("*.wav")).absolute()),
    ):
        change()
        read = library.tracks(listener.champions)
        for _ in range(2):  # made, and read
            found = library.tracks(listener.champions, keep=True)
            assert (found.paths, found.digests) == (read.paths, read.digests)
            assert (found.artists, found.titles) == (read.artists, read.titles)
            np.testing.assert_array_equal(found.seconds, read.seconds)
            np.testing.assert_array_equal(found.means["genre"], read.means["genre"])
    assert len(found.paths) == 14
    with monkeypatch.context() as without:
        without.setattr(library, "_read", None)
        assert library.tracks(listener.champions, keep=True).paths == found.paths
    copy.write_bytes(copy.read_bytes()[:1000])
    assert library.tracks(listener.champions, keep=True).paths == found.paths


def test_an_index_that_another_process_is_making_is_waited_for(workspace: Path) -> None:
    """SQLite does not wait by itself for a writer when write-ahead logging is turned on."""
    other = sqlite3.connect("library.sqlite", isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE something(n)")
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.3, lambda: other.execute("ROLLBACK")).start()
    began = time.monotonic()
    Library(Path("library.sqlite")).close()
    assert time.monotonic() - began > 0.2
    other.close()


def test_a_file_that_is_no_index_is_refused(empty: Path) -> None:
    Path("library.sqlite").write_text("no database" * 200)
    with pytest.raises(DataError, match=r"library\.sqlite: expected a library index"):
        Library(Path("library.sqlite"))


WRITER = """
import sys
from pathlib import Path
from serving.champions import champions
from serving.track_index import Library, audio_files
from serving.listener import Listener
library = Library(Path("library.sqlite"))
for outcome in library.add(audio_files([Path("data")])[0], Listener(champions()), workers=1):
    print(outcome.path.name, flush=True)
"""


@pytest.mark.parametrize(
    "rounds", [2, pytest.param(25, marks=[pytest.mark.long, pytest.mark.timeout(900)], id="many")]
)
def test_two_writers_that_are_killed_leave_a_whole_index(listener: Listener, rounds: int) -> None:
    """In each round both are killed at a random moment, from the first answer on."""
    tiny.write_tracks(list(tiny.CLASSES) * 40, first=100)
    moments = np.random.default_rng(rounds).uniform(0, 0.3, (rounds, 2))
    found = []
    for delays in moments:
        for left in Path().glob("library.sqlite*"):
            left.unlink()
        both = [
            subprocess.Popen([sys.executable, "-c", WRITER], stdout=subprocess.PIPE, env=_ENV) for _ in delays
        ]
        for one in both:
            assert one.stdout is not None
            assert one.stdout.readline().endswith(b".wav\n")
        for one, delay in zip(both, (delays.min(), np.ptp(delays)), strict=True):
            time.sleep(delay)
            one.send_signal(signal.SIGKILL)
        for one in both:
            one.communicate()
        found.append(inconsistencies(listener))
    print(f"{rounds} rounds, tracks kept: {[n for n, _ in found]}")
    assert [faults for _, faults in found] == [[]] * rounds
    assert any(0 < n < 135 for n, _ in found)


_ENV = os.environ | {"PYTHONPATH": str(ROOT)}


def inconsistencies(listener: Listener) -> tuple[int, list[str]]:
    """Return how many tracks an index has, and what is wrong with it; then the rest is added."""
    library = Library(Path("library.sqlite"))
    checked = library._value("PRAGMA integrity_check")
    faults = [] if checked == "ok" else [checked]
    kept, known = library.status()["tracks"], len(library.tracks(listener.champions).paths)
    if kept != known:
        faults.append(f"{kept} tracks, {known} with an answer")
    done = add(library, listener, "data")
    if sum(computed for computed, _ in done.values()) != 135 - known:
        faults.append("tracks that were neither kept nor missing")
    if len(library.tracks(listener.champions).paths) != 135:
        faults.append("tracks that could not be added")
    library.close()
    return kept, faults


def test_names_that_are_no_text_and_files_without_end_are_listed_with_a_reason(
    library: Library, listener: Listener
) -> None:
    Path("odd").mkdir()
    whole = next(Path("data").rglob("*.wav")).read_bytes()
    for number, name in enumerate((b"\xff.wav", b"good.wav", b"new\nline.wav", "\u202egpj.wav".encode())):
        (Path("odd") / os.fsdecode(name)).write_bytes(whole + bytes([number]))
    os.mkfifo("odd/pipe.wav")
    Path("odd/zero.wav").symlink_to("/dev/zero")
    Path("odd/loop.wav").symlink_to("loop.wav")
    found, missing = audio_files([Path("odd")])
    assert [(path.name, reason) for path, reason in missing] == [
        (r"\xff.wav", "the name is not UTF-8: rename it")
    ]
    done = {outcome.path.name: outcome for outcome in library.add(found, listener, workers=2)}
    assert sorted(name for name, one in done.items() if one.heard) == [
        "good.wav",
        "new\nline.wav",
        "\u202egpj.wav",
    ]
    for name in ("pipe.wav", "zero.wav"):
        assert done[name].reason == "not a regular file"
    assert done["loop.wav"].heard is None


def test_a_disk_that_is_full_is_said_and_what_was_answered_stays(
    library: Library, listener: Listener
) -> None:
    add(library, listener, "data")
    before = library.status()["tracks"]
    library._db.execute(f"PRAGMA max_page_count={library._value('PRAGMA page_count')}")  # SQLite's full disk
    other = Path("data/other")
    other.mkdir()
    for number, file in enumerate(sorted(Path("data").rglob("*.wav"))[:15]):
        (other / f"{number}.wav").write_bytes(file.read_bytes() + bytes(number + 1))
    with pytest.raises(
        DataError, match=r"library.sqlite: expected an index to read and write, received: .*full"
    ):
        add(library, listener, "data")
    assert not library._db.in_transaction
    assert library.status()["tracks"] >= before


def test_another_registrys_version_of_the_same_number_does_not_answer_for_this_one(
    library: Library, listener: Listener
) -> None:
    add(library, listener, "data")
    champion = listener.champions["genre"]
    other = {"genre": replace(champion, folder=champion.folder[:-12] + "0123456789ab")}
    assert other["genre"].name == champion.name
    assert library.tracks(other).paths == []
    assert library.slices(library.tracks(listener.champions).digests[0], other["genre"]) is None
    assert library.changed(other["genre"]) == []
    assert library.status()["answers"] == {"genre-classifier/1": 15}
