"""GTZAN's archive: downloaded over a bad line, unpacked without trust, checked against the index."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import struct
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import requests
import soundfile

from pipeline import taxonomy
from pipeline.errors import DataError
from pipeline.sources import gtzan
from pipeline.tables.dataset import dataset_of
from pipeline.tables.held_out import groups_path
from pipeline.tables.index import INDEX_COLUMNS
from pipeline.tables.mood_labels import LABEL_COLUMNS

BODY = bytes(range(256)) * 4096  # 1 MiB
CHUNK = 1 << 16  # what is kept are whole chunks
BODY_MD5 = hashlib.md5(BODY).hexdigest()


@dataclass
class Site:
    """A web server's behaviour, and what it was asked."""

    body: bytes = BODY
    ranges: bool = True
    # Bytes of the body after which each connection is cut; None never cuts.
    cut_after: int | None = None
    status: int = 200
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def site() -> Iterator[Site]:
    state = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers["Range"]
            state.asked.append(wanted)
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and state.ranges else 0
            if state.status != 200 or start >= len(state.body):
                self.send_response(state.status if state.status != 200 else 416)
                self.send_header("Content-Range", f"bytes */{len(state.body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            rest = state.body[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest[: state.cut_after])
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}/genres.tar.gz"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield state
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gtzan, "_PAUSE_SECONDS", 0.0)


def part(folder: Path) -> Path:
    return folder / f"{BODY_MD5}.part"


def test_download_and_no_second_one(site: Site, tmp_path: Path) -> None:
    assert gtzan.download(site.url, md5=BODY_MD5, folder=tmp_path).read_bytes() == BODY
    assert gtzan.download(site.url, md5=BODY_MD5, folder=tmp_path) == tmp_path / "genres.tar.gz"
    assert site.asked == [None]
    assert not part(tmp_path).exists()


def test_a_cut_line_is_taken_up_where_it_broke(site: Site, tmp_path: Path) -> None:
    site.cut_after = 8 * CHUNK
    assert gtzan.download(site.url, md5=BODY_MD5, folder=tmp_path).read_bytes() == BODY
    assert site.asked == [None, f"bytes={8 * CHUNK}-"]


def test_what_came_is_kept_for_the_next_run(site: Site, tmp_path: Path) -> None:
    site.cut_after = CHUNK
    with pytest.raises(DataError, match=f"{3 * CHUNK} bytes are kept"):
        gtzan.download(site.url, md5=BODY_MD5, folder=tmp_path)
    assert part(tmp_path).read_bytes() == BODY[: 3 * CHUNK]
    site.cut_after = None
    assert gtzan.download(site.url, md5=BODY_MD5, folder=tmp_path).read_bytes() == BODY
    assert site.asked[-1] == f"bytes={3 * CHUNK}-"


def test_a_server_without_ranges_starts_anew(site: Site, tmp_path: Path) -> None:
    site.ranges = False
    part(tmp_path).write_bytes(BODY[:1000])
    assert gtzan.download(site.url, md5=BODY_MD5, folder=tmp_path).read_bytes() == BODY
    assert site.asked == ["bytes=1000-"]


@pytest.mark.parametrize(("kept", "requests_made"), [(BODY, 1), (BODY + b"more", 2)])
def test_a_part_that_is_whole_or_too_long(
    site: Site, tmp_path: Path, kept: bytes, requests_made: int
) -> None:
    part(tmp_path).write_bytes(kept)
    assert gtzan.download(site.url, md5=BODY_MD5, folder=tmp_path).read_bytes() == BODY
    assert len(site.asked) == requests_made


def test_wrong_bytes_are_deleted(site: Site, tmp_path: Path) -> None:
    site.body = b"<html>quota exceeded</html>"
    with pytest.raises(DataError, match="Nothing is kept") as raised:
        gtzan.download(site.url, md5=BODY_MD5, folder=tmp_path)
    assert hashlib.md5(site.body).hexdigest() in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] in ([], ["download.lock"])


def test_a_refusal_is_not_asked_again(site: Site, tmp_path: Path) -> None:
    site.status = 404
    part(tmp_path).write_bytes(BODY[:1000])
    with pytest.raises(DataError, match=r"404.*1000 bytes are kept"):
        gtzan.download(site.url, md5=BODY_MD5, folder=tmp_path)
    assert len(site.asked) == 1


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--url"):
        gtzan.download("http://127.0.0.1:1/genres.tar.gz", md5=BODY_MD5, folder=tmp_path)


def test_a_checksum_that_can_never_match(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="32 hexadecimal digits"):
        gtzan.download(site.url, md5="abc", folder=tmp_path)
    assert site.asked == []


def audio(track: str) -> bytes:
    return track.encode() * 1000


@pytest.fixture
def index() -> pd.DataFrame:
    """Return four tracks; jazz.00001 copies jazz.00000, rock.00001 is outside the filtered split."""
    tracks = ["jazz.00000", "jazz.00001", "rock.00000", "rock.00001"]
    return pd.DataFrame(
        {
            "track_id": tracks,
            "genre": [track.split(".")[0] for track in tracks],
            "bytes": "0",
            "sha256": [hashlib.sha256(audio(track)).hexdigest() for track in tracks],
            "exact_duplicate_of": ["", "jazz.00000", "", ""],
            "filtered_split": ["train", "test", "valid", ""],
        }
    )


PLACES = {"jazz/jazz.00000", "jazz/jazz.00001", "rock/rock.00000", "rock/rock.00001"}
WANTED = {"jazz/jazz.00000.au", "jazz/jazz.00001.au", "rock/rock.00000.au", "rock/rock.00001.au"}


def write_tracks(folder: Path, **changed: bytes) -> Path:
    for path in sorted(WANTED):
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(changed.get(file.stem.replace(".", "_"), audio(file.stem)))
    return folder


def write_archive(path: Path, members: list[tarfile.TarInfo | tuple[str, bytes]], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:
        for member in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member[0])
            content = b"" if isinstance(member, tarfile.TarInfo) else member[1]
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_verify_finds_each_kind(tmp_path: Path, index: pd.DataFrame) -> None:
    write_tracks(tmp_path, jazz_00001=b"not the same")
    (tmp_path / "rock/rock.00000.au").unlink()
    (tmp_path / "rock/rock.00100.au").write_bytes(b"unknown")
    assert gtzan.verify(tmp_path, index) == gtzan.Verification(
        valid=("jazz.00000", "rock.00001"),
        corrupt=("jazz.00001",),
        missing=("rock.00000",),
        extra=("rock/rock.00100.au",),
        known_faulty=("jazz.00001", "rock.00001"),
    )


def published(samples: np.ndarray, annotation: bytes) -> bytes:
    """Return a file as GTZAN's archive has it."""
    body = samples.astype(">i2").tobytes()
    offset = 24 + len(annotation)
    return b".snd" + struct.pack(">5I", offset, len(body), 3, 22_050, 1) + annotation + body


def test_another_edition_is_verified_by_its_samples(tmp_path: Path, index: pd.DataFrame) -> None:
    """Kaggle's: WAV files; the index knows the hashes of the archive's .au files only."""
    noise = np.random.default_rng(0).integers(-(2**15), 2**15, (5, 3000), dtype=np.int16)
    tracks = ["jazz.00000", "jazz.00001", "rock.00000", "rock.00001", "jazz.00054"]
    annotations = [bytes(4), b"MARSYAS 2001, George Tzanetakis.\n", b"hardrock.00022.wav\0", b"rock027.wav"]
    index = pd.concat([index, index.head(1).assign(track_id=tracks[-1], sha256="0" * 64)], ignore_index=True)
    for at, (track, annotation) in enumerate(zip(tracks, annotations, strict=False)):
        original = published(noise[at], annotation)
        index.loc[at, ["sha256", "bytes"]] = [hashlib.sha256(original).hexdigest(), str(len(original))]
        path = tmp_path / track.split(".")[0] / f"{track}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, noise[at] + (at == 3), 22_050, subtype="PCM_16")
    (tmp_path / "jazz/jazz.00054.wav").write_bytes(b"broken")
    found = gtzan.verify(tmp_path, index)
    assert (found.valid, found.unverified, found.corrupt) == (
        tuple(tracks[:3]),
        ("rock.00001",),
        ("jazz.00054",),
    )
    assert found.present == tuple(sorted(tracks))
    said = gtzan.summary(found)
    assert "reported as damaged in some editions: jazz.00054" in said
    assert "not byte-verified (another edition" in said
    assert "do not make the published files): 1: rock.00001" in said


@pytest.mark.parametrize("is_zip", [False, True])
def test_of_two_editions_of_a_track_the_original_is_kept(tmp_path: Path, is_zip: bool) -> None:
    source = write_tracks(tmp_path / "in" / "Data" / "genres_original")
    (source / "jazz/jazz.00000.wav").write_bytes(b"wav")
    (source / "rock/rock.00001.au").rename(source / "rock/rock.00001.WAV")
    out = tmp_path / "out"
    if is_zip:
        archive = Path(shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path / "in"))
        assert gtzan.unpack(archive, out, wanted=PLACES) == ()
    else:
        assert gtzan.copy(tmp_path / "in", out, wanted=PLACES) == ()
    assert gtzan._keep_one_each(out) == ("jazz/jazz.00000.wav",)
    assert sorted(path.name for path in out.glob("*/*")) == [
        *("jazz.00000.au", "jazz.00001.au", "rock.00000.au", "rock.00001.wav")
    ]


def test_summary_counts_and_names(tmp_path: Path, index: pd.DataFrame) -> None:
    write_tracks(tmp_path, jazz_00001=b"not the same")
    said = gtzan.summary(gtzan.verify(tmp_path, index))
    assert "4 of 4 tracks taken in, 3 of them valid" in said
    assert "all the same): 1: jazz.00001" in said


@pytest.mark.parametrize("prefix", ["genres/", "./genres/", "", "./"])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_unpack_takes_tracks_and_lists_the_rest(tmp_path: Path, prefix: str, mode: str) -> None:
    rest = ["genres/jazz/._jazz.00000.au", "genres/.DS_Store", "genres/jazz/jazz.00000.au.exe"]
    members = [(prefix + path, audio(Path(path).stem)) for path in sorted(WANTED)]
    folder_member = tarfile.TarInfo("genres/jazz")
    folder_member.type = tarfile.DIRTYPE
    archive = write_archive(tmp_path / "a.tar", [folder_member, *members, *((r, b"x") for r in rest)], mode)
    assert gtzan.unpack(archive, tmp_path / "out", wanted=PLACES) == tuple(sorted(rest))
    out = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert out - {"jazz", "rock"} == WANTED
    assert (tmp_path / "out/jazz/jazz.00000.au").read_bytes() == audio("jazz.00000")


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


@pytest.mark.parametrize(
    "member",
    [
        ("../evil.au", b"x"),
        ("genres/../../evil.au", b"x"),
        ("/tmp/evil.au", b"x"),
        ("genres\\..\\evil.au", b"x"),
        special("genres/jazz/jazz.00000.au", tarfile.SYMTYPE, "/etc/passwd"),
        special("genres/jazz/jazz.00000.au", tarfile.LNKTYPE, "../../../etc/passwd"),
        special("genres/jazz/jazz.00000.au", tarfile.CHRTYPE),
        special("genres/jazz/jazz.00000.au", tarfile.FIFOTYPE),
        special("genres", tarfile.SYMTYPE, "/tmp"),
    ],
    ids=lambda member: member.type.decode() if isinstance(member, tarfile.TarInfo) else member[0],
)
def test_unpack_refuses_what_points_outside(
    tmp_path: Path, member: tarfile.TarInfo | tuple[str, bytes]
) -> None:
    archive = write_archive(tmp_path / "a.tar.gz", [member])
    name = member.name if isinstance(member, tarfile.TarInfo) else member[0]
    with pytest.raises(DataError, match="Do not trust") as raised:
        gtzan.unpack(archive, tmp_path / "out", wanted=PLACES)
    assert repr(name) in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9])
def test_unpack_says_that_an_archive_is_cut(tmp_path: Path, mode: str, share: float) -> None:
    noise = hashlib.shake_256(b"audio").digest(40_000)
    archive = write_archive(tmp_path / "a.tar", [(f"genres/{path}", noise) for path in sorted(WANTED)], mode)
    archive.write_bytes(archive.read_bytes()[: int(share * 160_000)])
    with pytest.raises(DataError, match="complete"):
        gtzan.unpack(archive, tmp_path / "out", wanted=PLACES)


def test_unpack_says_that_a_file_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(DataError, match="name the folder"):
        gtzan.unpack(tmp_path / "a.zip", tmp_path / "out", wanted=PLACES)


@pytest.mark.parametrize("below", ["genres", ".", "Data/genres_original"])
def test_copy_takes_any_layout(tmp_path: Path, below: str) -> None:
    write_tracks(tmp_path / "in" / below)
    (tmp_path / "in" / below / "jazz/notes.txt").write_text("x")
    assert gtzan.copy(tmp_path / "in", tmp_path / "out", wanted=PLACES) == (
        "jazz/notes.txt" if below == "." else f"{below}/jazz/notes.txt",
    )
    assert (tmp_path / "out/rock/rock.00001.au").read_bytes() == audio("rock.00001")


def test_the_index_knows_all_of_gtzan() -> None:
    index = gtzan.read_index()
    assert len(index) == index["track_id"].nunique() == gtzan.TRACKS_IN_ALL
    assert index["genre"].value_counts().to_dict() == dict.fromkeys(taxonomy.GTZAN_GENRES, 100)
    assert index["sha256"].str.fullmatch("[0-9a-f]{64}").all()
    split = index["filtered_split"].value_counts().to_dict()
    assert split == {"train": 443, "valid": 197, "test": 290, "": 70}
    assert set(index["exact_duplicate_of"]) - {""} <= set(index["track_id"])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repo"
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc" / "config").write_text("[core]\nno_scm = True\nanalytics = false\ncheck_update = false\n")
    return root


def test_nothing_sound_is_refused_and_changes_nothing(tmp_path: Path, repository: Path) -> None:
    source = tmp_path / "wav"
    (source / "jazz").mkdir(parents=True)
    (source / "jazz" / "notes.wav").write_bytes(b"x")
    (source / "jazz" / "jazz.00001.au").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no valid one; corrupt 1: jazz\.00001; other files 1") as raised:
        gtzan.ingest(source, data=repository / "data")
    assert "make folder" in str(raised.value)
    assert not (repository / "data").exists()
    assert not list(repository.glob(".data-*"))


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        gtzan.ingest(tmp_path / "none", data=tmp_path / "data")


@pytest.fixture
def own_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: pd.DataFrame) -> None:
    """Take GTZAN for the four tracks of ``index``."""
    facts = index.assign(bytes="0", artist="A", title="T", artist_source="sturm2012")
    facts[list(INDEX_COLUMNS)].to_csv(tmp_path / "index.csv", index=False)
    monkeypatch.setattr(gtzan, "INDEX", tmp_path / "index.csv")


@pytest.mark.usefixtures("own_index")
def test_ingest_writes_the_whole_data_folder(tmp_path: Path, repository: Path) -> None:
    source = write_tracks(tmp_path / "in", rock_00000=b"damaged")
    (source / "jazz/jazz.00001.au").unlink()
    data = repository / "data"
    found = gtzan.ingest(source, data=data)
    assert found.present == ("jazz.00000", "rock.00000", "rock.00001")
    assert (data / "gtzan/rock/rock.00000.au").read_bytes() == b"damaged"
    assert pd.read_csv(data / "index.csv")["track_id"].tolist() == list(found.present)
    assert json.loads((data / "dataset.json").read_text()) == {
        "name": "gtzan-part",
        "synthetic": False,
        "description": "GTZAN, 3 of 1000 tracks, 2 with the published content",
    }
    assert (data / "mood_labels.csv").read_text() == ",".join(LABEL_COLUMNS) + "\n"
    assert (repository / "data.dvc").exists()


@pytest.mark.usefixtures("own_index")
def test_gtzan_taken_in_again_keeps_its_labels(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_tracks(tmp_path / "in")
    labels = repository / "data/mood_labels.csv"
    gtzan.ingest(source, data=repository / "data")
    given = "jazz.00000,Other,ann,2024-03-05T14:00:00Z\n"
    with labels.open("a") as stream:
        stream.write(given)
    groups = groups_path("mood", repository)
    groups.parent.mkdir(parents=True)
    groups.write_text("task,protocol,seed,valid,test,key,part\nmood,track,0,0.2,0.2,content a,test\n")
    monkeypatch.setattr(gtzan, "TRACKS_IN_ALL", 4)  # the library is complete now, and goes by another name
    gtzan.ingest(source, data=repository / "data")
    assert dataset_of(repository / "data")["name"] == "gtzan"
    assert labels.read_text() == ",".join(LABEL_COLUMNS) + "\n" + given
    assert (repository / "data/held_out.csv").read_text() == groups.read_text()


def test_fetch_raises_what_pooch_understands(tmp_path: Path) -> None:
    with pytest.raises(requests.RequestException):
        gtzan.fetch("http://127.0.0.1:1/x", str(tmp_path / "out"), None, part=tmp_path / "x.part")
