"""GTZAN: 1000 clips of 30 s in ten genres, downloaded or given, checked file by file, taken in.

``python -m pipeline.sources.gtzan [FOLDER or ARCHIVE] [--labels FILE]``; without a source the archive is
downloaded. It is the original ``.au`` files, or another edition (``.wav``, Kaggle's ``genres_original``):
same ids, artists, published lists and known faults. `verify` reports, it never stops: faulty tracks are taken
in, and the catalog stage judges them.
"""

from __future__ import annotations

import argparse
import gzip
import lzma
import re
import shutil
import tarfile
import time
import zipfile
import zlib
from collections.abc import Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Final

import pandas as pd

from pipeline import data_folder, files
from pipeline.errors import DataError, run_main
from pipeline.inference import audio
from pipeline.labelling.track_names import TrackNames
from pipeline.sources import kept_labels
from pipeline.sources.gtzan_content import has_published_samples
from pipeline.sources.kept_labels import GivenLabels
from pipeline.tables import held_out
from pipeline.tables.dataset import write_dataset
from pipeline.tables.index import INDEX_COLUMNS, write_index
from pipeline.tables.text_csv import read_table
from pipeline.untrusted import listing
from pipeline.workspace_lock import CACHE, waiting_lock

# The original server is gone; mirdata and torchaudio pin the same MD5 (1.2 GB).
URL: Final = "https://huggingface.co/datasets/marsyas/gtzan/resolve/main/data/genres.tar.gz"
MD5: Final = "5b3d6dddb579ab49814ab86dba69e7c7"
DOWNLOADS: Final = CACHE / "downloads"

INDEX: Final = Path(__file__).with_name("gtzan_index.csv")
TRACKS_IN_ALL: Final = 1000
WHOLE: Final = "gtzan"
PART: Final = "gtzan-part"

ORIGINAL: Final = ".au"

# Sturm 2013: corrupt in one edition, badly distorted; not among the exact duplicates.
REPORTED_FAULTY: Final = frozenset({"jazz.00054", "reggae.00086"})

_DAMAGE: Final = (
    *(tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile),
)
_ATTEMPTS: Final = 3
_PAUSE_SECONDS: Final = 1.0
# A cut line loses at most so much of what has come.
_CHUNK_BYTES: Final = 1 << 16
# Seconds to connect, and between two packets.
_TIMEOUT: Final = (10, 60)


@dataclass(frozen=True)
class Verification:
    """How a folder compares with the index; all are sorted.

    Parameters
    ----------
    valid
        Track ids whose SHA-256 is the original's; of another edition, whose samples make the original again.
    corrupt
        Track ids that are there with another content, or do not decode.
    unverified
        Track ids of another edition that decode, and whose samples are not known to be the original's.
    missing
        Track ids of the index that are not there.
    extra
        Files that the index does not know, as paths.
    known_faulty
        Track ids, valid or corrupt, with a published fault: an exact duplicate, one that the
        fault-filtered split leaves out, or one reported as damaged.
    """

    valid: tuple[str, ...]
    corrupt: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    known_faulty: tuple[str, ...]
    unverified: tuple[str, ...] = ()

    @property
    def present(self) -> tuple[str, ...]:
        """Track ids that are there, valid or not."""
        return tuple(sorted(self.valid + self.corrupt + self.unverified))


def ingest(
    source: Path, *, labels: Path | None = None, annotator: str = "", data: Path = data_folder.DATA
) -> Verification:
    """Take GTZAN into the data folder and version it.

    Parameters
    ----------
    source
        The archive (tar or zip), or a folder with ``<genre>/<track_id>.au`` (or ``.wav``, …) at any depth.
    labels
        Mood labels in any form that the inbox takes. None keeps the present labels and history of GTZAN; see
        `kept_labels`.
    annotator
        Who gave the labels of rows that name nobody.
    data
        The data folder.

    Raises
    ------
    DataError
        If the source cannot be read or holds no valid track; the data folder is then as it was.
    """
    if not source.exists():
        raise DataError(f"expected a folder or an archive of GTZAN, received {source}, which does not exist.")
    found, given, kept = data_folder.publish(
        lambda staging: _fill(staging, source, labels, annotator=annotator, data=data), data=data
    )
    print(summary(found) + (kept_labels.said(given, inbox=data.parent / "inbox") if given else kept))
    return found


def read_index() -> pd.DataFrame:
    """Return the facts on all 1000 tracks, one row each, as text."""
    return read_table(INDEX, columns=INDEX_COLUMNS)


def verify(folder: Path, index: pd.DataFrame) -> Verification:
    """Compare the files ``folder/<genre>/<track_id>.<suffix>`` with the index.

    Parameters
    ----------
    folder
        Holds the genre folders.
    index
        Columns ``track_id``, ``genre``, ``bytes``, ``sha256``, ``exact_duplicate_of``, ``filtered_split``.
    """
    there = {path: folder / path for path in _files_of(folder)}
    wanted = set(_places(index))
    files_of = {PurePosixPath(path).stem: file for path, file in there.items() if _place(path) in wanted}
    facts = index.set_index("track_id").loc[sorted(files_of)]
    with ThreadPoolExecutor() as pool:  # decoding and hashing release the GIL
        states = list(
            pool.map(_state, map(files_of.get, facts.index), facts["sha256"], facts["bytes"].astype(int))
        )
    faulty = index["exact_duplicate_of"].ne("") | index["filtered_split"].eq("")
    faults = set(index.loc[faulty, "track_id"]) | REPORTED_FAULTY
    return Verification(
        **{
            state: tuple(track for track, found in zip(facts.index, states, strict=True) if found == state)
            for state in ("valid", "corrupt", "unverified")
        },
        missing=tuple(sorted(set(index["track_id"]) - files_of.keys())),
        extra=tuple(sorted(path for path in there if _place(path) not in wanted)),
        known_faulty=tuple(track for track in facts.index if track in faults),
    )


def _state(file: Path, sha256: str, size: int) -> str:
    """Return ``valid``, ``corrupt`` or ``unverified``."""
    if files.sha256(file) == sha256:
        return "valid"
    if file.suffix == ORIGINAL:
        return "corrupt"
    try:
        return "valid" if has_published_samples(file, sha256=sha256, size=size) else "unverified"
    except DataError:
        return "corrupt"


def summary(found: Verification) -> str:
    """Return a verification for a human: counts, and the first names."""
    total = len(found.present) + len(found.missing)
    reported = sorted(REPORTED_FAULTY & set(found.present))
    lines = [
        f"GTZAN: {len(found.present)} of {total} tracks taken in, {len(found.valid)} of them valid",
        f"  corrupt (not the published content, taken in all the same): {listing(found.corrupt)}",
        f"  missing: {listing(found.missing)}",
        f"  extra files (ignored): {listing(found.extra)}",
        f"  known faults (copies, not in the filtered split, damage): {listing(found.known_faulty)}",
    ]
    if reported:
        lines.append(f"  reported as damaged in some editions: {', '.join(reported)}")
    if found.unverified:
        lines.append(
            f"  not byte-verified (another edition, whose samples do not make the published files): "
            f"{listing(found.unverified)}"
        )
    return "\n".join(lines)


def unpack(archive: Path, folder: Path, *, wanted: Set[str]) -> tuple[str, ...]:
    """Write the wanted members of a tar archive to ``folder``, and nothing else.

    Parameters
    ----------
    archive
        ``.zip``, ``.tar.gz``, ``.tgz`` or ``.tar`` with ``<genre>/<track_id>.au`` (or ``.wav``) at any depth.
    folder
        Receives ``<genre>/<track_id>.<suffix>``.
    wanted
        ``<genre>/<track_id>`` of the tracks to take.

    Returns
    -------
    extra
        The other files in the archive.

    Raises
    ------
    DataError
        If a member points outside the archive or is no plain file, or the archive is cut or damaged.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as pack:
                members = [member for member in pack.infolist() if not member.is_dir()]
                return tuple(sorted(n for one in members if (n := _take_zipped(pack, one, folder, wanted))))
        with tarfile.open(archive) as tar:
            return tuple(sorted(name for member in tar if (name := _take(tar, member, folder, wanted))))
    except (*_DAMAGE, NotImplementedError, RuntimeError) as error:  # a zip that is encrypted, or oddly packed
        raise DataError(
            f"expected {archive} to be a complete .zip, .tar.gz, .tgz or .tar of GTZAN, received {error}. "
            "Download it again, or unpack it yourself and name the folder."
        ) from error


def copy(source: Path, folder: Path, *, wanted: Set[str]) -> tuple[str, ...]:
    """Copy the wanted tracks below ``source``, at any depth, to ``folder``; return the other files."""
    extra = []
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        name = file.relative_to(source).as_posix()
        if _place(name) in wanted:
            target = folder / f"{_place(name)}{file.suffix.lower()}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        else:
            extra.append(name)
    return tuple(extra)


def download(url: str = URL, *, md5: str = MD5, folder: Path = DOWNLOADS) -> Path:
    """Download the archive, or go on with a download that was cut; check its MD5.

    Parameters
    ----------
    url
        Where the archive is.
    md5
        Hexadecimal MD5 of the whole archive.
    folder
        Receives ``genres.tar.gz``; an archive that is already there and whole is not fetched again.

    Raises
    ------
    DataError
        If the server cannot be reached (what came is kept), or the content is wrong (it is deleted).
    """
    import pooch
    import requests

    if not re.fullmatch("[0-9a-f]{32}", md5):
        raise DataError(f"expected an MD5 of 32 hexadecimal digits in lower case, received {md5!r}.")
    # Named by content: bytes of one archive are never appended to another's.
    part = folder / f"{md5}.part"
    with waiting_lock(folder / "download.lock"):
        try:
            return Path(
                pooch.retrieve(
                    url,
                    f"md5:{md5}",
                    fname="genres.tar.gz",
                    path=folder,
                    downloader=partial(fetch, part=part),
                )
            )
        except requests.RequestException as error:
            kept = part.stat().st_size if part.exists() else 0
            raise DataError(
                f"expected to download {url}, received {error}. {kept} bytes are kept: run this again to go "
                "on, name a mirror with --url, or name an archive that you have."
            ) from error
        except ValueError as error:
            raise DataError(
                f"expected an archive with MD5 {md5} from {url}, received {error} Nothing is kept; "
                "run this again, or name a mirror with --url."
            ) from error


def fetch(url: str, output: str, _pooch: object, *, part: Path) -> None:
    """Download ``url`` by way of ``part``, which outlives a failure; the downloader that pooch calls.

    Parameters
    ----------
    url
        Where the file is.
    output
        Where pooch wants the whole file.
    part
        Holds what has come so far.

    Raises
    ------
    requests.RequestException
        If the last attempt fails, or the server refuses.
    """
    from requests.exceptions import ChunkedEncodingError, ConnectionError, Timeout

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _append(url, part)
            break
        except (ChunkedEncodingError, ConnectionError, Timeout):
            if attempt == _ATTEMPTS:
                raise
            time.sleep(_PAUSE_SECONDS)
    part.replace(output)


def _append(url: str, part: Path) -> None:
    """Fetch what ``part`` lacks; start again where the server supports no ranges."""
    import requests
    from tqdm import tqdm

    have = part.stat().st_size if part.exists() else 0
    # Any other encoding than "identity" would make ranges and lengths those of a compressed stream.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return _finish_or_drop(response.headers.get("Content-Range", ""), part=part, have=have)
        response.raise_for_status()
        have = have if response.status_code == requests.codes.partial_content else 0
        total = have + int(response.headers.get("Content-Length", 0))
        with (
            part.open("ab" if have else "wb") as stream,
            tqdm(total=total or None, initial=have, unit="B", unit_scale=True, desc="genres.tar.gz") as bar,
        ):
            for chunk in response.iter_content(_CHUNK_BYTES):
                bar.update(stream.write(chunk))
    return None


def _finish_or_drop(content_range: str, *, part: Path, have: int) -> None:
    """Accept ``part`` if the server says that it is whole (``bytes */<length>``); else drop it and retry."""
    import requests

    if content_range == f"bytes */{have}":
        return
    part.unlink()
    raise requests.ConnectionError("the server's file is shorter than the part that is here; starting again")


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, wanted: Set[str]) -> str:
    """Write one member if it is wanted; return its name if it is a file that is not."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name:
        raise DataError(
            f"{tar.name!r}: member {member.name!r} points outside the archive. Do not trust this file."
        )
    if member.isdir():
        return ""
    if not member.isfile():
        raise DataError(
            f"{tar.name!r}: member {member.name!r} is a link or a device. Do not trust this file."
        )
    if _place(member.name) not in wanted:
        return member.name
    content = tar.extractfile(member)
    assert content is not None
    _write(content, folder / f"{_place(member.name)}{path.suffix.lower()}")
    return ""


def _take_zipped(pack: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, wanted: Set[str]) -> str:
    """Write one file of a zip if it is wanted, by its last folder and name only; else return its name."""
    if _place(member.filename) not in wanted:
        return member.filename
    suffix = PurePosixPath(member.filename).suffix.lower()
    _write(pack.open(member), folder / f"{_place(member.filename)}{suffix}")
    return ""


def _write(content: IO[bytes], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with content, target.open("wb") as stream:
        shutil.copyfileobj(content, stream, _CHUNK_BYTES)


def _place(name: str) -> str:
    """Return ``<genre>/<track_id>`` of an audio file's path; blank of other files."""
    path = PurePosixPath(name)
    is_audio = path.suffix.lower() in audio.SUFFIXES and len(path.parts) > 1
    return f"{path.parent.name}/{path.stem}" if is_audio else ""


def _keep_one_each(folder: Path) -> tuple[str, ...]:
    """Delete all but one edition of a track, the original if it is there; return what was deleted."""
    editions: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*/*"), key=lambda path: (path.suffix != ORIGINAL, path.name)):
        editions.setdefault(path.stem, []).append(path)
    others = [path for several in editions.values() for path in several[1:]]
    for path in others:
        path.unlink()
    return tuple(path.relative_to(folder).as_posix() for path in others)


def _fill(
    staging: Path, source: Path, labels: Path | None, *, annotator: str, data: Path
) -> tuple[Verification, GivenLabels | None, str]:
    """Write a data folder from a folder or an archive; return what it holds, and labels given or kept."""
    index = read_index()
    audio_folder = staging / data_folder.AUDIO_FOLDER
    take = copy if source.is_dir() else unpack
    extra = take(source, audio_folder, wanted=set(_places(index)))
    extra += _keep_one_each(audio_folder)
    found = replace(verify(audio_folder, index), extra=extra)
    if not found.valid + found.unverified:
        raise DataError(
            f"expected GTZAN's files as <genre>/<genre>.NNNNN.au (or .wav) in {source}, received no valid "
            f"one; corrupt {listing(found.corrupt)}; other files {listing(extra)}. "
            "For music of your own use make folder SRC=…"
        )
    ids = set(found.present)
    names = TrackNames({track: f"{track.partition('.')[0]}/{track}" for track in ids})
    given = kept_labels.read_given(labels, names=names, annotator=annotator) if labels else None
    kept_labels.begin(staging, given)
    kept = ""
    if not given:
        kept = kept_labels.carry_over(staging, data=data, names={WHOLE, PART}, track_ids=ids)
    held_out.carry_over(staging, data=data, names={WHOLE, PART})
    write_index(staging, index[index["track_id"].isin(ids)])
    n = len(found.present)
    name = WHOLE if n == TRACKS_IN_ALL else PART
    description = f"GTZAN, {n} of {TRACKS_IN_ALL} tracks, {len(found.valid)} with the published content"
    write_dataset(staging, name=name, description=description)
    return found, given, kept


def _places(index: pd.DataFrame) -> list[str]:
    """Return ``<genre>/<track_id>`` of every row."""
    return [f"{genre}/{name}" for genre, name in zip(index["genre"], index["track_id"], strict=True)]


def _files_of(folder: Path) -> set[str]:
    """Return the files in ``folder`` and in its folders, relative to it."""
    found = [*folder.glob("*"), *folder.glob("*/*")]
    return {path.relative_to(folder).as_posix() for path in found if path.is_file()}


def main() -> None:
    """Take GTZAN into the data folder."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.sources.gtzan", description=main.__doc__)
    parser.add_argument("source", nargs="?", type=Path, help="folder or archive; without it: download")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="mood labels (default: those there)")
    parser.add_argument("--annotator", default="", metavar="NAME", help=kept_labels.ANNOTATOR_HELP)
    parser.add_argument("--url", default=URL, help="mirror to download from (default: %(default)s)")
    parser.add_argument("--md5", default=MD5, help="MD5 of what is downloaded (default: GTZAN's)")
    args = parser.parse_args()
    source = args.source.expanduser() if args.source else download(args.url, md5=args.md5)
    ingest(source, labels=args.labels and args.labels.expanduser(), annotator=args.annotator)


if __name__ == "__main__":
    run_main(main)
