"""Stage ``spectrogram``: tracks become log-mel slices, one ``.npy`` per track.

Where a model in use has another front end, also what that makes of each track.

A cache outside DVC's outs (``.cache/spectrograms``) makes the stage incremental: ten new tracks cost ten
spectrograms, and a killed run goes on where it stopped. Its key is the audio's content, the parameters, and
the code and libraries that make the features: only a change of one of them computes again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import psutil
import soundfile

from pipeline import array_cache, params
from pipeline.array_cache import code_digest, key_of
from pipeline.errors import DataError
from pipeline.files import sha256, write_json
from pipeline.inference import audio, logmel, mpeg4, recordings
from pipeline.inference import musicnn as inference_musicnn
from pipeline.stage_run import run_stage
from pipeline.tables.features import (
    COPIES_FOLDER,
    COPIES_ORDER,
    FEATURES,
    features_path,
    front_end_folder,
    front_end_path,
    logmel_of,
)
from pipeline.tables.tracks import usable_tracks
from pipeline.training import augment, models, musicnn

CACHE: Final = Path(".cache/spectrograms")


# Beside the clip itself: blocks, spectra and features of a thread; a process loads librosa too.
_THREAD_BYTES: Final = 64 << 20
_PROCESS_BYTES: Final = 512 << 20


@dataclass(frozen=True)
class Job:
    """One track to compute: where its audio is, the audio's SHA-256, and the result's key in the cache."""

    audio: Path
    sha256: str
    key: str


@cache
def _feature_code() -> str:
    """Return what the features are made by.

    Of the libraries those whose own arithmetic reaches the numbers: decoders, resampling and FFT. From NumPy
    come only operations whose rounding IEEE 754 fixes, so that a new release changes nothing.
    """
    code = code_digest(audio, recordings, mpeg4, logmel, compute_features)
    libsndfile = soundfile.__libsndfile_version__
    try:
        pyav = version("av")
    except PackageNotFoundError:
        pyav = ""
    return key_of(code, libsndfile, pyav, version("soxr"), version("scipy"))


@cache
def _musicnn_code() -> str:
    """Return what musicnn's numbers are made by: also its weights, as a graph, and what runs it."""
    own = code_digest(inference_musicnn, compute_musicnn)
    return key_of(_feature_code(), own, sha256(musicnn.graph()), version("onnxruntime"))


@cache
def _copies_code() -> str:
    """Return what the copies are made by: also librosa's phase vocoder and NumPy's random numbers."""
    own = code_digest(augment, compute_copies)
    return key_of(_feature_code(), own, version("librosa"), version("numpy"))


def feature_key(audio_sha256: str, settings: logmel.LogMel) -> str:
    """Return the cache key of a track's features."""
    return key_of("features", _feature_code(), audio_sha256, settings)


def musicnn_key(audio_sha256: str) -> str:
    """Return the cache key of what musicnn makes of a track."""
    return key_of("musicnn", _musicnn_code(), audio_sha256)


def copies_key(audio_sha256: str, settings: logmel.LogMel) -> str:
    """Return the cache key of a track's augmented copies."""
    return key_of("copies", _copies_code(), audio_sha256, settings)


def _slices(path: Path) -> Iterator[np.ndarray]:
    try:
        return audio.slices(audio.load(path))
    except DataError as error:
        raise DataError(f"{path}: {error}. Run the stage `catalog` again.") from None


def compute_features(job: Job, settings: logmel.LogMel) -> np.ndarray:
    """Return a track's features: float16 (n_slices, n_mels, frames)."""
    return logmel.features(_slices(job.audio), settings)


def compute_musicnn(job: Job, front_end: inference_musicnn.FrontEnd) -> np.ndarray:
    """Return what musicnn makes of a track: float32 (n_slices, 1506, 1)."""
    return front_end.features(_slices(job.audio))


def compute_copies(job: Job, settings: logmel.LogMel) -> np.ndarray:
    """Return a track's augmented copies: float16 (n_slices, 5, n_mels, frames).

    The noise is seeded by the audio's content, so it depends on nothing else.
    """
    rng = np.random.default_rng(int(job.sha256[:16], 16))
    copies = [logmel.features(augment.waveform_copies(part, rng), settings) for part in _slices(job.audio)]
    return np.stack(copies)


def _jobs(tracks: pd.DataFrame, key: Callable[[str], str]) -> list[Job]:
    return [
        Job(Path(path), content, key(content))
        for path, content in zip(tracks["path"], tracks["sha256"], strict=True)
    ]


def _computed(job: Job, compute: Callable[[Job], np.ndarray]) -> Path:
    return array_cache.store(CACHE, job.key, compute(job))


def fill_cache(
    jobs: Iterable[Job], compute: Callable[[Job], np.ndarray], pool: Executor, *, title: str
) -> tuple[dict[str, Path], int]:
    """Compute what the cache lacks, with a progress bar.

    Returns
    -------
    dict of str to Path, int
        The entry of each job's key, and how many of them were computed.
    """
    from tqdm import tqdm

    jobs_by_key = {job.key: job for job in jobs}
    entries = array_cache.valid_entries(CACHE, jobs_by_key.keys())
    missing = {key: job for key, job in jobs_by_key.items() if key not in entries}
    done = pool.map(partial(_computed, compute=compute), missing.values())
    bar = tqdm(done, total=len(missing), desc=title, unit="track", disable=None if missing else True)
    entries.update(zip(missing, bar, strict=True))
    return entries, len(missing)


def publish(tracks: pd.DataFrame, jobs: Iterable[Job], entries: dict[str, Path], folder: Path) -> None:
    """Fill ``folder`` with exactly these tracks' arrays out of the cache."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for track_id, job in zip(tracks["track_id"], jobs, strict=True):
        array_cache.publish(entries[job.key], features_path(track_id, folder))


def _n_workers(tracks: pd.DataFrame, base: int) -> int:
    """Return how many clips may be decoded at once: one per core, fewer where memory is short."""
    longest = int(tracks["seconds"].max() if len(tracks) else 0) * audio.SAMPLE_RATE * 4
    # The clip, and as much again for what is made of it.
    affordable = psutil.virtual_memory().available // (base + 2 * longest)
    return max(1, min(os.cpu_count() or 1, affordable))


def build_features(tracks: pd.DataFrame, settings: logmel.LogMel) -> int:
    """Write ``artifacts/features``; return how many tracks were computed rather than found."""
    jobs = _jobs(tracks, partial(feature_key, settings=settings))
    with ThreadPoolExecutor(_n_workers(tracks, _THREAD_BYTES)) as pool:
        compute = partial(compute_features, settings=settings)
        entries, computed = fill_cache(jobs, compute, pool, title="spectrogram")
    publish(tracks, jobs, entries, FEATURES)
    return computed


def build_front_ends(tracks: pd.DataFrame, chosen: Sequence[str]) -> int:
    """Write ``artifacts/front_ends/<model>``; return how many tracks were computed rather than found.

    Parameters
    ----------
    tracks
        The usable tracks.
    chosen
        The models in use: for others nothing is computed.
    """
    entries: dict[str, Path] = {}
    jobs: list[Job] = []
    computed = 0
    if any(models.FRONT_ENDS[name] == "musicnn" for name in chosen):
        jobs = _jobs(tracks, musicnn_key)
        with ThreadPoolExecutor(_n_workers(tracks, _THREAD_BYTES)) as pool:
            compute = partial(compute_musicnn, front_end=musicnn.front_end())
            entries, computed = fill_cache(jobs, compute, pool, title="musicnn")
    for name, front_end in models.FRONT_ENDS.items():
        is_own = front_end != "logmel" and name in chosen
        publish(
            tracks if is_own else tracks.iloc[:0], jobs if is_own else [], entries, front_end_folder(name)
        )
        write_json(front_end_path(name), {"front_end": front_end})
    return computed


def build_copies(tracks: pd.DataFrame, settings: logmel.LogMel) -> int:
    """Write ``artifacts/copies`` and the copies' names in order; return how many tracks were computed.

    Processes, not threads: the phase vocoder holds the GIL.
    """
    jobs = _jobs(tracks, partial(copies_key, settings=settings))
    with ProcessPoolExecutor(_n_workers(tracks, _PROCESS_BYTES)) as pool:
        compute = partial(compute_copies, settings=settings)
        entries, computed = fill_cache(jobs, compute, pool, title="augmented copies")
    publish(tracks, jobs, entries, COPIES_FOLDER)
    write_json(COPIES_ORDER, list(augment.COPIES) if len(tracks) else [])
    return computed


def main() -> None:
    """Write features, those of other front ends that the models need, and copies if they are wanted."""
    settings = params.read()
    chosen = settings.spectrogram
    tracks, mel = usable_tracks(), logmel_of(chosen)
    computed = build_features(tracks, mel)
    print(f"{len(tracks)} tracks, {computed} spectrograms computed, {len(tracks) - computed} from the cache")
    computed = build_front_ends(tracks, settings.models)
    print(f"{computed} tracks asked of musicnn")
    copied = tracks if chosen.waveform_copies else tracks.iloc[:0]
    computed = build_copies(copied, mel)
    print(f"{len(copied)} tracks with augmented copies, {computed} computed")


if __name__ == "__main__":
    run_stage(main)
