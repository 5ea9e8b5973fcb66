"""Tracks in a folder with an empty store."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.registry import tiny

LABELS = list(tiny.CLASSES) * 5  # 15 tracks


@pytest.fixture
def tracks(empty: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Work in a folder with fifteen test tracks and an empty store."""
    tiny.no_keras(monkeypatch)
    return tiny.write_tracks(LABELS)
