"""Moods in a file's own tags: only they change, mutagen reads them, and undo gives the old bytes."""

import hashlib
import json
import os
from pathlib import Path

import mutagen
import numpy as np
import pytest
import soundfile
from mutagen.apev2 import APEv2
from mutagen.id3 import APIC, ID3, TALB, TDRC, TIT2

from serving import tags

FIELDS = {"MOOD": "Calm but warm", "CMG_POLES": "calm=0.62;warm=0.55"}
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


@pytest.mark.parametrize("kind", ["none", "v2.2", "v2.3", "v2.4", "v1", "ape", "picture"])
def test_mp3_gets_a_mood_and_nothing_else(tmp_path, kind):
    path = _mp3(tmp_path, kind)
    old, samples = path.read_bytes(), soundfile.read(path)[0]
    before = ID3(path, translate=False, load_v1=False) if old[:3] == b"ID3" else {}

    assert tags.write(path, FIELDS, tmp_path / "undo")

    after = ID3(path, translate=False, load_v1=False)
    written = {"TMOO", "TXXX:MOOD", "TXXX:CMG_POLES", "TXX:MOOD", "TXX:CMG_POLES"}
    assert {key: frame for key, frame in after.items() if key not in written} == dict(before)
    assert sorted(str(after[key]) for key in written & set(after)) == sorted(FIELDS.values())
    np.testing.assert_array_equal(soundfile.read(path)[0], samples)
    assert path.read_bytes()[-128:] == old[-128:]  # ID3v1 and the end of APE
    assert not tags.write(path, FIELDS, tmp_path / "undo")  # it says so already
    assert tags.undo(tmp_path / "undo") == {}
    assert path.read_bytes() == old


@pytest.mark.parametrize(("name", "subtype"), [("a.flac", None), ("a.ogg", "VORBIS"), ("a.opus", "OPUS")])
def test_vorbis_comments_get_a_mood_and_nothing_else(tmp_path, name, subtype):
    path = tmp_path / name
    if subtype:
        soundfile.write(path, 0.3 * np.sin(np.arange(48000) / 20), 48000, format="OGG", subtype=subtype)
    else:
        _audio(path)
    tagged = mutagen.File(path)
    tagged["title"] = "Blü"
    tagged.save()
    old, samples, before = path.read_bytes(), soundfile.read(path)[0], dict(mutagen.File(path).tags)

    assert tags.write(path, FIELDS, tmp_path / "undo")

    assert dict(mutagen.File(path).tags) == before | {key.lower(): [text] for key, text in FIELDS.items()}
    np.testing.assert_array_equal(soundfile.read(path)[0], samples)
    assert not tags.write(path, FIELDS, tmp_path / "undo")
    assert tags.undo(tmp_path / "undo") == {}
    assert path.read_bytes() == old


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
