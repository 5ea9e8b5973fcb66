"""Any music library: ``SRC/<genre>/<file>``, in any common format, with the folders' names as genres.

``python -m pipeline.sources.folder SRC [--labels CSV] [--artists CSV] [--name NAME]`` copies it, as it is,
into the data folder. The same library taken in again keeps its labels; see `kept_labels`.
"""

from __future__ import annotations

import argparse
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from pipeline import data_folder, files
from pipeline.errors import DataError, run_main
from pipeline.inference.audio import SUFFIXES
from pipeline.quality import sample_files
from pipeline.sources import kept_labels
from pipeline.tables.dataset import write_dataset
from pipeline.tables.index import INDEX_COLUMNS, write_index
from pipeline.tables.mood_labels import LABEL_COLUMNS, write_labels
from pipeline.tables.text_csv import read_table
from pipeline.untrusted import listing

ARTIST_COLUMNS: Final = ("track_id", "artist")

# They would break a CSV line, a path or a shell line further on.
_FORBIDDEN: Final = frozenset(',"/\\')


@dataclass(frozen=True)
class Scan:
    """What a folder holds.

    Parameters
    ----------
    tracks
        Audio files, sorted by track id; the parent's name is the genre, the stem the track id.
    ignored
        Everything else, relative to the folder, by the reason.
    """

    tracks: tuple[Path, ...]
    ignored: dict[str, list[str]]


def ingest(
    source: Path,
    *,
    labels: Path | None = None,
    artists: Path | None = None,
    name: str | None = None,
    data: Path = data_folder.DATA,
) -> pd.DataFrame:
    """Copy a library into the data folder and version it.

    Parameters
    ----------
    source
        Folder of genre folders with audio files.
    labels
        CSV ``track_id,mood,annotator,labelled_at``; copied as it is, with an empty history of intakes.
        None keeps the present labels and history of the same library; see `kept_labels`.
    artists
        CSV ``track_id,artist[,title]``; tracks that it does not name have no artist.
    name
        The data's name; None takes the folder's name.
    data
        The data folder.

    Returns
    -------
    index
        One row a track, as in ``index.csv``.

    Raises
    ------
    DataError
        If a file or a name is not as described; the data folder is then as it was.
    """
    scan = scan_folder(source)
    known = read_artists(artists) if artists else pd.DataFrame(columns=list(ARTIST_COLUMNS))
    title = name or source.resolve().name
    if title in ("", "..") or Path(title).name != title:
        raise DataError(
            f"expected a name without slashes for the data, received {title!r}. Give --name NAME."
        )
    index, kept = data_folder.publish(
        lambda staging: _fill(staging, scan.tracks, artists=known, labels=labels, name=title, data=data),
        data=data,
    )
    print(summary(index, ignored=scan.ignored) + kept)
    return index


def scan_folder(source: Path) -> Scan:
    """List the audio files of ``source/<genre>/``.

    Raises
    ------
    DataError
        If there is no audio, or an id or a genre cannot serve as a name.
    """
    if not source.is_dir():
        raise DataError(f"expected a folder of genre folders, received {source}, which is no folder.")
    entries = sorted([*source.glob("*"), *source.glob("*/*"), *source.glob("*/*/**/*")])
    tracks, ignored = list[Path](), dict[str, list[str]]()
    for path in (path for path in entries if not path.is_dir()):
        if reason := _reason_against(path, source=source):
            ignored.setdefault(reason, []).append(path.relative_to(source).as_posix())
        else:
            tracks.append(path)
    if not tracks:
        others = "; ".join(_ignored_lines(ignored)) or "no file at all"
        raise DataError(
            f"expected audio ({', '.join(SUFFIXES)}) in {source}/<genre>/, received {others}. "
            "Name the folder that holds the genre folders."
        )
    _check_names(tracks)
    return Scan(tuple(sorted(tracks, key=lambda path: path.stem)), ignored)


def read_artists(path: Path) -> pd.DataFrame:
    """Read ``track_id,artist[,title]``.

    Raises
    ------
    DataError
        If the file is not such a CSV, or names a track twice.
    """
    table = read_table(path, columns=ARTIST_COLUMNS)
    twice = table.loc[table["track_id"].duplicated(), "track_id"].tolist()
    if twice:
        raise DataError(f"{path}: expected each track once, received twice {listing(twice)}. Keep one.")
    return table


def describe_tracks(tracks: list[Path], *, artists: pd.DataFrame) -> pd.DataFrame:
    """Return the facts on audio files: size, SHA-256, artist, exact duplicates.

    Parameters
    ----------
    tracks
        Files ``<genre>/<track_id>.<ext>``.
    artists
        Columns ``track_id``, ``artist`` and perhaps ``title``.

    Returns
    -------
    index
        One row a track with the columns of ``index.csv``; a copy names the first of its kind by id.
    """
    files_found = pd.DataFrame(
        {
            "track_id": [path.stem for path in tracks],
            "genre": [path.parent.name for path in tracks],
            "bytes": [path.stat().st_size for path in tracks],
            "sha256": [files.sha256(path) for path in tracks],
        }
    ).sort_values("track_id")
    first = files_found.groupby("sha256")["track_id"].transform("first")
    files_found["exact_duplicate_of"] = first.where(first != files_found["track_id"], "")
    credits = artists.reindex(columns=["track_id", "artist", "title"], fill_value="")
    index = files_found.merge(credits, on="track_id", how="left").fillna("")
    index["artist_source"] = index["artist"].ne("").map({True: "given", False: ""})
    return index.reindex(columns=list(INDEX_COLUMNS), fill_value="")


def summary(index: pd.DataFrame, *, ignored: dict[str, list[str]]) -> str:
    """Return what was taken in, for a human."""
    counts = index["genre"].value_counts().sort_index()
    copies = index.loc[index["exact_duplicate_of"].ne(""), "track_id"].tolist()
    lines = [
        f"{len(index)} tracks of {len(counts)} genres: "
        + ", ".join(f"{genre} {count}" for genre, count in counts.items()),
        f"  artist known: {int(index['artist'].ne('').sum())}",
        f"  exact duplicates: {listing(copies)}",
        f"  ignored files: {sum(map(len, ignored.values()))}",
        *(f"    {line}" for line in _ignored_lines(ignored)),
    ]
    return "\n".join(lines)


def _ignored_lines(ignored: dict[str, list[str]]) -> list[str]:
    return [f"{reason}: {listing(names)}" for reason, names in sorted(ignored.items())]


def _reason_against(path: Path, *, source: Path) -> str:
    """Return why a file is no track; ``""`` if it is one."""
    parts = path.relative_to(source).parts
    if any(part.startswith(".") for part in parts):
        return "hidden"
    if path.suffix.lower() not in SUFFIXES:
        return "no audio by their suffix"
    if not path.exists():
        return "links whose content is not there (git-annex and DataLad fetch it by `get`)"
    if not path.is_file():
        return "no regular files"
    return "" if len(parts) == 2 else "audio elsewhere than in <genre>/"


def _check_names(tracks: list[Path]) -> None:
    """Raise `DataError` if a name cannot be written into a CSV file and a path, or is not unique."""
    names = {path.parent.name for path in tracks} | {path.stem for path in tracks}
    bad = sorted(repr(name) for name in names if _FORBIDDEN & set(name) or not name.isprintable())
    if bad:
        raise DataError(
            "expected names of folders and files free of comma, double quote, backslash and newline, "
            f"received {listing(bad)}. Rename them."
        )
    uses = Counter(path.stem for path in tracks)
    clashes = sorted(f"{path.parent.name}/{path.name}" for path in tracks if uses[path.stem] > 1)
    if clashes:
        raise DataError(
            "expected file names that are unique over all genres, as they are the track ids, "
            f"received {listing(clashes)}. Rename or remove them."
        )


def _fill(
    staging: Path,
    tracks: tuple[Path, ...],
    *,
    artists: pd.DataFrame,
    labels: Path | None,
    name: str,
    data: Path,
) -> tuple[pd.DataFrame, str]:
    """Write a data folder from audio files; return its index, and what was kept of the labels."""
    write_labels(staging, labels)
    ids = {track.stem for track in tracks}
    kept = "" if labels else kept_labels.carry_over(staging, data=data, names={name}, track_ids=ids)
    copies = [
        staging / data_folder.AUDIO_FOLDER / t.parent.name / (t.stem + t.suffix.lower()) for t in tracks
    ]
    for track, copy in zip(tracks, copies, strict=True):
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(track, copy)
    index = describe_tracks(copies, artists=artists)
    write_index(staging, index)
    genres = index["genre"].nunique()
    synthetic = sample_files.is_sample(index["sha256"].tolist())
    description = f"{len(index)} tracks of {genres} genres" + (", a copy of the sample" if synthetic else "")
    write_dataset(staging, name=name, description=description, synthetic=synthetic)
    return index, kept


def main() -> None:
    """Take a music library into the data folder."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.sources.folder", description=main.__doc__)
    parser.add_argument(
        "source", type=Path, metavar="SRC", help="holds <genre>/<file>; a file's stem is its id"
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="CSV",
        help=f"{','.join(LABEL_COLUMNS)} (default: the labels that are there, if of this library)",
    )
    parser.add_argument("--artists", type=Path, metavar="CSV", help="track_id,artist[,title]")
    parser.add_argument("--name", help="the data's name (default: the folder's name)")
    args = parser.parse_args()
    ingest(args.source, labels=args.labels, artists=args.artists, name=args.name)


if __name__ == "__main__":
    run_main(main)
