"""Moods in a file's own tags: only they change, mutagen reads them, and undo gives the old bytes."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import mutagen
import numpy as np
import pytest
import soundfile
from mutagen.apev2 import APEv2
from mutagen.id3 import APIC, ID3, TALB, TDRC, TIT2

from pipeline.inference import audio
from serving import tags
from tests.conftest import ROOT
from tests.inference.test_decoding import by_ffmpeg
from tests.serving.tag_bytes import parts

FIELDS = {"MOOD": ["Calm but warm"], "CMG_POLES": ["calm=0.62;warm=0.55"]}
V22 = b"ID3\2\0\0\0\0\0\x10TT2\0\0\x05\0Blue" + bytes(5)


def _audio(path: Path, subtype: str | None = None) -> Path:
    tone = 0.3 * np.sin(np.arange(48000) / 20)
    soundfile.write(path, tone, 48000, subtype=subtype)
    return path


def _mp3(folder: Path, kind: str) -> Path:
    path = _audio(folder / f"{kind}.mp3")
    if kind == "v2.2":
        path.write_bytes(V22 + path.read_bytes())
    if kind == "ape":
        ape = APEv2()
        ape["Title"] = "Blue"
        ape.save(path)
    if kind in {"v2.3", "v2.4", "v1", "picture"}:
        frames = ID3()
        frames.add(TIT2(encoding=3, text="Blü"))
        frames.add(TALB(encoding=3, text="Sea"))
        frames.add(TDRC(encoding=3, text="1999"))
        if kind == "picture":
            frames.add(APIC(encoding=3, mime="image/png", type=3, desc="", data=bytes(range(256)) * 500))
        if kind == "v2.3":
            frames.update_to_v23()
        frames.save(
            path, v1=2 if kind == "v1" else 0, v2_version=3 if kind == "v2.3" else 4, padding=lambda _: 0
        )
    return path


def _vorbis(folder: Path, kind: str) -> Path:
    path = folder / f"a.{kind}"
    subtype = {"ogg": "VORBIS", "opus": "OPUS"}.get(kind)
    if subtype:
        soundfile.write(path, 0.3 * np.sin(np.arange(48000) / 20), 48000, format="OGG", subtype=subtype)
    else:
        _audio(path)
    tagged = mutagen.File(path)
    tagged["title"] = "Blü"
    tagged["genre"] = ["Rock", "Pop"]
    tagged.save()
    return path


def _m4a(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.m4a"
    options = {"movflags": "faststart"} if kind == "index first" else {}
    content = by_ffmpeg(path, "ipod", "aac", muxer=options)
    if kind == "without tags":  # an empty box of the same length, as tag editors leave it
        start = content.index(b"udta")
        content = content[:start] + b"free" + content[start + 4 :]
    path.write_bytes(content)
    if kind == "index last":
        tagged = mutagen.File(path)
        tagged["\xa9nam"], tagged["covr"] = "Blü", [bytes(range(256)) * 500]
        tagged["----:com.apple.iTunes:MOOD"] = [b"Sad"]
        tagged.save()
    return path


MP3S = ["none", "v2.2", "v2.3", "v2.4", "v1", "ape", "picture"]
MADE = [(_mp3, kind) for kind in MP3S] + [(_vorbis, kind) for kind in ("flac", "ogg", "opus")]
MADE += [(_m4a, kind) for kind in ("index first", "index last", "without tags")]


@pytest.mark.parametrize("genre", [False, True])
@pytest.mark.parametrize(("make", "kind"), MADE)
def test_only_the_named_fields_change_and_undo_gives_the_old_bytes(tmp_path, make, kind, genre):
    path = make(tmp_path, kind)
    old, old_ns = path.read_bytes(), path.stat().st_mtime_ns
    samples = audio.load(path)
    fields = FIELDS | ({"GENRE": ["Jazz"]} if genre else {})
    named = {"MOOD", "TMOO", *(f"{frame}:{field}" for frame in ("TXX", "TXXX") for field in FIELDS), *FIELDS}
    named |= {"GENRE", "TCON", "TCO", "/moov/udta/meta/ilst/\xa9gen"} if genre else set()

    assert tags.would_change(path, fields)
    assert tags.write(path, fields, tmp_path / "undo", keep_mtime=True)

    others = [[part for part in parts(one) if part[0] not in named] for one in (old, path.read_bytes())]
    if kind in ("none", "ape"):  # a tag of version 2.4 is made, with nothing else in it
        others[0].insert(0, ("version", b"\4"))
    if kind == "without tags":  # their place is made, and says that it is iTunes'
        others[1] = [part for part in others[1] if part[0] != "/moov/udta/meta/hdlr"]
    assert others[0] == others[1]
    np.testing.assert_array_equal(audio.load(path), samples)
    assert path.stat().st_mtime_ns == old_ns
    assert tags.mood_of(path) == "Calm but warm"
    assert tags.genre_of(path) == "Jazz" or not genre
    written = set(mutagen.File(path).tags.keys()) if make is not _mp3 else set(ID3(path))
    assert any("CMG_POLES" in key.upper() for key in written)
    assert not tags.write(path, fields, tmp_path / "undo")  # it says so already
    assert tags.undo(tmp_path / "undo") == {}
    assert path.read_bytes() == old


@pytest.mark.parametrize(
    ("make", "kind"), [(_mp3, "v2.3"), (_mp3, "v2.4"), (_vorbis, "flac"), (_m4a, "index first")]
)
def test_several_moods_are_read_as_several(tmp_path, make, kind):
    path = make(tmp_path, kind)
    tags.write(path, FIELDS | {"MOOD": ["Calm but warm", "Totally positive"]}, tmp_path / "undo")
    assert tags.mood_of(path) == "Calm but warm; Totally positive"


def test_the_file_that_is_tagged_is_the_one_that_was_listened_to(tmp_path):
    path = _mp3(tmp_path, "v2.4")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(tags.TagError, match="changed since it was listened to"):
        tags.write(path, FIELDS, tmp_path / "undo", expected=digest)
    assert not (tmp_path / "undo").exists()


def test_two_that_tag_the_same_file_do_not_mix(tmp_path):
    path = _mp3(tmp_path, "v2.4")
    with tags._place(path), pytest.raises(tags.TagError, match="another cmg tag is writing it"):
        tags.write(path, FIELDS, tmp_path / "undo")
    assert tags.write(path, FIELDS, tmp_path / "undo")
    assert {file.name for file in tmp_path.iterdir()} == {"undo", path.name}


# Each child is killed by itself before a line of serving/tags.py, one line later than the child before.
KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from serving import tags
fields, action, number = {fields!r}, sys.argv[1], 0
os.fsync = lambda _: None  # a kill leaves the machine running, and hundreds of waits for the disk take long
def trace(frame, event, argument):
    global left
    if frame.f_code.co_filename != tags.__file__:
        return None
    if event == "line":
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return trace
while True:
    folder = shutil.copytree("start", f"killed/{{number:04}}")
    journal = Path(folder, "undo")
    if journal.exists():  # of the folder that was copied
        journal.write_text(journal.read_text().replace(os.path.abspath("start"), os.path.abspath(folder)))
    child = os.fork()
    if child == 0:
        left = number
        sys.settrace(trace)
        if action == "write":
            for name in ("v2.3.mp3", "v1.mp3"):
                tags.write(Path(folder) / name, fields, journal)
        else:
            tags.undo(journal)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
    number += 1
print(number)
"""


@pytest.mark.parametrize("action", ["write", "undo"])
def test_killed_before_any_line_every_file_is_whole_and_there_is_a_way_back(tmp_path, monkeypatch, action):
    monkeypatch.chdir(tmp_path)
    Path("start").mkdir()
    for kind in ("v2.3", "v1"):
        _mp3(Path("start"), kind)
    old = {path.name: path.read_bytes() for path in Path("start").iterdir()}
    for name in old:
        tags.write(Path("start", name), FIELDS, Path("start/undo"))
    new = {name: Path("start", name).read_bytes() for name in old}
    if action == "write":
        tags.undo(Path("start/undo"))
        Path("start/undo").unlink()

    monkeypatch.setattr(os, "fsync", lambda _: None)
    Path("killed").mkdir()
    code = KILLED.format(fields=FIELDS)
    run = [sys.executable, "-c", code, action]
    done = subprocess.run(run, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40

    states = set()
    for folder in sorted(Path("killed").iterdir()):
        journal = folder / "undo"
        found = {name: (folder / name).read_bytes() for name in old}
        assert all(found[name] in (old[name], new[name]) for name in old), folder
        states.add(tuple(found[name] == new[name] for name in sorted(old)))
        if journal.exists():
            assert tags.undo(journal) == {}
        assert {name: (folder / name).read_bytes() for name in old} == old, folder
        for name in old:
            tags.write(folder / name, FIELDS, journal)
        assert {name: (folder / name).read_bytes() for name in old} == new
        assert tags.undo(journal) == {}
        assert {path.name for path in folder.iterdir()} == {*old, "undo"}
    assert len(states) == 3  # none, one, or both written


def test_undo_leaves_a_file_that_changed_since(tmp_path):
    path = _mp3(tmp_path, "v2.4")
    tags.write(path, FIELDS, tmp_path / "undo")
    path.write_bytes(path.read_bytes() + b"more")
    assert "changed since" in tags.undo(tmp_path / "undo")[path]
    assert path.read_bytes().endswith(b"more")


def test_journal_is_on_disk_before_the_file_changes(tmp_path, monkeypatch):
    path = _mp3(tmp_path, "v2.4")
    old = path.read_bytes()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        tags.write(path, FIELDS, tmp_path / "undo")
    assert path.read_bytes() == old
    assert json.loads((tmp_path / "undo").read_text())["before"] == hashlib.sha256(old).hexdigest()
    assert tags.undo(tmp_path / "undo") == {}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["undo", "v2.4.mp3"]


@pytest.mark.parametrize(
    ("name", "content"), [("a.au", b".snd"), ("a.flac", b"no"), ("a.mp3", b"ID3\4\0\x80\0\0\0\0")]
)
def test_what_cannot_be_tagged_is_said_and_left(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(tags.TagError, match=name):
        tags.write(path, FIELDS, tmp_path / "undo")
    assert path.read_bytes() == content
    assert not (tmp_path / "undo").exists()
