"""GTZAN: 1000 clips of 30 s in ten genres, downloaded or given, checked file by file, taken in.

``python -m pipeline.sources.gtzan [FOLDER or ARCHIVE] [--labels CSV]``; without a source the archive is
downloaded. `verify` reports, it never stops: faulty tracks are taken in, and the catalog stage judges them.
"""

from __future__ import annotations

import argparse
import gzip
import lzma
import re
import shutil
import tarfile
import time
import zlib
from collections.abc import Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

import pandas as pd

from pipeline import data_folder, files
from pipeline.errors import DataError, run_main
from pipeline.sources import kept_labels
from pipeline.tables.dataset import write_dataset
from pipeline.tables.index import INDEX_COLUMNS, write_index
from pipeline.tables.mood_labels import LABEL_COLUMNS, write_labels
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

# Sturm 2013: corrupt in one edition, badly distorted; not among the exact duplicates.
REPORTED_FAULTY: Final = frozenset({"jazz.00054", "reggae.00086"})

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
        Track ids whose SHA-256 is the original's.
    corrupt
        Track ids that are there with another content.
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

    @property
    def present(self) -> tuple[str, ...]:
        """Track ids that are there, valid or not."""
        return tuple(sorted(self.valid + self.corrupt))


def ingest(source: Path, *, labels: Path | None = None, data: Path = data_folder.DATA) -> Verification:
    """Take GTZAN into the data folder and version it.

    Parameters
    ----------
    source
        The archive, or a folder ``genres/<genre>/`` or ``<genre>/`` of original ``.au`` files.
    labels
        CSV ``track_id,mood,annotator,labelled_at``; copied as it is, with an empty history of intakes.
        None keeps the present labels and history of GTZAN; see `kept_labels`.
    data
        The data folder.

    Raises
    ------
    DataError
        If the source cannot be read or holds no valid track; the data folder is then as it was.
    """
    if not source.exists():
        raise DataError(f"expected a folder or an archive of GTZAN, received {source}, which does not exist.")
    found, kept = data_folder.publish(
        lambda staging: _fill(staging, source, index=read_index(), labels=labels, data=data), data=data
    )
    print(summary(found) + kept)
    return found


def read_index() -> pd.DataFrame:
    """Return the facts on all 1000 tracks, one row each, as text."""
    return read_table(INDEX, columns=INDEX_COLUMNS)


def verify(folder: Path, index: pd.DataFrame) -> Verification:
    """Compare the files ``folder/<genre>/<track_id>.au`` with the index.

    Parameters
    ----------
    folder
        Holds the genre folders.
    index
        Columns ``track_id``, ``genre``, ``sha256``, ``exact_duplicate_of``, ``filtered_split``.
    """
    expected = dict(zip(_track_paths(index), index["sha256"], strict=True))
    there = {path: folder / path for path in expected if (folder / path).is_file()}
    valid = {path for path, file in there.items() if files.sha256(file) == expected[path]}
    faulty = index["exact_duplicate_of"].ne("") | index["filtered_split"].eq("")
    faults = set(index.loc[faulty, "track_id"]) | REPORTED_FAULTY
    return Verification(
        valid=_ids(valid),
        corrupt=_ids(there.keys() - valid),
        missing=_ids(expected.keys() - there.keys()),
        extra=tuple(sorted(_files_of(folder) - expected.keys())),
        known_faulty=tuple(name for name in _ids(there.keys()) if name in faults),
    )


def summary(found: Verification) -> str:
    """Return a verification for a human: counts, and the first names."""
    total = len(found.present) + len(found.missing)
    lines = [
        f"GTZAN: {len(found.present)} of {total} tracks taken in, {len(found.valid)} of them valid",
        f"  corrupt (not the published content, taken in all the same): {listing(found.corrupt)}",
        f"  missing: {listing(found.missing)}",
        f"  extra files (ignored): {listing(found.extra)}",
        f"  known faults (copies, not in the filtered split, damage): {listing(found.known_faulty)}",
    ]
    return "\n".join(lines)


def unpack(archive: Path, folder: Path, *, wanted: Set[str]) -> tuple[str, ...]:
    """Write the wanted members of a tar archive to ``folder``, and nothing else.

    Parameters
    ----------
    archive
        ``.tar.gz``, ``.tgz`` or ``.tar`` with ``genres/<genre>/<track_id>.au``, ``genres/`` being optional.
    folder
        Receives ``<genre>/<track_id>.au``.
    wanted
        ``<genre>/<track_id>.au`` of the tracks to take.

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
        with tarfile.open(archive) as tar:
            return tuple(sorted(name for member in tar if (name := _take(tar, member, folder, wanted))))
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(
            f"expected {archive} to be a complete .tar.gz, .tgz or .tar of GTZAN, received {error}. "
            "Download it again, or unpack it yourself and name the folder."
        ) from error


def copy(source: Path, folder: Path, *, wanted: Set[str]) -> tuple[str, ...]:
    """Copy the wanted tracks of ``source`` (or ``source/genres``) to ``folder``; return the other files."""
    root = source / "genres" if (source / "genres").is_dir() else source
    there = _files_of(root)
    for path in sorted(there & wanted):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, folder / path)
    return tuple(sorted(there - wanted))


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
    if not path.parts:
        return str(path)
    name = "/".join(path.parts[1:] if path.parts[0] == "genres" else path.parts)
    if name not in wanted:
        return member.name
    content = tar.extractfile(member)
    assert content is not None
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    with content, (folder / name).open("wb") as stream:
        shutil.copyfileobj(content, stream, _CHUNK_BYTES)
    return ""


def _fill(
    staging: Path, source: Path, *, index: pd.DataFrame, labels: Path | None, data: Path
) -> tuple[Verification, str]:
    """Write a data folder from a folder or an archive; return what it holds, and which labels were kept."""
    write_labels(staging, labels)
    audio = staging / data_folder.AUDIO_FOLDER
    take = copy if source.is_dir() else unpack
    extra = take(source, audio, wanted=set(_track_paths(index)))
    found = replace(verify(audio, index), extra=extra)
    if not found.valid:
        raise DataError(
            f"expected GTZAN's .au files as [genres/]<genre>/<genre>.NNNNN.au in {source}, received "
            f"no valid one; corrupt {listing(found.corrupt)}; other files {listing(extra)}. "
            "For another edition (.wav, …) use pipeline.sources.folder, with --artists "
            "pipeline/sources/gtzan_index.csv."
        )
    ids = set(found.present)
    kept = "" if labels else kept_labels.carry_over(staging, data=data, names={WHOLE, PART}, track_ids=ids)
    write_index(staging, index[index["track_id"].isin(ids)])
    n = len(found.present)
    name = WHOLE if n == TRACKS_IN_ALL else PART
    description = f"GTZAN, {n} of {TRACKS_IN_ALL} tracks, {len(found.valid)} with the published content"
    write_dataset(staging, name=name, description=description)
    return found, kept


def _track_paths(index: pd.DataFrame) -> list[str]:
    """Return ``<genre>/<track_id>.au`` of every row."""
    return [f"{genre}/{name}.au" for genre, name in zip(index["genre"], index["track_id"], strict=True)]


def _ids(paths: Set[str]) -> tuple[str, ...]:
    """Return the sorted track ids of ``<genre>/<track_id>.au``."""
    return tuple(sorted(PurePosixPath(path).stem for path in paths))


def _files_of(folder: Path) -> set[str]:
    """Return the files in ``folder`` and in its folders, relative to it."""
    found = [*folder.glob("*"), *folder.glob("*/*")]
    return {path.relative_to(folder).as_posix() for path in found if path.is_file()}


def main() -> None:
    """Take GTZAN into the data folder."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.sources.gtzan", description=main.__doc__)
    parser.add_argument("source", nargs="?", type=Path, help="folder or archive; without it: download")
    parser.add_argument("--labels", type=Path, metavar="CSV", help=",".join(LABEL_COLUMNS))
    parser.add_argument("--url", default=URL, help="mirror to download from (default: %(default)s)")
    parser.add_argument("--md5", default=MD5, help="MD5 of what is downloaded (default: GTZAN's)")
    args = parser.parse_args()
    ingest(args.source or download(args.url, md5=args.md5), labels=args.labels)


if __name__ == "__main__":
    run_main(main)
