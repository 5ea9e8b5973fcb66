"""The stage: confidence, spellings, classes nobody chose, tracks left out, and how it is aggregated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from pipeline import files, params
from pipeline.errors import DataError, QualityError
from pipeline.params import Aggregation
from pipeline.stages import labels
from pipeline.tables.labels import classes_of, empty_labels, labels_path, read_labels, soft_labels
from pipeline.tables.tracks import TRACK_COLUMNS, TRACKS
from pipeline.taxonomy import MOODS

if TYPE_CHECKING:
    from conftest import Library


def moods_of(*rows: tuple[str, ...], columns: str = "track_id mood") -> pd.DataFrame:
    """Return the labels that these rows make, each by another annotator."""
    table = pd.DataFrame(rows, columns=columns.split()).assign(
        annotator=[f"ann{n}" for n in range(len(rows))]
    )
    return labels.mood_labels(table, pd.DataFrame({"track_id": ["t1", "t2"]}))


def test_classes_nobody_chose_are_kept_in_order() -> None:
    table = moods_of(("t1", "Other"))
    assert classes_of(table) == list(MOODS)
    assert soft_labels(table).tolist() == [[0.0] * 9 + [1.0]]


@pytest.mark.parametrize("method", ["majority", "dawid_skene"])
def test_confidence_weighs_shares_only(method: Aggregation) -> None:
    table = pd.DataFrame(
        {"track_id": "t1", "mood": ["Other", "CalmButEpic", "CalmButEpic"], "annotator": ["ann", "bob", "cy"]}
    ).assign(confidence=["3", "1", "1"])
    tracks = pd.DataFrame({"track_id": ["t1"]})
    assert labels.mood_labels(table, tracks)["label"].tolist() == ["Other"]
    plain = labels.mood_labels(table.drop(columns="confidence"), tracks, method)
    pd.testing.assert_frame_equal(labels.mood_labels(table, tracks, method), plain)
    assert plain["label"].tolist() == ["CalmButEpic"]


def test_spellings_of_a_mood_count_as_one() -> None:
    table = moods_of(
        ("t1", "NegetiveButHopeful"),
        ("t1", "negative but hopeful"),
        ("t1", "NEGATIVE_BUT_HOPEFUL"),
        ("t1", "Other"),
    )
    assert table.loc[0, ["label", "n_labels", "agreement"]].tolist() == ["NegativeButHopeful", 4, 0.75]


@pytest.mark.parametrize(
    ("confidence", "share"),
    [(("3", "1"), 0.75), (("", "2"), 0.5), (("", ""), 0.5), (("1", ""), 1 / 3), (("2.0", "3.0"), 0.4)],
)
def test_confidence_weighs_an_annotation(confidence: tuple[str, str], share: float) -> None:
    table = moods_of(
        ("t1", "Other", confidence[0]),
        ("t1", "CalmButEpic", confidence[1]),
        columns="track_id mood confidence",
    )
    assert table.loc[0, "p_Other"] == pytest.approx(share, abs=1e-6)


def test_tracks_that_are_not_usable_are_left_out() -> None:
    assert moods_of(("t9", "Other"), ("t2", "Other"))["track_id"].tolist() == ["t2"]
    assert moods_of(("t9", "Other")).empty


def test_genres_are_the_folders() -> None:
    tracks = pd.DataFrame({"track_id": ["x.1", "a.1", "x.0"], "genre": ["pop", "blues", "pop"]})
    table = labels.genre_labels(tracks)
    assert table["track_id"].tolist() == ["a.1", "x.0", "x.1"]
    assert table["label"].tolist() == ["blues", "pop", "pop"]
    assert classes_of(table) == ["blues", "pop"]
    assert set(table["agreement"]) == {1.0}
    np.testing.assert_array_equal(soft_labels(table), [[1, 0], [0, 1], [0, 1]])


def test_a_table_comes_back_from_its_file(workspace: object) -> None:
    tracks = pd.DataFrame({"track_id": ["None", "1e5", "007"], "genre": ["NA", "pop", "pop"]})
    for table in (labels.genre_labels(tracks), moods_of(("t1", "Other"), ("t1", "CalmButEpic"))):
        files.write_csv(labels_path("genre"), table)
        pd.testing.assert_frame_equal(read_labels("genre"), table, check_dtype=False, check_index_type=False)


def test_a_table_without_rows_keeps_its_classes(workspace: object) -> None:
    files.write_csv(labels_path("mood"), empty_labels(MOODS))
    back = read_labels("mood")
    assert back.empty
    assert classes_of(back) == list(MOODS)
    assert list(back.columns) == list(moods_of(("t1", MOODS[0])).columns)


@pytest.fixture
def catalogued(library: Library) -> Library:
    """Return the tiny library with a catalogue in which pop.00003 is not usable."""
    tracks = pd.DataFrame({"track_id": library.track_ids}).reindex(columns=list(TRACK_COLUMNS))
    tracks = tracks.assign(usable=tracks["track_id"] != "pop.00003").fillna("")
    files.write_csv(TRACKS, tracks)
    return library


def test_the_librarys_moods(catalogued: Library, settings: params.Params) -> None:
    moods, found = labels.build_moods(settings.labels)
    assert moods["track_id"].tolist() == sorted(catalogued.track_ids)[:-1]
    assert set(moods["n_labels"]) == {3}
    assert set(moods["agreement"]) == {0.666667}
    assert moods["label"].tolist()[:4] == ["Other", "CalmButWarm", "TotallyPositive", "Other"]
    assert {finding.severity for finding in found} == {"warning"}, "seven moods have no track"


def test_a_label_of_an_unusable_track_is_no_fault_one_of_an_unknown_track_is(
    catalogued: Library, settings: params.Params
) -> None:
    with catalogued.labels.open("a") as stream:
        stream.write("jazz.00042,Other,ann,2024-03-05T14:00:00Z\n")
    with pytest.raises(QualityError, match=r"mood_labels\.csv .*\n.*known_track.*line 38.*jazz\.00042"):
        labels.build_moods(settings.labels)


def test_no_annotation_at_all_says_what_to_do(catalogued: Library, settings: params.Params) -> None:
    catalogued.labels.write_text("track_id,mood,annotator,labelled_at\n")
    with pytest.raises(
        DataError, match=r"mood_labels\.csv.*received no rows\. Add labels, or set `tasks: \[genre\]"
    ):
        labels.build_moods(settings.labels)


def test_moods_of_unusable_tracks_only(catalogued: Library, settings: params.Params) -> None:
    catalogued.labels.write_text(
        "track_id,mood,annotator,labelled_at\npop.00003,Other,ann,2024-03-05T14:00:00Z\n"
    )
    with pytest.raises(DataError, match="expected moods of usable tracks, received none"):
        labels.build_moods(settings.labels)


@pytest.mark.parametrize("confidence", ["sure", "0", "9"])
def test_a_confidence_let_through_as_a_warning_still_counts(
    catalogued: Library, settings: params.Params, confidence: str
) -> None:
    rows = [f"blues.0000{one},Other,ann,2024-03-05T14:00:00Z,{confidence}" for one in range(4)]
    catalogued.labels.write_text("track_id,mood,annotator,labelled_at,confidence\n" + "\n".join(rows) + "\n")
    lenient = settings.labels.model_copy(update={"severity": {"confidence": "warning"}})
    moods, _ = labels.build_moods(lenient)
    np.testing.assert_allclose(soft_labels(moods).sum(axis=1), 1, atol=1e-6)


def test_a_mood_let_through_as_a_warning_is_left_out(catalogued: Library, settings: params.Params) -> None:
    rows = [f"blues.00000,{mood},{mood},2024-03-05T14:00:00Z" for mood in ("Other", "Happy", "Sad")]
    catalogued.labels.write_text("track_id,mood,annotator,labelled_at\n" + "\n".join(rows) + "\n")
    lenient = settings.labels.model_copy(update={"severity": {"known_mood": "warning"}})
    moods, _ = labels.build_moods(lenient)
    assert moods.loc[0, ["label", "n_labels", "agreement"]].tolist() == ["Other", 1, 1.0]


def test_the_parameter_chooses_how_it_is_aggregated(catalogued: Library, settings: params.Params) -> None:
    tables = {}
    for method in ("share", "majority", "dawid_skene"):
        tables[method], _ = labels.build_moods(settings.labels.model_copy(update={"aggregation": method}))
    assert set(tables["share"]["agreement"]) == set(tables["majority"]["agreement"]) == {0.666667}
    assert set(soft_labels(tables["majority"]).max(axis=1)) == {1.0}
    assert (soft_labels(tables["dawid_skene"]).max(axis=1) > 0.9).all(), "cy errs always, and alike"


def test_a_mood_nobody_agrees_on_is_a_warning(catalogued: Library, settings: params.Params) -> None:
    rows = [
        f"{track},{mood},{who},2024-03-05T14:00:00Z"
        for track in catalogued.track_ids[:11]
        for who, mood in (("ann", "Other"), ("bob", "CalmButEpic"), ("cy", "Other"))
    ]
    catalogued.labels.write_text("track_id,mood,annotator,labelled_at\n" + "\n".join(rows) + "\n")
    _, found = labels.build_moods(settings.labels)
    (warning,) = [one for one in found if one.check == "mood_agreement"]
    assert warning.severity == "warning"
    assert [mood for mood, _ in warning.rows] == ["Other"], "CalmButEpic has eleven labels: too few to tell"
