"""A champion out of a real registry, for the tests of what listeners use."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving import champions
from serving.listener import Listener
from tests.registry import tiny


@pytest.fixture
def listener(empty: Path, monkeypatch: pytest.MonkeyPatch) -> Listener:
    """The champion of three classes, out of a store of its own."""
    return champion(monkeypatch)


def champion(patch: pytest.MonkeyPatch) -> Listener:
    """Make a project of the working directory, which has an empty store, with a champion of three classes."""
    tiny.no_keras(patch)
    patch.delenv(champions.CACHE, raising=False)
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow leaves the store of an earlier test here
    tracks = tiny.write_tracks(list(tiny.CLASSES) * 5)
    tiny.run(tiny.put_model(tracks))
    Path("params.yaml").write_text("")  # a project
    return Listener(champions.pull())
