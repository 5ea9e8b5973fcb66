from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import ParamsError
from pipeline.training import crossvalidate

N_ARTISTS = 12


@pytest.fixture
def tracks() -> pd.DataFrame:
    """Thirty-six tracks of three genres, three tracks an artist."""
    number = np.arange(3 * N_ARTISTS)
    return pd.DataFrame(
        {
            "track_id": [f"t{one:02}" for one in number],
            "label": np.array(["a", "b", "c"])[number // N_ARTISTS],
            "artist": [f"artist {one // 3}" for one in number],
            "duplicate_of": "",
            "sha256": [f"content {one}" for one in number],
        }
    )


def test_every_track_is_tested_once_and_no_artist_is_on_two_sides(tracks: pd.DataFrame) -> None:
    plan = crossvalidate.split_folds(tracks[["track_id", "label"]], tracks, "artist", 4, seed=0)
    tested = [track for fold in plan for track in fold.loc[fold["part"] == "test", "track_id"]]
    assert sorted(tested) == sorted(tracks["track_id"])
    for fold in plan:
        assert set(fold["part"]) == {"train", "valid", "test"}
        sides = fold.assign(artist=tracks["artist"].to_numpy()).groupby("artist")["part"].nunique()
        assert (sides == 1).all()


@pytest.mark.parametrize(
    ("protocol", "n_folds", "named"),
    [
        ("shuffled", 5, "received shuffled"),
        ("fault_filtered", 5, "artist or track"),
        ("artist", 2, "at least 3"),
    ],
)
def test_what_cannot_be_cross_validated_is_refused(
    tracks: pd.DataFrame, protocol: str, n_folds: int, named: str
) -> None:
    with pytest.raises(ParamsError, match=named):
        crossvalidate.split_folds(tracks[["track_id", "label"]], tracks, protocol, n_folds, seed=0)


def test_summary_is_mean_and_sample_standard_deviation() -> None:
    scores = [{"track": {"accuracy": value, "accuracy_ci": [0.0, 1.0]}} for value in (0.2, 0.4, 0.6)]
    assert crossvalidate.summarise(scores) == {"accuracy": {"mean": 0.4, "sd": 0.2}}
