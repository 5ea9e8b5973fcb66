"""How well a mix of two poles is ranked: nDCG@20 on Emotify's songs, against the listeners who heard them.

``python -m benchmarks.mood_ranking OUT_OF_FOLD_CSV MOOD_LABELS_CSV``: forecasts of songs that the model was
not trained on, as ``python -m pipeline.training.crossvalidate --task mood --model musicnn_probe`` writes them
to ``mlruns/crossvalidation/``, and a row per listener with the emotions ticked.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from sklearn.metrics import ndcg_score

from pipeline import taxonomy
from pipeline.errors import DataError, run_main
from serving.query import understand
from serving.ranking import rank

TOP: Final = 20
ORDERS: Final = 1_000  # random ones, of which the mean is told
NAMED: Final = ("calm but epic", "calm but warm", "negative but hopeful")
FREE: Final = (
    "calm but positive",
    "negative but warm",
    "positive but epic",
    "concerned but epic",
    "calm but hopeful",
    "concerned but energetic",
)
# The emotions of which a listener must have ticked one for a pole to be heard.
EMOTIONS: Final = {
    "calm": ("calmness",),
    "epic": ("power", "solemnity", "amazement"),
    "warm": ("tenderness",),
    "positive": ("joyful_activation",),
    "negative": ("sadness",),
    "hopeful": ("tenderness", "nostalgia", "amazement", "joyful_activation"),
    "concerned": ("tension",),
    "energetic": ("joyful_activation", "power"),
}


def relevance(ratings: pd.DataFrame, tracks: list[str], pair: str) -> np.ndarray:
    """Return how well each track fits two poles, 0 to 1: the smaller of two shares of its listeners.

    Parameters
    ----------
    ratings
        One row per listener and track: ``track_id`` and ``ratings``, emotions with blanks between.
    tracks, pair
        Of which tracks; ``"calm but epic"``. Of a pole with several emotions the largest share counts.
    """
    ticked = ratings["ratings"].fillna("").str.get_dummies(" ")
    shares = ticked.groupby(ratings["track_id"]).mean().reindex(tracks)
    poles = [
        shares.reindex(columns=EMOTIONS[pole], fill_value=0.0).max(axis=1) for pole in pair.split(" but ")
    ]
    return np.minimum(*[pole.to_numpy() for pole in poles])


def scores(forecasts: pd.DataFrame, ratings: pd.DataFrame) -> pd.DataFrame:
    """Return nDCG@20 of our order and of random ones, and the number of tracks, by pair."""
    tracks = forecasts["track_id"].tolist()
    known = taxonomy.read().moods
    classes = [name for name in known if f"p_{name}" in forecasts]
    means = {"mood": forecasts[[f"p_{name}" for name in classes]].to_numpy(np.float32)}
    poles = {name: mood.poles for name, mood in known.items()}

    rng = np.random.default_rng(0)
    found = []
    for pair in (*NAMED, *FREE):
        truth = relevance(ratings, tracks, pair)
        by_chance = np.mean([_ndcg(truth, rng.permutation(len(tracks))) for _ in range(ORDERS)])
        ranking = rank(understand(pair, moods=poles, genres=[]), means, {"mood": classes})
        found.append((pair, _ndcg(truth, ranking.score), by_chance))
    return pd.DataFrame(found, columns=["pair", "ours", "random"]).set_index("pair")


def _ndcg(truth: np.ndarray, score: np.ndarray) -> float:
    return float(ndcg_score([truth], [score], k=TOP))


def main() -> None:
    """Print nDCG@20 of each pair, and the means of the named and of the free ones."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mood_ranking", description=main.__doc__)
    parser.add_argument("forecasts", type=Path, metavar="OUT_OF_FOLD_CSV")
    parser.add_argument("ratings", type=Path, metavar="MOOD_LABELS_CSV")
    args = parser.parse_args()
    forecasts, ratings = pd.read_csv(args.forecasts), pd.read_csv(args.ratings)
    if "ratings" not in ratings:
        raise DataError(f"{args.ratings}: expected a column ratings, received {', '.join(ratings)}.")
    found = scores(forecasts, ratings)
    for part, pairs in (("named", NAMED), ("free", FREE)):
        found.loc[f"mean of the {len(pairs)} {part}"] = found.loc[list(pairs)].mean()
    found["gain"] = found["ours"] - found["random"]
    print(f"nDCG@{TOP} on {len(forecasts)} songs\n{found.round(3).to_string()}")


if __name__ == "__main__":
    run_main(main)
