"""Which tracks to label next: uncertain for the mood model, unlike those labelled already, and no oddities.

The score is uncertainty times diversity times typicality. ``python -m pipeline.labelling.next_tracks -n
50`` writes ``label_next/tracks.csv``: facts on each track, and blank columns ``mood``, ``annotator`` and
``labelled_at`` for the annotators to fill in; on ``label_next/index.html`` each track has a player. Once
all tracks are labelled it asks for second opinions instead. It is no DVC stage: it answers a question of
today.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import numpy as np
import pandas as pd

from pipeline import identity, params, templates, tracking
from pipeline.errors import ParamsError, run_main
from pipeline.files import write_csv, write_text
from pipeline.inference import audio, logmel
from pipeline.labelling.agreement import records
from pipeline.labelling.clips import clip_address, remove_other_clips, write_clips
from pipeline.registry import answers, versions
from pipeline.tables.dataset import read_dataset
from pipeline.tables.features import features_path, load_features, logmel_of
from pipeline.tables.mood_labels import MOOD_LABELS
from pipeline.tables.tracks import usable_tracks
from pipeline.taxonomy import canonical_mood
from pipeline.untrusted import for_spreadsheet, visible

FILE: Final = Path("label_next/tracks.csv")
PAGE: Final = FILE.with_name("index.html")
TEMPLATE: Final = "next.html.j2"
SCORES: Final = ("score", "uncertainty", "diversity", "typicality")
TO_FILL_IN: Final = ("mood", "annotator", "labelled_at")
# Spreadsheets drop blank cells at the end of a line: the last of these are never blank.
FACT_COLUMNS: Final = ("labelled_by", "genre", "artist", "title", *SCORES, "clip", "path")
COLUMNS: Final = ("track_id", *TO_FILL_IN, *FACT_COLUMNS)

_TASK: Final = "mood"
_DIGITS: Final = 4
_NEIGHBOURS: Final = 10
_EPSILON: Final = 1e-6  # dB; a statistic that is the same for every track is left at zero


@dataclass(frozen=True)
class Wanted:
    """What to label next.

    Parameters
    ----------
    n_unlabelled
        Usable tracks without any mood label.
    rows
        Most wanted first: columns `COLUMNS`, of which `TO_FILL_IN` are blank. Tracks that are labelled
        already, and want a second opinion, have no ``score``; ``labelled_by`` names who labelled them.
    notes
        What a reader must know, e.g. that there is no champion yet.
    """

    n_unlabelled: int
    rows: pd.DataFrame
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types; None where a score is missing."""
        rows = records(self.rows.drop(columns=list(TO_FILL_IN)))
        return {"n_unlabelled": self.n_unlabelled, "rows": rows, "notes": list(self.notes)}


def choose(
    worth: np.ndarray, embedding: np.ndarray, labelled: np.ndarray, n: int
) -> tuple[list[int], np.ndarray]:
    """Choose tracks one by one, each by its worth times the distance to the nearest labelled or chosen one.

    Parameters
    ----------
    worth
        float (n_tracks,), 0 or more.
    embedding
        float (n_tracks, n_dimensions), in standard deviations.
    labelled
        bool (n_tracks,); these are never chosen.
    n
        How many, at most.

    Returns
    -------
    chosen : list of int
        Positions, most wanted first; equals in order of position.
    diversity : np.ndarray
        float (len(chosen),), each one's distance when it was chosen: root mean square over the dimensions.
        1 for the first where nothing is labelled.
    """
    nearest = _nearest(embedding, labelled)
    available = ~labelled
    chosen: list[int] = []
    diversity: list[float] = []
    while len(chosen) < n and available.any():
        track = int(np.where(available, worth * np.where(np.isinf(nearest), 1.0, nearest), -1.0).argmax())
        chosen.append(track)
        diversity.append(float(nearest[track]) if np.isfinite(nearest[track]) else 1.0)
        available[track] = False
        distance = np.sqrt(np.mean(np.square(embedding - embedding[track]), axis=1))  # (n_tracks,)
        nearest = np.minimum(nearest, distance)
    return chosen, np.array(diversity)


def _nearest(embedding: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Return each track's distance to the nearest labelled one, float (n_tracks,); infinite without one."""
    if not labelled.any():
        return np.full(len(embedding), np.inf)
    from sklearn.metrics import pairwise_distances_argmin_min

    _, distance = pairwise_distances_argmin_min(embedding, embedding[labelled])
    return distance / np.sqrt(embedding.shape[1])


def typicality(embedding: np.ndarray) -> np.ndarray:
    """Return how much company each track has, float (n_tracks,): 0 (an outlier) to 1, the median track 0.5.

    Learning from outliers does not carry over to other tracks (information density, Settles and Craven 2008).
    """
    if len(embedding) < 2:
        return np.ones(len(embedding))
    from sklearn.neighbors import NearestNeighbors

    count = min(_NEIGHBOURS, len(embedding) - 1)
    distance, _ = NearestNeighbors(n_neighbors=count).fit(embedding).kneighbors()
    mean = distance.mean(axis=1)
    return 1 / (1 + np.square(mean / max(float(np.median(mean)), _EPSILON)))


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Return how uncertain each row is, float (n_rows,): 0 for one sure class, 1 for all classes alike."""
    share = np.clip(probabilities, 1e-12, 1.0)
    return -(share * np.log(share)).sum(axis=1) / np.log(probabilities.shape[1])


def statistics(decibels: np.ndarray) -> np.ndarray:
    """Return how loud and how lively each mel band of a track is.

    Parameters
    ----------
    decibels
        (n_slices, n_mels, frames) in dB.

    Returns
    -------
    np.ndarray
        float64 (2 n_mels,): mean, then standard deviation of each band over slices and frames, in dB.
    """
    values = decibels.astype(np.float32)
    return np.concatenate([values.mean(axis=(0, 2)), values.std(axis=(0, 2))]).astype(np.float64)


def standardise(raw: np.ndarray) -> np.ndarray:
    """Return each column with mean 0 and standard deviation 1; same shape (n_tracks, n_dimensions)."""
    return (raw - raw.mean(axis=0)) / np.maximum(raw.std(axis=0), _EPSILON)


def embed(tracks: pd.DataFrame) -> np.ndarray:
    """Describe every track by the statistics of its spectrogram.

    Parameters
    ----------
    tracks
        Columns ``track_id`` and ``path``.

    Returns
    -------
    np.ndarray
        float (n_tracks, 2 n_mels), from `statistics`, standardised over the tracks.
    """
    settings = logmel_of(params.read().spectrogram)
    rows = zip(tracks["track_id"], tracks["path"], strict=True)
    each = [statistics(_features(track_id, Path(path), settings)) for track_id, path in rows]
    return standardise(np.stack(each))


def _features(track_id: str, path: Path, settings: logmel.LogMel) -> np.ndarray:
    """Return float16 (n_slices, n_mels, frames) in dB; computed from the audio where the stage has none."""
    if features_path(track_id).exists():
        return np.array(load_features(track_id))
    return logmel.features(audio.slices(audio.load(path)), settings)


def uncertainties(folder: Path | None, tracks: pd.DataFrame, asked: np.ndarray) -> np.ndarray:
    """Ask the champion about some tracks, by the code that it ships.

    Parameters
    ----------
    folder
        From `champion`.
    tracks
        Column ``path``.
    asked
        bool (n_tracks,), which tracks.

    Returns
    -------
    np.ndarray
        float (n_tracks,), `entropy` of a track's probabilities; NaN where it was not asked or has no answer.
    """
    uncertain = np.full(len(tracks), np.nan)
    if folder:
        answer = answers.predict(folder, [Path(path) for path in tracks.loc[asked, "path"]])
        uncertain[asked] = entropy(answer.to_numpy())
    return uncertain


def champion() -> Path | None:
    """Return the folder of the registry's mood champion; None if there is none."""
    entry = versions.champion_entry(tracking.configure().MlflowClient(), _TASK)
    return answers.folder_of(versions.model_name(_TASK), str(entry.version)) if entry else None


def labels_by_track() -> pd.DataFrame:
    """Describe the tracks with a mood label.

    Returns
    -------
    pd.DataFrame
        By track: ``n_labels``, ``agreement`` (the majority's share) and ``labelled_by``, ``"ada; ben"``.
    """
    from pipeline.tables.mood_labels import read_annotations

    table = read_annotations(MOOD_LABELS)
    table["annotator"] = identity.first_spellings(table["annotator"])
    mood = table["mood"].map(canonical_mood)
    known = table[mood.notna()]
    counts = known.groupby(["track_id", mood.dropna()]).size().groupby("track_id")
    names = known.groupby("track_id")["annotator"].agg(lambda who: "; ".join(sorted(set(who))))
    return pd.DataFrame(
        {"n_labels": counts.sum(), "agreement": counts.max() / counts.sum(), "labelled_by": names}
    )


def next_tracks(n: int) -> Wanted:
    """Return the ``n`` usable tracks whose label, or second opinion, would help the mood model most.

    Raises
    ------
    ParamsError
        ``n`` is below 1.
    """
    if n < 1:
        raise ParamsError(f"-n: expected at least 1, received {n}. Say how many tracks to label.")
    tracks, known = usable_tracks(), labels_by_track()
    labelled = tracks["track_id"].isin(known.index).to_numpy()
    rows, notes = pd.DataFrame(), list[str]()
    if not labelled.all():
        rows, notes = _unlabelled(tracks, labelled, n)
    if len(rows) < n and labelled.any():
        # A second opinion helps most where there are few labels, and among these where they differ.
        ranked = tracks[labelled].join(known, on="track_id")
        more = ranked.sort_values(["n_labels", "agreement", "track_id"]).head(n - len(rows))
        notes.append(
            f"{len(rows)} tracks without a label, so {len(more)} are asked about once more: let people label "
            "them who have not done so before."
        )
        rows = pd.concat([rows, more], ignore_index=True)
    return Wanted(n_unlabelled=int((~labelled).sum()), rows=_completed(rows), notes=tuple(notes))


def _completed(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with all of `COLUMNS`."""
    from pipeline.labelling.clips import clip_address

    rows = rows.reindex(columns=list(COLUMNS)).fillna({"labelled_by": ""})
    return rows.assign(**dict.fromkeys(TO_FILL_IN, ""), clip=rows["track_id"].map(clip_address))


def _unlabelled(tracks: pd.DataFrame, labelled: np.ndarray, n: int) -> tuple[pd.DataFrame, list[str]]:
    """Return the most wanted tracks without a label, with their scores."""
    served, embedding = champion(), embed(tracks)
    uncertainty = uncertainties(served, tracks, ~labelled)
    typical = typicality(embedding)
    worth = np.nan_to_num(uncertainty, nan=1.0) * typical
    chosen, diversity = choose(worth, embedding, labelled, n)
    scores = {
        "score": worth[chosen] * diversity,
        "uncertainty": uncertainty[chosen],
        "diversity": diversity,
        "typicality": typical[chosen],
    }
    rounded = {name: column.round(_DIGITS) for name, column in scores.items()}
    note = "No mood champion is registered, so uncertainty is unknown: `dvc repro` registers one."
    return tracks.iloc[chosen].reset_index(drop=True).assign(**rounded), [] if served else [note]


def publish(wanted: Wanted, out: Path) -> None:
    """Write the CSV, clips of its tracks, and the page that plays them."""
    write_csv(out, for_spreadsheet(wanted.rows))
    write_clips(wanted.rows, PAGE.parent)
    table = quote(Path(os.path.relpath(out, PAGE.parent)).as_posix())
    values = wanted.as_dict() | {"dataset": read_dataset(), "table": table, "name": out.name}
    write_text(PAGE, templates.render(TEMPLATE, values, {"clip": clip_address}))
    remove_other_clips(PAGE.parent, set(wanted.rows["track_id"]))


def main() -> None:
    """Write the tracks to label next, ready to be filled in."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.labelling.next_tracks", description=main.__doc__
    )
    parser.add_argument("-n", type=int, default=50, help="how many tracks (default: 50)")
    parser.add_argument("--out", type=Path, default=FILE, help=f"CSV to write (default: {FILE})")
    args = parser.parse_args()
    wanted = next_tracks(args.n)
    publish(wanted, args.out)
    print(visible(wanted.rows[["track_id", *SCORES]].to_string(index=False, na_rep="-")))
    for note in wanted.notes:
        print(note)
    print(f"{len(wanted.rows)} tracks to label in {args.out}; {wanted.n_unlabelled} have no label yet")
    print(f"listen to them in {PAGE}")


if __name__ == "__main__":
    run_main(main)
