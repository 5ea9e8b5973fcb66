"""Pictures are the same to the byte every time, and show what they are given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.reporting import plots

COUNTS = np.array([[5, 1, 0], [2, 7, 0], [0, 0, 0]])
CLASSES = ["blues", "metal", "pop"]
TRUTH = np.array([0, 1, 2, 0, 1, 2])
SHARES = np.eye(3)[TRUTH]
PROBABILITIES = np.random.default_rng(0).dirichlet(np.ones(3), 6)
BEFORE = np.random.default_rng(1).dirichlet(np.ones(3), 6)
PLACES = np.random.default_rng(2).normal(size=(6, 2))
SHARE = np.arange(1, 7) / 6
CURVES = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "loss": [2.3, 1.9, 1.5],
        "accuracy": [0.1, 0.3, 0.5],
        "val_loss": [2.2, 2.0, 2.1],
        "val_accuracy": [0.1, 0.25, 0.2],
        "kept": [0, 1, 0],
    }
)

DRAW: dict[str, Callable[[Path], None]] = {
    "confusion": lambda path: plots.confusion(COUNTS, CLASSES, "genre", path),
    "one class": lambda path: plots.confusion(COUNTS[:1, :1], CLASSES[:1], "genre", path),
    "curves": lambda path: plots.curves(CURVES, "genre", path),
    "timeline": lambda path: plots.timeline(SHARE, PROBABILITIES, CLASSES, 61.5, "a.mp3", path),
    "a timeline of one window": lambda path: plots.timeline(
        np.zeros(480), PROBABILITIES[:1], CLASSES, 0.3, "a.mp3", path
    ),
    "one epoch": lambda path: plots.curves(CURVES.iloc[:1], "genre", path),
    "an epoch of NaN": lambda path: plots.curves(
        CURVES.assign(val_loss=[2.0, np.nan, np.nan]), "genre", path
    ),
    "calibration": lambda path: plots.calibration(SHARES, PROBABILITIES, BEFORE, 10, "genre", path),
    "sure": lambda path: plots.calibration(SHARES, np.eye(3)[TRUTH], BEFORE, 10, "genre", path),
    "abstention": lambda path: plots.abstention(SHARE, SHARE[::-1], (0.5, 0.8), "genre", path),
    "embedding": lambda path: plots.embedding(PLACES, TRUTH, TRUTH > 0, CLASSES, "genre", path),
    "never sure": lambda path: plots.abstention(SHARE, SHARE[::-1], None, "genre", path),
}
CHANGED: dict[str, Callable[[Path], None]] = {
    "confusion": lambda path: plots.confusion(COUNTS.T, CLASSES, "genre", path),
    "curves": lambda path: plots.curves(CURVES.assign(loss=[2.3, 1.9, 1.4]), "genre", path),
    "abstention": lambda path: plots.abstention(SHARE, SHARE[::-1], (0.6, 0.8), "genre", path),
    "embedding": lambda path: plots.embedding(PLACES, TRUTH, TRUTH > 1, CLASSES, "genre", path),
    "calibration": lambda path: plots.calibration(SHARES[::-1], PROBABILITIES, BEFORE, 10, "genre", path),
}


@pytest.mark.parametrize("name", DRAW)
def test_the_same_picture_has_the_same_bytes(tmp_path: Path, name: str) -> None:
    DRAW[name](tmp_path / "a.png")
    DRAW[name](tmp_path / "b" / "b.png")
    content = (tmp_path / "a.png").read_bytes()
    assert content == (tmp_path / "b" / "b.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert b"Software" not in content, "no version of the library in it"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b"]


@pytest.mark.parametrize("name", CHANGED)
def test_other_numbers_give_another_picture(tmp_path: Path, name: str) -> None:
    DRAW[name](tmp_path / "a.png")
    CHANGED[name](tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()


def test_a_drawing_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="val_accuracy"):
        plots.curves(CURVES.drop(columns="val_accuracy"), "genre", tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
