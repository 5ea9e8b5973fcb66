"""Random orders of events on a real store, with models whose answers are a table."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline import files, tracking
from pipeline.registry import answers, candidates, versions
from pipeline.registry.versions import champion_entry, model_name
from pipeline.stages import promote
from pipeline.tables.tracks import read_tracks
from tests.registry import tiny

N_STEPS = 8


def log_model(task: str, candidate: Any) -> tuple[str, str]:
    """Log the card alone, which costs nothing."""
    card = candidates.shipped_card(task, candidate.model)
    folder = Path(f"versions/{card['weights_sha256']}").resolve()
    files.write_json(folder / "artifacts/card.json", card)
    return folder.as_uri(), "nothing"


def answer(card: dict[str, Any], path: Path) -> list[float]:
    """Return one class surely: the right one (the folder's name) as often as the card's ``skill`` says."""
    label, classes = path.parent.name, card["classes"]
    chance = zlib.crc32(f"{card['weights_sha256']}/{path.read_bytes()[-64:]!r}".encode())
    right = chance % 1000 < 1000 * card["skill"] and label in classes
    others = [name for name in classes if name != label]
    said = label if right else others[chance % len(others)]
    return [float(name == said) for name in classes]


def predict(folder: Path, paths: Sequence[Path]) -> pd.DataFrame:
    card = answers.card_of(folder)
    return pd.DataFrame([answer(card, path) for path in paths], columns=card["classes"])


class Registry:
    """A workspace with its registry, and what happens to them."""

    def __init__(self, seed: int) -> None:
        self.rng, self.n, self.synthetic = random.Random(seed), 0, False
        self.tracks = tiny.write_tracks(list(tiny.CLASSES) * 8)
        self.client = tracking.configure().MlflowClient()

    def card(self, entry: Any) -> dict[str, Any]:
        return answers.card_of(answers.folder_of(model_name("genre"), str(entry.version)))

    def retrain(self) -> None:
        self.n += 1
        table = read_tracks()
        test = table.iloc[::2]
        before = champion_entry(self.client, "genre")
        label = test["path"].map(lambda path: Path(path).parent.name)
        candidate = tiny.put_model(
            test[["track_id"]].assign(label=label),
            seen=tuple(table["track_id"].iloc[1::2]),
            weights_sha256=f"{self.n:064d}",
            skill=self.rng.choice((0.1, 0.4, 0.7, 1.0)),
            dataset={"name": "tiny", "synthetic": self.synthetic},
        )
        outcome = tiny.run(candidate, margin=self.rng.choice((0.0, None)))  # None: beyond the noise
        after = champion_entry(self.client, "genre")
        assert (after is not None) or not outcome["promoted"]
        if before is not None and after.version != before.version:
            self.check(self.card(before), self.card(after), test)

    def check(self, old: dict[str, Any], new: dict[str, Any], test: pd.DataFrame) -> None:
        """Assert that the new champion is better where neither has seen a track, by content."""
        if old["dataset"]["synthetic"]:
            assert not new["dataset"]["synthetic"] or new["skill"] > 0.3
            return
        assert not new["dataset"]["synthetic"]
        unseen = test[~test["sha256"].isin(old["seen_sha256"])]
        assert len(unseen) >= 10
        label = unseen["path"].map(lambda path: Path(path).parent.name)
        scores = []
        for card in (old, new):
            rows = [answer(card, Path(path)) for path in unseen["path"]]
            said = pd.DataFrame(rows, columns=card["classes"]).idxmax(axis=1)
            scores.append(promote.macro_f1(label, said))
        assert scores[1] > scores[0]

    def rename_tracks(self) -> None:
        table = read_tracks()
        tiny.write_catalog(table.assign(track_id="x" + table["track_id"]))

    def delete_alias(self) -> None:
        if champion_entry(self.client, "genre"):
            self.client.delete_registered_model_alias(model_name("genre"), tracking.PROMOTED)

    def delete_version(self) -> None:
        found = versions.promoted_entries(self.client, "genre")
        if found:
            self.client.delete_model_version(model_name("genre"), self.rng.choice(found).version)

    def switch_data(self) -> None:
        self.synthetic = not self.synthetic

    def run(self) -> None:
        events = [self.retrain] * 5
        events += [self.rename_tracks, self.delete_alias, self.delete_version, self.switch_data]
        for _ in range(N_STEPS):
            self.rng.choice(events)()


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=[pytest.mark.long, pytest.mark.slow]) for seed in range(2, 25))]
)
def test_no_order_of_events_lets_a_worse_version_serve(
    empty: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(candidates, "log_model", log_model)
    monkeypatch.setattr(answers, "predict", predict)
    Registry(seed).run()
