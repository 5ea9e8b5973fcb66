"""Stage ``spectrogram``: tracks become log-mel slices, one ``.npy`` a track.

A cache outside DVC's outs (``.cache/spectrograms``), keyed by the audio's content and the parameters, makes
the stage incremental: ten new tracks cost ten spectrograms, and a killed run goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from pipeline import params
from pipeline.errors import DataError, run_main
from pipeline.files import replacing, write_array, write_json
from pipeline.inference import audio, logmel
from pipeline.tables.features import COPIES_FOLDER, COPIES_ORDER, FEATURES, features_path
from pipeline.tables.tracks import usable_tracks
from pipeline.training import augment

CACHE: Final = Path(".cache/spectrograms")


@dataclass(frozen=True)
class Job:
    """One track to compute: where its audio is and where the result belongs in the cache."""

    audio: Path
    target: Path


def spec_of(settings: params.SpectrogramParams) -> logmel.LogMel:
    """Return the spectrogram's parameters without the stage's other knobs."""
    return logmel.LogMel(settings.n_fft, settings.hop_length, settings.n_mels)


def _key(*parts: object) -> str:
    return hashlib.sha256("|".join(str(part) for part in parts).encode()).hexdigest()


def feature_key(audio_sha256: str, spec: logmel.LogMel) -> str:
    """Return the cache key of a track's features."""
    return _key("features", logmel.VERSION, audio_sha256, spec)


def copies_key(audio_sha256: str, spec: logmel.LogMel) -> str:
    """Return the cache key of a track's augmented copies."""
    return _key("copies", logmel.VERSION, augment.VERSION, audio_sha256, spec)


def _slices(path: Path) -> np.ndarray:
    try:
        return audio.slices(audio.load(path))
    except DataError as error:
        raise DataError(f"{path}: {error}. Run the stage `catalog` again.") from None


def compute_features(job: Job, spec: logmel.LogMel) -> None:
    """Write one track's features into the cache."""
    write_array(job.target, logmel.features(_slices(job.audio), spec))


def compute_copies(job: Job, spec: logmel.LogMel) -> None:
    """Write one track's augmented copies into the cache: float16 (n_slices, 5, n_mels, frames).

    The noise is seeded by the cache key, so it depends on the audio and on nothing else.
    """
    rng = np.random.default_rng(int(job.target.stem[:16], 16))
    copies = [logmel.features(augment.waveform_copies(part, rng), spec) for part in _slices(job.audio)]
    write_array(job.target, np.stack(copies))


def _jobs(tracks: pd.DataFrame, key: Callable[[str], str]) -> list[Job]:
    return [
        Job(Path(path), CACHE / f"{key(content)}.npy")
        for path, content in zip(tracks["path"], tracks["sha256"], strict=True)
    ]


def _whole(path: Path) -> bool:
    """Return whether an array is there and not cut short: a full disk or a repair may have damaged it."""
    try:
        return np.load(path, mmap_mode="r").size > 0
    except (OSError, ValueError, EOFError):
        return False


def fill_cache(jobs: Iterable[Job], compute: Callable[[Job], None], pool: Executor, *, title: str) -> int:
    """Compute what the cache lacks, with a progress bar; return how many that were."""
    from tqdm import tqdm

    missing = list({job.target: job for job in jobs if not _whole(job.target)}.values())
    done = pool.map(compute, missing)
    for _ in tqdm(done, total=len(missing), desc=title, unit="track", disable=None if missing else True):
        pass
    return len(missing)


def publish(track_ids: Iterable[str], jobs: Iterable[Job], folder: Path) -> None:
    """Fill ``folder`` with exactly these tracks' arrays out of the cache."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for track_id, job in zip(track_ids, jobs, strict=True):
        with replacing(features_path(track_id, folder)) as temporary:
            shutil.copyfile(job.target, temporary)


def build_features(tracks: pd.DataFrame, spec: logmel.LogMel) -> int:
    """Write ``artifacts/features``; return how many tracks were computed rather than found."""
    from threadpoolctl import threadpool_limits

    jobs = _jobs(tracks, partial(feature_key, spec=spec))
    # One BLAS thread each: the threads over tracks use all cores already.
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        computed = fill_cache(jobs, partial(compute_features, spec=spec), pool, title="spectrogram")
    publish(tracks["track_id"], jobs, FEATURES)
    return computed


def build_copies(tracks: pd.DataFrame, spec: logmel.LogMel) -> int:
    """Write ``artifacts/copies`` and the copies' names in order; return how many tracks were computed.

    Processes, not threads: the phase vocoder holds the GIL.
    """
    jobs = _jobs(tracks, partial(copies_key, spec=spec))
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        computed = fill_cache(jobs, partial(compute_copies, spec=spec), pool, title="augmented copies")
    publish(tracks["track_id"], jobs, COPIES_FOLDER)
    write_json(COPIES_ORDER, list(augment.COPIES) if len(tracks) else [])
    return computed


def main() -> None:
    """Write features, and copies if they are wanted."""
    settings = params.read().spectrogram
    tracks, spec = usable_tracks(), spec_of(settings)
    computed = build_features(tracks, spec)
    print(f"{len(tracks)} tracks, {computed} spectrograms computed, {len(tracks) - computed} from the cache")
    copied = tracks if settings.waveform_copies else tracks.iloc[:0]
    computed = build_copies(copied, spec)
    print(f"{len(copied)} tracks with augmented copies, {computed} computed")


if __name__ == "__main__":
    run_main(main)
