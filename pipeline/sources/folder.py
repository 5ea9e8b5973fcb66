"""Any music library: a folder with audio at any depth, in any common format.

``python -m pipeline.sources.folder SRC [--labels FILE] [--artists CSV] [--genre folder|tags] [--name NAME]``
copies it, as it is, into the data folder. The genre is the first folder's name (of ``rock/Artist/song.mp3``),
or the file's tag where there is no folder, or where the first folders are artists; artist and title are from
the tags. The same library taken in again keeps its labels (see `kept_labels`) and its track ids.
"""

from __future__ import annotations

import argparse
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import pandas as pd

from pipeline import data_folder, files, identity, params, presets
from pipeline.errors import DataError, run_main
from pipeline.labelling import columns
from pipeline.labelling.track_names import TrackNames
from pipeline.quality import sample_files
from pipeline.sources import kept_labels, music_files, tags, tasks, track_ids
from pipeline.sources.kept_labels import ANNOTATOR_HELP, GivenLabels
from pipeline.sources.music_files import MusicFiles
from pipeline.tables import held_out
from pipeline.tables.dataset import dataset_of, write_dataset
from pipeline.tables.index import INDEX_COLUMNS, SOURCE, sources_of, write_index
from pipeline.tables.text_csv import read_table
from pipeline.taxonomy import UNKNOWN_GENRE, canonical_genre
from pipeline.untrusted import listing

GenreFrom = Literal["folder", "tags"]
# Of a table of artists; the last two are GTZAN's published facts, which a table may have.
CREDITS: Final = ("artist", "title", "exact_duplicate_of", "filtered_split")

_ARTISTS_FIRST: Final = (
    0.5  # of files with an artist's tag: if more lie in a first folder of that name, it is no genre
)


@dataclass(frozen=True)
class Plan:
    """What a library's files are to be called, and what is known of them.

    Parameters
    ----------
    found
        The files.
    index
        One row a track, sorted by id: ``genre``, `CREDITS`, ``artist_source``, and ``source``, the file.
    notes
        What was taken for what, in words.
    """

    found: MusicFiles
    index: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def names(self) -> TrackNames:
        """The tracks by the names that people give them."""
        return TrackNames(dict(zip(self.index["track_id"], self.index[SOURCE], strict=True)))


def ingest(
    source: Path,
    *,
    labels: Path | None = None,
    annotator: str = "",
    label_map: str = "",
    artists: Path | None = None,
    genre_from: GenreFrom | None = None,
    name: str | None = None,
    data: Path = data_folder.DATA,
    settings: params.IntakeParams | None = None,
) -> pd.DataFrame:
    """Copy a library into the data folder and version it; print what was taken in.

    Parameters
    ----------
    source
        Folder with audio files at any depth; it is only read.
    labels
        Mood labels in any form that the inbox takes; they begin a new history of intakes. None keeps the
        present labels and history of the same library; see `kept_labels`.
    annotator
        Who gave the labels of rows that name nobody.
    label_map
        What the columns of a data set that others made mean; see `pipeline.labelling.label_maps`.
    artists
        CSV with a track (id, file name or path) and an artist a row, and perhaps a title; it takes
        precedence over tags.
    genre_from
        Where genres are from; None: from the first folder, unless the tags say that it is the artist.
    name
        The data's name; None takes the folder's name.
    data
        The data folder.
    settings
        Thresholds of the labels' checks; not needed without labels.

    Returns
    -------
    index
        One row a track, as in ``index.csv``.

    Raises
    ------
    DataError
        A file cannot be taken, or not one label can; the data folder is then as it was.
    """
    title = name or source.resolve().name
    if title in ("", "..") or Path(title).name != title:
        raise DataError(
            f"expected a name without slashes for the data, received {title!r}. Give --name NAME."
        )
    plan = plan_library(source, artists=artists, genre_from=genre_from, before=_ids_before(data, name=title))
    given = (
        kept_labels.read_given(
            labels, names=plan.names, settings=settings, annotator=annotator, label_map=label_map
        )
        if labels
        else None
    )
    index, kept = data_folder.publish(
        lambda staging: _fill(staging, plan, given=given, name=title, data=data), data=data
    )
    print(summary(index, plan) + (kept_labels.said(given, inbox=data.parent / "inbox") if given else kept))
    return index


def _ids_before(data: Path, *, name: str) -> dict[str, str]:
    """Return by path the ids that this library's tracks have now; none if another library is there."""
    there = dataset_of(data)
    if there.get("synthetic", True) or there.get("name") != name:
        return {}
    found = data.glob(f"{data_folder.AUDIO_FOLDER}/*/*")
    places = {f"{path.parent.name}/{path.name}": path.stem for path in found}
    return places | {place: track for track, place in sources_of(data).items()}


def plan_library(
    source: Path,
    *,
    artists: Path | None = None,
    genre_from: GenreFrom | None = None,
    before: Mapping[str, str] | None = None,
) -> Plan:
    """Look at a library's files and tags, and give every track an id, a genre and, where known, an artist.

    Raises
    ------
    DataError
        There is no audio, or the table of artists is none.
    """
    found = music_files.find(source)
    of_files = [tags.read(source / path) for path in found.tracks]
    genres, genre_note = _genres(found.tracks, of_files, genre_from)
    ids = track_ids.assign(found.tracks, before=before or {})
    index = pd.DataFrame(
        {
            "track_id": [ids[path] for path in found.tracks],
            "genre": genres,
            "artist": [
                one.artist or _artist_folder(path) for path, one in zip(found.tracks, of_files, strict=True)
            ],
            "title": [one.title for one in of_files],
            "artist_source": [
                "tags" if one.artist else "folder" if _artist_folder(path) else ""
                for path, one in zip(found.tracks, of_files, strict=True)
            ],
            SOURCE: found.tracks,
        },
        dtype="str",
    ).sort_values("track_id", ignore_index=True)
    index = index.assign(exact_duplicate_of="", filtered_split="")
    notes = [genre_note, _names_note(ids)]
    if artists:
        index, note = _with_credits(index, artists)
        notes.append(note)
    return Plan(found, index, tuple(filter(None, notes)))


def _genres(
    paths: Sequence[str], of_files: Sequence[tags.Tags], genre_from: GenreFrom | None
) -> tuple[list[str], str]:
    """Return each file's genre, and how it was found."""
    folders = [path.split("/")[0] if "/" in path else "" for path in paths]
    named = [
        (folder, one.artist) for folder, one in zip(folders, of_files, strict=True) if folder and one.artist
    ]
    same = sum(identity.key(folder) == identity.key(artist) for folder, artist in named)
    by_artist = bool(named) and same > _ARTISTS_FIRST * len(named)
    by_tags = genre_from == "tags" or (genre_from is None and (by_artist or not any(folders)))
    tagged = _one_spelling([one.genre for one in of_files])
    found = tagged if by_tags else [folder or tag for folder, tag in zip(folders, tagged, strict=True)]
    why = (
        " (the first folders are artists; --genre folder says otherwise)"
        if by_artist and not genre_from
        else ""
    )
    said = "from the files' tags" + why if by_tags else "from the first folder"
    without = sum(not genre for genre in found)
    if not any(found):
        return [UNKNOWN_GENRE] * len(paths), "genre: no folders and no tags name one"
    said += (
        f"; {without} {'file' if without == 1 else 'files'} without one, in the folder {UNKNOWN_GENRE}"
        if without
        else ""
    )
    return [
        track_ids.safe(canonical_genre(genre)) if genre else UNKNOWN_GENRE for genre in found
    ], f"genre: {said}"


def _one_spelling(genres: Sequence[str]) -> list[str]:
    """Return genres as most files spell them: ``Hip-Hop`` and ``hip-hop`` are one."""
    times: dict[str, Counter[str]] = {}
    for genre in genres:
        times.setdefault(identity.key(genre), Counter())[genre] += 1
    return [times[identity.key(genre)].most_common(1)[0][0] for genre in genres]


def _artist_folder(path: str) -> str:
    """Return the folder below the genre's, which holds one artist's files or one album's; blank if none."""
    parts = path.split("/")
    return parts[1] if len(parts) > 2 else ""


def _names_note(ids: Mapping[str, str]) -> str:
    """Say how many ids are not just the file's stem."""
    others = [track for path, track in ids.items() if track != Path(path).stem]
    return f"tracks whose id differs from the file's name: {listing(sorted(others))}" if others else ""


def _with_credits(index: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, str]:
    """Put in what a table knows of the tracks; return how many of its rows name one."""
    given = read_artists(path, tracks=TrackNames(dict(zip(index["track_id"], index[SOURCE], strict=True))))
    known = given.reindex(index["track_id"]).fillna("").reset_index(drop=True)
    has_artist = known["artist"] != ""
    index = index.assign(artist_source=index["artist_source"].mask(has_artist, "given"))
    for column in CREDITS:
        index[column] = index[column].mask(known[column] != "", known[column])
    return index, f"artists: {path.name} names {int(given.index.isin(index['track_id']).sum())} of the tracks"


def read_artists(path: Path, *, tracks: TrackNames) -> pd.DataFrame:
    """Read a table of artists.

    Returns
    -------
    table
        By track id: `CREDITS`, blank where unknown. Rows of unknown tracks are not in it.

    Raises
    ------
    DataError
        It is no such table, or names a track twice.
    """
    table = read_table(path, columns=[])
    table.columns = [str(column).strip().lower().replace(" ", "_") for column in table]
    table = table.rename(columns=columns.renamed([*table], name=path.name, wanted=("track_id", "artist")))
    missing = [column for column in ("track_id", "artist") if column not in table]
    if missing:
        raise DataError(
            f"{path}: expected columns track_id (or filename) and artist, received {','.join(table)}. "
            f"Add to the header: {','.join(missing)}."
        )
    meant = table["track_id"].map(tracks.meant)
    table = table.assign(track_id=meant.str[0])[meant.map(len) == 1]
    twice = table.loc[table["track_id"].duplicated(), "track_id"].tolist()
    if twice:
        raise DataError(f"{path}: expected each track once, received twice {listing(twice)}. Keep one.")
    return table.set_index("track_id").reindex(columns=list(CREDITS), fill_value="")


def summary(index: pd.DataFrame, plan: Plan) -> str:
    """Return what was taken in, for a human."""
    counts = index["genre"].value_counts().sort_index()
    copies = index.loc[index["exact_duplicate_of"].ne(""), "track_id"].tolist()
    sources = index["artist_source"].value_counts()
    known = ", ".join(f"{sources[name]} {said}" for name, said in _SAID.items() if name in sources)
    lines = [
        f"{len(index)} tracks of {len(counts)} {'genre' if len(counts) == 1 else 'genres'}: "
        + ", ".join(f"{genre} {count}" for genre, count in counts.items()),
        f"  {plan.found.summary()}",
        *(f"  {note}" for note in plan.notes),
        f"  artist known: {int(index['artist'].ne('').sum())}" + (f" ({known})" if known else ""),
        f"  exact duplicates: {listing(copies)}",
    ]
    return "\n".join(lines)


_SAID: Final = {"given": "given", "tags": "from tags", "folder": "from the folder below the genre's"}


def _fill(
    staging: Path, plan: Plan, *, given: GivenLabels | None, name: str, data: Path
) -> tuple[pd.DataFrame, str]:
    """Write a data folder from audio files; return its index, and what was kept of the labels."""
    ids = set(plan.index["track_id"])
    kept_labels.begin(staging, given)
    kept = "" if given else kept_labels.carry_over(staging, data=data, names={name}, track_ids=ids)
    copies = [_copy(row, plan.found.root, staging) for row in plan.index.to_dict("records")]
    index = described(plan.index, copies)
    write_index(staging, index)
    held_out.carry_over(staging, data=data, names={name})
    genres = index["genre"].nunique()
    synthetic = sample_files.is_sample(index["sha256"].tolist())
    description = f"{len(index)} tracks of {genres} genres" + (", a copy of the sample" if synthetic else "")
    write_dataset(staging, name=name, description=description, synthetic=synthetic)
    return index, kept


def _copy(row: Mapping[str, str], root: Path, staging: Path) -> Path:
    """Copy a track to its place."""
    suffix = Path(row[SOURCE]).suffix.lower()
    copy = staging / data_folder.AUDIO_FOLDER / row["genre"] / f"{row['track_id']}{suffix}"
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / row[SOURCE], copy)
    return copy


def described(index: pd.DataFrame, copies: Sequence[Path]) -> pd.DataFrame:
    """Add size, SHA-256 and exact duplicates; a copy names the first of its kind by id.

    Parameters
    ----------
    index
        Sorted by ``track_id``.
    copies
        Each track's file.
    """
    sizes, hashes = [str(path.stat().st_size) for path in copies], [files.sha256(path) for path in copies]
    index = index.assign(bytes=sizes, sha256=hashes)
    first = index.groupby("sha256")["track_id"].transform("first")
    own = first.where(first != index["track_id"], "")
    index["exact_duplicate_of"] = own.where(own != "", index["exact_duplicate_of"])
    return index[[*INDEX_COLUMNS, SOURCE]]


def main() -> None:
    """Take a music library into the data folder."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.sources.folder", description=main.__doc__)
    parser.add_argument("source", type=Path, metavar="SRC", help="folder with audio files at any depth")
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="mood labels, at least a file name and a mood a row (default: the labels that are there)",
    )
    parser.add_argument("--annotator", default="", metavar="NAME", help=ANNOTATOR_HELP)
    parser.add_argument("--map", default="", metavar="NAME", help="what a data set's columns mean")
    parser.add_argument("--artists", type=Path, metavar="CSV", help="file name, artist and perhaps title")
    parser.add_argument(
        "--genre", choices=get_args(GenreFrom), help="where genres are from (default: see above)"
    )
    parser.add_argument("--name", help="the data's name (default: the folder's name)")
    args = parser.parse_args()
    source, labels, artists = (
        path and path.expanduser() for path in (args.source, args.labels, args.artists)
    )
    settings = params.read()
    name = args.name or source.resolve().name
    is_new = dataset_of(data_folder.DATA).get("name") != name
    index = ingest(
        source,
        labels=labels,
        annotator=args.annotator,
        label_map=args.map,
        artists=artists,
        genre_from=args.genre,
        name=name,
        settings=settings.intake,
    )
    if is_new and not sample_files.is_sample(index["sha256"].tolist()):
        presets.begin_library()
    tasks.fit(anew=is_new or bool(labels))


if __name__ == "__main__":
    run_main(main)
