"""Write a small synthetic library shaped like GTZAN, so that a clone without a download has data.

Artists, tracks and annotators are made here, the audio in `pipeline.sources.synth`. In order: the plan of
tracks (`plan_tracks`: names, moods, random streams), the audio, the index, the annotators and their labels
(`label_tracks`), and the whole library (`write_library`).

Everything follows from one random seed, to the bit; every artist and every track has its own random stream.

The mood of track ``t`` of genre ``g`` is number ``MOOD_ORDER[t] + g`` of ten: with twelve tracks per genre
every genre has every mood, every mood has twelve tracks, and the first artists of all genres together play
all moods equally often, as do the second ones, and so on.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import soundfile

from pipeline import data_folder, files
from pipeline.errors import DataError, run_main
from pipeline.sources import synth
from pipeline.tables.dataset import DATASET_FILE
from pipeline.tables.index import INDEX_FILE
from pipeline.tables.label_history import write_history
from pipeline.tables.mood_labels import LABEL_COLUMNS, LABELS_FILE
from pipeline.taxonomy import GTZAN_GENRES, MOODS

SEED: Final = 20_240_305
CLIP_SECONDS: Final = 661_794 / synth.SAMPLE_RATE  # the most frequent length in GTZAN, 30.01 s
TRACKS_PER_ARTIST: Final = 3
ARTISTS_PER_GENRE: Final = 4
FEW_TRACKS: Final = 16  # fewer do not repay the start of worker processes
DESCRIPTION: Final = (
    "Synthetic stand-in for GTZAN, made by pipeline.sources.sample from a seed: no real music, "
    "no real listeners. Scores on it say that the pipeline works, nothing about music."
)
FIRST_LABEL: Final = datetime(2024, 3, 5, 14, tzinfo=UTC)
SECONDS_PER_LABEL: Final = 95
ISO_8601: Final = "%Y-%m-%dT%H:%M:%SZ"

UNLABELLED_EVERY: Final = 6
ANNOTATORS_PER_TRACK: Final = 3
# Annotator → chance of hearing the intended mood.
ANNOTATORS: Final = {"ada": 0.98, "ben": 0.96, "chloe": 0.94, "dmitri": 0.92, "eve": 0.88}
ALIAS_ANNOTATOR: Final = "eve"
ALIAS_SPELLING: Final = {"NegativeButHopeful": "NegetiveButHopeful"}
ALIAS_RATE: Final = 0.5
# Twelve numbers for ten moods: the two that return belong to different artists, so that no two artists of
# a genre share more than one mood.
MOOD_ORDER: Final = (0, 3, 6, 9, 2, 5, 8, 1, 4, 7, 9, 8)
# Moods in a circle, each between the two it is most easily taken for.
MOOD_CIRCLE: Final = (
    "TotallyPositive",
    "RelaxButEnergetic",
    "CalmButWarm",
    "CalmButEpic",
    "PositiveButVoid",
    "InsecureButInessential",
    "Other",
    "TotallyNegative",
    "NegativeButHopeful",
    "ConcernedButLight",
)

# Two lists of coprime lengths, walked in step, meet again after their product.
ADJECTIVES: Final = (
    "Synthetic", "Imaginary", "Hollow", "Velvet", "Paper", "Clockwork",
    "Quiet", "Borrowed", "Copper", "Static", "Northern", "Wandering",
)  # fmt: skip
ANIMALS: Final = (
    "Foxes", "Herons", "Otters", "Moths", "Lynxes", "Sparrows", "Badgers",
    "Whales", "Crickets", "Hares", "Ravens",
)  # fmt: skip
SUBJECTS: Final = (
    "River", "Harbour", "Window", "Winter", "Engine", "Garden", "Signal",
    "Morning", "Mirror", "Letter", "Orchard", "Lantern", "Shadow",
)  # fmt: skip
PHRASES: Final = (
    "Song", "in the Rain", "Road", "Without Words", "at Night", "Again", "for Two",
    "Machine", "Waltz", "Lullaby",
)  # fmt: skip


@dataclass(frozen=True)
class Track:
    """What identifies one track of the library.

    Parameters
    ----------
    track_id, genre, mood
        File stem and intended classes.
    artist, title
        Made-up names.
    streams
        Of random numbers, the artist's and the track's.
    """

    track_id: str
    genre: str
    mood: str
    artist: str
    title: str
    streams: tuple[np.random.SeedSequence, np.random.SeedSequence]


def plan_tracks(
    seed: int, genres: tuple[str, ...], artists_per_genre: int, tracks_per_artist: int
) -> list[Track]:
    """Decide who plays what; one entry a track, ordered by genre and number."""
    return [
        _identity(seed, genre, number, number // tracks_per_artist, artists_per_genre)
        for genre in genres
        for number in range(artists_per_genre * tracks_per_artist)
    ]


def _identity(seed: int, genre: str, number: int, artist: int, artists_per_genre: int) -> Track:
    """Name one track and give it its mood and its random streams."""
    place = GTZAN_GENRES.index(genre)
    name = place * artists_per_genre + artist
    song = 10 * number + place
    return Track(
        track_id=f"{genre}.{number:05d}",
        genre=genre,
        mood=MOODS[(MOOD_ORDER[number % len(MOOD_ORDER)] + place) % len(MOODS)],
        artist=f"The {ADJECTIVES[name % len(ADJECTIVES)]} {ANIMALS[name % len(ANIMALS)]}",
        title=f"{SUBJECTS[song % len(SUBJECTS)]} {PHRASES[song % len(PHRASES)]}",
        streams=(
            np.random.SeedSequence(seed, spawn_key=(place, artist)),
            np.random.SeedSequence(seed, spawn_key=(place, artist, number)),
        ),
    )


def render_track(track: Track, samples: int) -> np.ndarray:
    """Synthesise one track; shape (samples,), int16."""
    artist_rng, rng = (np.random.Generator(np.random.PCG64(stream)) for stream in track.streams)
    artist = synth.draw_artist(artist_rng)
    return synth.render(track.genre, track.mood, artist, samples=samples, rng=rng)


def _write_track(folder: Path, samples: int, track: Track) -> tuple[int, str]:
    """Render and write one ``.au``; return its bytes and SHA-256."""
    path = folder / data_folder.AUDIO_FOLDER / track.genre / f"{track.track_id}.au"
    clip = render_track(track, samples)
    with files.replacing(path) as temporary:
        soundfile.write(temporary, clip, synth.SAMPLE_RATE, format="AU", subtype="PCM_16")
    return path.stat().st_size, files.sha256(path)


def _write_tracks(folder: Path, samples: int, tracks: list[Track]) -> list[tuple[int, str]]:
    """Write all tracks, over all processors when there are many; the result does not depend on it."""
    write = partial(_write_track, folder, samples)
    if len(tracks) < FEW_TRACKS:
        return [write(track) for track in tracks]
    # A fork would copy the locks of the threads that TensorFlow may run in this process.
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        return list(pool.map(write, tracks))


def _index(tracks: list[Track], written: list[tuple[int, str]]) -> pd.DataFrame:
    """Return facts on every track, in the columns of GTZAN's published index."""
    sizes, digests = zip(*written, strict=True)
    return pd.DataFrame(
        {
            "track_id": [track.track_id for track in tracks],
            "genre": [track.genre for track in tracks],
            "bytes": sizes,
            "sha256": digests,
            "artist": [track.artist for track in tracks],
            "title": [track.title for track in tracks],
            "artist_source": "synthetic",
            "exact_duplicate_of": "",
            "filtered_split": "",
        }
    )


def annotate(annotator: str, mood: str, rng: np.random.Generator) -> str:
    """Return what an annotator writes down: the mood, a neighbour of it, or its alias spelling."""
    wrong, side, alias = rng.uniform(size=3)
    if wrong > ANNOTATORS[annotator]:
        neighbour = MOOD_CIRCLE.index(mood) + (1 if side < 0.5 else -1)
        mood = MOOD_CIRCLE[neighbour % len(MOOD_CIRCLE)]
    if annotator == ALIAS_ANNOTATOR and alias < ALIAS_RATE:
        return ALIAS_SPELLING.get(mood, mood)
    return mood


def label_tracks(tracks: list[Track], seed: int) -> pd.DataFrame:
    """Return three annotators' moods of five tracks in six, one row a label, in the order of labelling."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(len(GTZAN_GENRES),))))
    rows: list[tuple[str, str, str, str]] = []
    for track in tracks:
        if int(track.track_id.split(".")[1]) % UNLABELLED_EVERY == UNLABELLED_EVERY - 1:
            continue
        for annotator in rng.choice(list(ANNOTATORS), ANNOTATORS_PER_TRACK, replace=False):
            moment = FIRST_LABEL + timedelta(seconds=SECONDS_PER_LABEL * len(rows))
            rows.append(
                (track.track_id, annotate(annotator, track.mood, rng), annotator, f"{moment:{ISO_8601}}")
            )
    return pd.DataFrame(rows, columns=list(LABEL_COLUMNS))


def write_library(
    folder: Path,
    *,
    seed: int = SEED,
    genres: tuple[str, ...] = GTZAN_GENRES,
    tracks_per_artist: int = TRACKS_PER_ARTIST,
    artists_per_genre: int = ARTISTS_PER_GENRE,
    seconds: float = CLIP_SECONDS,
) -> None:
    """Write the synthetic library: audio, mood labels, index and a note that it is synthetic.

    Parameters
    ----------
    folder
        Receives ``gtzan/<genre>/<genre>.NNNNN.au`` (22 050 Hz, mono, 16 bit), ``mood_labels.csv``,
        ``index.csv`` and ``dataset.json``.
    seed
        Same seed and arguments, same bytes; non-negative.
    genres
        Some of `pipeline.taxonomy.GTZAN_GENRES`.
    tracks_per_artist, artists_per_genre
        At least 1.
    seconds
        Length of a clip, positive.

    Raises
    ------
    DataError
        If an argument is out of range.
    """
    _check(seed, genres, tracks_per_artist, artists_per_genre, seconds)
    tracks = plan_tracks(seed, tuple(genres), artists_per_genre, tracks_per_artist)
    written = _write_tracks(folder, round(seconds * synth.SAMPLE_RATE), tracks)
    files.write_csv(folder / INDEX_FILE, _index(tracks, written))
    files.write_csv(folder / LABELS_FILE, label_tracks(tracks, seed))
    write_history(folder)
    files.write_json(
        folder / DATASET_FILE,
        {"name": "sample", "synthetic": True, "description": DESCRIPTION, "seed": seed},
    )


def _check(
    seed: int, genres: tuple[str, ...], tracks_per_artist: int, artists_per_genre: int, seconds: float
) -> None:
    """Raise `DataError` on the first argument of `write_library` that is out of range."""
    unknown = [genre for genre in genres if genre not in GTZAN_GENRES]
    if unknown or not genres:
        known = ", ".join(GTZAN_GENRES)
        raise DataError(
            f"sample: expected genres among {known}; received {unknown or 'none'}. Name some of them."
        )
    most = len(ADJECTIVES) * len(ANIMALS) // len(GTZAN_GENRES)
    ranges = {
        "seed": (seed, 0, 2**63),
        "tracks_per_artist": (tracks_per_artist, 1, 10_000),
        "artists_per_genre": (artists_per_genre, 1, most),
        "seconds": (seconds, 0.1, 600),
    }
    for name, (value, low, high) in ranges.items():
        if not low <= value <= high:
            raise DataError(
                f"sample: expected {name} from {low} to {high}; received {value}. Choose one of these."
            )


def main() -> None:
    """Fill the data folder with the synthetic library and version it."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.sources.sample", description=main.__doc__)
    parser.add_argument(
        "--seed", type=int, default=SEED, help="another seed, other music (default: %(default)s)"
    )
    seed = parser.parse_args().seed
    data_folder.publish(partial(write_library, seed=seed))


if __name__ == "__main__":
    run_main(main)
