"""Stage ``catalog``: which tracks are there, and are they sound.

Decodes and measures every file, runs the audio checks, and writes one row a track to
``artifacts/catalog/tracks.csv``. Faulty tracks stay listed with the reason they are not used.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import pandas as pd

from pipeline import params
from pipeline.errors import DataError, run_main
from pipeline.files import read_json, sha256, write_csv, write_json
from pipeline.inference import audio
from pipeline.quality import measures
from pipeline.quality.findings import Finding, stop_on_critical
from pipeline.sources import library

AUDIO: Final = Path("data/gtzan")
INDEX: Final = Path("data/index.csv")
DATASET: Final = Path("data/dataset.json")
TRACKS: Final = Path("artifacts/catalog/tracks.csv")
FINDINGS: Final = Path("artifacts/catalog/findings.json")
DATA_DOCS: Final = Path("data_docs")

COLUMNS: Final = (
    "track_id",
    "genre",
    "path",
    "seconds",
    "n_slices",
    "sample_rate",
    "channels",
    "peak",
    "rms",
    "clipped",
    "sha256",
    "artist",
    "title",
    "duplicate_of",
    "filtered_split",
    "usable",
    "reason",
)

_INDEX_COLUMNS: Final = ("track_id", "artist", "title", "exact_duplicate_of", "filtered_split")
_UNREADABLE: Final = measures.Measures(
    seconds=0.0, rate=0, channels=0, peak=0.0, rms=0.0, clipped=0.0, nonfinite=0
)
_DIGITS: Final = 6  # of seconds and levels: platforms agree on that many


def find_audio(root: Path) -> list[Path]:
    """Return the audio files ``root/<genre>/<file>``, sorted.

    Raises
    ------
    DataError
        There is none.
    """
    found = sorted(
        path for path in root.glob("*/*") if path.suffix.lower() in audio.SUFFIXES and not path.is_dir()
    )
    if not found:
        raise DataError(
            f"expected audio files {root}/<genre>/<id>.au (or wav, flac, mp3, ogg), received none. "
            "Fill data/ with `python -m pipeline.sources.sample`, `make gtzan` or `make folder SRC=…`."
        )
    return found


def describe(path: Path) -> dict[str, Any]:
    """Return one file's facts; a file that does not decode has zero measures and the decoder's ``error``."""
    measured, error, content = _UNREADABLE, "", ""
    try:
        content = sha256(path)
        measured = measures.measure(audio.decode(path))
    except (DataError, OSError) as fault:
        error = str(fault)
    facts = asdict(measured)
    return {
        "track_id": path.stem,
        "genre": path.parent.name,
        "path": path.as_posix(),
        "seconds": round(measured.seconds, _DIGITS),
        "n_slices": audio.n_slices(measured.seconds) if not error else 0,
        "sample_rate": facts.pop("rate"),
        **{name: round(facts[name], _DIGITS) for name in ("channels", "peak", "rms", "clipped", "nonfinite")},
        "sha256": content,
        "error": error,
    }


def read_index(path: Path) -> pd.DataFrame:
    """Read artist, title, known duplicates and the published split; all text, blank where unknown."""
    if not path.exists():
        raise DataError(f"expected {path} (artist, title, split), received no such file. Fill data/ again.")
    index = library.read_table(path, columns=_INDEX_COLUMNS)
    twice = index.loc[index["track_id"].duplicated(), "track_id"].unique().tolist()
    if twice:
        raise DataError(
            f"{path}: expected each track once, received {', '.join(twice[:5])} twice. Delete a row."
        )
    return index.set_index("track_id")


def join_index(tracks: pd.DataFrame, index: pd.DataFrame) -> pd.DataFrame:
    """Add artist, title, filtered_split and duplicate_of; a track the index does not know has blanks.

    ``duplicate_of`` is the first track (by id) with the same content; else the track that the index names,
    or, where that one is missing, the first track for which the index names the same.
    """
    known = index.reindex(tracks["track_id"]).fillna("").reset_index()
    joined = tracks.assign(**{name: known[name].to_numpy() for name in ("artist", "title", "filtered_split")})
    published = known["exact_duplicate_of"]
    original = published.where(published.isin(tracks["track_id"]), _first_with_same(published, tracks))
    same_content = _first_with_same(tracks["sha256"], tracks)
    original = same_content.where(same_content != tracks["track_id"].to_numpy(), original)
    return joined.assign(
        duplicate_of=original.where(original != tracks["track_id"].to_numpy(), "").to_numpy()
    )


def _first_with_same(key: pd.Series, tracks: pd.DataFrame) -> pd.Series:
    """Return for each track the first track id with the same, non-blank ``key``; itself where it is blank."""
    ids = pd.Series(tracks["track_id"].to_numpy())
    return ids.groupby(key.to_numpy()).transform("min").where(key.to_numpy() != "", ids)


def mark_usable(tracks: pd.DataFrame, reasons: dict[str, str]) -> pd.DataFrame:
    """Add ``usable`` and ``reason`` and keep the contract's columns."""
    reason = tracks["track_id"].map(reasons).fillna("")
    return tracks.assign(usable=reason == "", reason=reason)[list(COLUMNS)]


def build(settings: params.CatalogParams) -> tuple[pd.DataFrame, list[Finding]]:
    """Measure and check every track of ``data/``; return the catalogue and what the checks found."""
    from pipeline.quality.audio import check_tracks, exclusions

    files = find_audio(AUDIO)
    with ThreadPoolExecutor() as pool:  # decoding and hashing release the GIL
        tracks = pd.DataFrame(list(pool.map(describe, files)))
    tracks = join_index(tracks, read_index(INDEX))
    found = check_tracks(tracks, settings=settings, docs=DATA_DOCS)
    return mark_usable(tracks, exclusions(found)), found


def read(path: Path = TRACKS) -> pd.DataFrame:
    """Read ``tracks.csv``; text columns have blanks, not NaN."""
    text = {name: str for name in COLUMNS if name not in _NUMERIC}
    return pd.read_csv(path, dtype=text, keep_default_na=False, na_values={})


_NUMERIC: Final = ("seconds", "n_slices", "sample_rate", "channels", "peak", "rms", "clipped", "usable")


def usable(path: Path = TRACKS) -> pd.DataFrame:
    """Read the rows of ``tracks.csv`` that may be used."""
    tracks = read(path)
    return tracks[tracks["usable"]].reset_index(drop=True)


def dataset() -> dict[str, Any]:
    """Return what ``data/dataset.json`` says: name, synthetic or not, description."""
    if not DATASET.exists():
        raise DataError(f"expected {DATASET}, received no such file. Fill data/ again.")
    return read_json(DATASET)


def main() -> None:
    """Write the catalogue and the findings; stop on a critical one."""
    settings = params.read().catalog
    tracks, found = build(settings)
    for finding in found:
        print(finding.message())
    stop_on_critical(found, where=str(AUDIO))
    if not tracks["usable"].any():
        raise DataError(f"{AUDIO}: expected usable tracks, received none: {tracks['reason'].iloc[0]}")
    write_csv(TRACKS, tracks)
    write_json(FINDINGS, [finding.as_dict() for finding in found])
    print(f"{tracks['usable'].sum()} of {len(tracks)} tracks usable, {tracks['genre'].nunique()} genres")


if __name__ == "__main__":
    run_main(main)
