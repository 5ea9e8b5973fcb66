"""Stage ``catalog``: which tracks are there, and are they valid.

Decodes and measures every file, runs the audio checks, and writes one row a track to
``artifacts/catalog/tracks.csv``. Faulty tracks stay listed with the reason they are not used.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

import pandas as pd

from pipeline import params
from pipeline.errors import DataError
from pipeline.files import sha256, write_csv, write_json
from pipeline.inference import audio
from pipeline.inference.recordings import FAULTS, Fault
from pipeline.quality import measures
from pipeline.quality.duplicates import first_copies
from pipeline.quality.findings import Finding, stop_on_critical
from pipeline.quality.suites import DATA_DOCS
from pipeline.stage_run import run_stage
from pipeline.tables.audio_files import AUDIO, find_audio
from pipeline.tables.index import INDEX, read_index
from pipeline.tables.tracks import TRACK_COLUMNS, TRACK_FINDINGS, TRACKS

_UNREADABLE: Final = measures.Measures(
    seconds=0.0, longer=False, rate=0, channels=0, peak=0.0, rms=0.0, clipped=0.0, nonfinite=0
)
_BAR_SECONDS: Final = 5.0  # what is done sooner needs no progress bar
_DIGITS: Final = 6  # of seconds and levels: platforms agree on that many


def describe(path: Path, *, max_seconds: float = audio.MAX_SECONDS) -> dict[str, Any]:
    """Return one file's facts; a file that does not decode has zero measures and the decoder's ``error``.

    Of a file longer than ``max_seconds`` no more is decoded: ``longer`` is ``"more"``, for others ``""``.
    ``truncated``, ``damaged`` and ``joined`` say where or how much, and are ``""`` for a file that is not.
    """
    measured, faults, error, content = _UNREADABLE, list[Fault](), "", ""
    try:
        with audio.opened(path) as stream:
            measured, faults = measures.measure(stream, max_seconds=max_seconds), stream.faults
    except (DataError, OSError) as fault:
        error = str(fault)
    with suppress(FileNotFoundError):  # a link whose content is not there; the error says so
        content = sha256(path)
    facts = asdict(measured)
    return {
        "track_id": path.stem,
        "genre": path.parent.name,
        "path": path.as_posix(),
        "seconds": round(measured.seconds, _DIGITS),
        "longer": "more" if measured.longer else "",
        "n_slices": 0 if error or measured.longer else audio.n_slices(measured.seconds),
        "sample_rate": facts.pop("rate"),
        **{name: round(facts[name], _DIGITS) for name in ("channels", "peak", "rms", "clipped", "nonfinite")},
        "sha256": content,
        "error": error,
        **{kind: "; ".join(each.words for each in faults if each.kind == kind) for kind in FAULTS},
    }


def join_index(tracks: pd.DataFrame, index: pd.DataFrame) -> pd.DataFrame:
    """Add artist, title, filtered_split and duplicate_of; a track the index does not know has blanks."""
    known = index.reindex(tracks["track_id"]).fillna("").reset_index()
    facts = {name: known[name].to_numpy() for name in ("artist", "title", "filtered_split")}
    copies = first_copies(tracks["track_id"], tracks["sha256"], known["exact_duplicate_of"])
    return tracks.assign(**facts, duplicate_of=copies.to_numpy())


def mark_usable(tracks: pd.DataFrame, reasons: dict[str, str]) -> pd.DataFrame:
    """Add ``usable`` and ``reason`` and keep the contract's columns."""
    reason = tracks["track_id"].map(reasons).fillna("")
    return tracks.assign(usable=reason == "", reason=reason)[list(TRACK_COLUMNS)]


def build(settings: params.CatalogParams) -> tuple[pd.DataFrame, list[Finding]]:
    """Measure and check every track of ``data/``; return the catalogue and what the checks found."""
    from tqdm import tqdm

    from pipeline.quality.audio import check_tracks, exclusions

    files = find_audio(AUDIO)
    with ThreadPoolExecutor() as pool:  # decoding and hashing release the GIL
        described = pool.map(partial(describe, max_seconds=settings.max_seconds), files)
        # On a terminal only (disable=None), and of a library that takes a while.
        bar = tqdm(
            described, total=len(files), desc="catalog", unit="track", disable=None, delay=_BAR_SECONDS
        )
        tracks = pd.DataFrame(list(bar))
    tracks = join_index(tracks, read_index(INDEX))
    found = check_tracks(tracks, settings=settings, docs=DATA_DOCS)
    return mark_usable(tracks, exclusions(found)), found


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
    write_json(TRACK_FINDINGS, [finding.as_dict() for finding in found])
    print(f"{tracks['usable'].sum()} of {len(tracks)} tracks usable, {tracks['genre'].nunique()} genres")


if __name__ == "__main__":
    run_stage(main)
