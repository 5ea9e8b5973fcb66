"""A champion out of a real registry, for the tests of what listeners use."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from pipeline import files
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


def with_moods(moods: tuple[str, str, str] = ("TotallyPositive", "CalmButWarm", "Other")) -> Listener:
    """Keep a second champion, for moods: the graph of the first one, with other names for its classes."""
    genre = champions.champions()["genre"]
    folder = champions.cache_folder() / f"mood{genre.folder.removeprefix('genre')}"
    shutil.copytree(champions.cache_folder() / genre.folder, folder)
    card = json.loads((folder / "card.json").read_text())
    files.write_json(folder / "card.json", card | {"task": "mood", "classes": list(moods)})
    digests = genre.files | {"card.json": files.sha256(folder / "card.json")}
    mood = dataclasses.replace(genre, task="mood", folder=folder.name, files=digests)
    files.write_json(champions.cache_folder() / "mood.json", dataclasses.asdict(mood))
    return Listener(champions.champions())
