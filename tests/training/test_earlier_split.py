"""A group once held out stays held out, in libraries that grow at random, by tracks or labels, in batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import params
from pipeline.stages.split import earlier_record, shares_note, split
from pipeline.tables import held_out
from pipeline.tables.held_out import HELD_OUT_COLUMNS, earlier_path, groups_path, write_held_out
from pipeline.training.earlier_split import earlier_parts, groups_drawn, settings_of
from pipeline.training.folds import track_groups

SHARES = params.SplitParams.model_validate({"protocol": "artist", "valid": 0.25, "test": 0.25})
BATCHES = 10


class Library:
    """Tracks and labels that grow at random, and what is noted of their splits."""

    def __init__(self, seed: int, n_tracks: int, n_classes: int, *, settings: params.SplitParams) -> None:
        self.rng, self.seed, self.settings = np.random.default_rng(seed), seed, settings
        self.classes = [f"c{number}" for number in range(n_classes)]
        self.tracks = pd.DataFrame(
            columns=["track_id", "sha256", "artist", "duplicate_of", "label"], dtype="str"
        )
        self.record: pd.DataFrame | None = None
        self.grow(n_tracks, strangers=0.5)

    def grow(self, n: int, *, strangers: float) -> None:
        """Add tracks: some by artists who are there, in their class; others by new ones, or nobody known."""
        rows = []
        for number in range(len(self.tracks), len(self.tracks) + n):
            label, artist = (
                self.rng.choice(self.classes),
                f"Artist {number}" if self.rng.random() < 0.8 else "",
            )
            if len(self.tracks) and self.rng.random() >= strangers:
                label, artist = self.tracks[["label", "artist"]].iloc[self.rng.integers(len(self.tracks))]
            rows.append((f"t{number:04}", f"content of {number}", artist, "", label))
        added = pd.DataFrame(rows, columns=self.tracks.columns)
        self.tracks = pd.concat([self.tracks, added], ignore_index=True)

    def parts(self, labelled: pd.Index | None = None) -> pd.Series:
        """Split as the stage does, and note the groups as an intake does; return each content's part."""
        table = self.tracks.loc[self.tracks.index if labelled is None else labelled]
        out = split(table, self.tracks, self.settings, seed=self.seed, copies=False, record=self.record)
        settings = settings_of(self.settings, self.seed)
        rows = groups_drawn(out, self.tracks, settings, "genre")
        both = rows if self.record is None else pd.concat([self.record, rows])
        self.record = both.drop_duplicates("key", keep="last")
        assert out.groupby("group")["part"].nunique().max() == 1
        for artist, parts in out["part"].groupby(table["artist"].str.casefold().to_numpy()):
            assert self.settings.protocol == "track" or not artist or parts.nunique() == 1
        return pd.Series(out["part"].to_numpy(), index=table["sha256"])


def off(part: pd.Series) -> float:
    """Return by how much a share is off."""
    return max(abs(float((part == name).mean()) - 0.25) for name in ("test", "valid"))


@pytest.mark.parametrize("protocol", ["artist", "track"])
@pytest.mark.parametrize("seed", range(12))
def test_ten_batches_of_tracks_leave_the_test_part_as_it_was(seed: int, protocol: str) -> None:
    """The split by chance alone kept 95 % of it only after five batches in six."""
    settings = SHARES.model_copy(update={"protocol": protocol})
    library = Library(seed, 40 + 4 * seed, 2 + seed % 3, settings=settings)
    before = library.parts()
    for _ in range(BATCHES):
        library.grow(max(1, len(library.tracks) // 10), strangers=0.5)
        after = library.parts()
        now = after[before.index[before == "test"]]
        assert (now == "test").mean() >= 0.95
        assert not (now == "train").any()
        assert off(after) <= max(0.03, off(before))
        found = after.groupby(library.tracks["label"].to_numpy()).nunique()
        assert (found == 3).all()
        before = after


@pytest.mark.parametrize("seed", range(12))
def test_ten_batches_of_labels_leave_the_test_part_as_it_was(seed: int) -> None:
    """Labels come to tracks of artists who are there: a group grows in its part, and the shares give way."""
    library = Library(seed, 100, 3, settings=SHARES)
    order = library.rng.permutation(len(library.tracks))
    n_labelled = 50
    before = library.parts(library.tracks.index[order[:n_labelled]])
    while n_labelled < len(order):
        n_labelled += n_labelled // 10
        after = library.parts(library.tracks.index[order[:n_labelled]])
        now = after[before.index[before == "test"]]
        assert (now == "test").mean() >= 0.95
        assert not (now == "train").any()
        before = after


def test_a_share_that_is_too_large_comes_back_in_steps() -> None:
    """One held out artist grows and grows: small groups leave, of at most one track in twenty at a time."""
    library = Library(3, 400, 2, settings=SHARES)
    before = library.parts()
    held_out_artist = library.tracks.set_index("sha256").loc[before.index[before == "test"], "artist"]
    artist = held_out_artist[held_out_artist != ""].iloc[0]
    rows = library.tracks[library.tracks["artist"] == artist].iloc[[0] * 60].reset_index(drop=True)
    rows["track_id"] = [f"u{number}" for number in range(60)]
    rows["sha256"] = "content of " + rows["track_id"]
    library.tracks = pd.concat([library.tracks, rows], ignore_index=True)
    shares = []
    for _ in range(8):
        after = library.parts()
        now = after[before.index[before == "test"]]
        assert (now == "test").mean() >= 0.95
        assert not (now == "train").any()
        shares.append(float((after == "test").mean()))
        before = after
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.3
    assert shares[-1] <= 0.28


def test_what_is_split_again_stays_as_it_is() -> None:
    for seed in range(20):
        library = Library(seed, 60, 3, settings=SHARES)
        first = library.parts()
        if off(first) <= 0.029:
            pd.testing.assert_series_equal(library.parts(), first)


def test_a_group_that_went_comes_back_to_its_part() -> None:
    library = Library(1, 80, 2, settings=SHARES)
    first, tracks = library.parts(), library.tracks
    library.tracks = tracks[tracks["sha256"].map(first) != "test"].reset_index(drop=True)
    library.parts()
    library.tracks = tracks
    again = library.parts()
    was_test = first.index[first == "test"]
    assert (again[was_test] == "test").all()


def test_a_class_that_is_held_out_only_gets_a_group_to_train_on() -> None:
    library = Library(2, 80, 2, settings=SHARES)
    before = library.parts()
    tested = library.tracks["sha256"].isin(before.index[before == "test"])
    library.tracks.loc[tested[tested].index[:6], "label"] = "new"
    after = library.parts()
    found = set(after[library.tracks.loc[library.tracks["label"] == "new", "sha256"]])
    assert {"train", "test"} <= found


def known(**columns: list[str]) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    ids = [f"t{number}" for number in range(n)]
    blank = {"track_id": ids, "sha256": ids, "artist": [""] * n, "duplicate_of": [""] * n}
    return pd.DataFrame(blank | columns)


def parts_of(tracks: pd.DataFrame, **part_of: str) -> list[str]:
    record = pd.DataFrame({"key": [key.replace("_", " ") for key in part_of], "part": list(part_of.values())})
    return earlier_parts(tracks, track_groups(tracks, by_artist=True), record)["part"].tolist()


def test_a_group_is_known_by_content_and_by_artist() -> None:
    tracks = known(sha256=["a", "b", "c", "d"], artist=["", "Ella ", "ELLA", "Bob"])
    found = parts_of(tracks, content_a="test", artist_ella="valid")
    assert found == ["test", "valid", "valid", ""]


def test_content_says_more_than_a_name() -> None:
    """The artist was spelled another way, and that spelling is somebody else's now."""
    assert parts_of(known(sha256=["a"], artist=["Ella"]), content_a="test", artist_ella="train") == ["test"]


def test_groups_that_have_become_one_are_where_most_of_their_tracks_were() -> None:
    tracks = known(sha256=["a", "b", "c"], artist=["Ella", "Ella", "Ella"])
    assert parts_of(tracks, content_a="test", content_b="train", content_c="train") == ["train"] * 3
    assert parts_of(tracks, content_a="train", content_b="test") == ["test"] * 3
    assert parts_of(tracks, content_a="train", content_b="valid") == ["valid"] * 3


def test_a_damaged_part_is_none() -> None:
    assert parts_of(known(sha256=["a", "b"]), content_a="tset") == ["", ""]


def test_what_is_noted_of_a_split(workspace: Path) -> None:
    tracks = known(sha256=["a", "b", "c", "d"], artist=["Ella", "ELLA", "", "not labelled"])
    table = pd.DataFrame({"track_id": ["t2", "t0", "t1"], "part": ["train", "test", "test"]})
    rows = groups_drawn(table, tracks, settings_of(SHARES, 0), "mood")
    assert rows[["key", "part"]].to_numpy().tolist() == [
        ["artist ella", "test"],
        ["content a", "test"],
        ["content b", "test"],
        ["content c", "train"],
    ]
    track = SHARES.model_copy(update={"protocol": "track"})
    rows = groups_drawn(table, tracks, settings_of(track, 0), "mood")
    assert rows["key"].tolist() == ["content a", "content b", "content c"]
    leaky = settings_of(SHARES.model_copy(update={"protocol": "shuffled"}), 0)
    assert groups_drawn(table, tracks, leaky, "mood").empty


def row(key: str, part: str, *, task: str = "mood", seed: int = 0) -> list[str]:
    return [task, *settings_of(SHARES, seed).values(), key, part]


def record(*rows: list[str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(HELD_OUT_COLUMNS), dtype="str")


def test_a_record_keeps_what_is_gone_and_what_is_of_other_settings(workspace: Path) -> None:
    data = Path("data")
    assert held_out.remembered(data) is None
    write_held_out(groups_path("mood"), record(row("artist a, b", "test"), row("artist c", "train")))
    write_held_out(groups_path("genre"), record(row("artist c", "valid", task="genre")))
    text = held_out.remembered(data, ["mood"])
    assert text is not None
    Path("data").mkdir()
    Path("data/held_out.csv").write_text(text)
    assert held_out.remembered(data, ["mood"]) is None
    write_held_out(groups_path("mood"), record(row("artist c", "valid"), row("artist c", "test", seed=1)))
    Path("data/held_out.csv").write_text(held_out.remembered(data) or "")
    assert held_out.read_held_out(data / "held_out.csv").to_numpy().tolist() == [
        row("artist c", "valid", task="genre"),
        row("artist a, b", "test"),
        row("artist c", "valid"),
        row("artist c", "test", seed=1),
    ]


def test_other_settings_are_drawn_anew_and_it_is_said(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_held_out(earlier_path("mood"), record(row("artist a", "test")))
    found = earlier_record("mood", settings_of(SHARES, 0))
    assert found is not None
    assert found["part"].tolist() == ["test"]
    assert capsys.readouterr().out == ""
    assert earlier_record("mood", settings_of(SHARES, 1)) is None
    assert "mood: drawn anew" in (said := capsys.readouterr().out)
    assert "artist 0 0.25 0.25; now artist 1 0.25 0.25" in said
    write_held_out(earlier_path("mood"), record())
    assert earlier_record("mood", settings_of(SHARES, 1)) is None
    assert capsys.readouterr().out == ""


def test_a_share_that_is_off_is_said() -> None:
    table = pd.DataFrame({"part": ["test"] * 30 + ["valid"] * 24 + ["train"] * 46})
    assert shares_note(table, SHARES).startswith(
        "test has 30 % of the tracks instead of 25 %: groups are whole"
    )
    assert shares_note(table.iloc[4:], SHARES) == ""
