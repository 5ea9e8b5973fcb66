"""Agreement: alpha in closed form, by mood, by annotator, and what nobody agrees on."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.labelling import agreement
from pipeline.taxonomy import MOODS

SAD, HAPPY, WARM, OTHER = "TotallyNegative", "TotallyPositive", "CalmButWarm", "Other"


def annotate(**moods_of: str | list[str]) -> pd.DataFrame:
    """Return annotations: a track a keyword, its moods in order of the annotators a, b, c, …; "" for none."""
    rows = [
        (track, mood, chr(ord("a") + number))
        for track, moods in moods_of.items()
        for number, mood in enumerate([moods] if isinstance(moods, str) else moods)
        if mood
    ]
    return pd.DataFrame(rows, columns=["track_id", "mood", "annotator"])


def alpha_by_hand(table: pd.DataFrame) -> float:
    """Return 1 - observed / expected disagreement from the coincidence matrix (Krippendorff 2011)."""
    counts = pd.crosstab(table["track_id"], table["mood"]).to_numpy(float)
    counts = counts[counts.sum(axis=1) > 1]
    m = counts.sum(axis=1, keepdims=True)
    observed = ((m * counts - counts**2) / (m - 1)).sum()
    total = counts.sum(axis=0)
    expected = (total.sum() ** 2 - (total**2).sum()) / (total.sum() - 1)
    return 1 - observed / expected


def test_alpha_of_krippendorffs_own_nominal_example() -> None:
    """Meg and Owen, ten units, 0 or 1 each: alpha 0.095 (Krippendorff 2011, section A)."""
    ann, bob = "0100000010", "1110010000"
    names = {"0": SAD, "1": HAPPY}
    table = annotate(**{f"t{n}": [names[x], names[y]] for n, (x, y) in enumerate(zip(ann, bob, strict=True))})
    assert agreement.alpha(table) == pytest.approx(0.095, abs=5e-4)


def test_full_agreement_is_one_and_opposition_is_below_zero() -> None:
    assert agreement.alpha(annotate(t1=[SAD, SAD], t2=[HAPPY, HAPPY])) == 1
    assert agreement.alpha(annotate(t1=[SAD, HAPPY], t2=[HAPPY, SAD])) < 0


@pytest.mark.parametrize(
    "table",
    [
        annotate(),
        annotate(t1=SAD),
        annotate(t1=SAD, t2=HAPPY),
        annotate(t1=[SAD, SAD], t2=[SAD, SAD]),
        annotate(t1=[SAD, SAD], t2=HAPPY),
        annotate(t1=["Happy", "Sad"]),
    ],
    ids=["nothing", "one label", "no track twice", "one mood", "one mood on shared tracks", "no such moods"],
)
def test_alpha_is_not_defined(table: pd.DataFrame) -> None:
    assert math.isnan(agreement.alpha(table))


def test_spellings_count_as_one_and_unknown_moods_do_not_count() -> None:
    table = annotate(t1=["NegetiveButHopeful", "negative but hopeful", "Sad"], t2=[OTHER, "other"])
    assert agreement.alpha(table) == 1
    assert agreement.report(table).n_labels == 4


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.sampled_from([SAD, HAPPY, WARM]), st.integers(0, 4)),
        min_size=2,
        max_size=50,
        unique_by=lambda row: (row[0], row[2]),
    )
)
@settings(max_examples=60, deadline=None)
def test_alpha_is_the_formulas(rows: list[tuple[int, str, int]]) -> None:
    table = pd.DataFrame(rows, columns=["track_id", "mood", "annotator"])
    shared = table[table["track_id"].duplicated(keep=False)]
    if shared["mood"].nunique() < 2:
        assert math.isnan(agreement.alpha(table))
    else:
        assert agreement.alpha(table) == pytest.approx(alpha_by_hand(table), abs=1e-4)


def test_alpha_by_mood_is_that_mood_against_all_others() -> None:
    table = annotate(t1=[SAD, SAD], t2=[HAPPY, WARM], t3=[WARM, HAPPY], t4=[SAD, SAD])
    classes = agreement.alpha_per_class(table).set_index("mood")
    assert classes.index.tolist() == list(MOODS)
    assert classes.loc[SAD].tolist() == [4, 1.0]
    merged = table.assign(mood=table["mood"].where(table["mood"] == WARM, OTHER))
    assert classes.loc[WARM, "alpha"] == pytest.approx(alpha_by_hand(merged), abs=1e-4)
    assert classes.loc[OTHER, "n"] == 0
    assert math.isnan(classes.loc[OTHER, "alpha"])


def test_a_hundred_thousand_labels_take_no_time() -> None:
    rng, n = np.random.default_rng(0), 100_000
    table = pd.DataFrame(
        {
            "track_id": [f"t{one}" for one in rng.integers(0, 20_000, n)],
            "mood": np.array(MOODS)[rng.integers(0, 10, n)],
            "annotator": [f"w{one}" for one in rng.integers(0, 50, n)],
        }
    )
    agreement.alpha(table.head(100))  # imports
    start = time.perf_counter()
    assert abs(agreement.alpha(table)) < 0.01
    assert time.perf_counter() - start < 4, "0.6 s where nothing else runs"


def mixed_library() -> pd.DataFrame:
    """Return thirty tracks: a and b agree, c says another mood on every third track."""
    truth = [(SAD, HAPPY, WARM)[n % 3] for n in range(30)]
    return annotate(**{f"t{n:02}": [one, one, SAD if n % 3 == 1 else one] for n, one in enumerate(truth)})


def test_each_annotator_against_the_others() -> None:
    people = agreement.annotators(mixed_library()).set_index("annotator")
    assert people["n"].tolist() == people["n_compared"].tolist() == [30, 30, 30]
    assert people.loc["c", "agreement"] == pytest.approx(2 / 3, abs=1e-4)
    # The others of a disagree on ten tracks: a's mood is one of two, which counts one half.
    assert people.loc["a", "agreement"] == pytest.approx(25 / 30, abs=1e-4)
    assert people.loc["c", ["said", "others", "times"]].tolist() == [SAD, HAPPY, 10]
    assert people.loc["a", ["said", "others", "times"]].tolist() == ["", "", 0]
    assert people.loc["a", "reliability"] > 0.95
    assert people.loc["c", "reliability"] == pytest.approx(2 / 3, abs=0.05)


def test_confusions_are_counted_by_annotator() -> None:
    assert agreement.confusions(mixed_library()).to_dict("records") == [
        {"annotator": "c", "said": SAD, "others": HAPPY, "n": 10}
    ]


def test_the_report_has_every_confusion_by_annotator_and_of_all_together() -> None:
    """Five differ from the others of three tracks each, in 25 ways; everybody is among the others of all."""
    others = [mood for mood in MOODS if mood != WARM]
    wrong = {f"t{number:02}": others[number % 9] for number in range(25)}
    table = annotate(**{track: [WARM, WARM, WARM, mood] for track, mood in wrong.items()})
    apart = table["mood"] != WARM
    table.loc[apart, "annotator"] = [f"x{number // 3}" for number in range(25)]
    found = agreement.report(table)
    pd.testing.assert_frame_equal(found.confusions, agreement.confusions(table))
    assert (len(found.confusions), set(found.confusions["n"])) == (25, {1})
    assert found.confused_moods["n"].tolist() == [3] * 7 + [2] * 2
    assert found.confused_moods.loc[0].tolist() == [min(others[:7]), WARM, 3]
    plain = found.as_dict()
    assert len(plain["confusions"]) == 25
    assert plain["confusions"][0] == {"annotator": "x0", "said": others[0], "others": WARM, "n": 1}
    assert len(plain["confused_moods"]) == 9


def test_annotators_of_one_label_have_no_reliability_of_their_own() -> None:
    table = annotate(**{f"t{n}": [SAD, SAD, HAPPY] for n in range(5)})
    table["annotator"] = [f"listener {n:02}" for n in range(len(table))]
    people = agreement.annotators(table)
    assert people["n"].tolist() == [1] * 15
    assert people["reliability"].isna().all()
    assert sorted(people["agreement"].unique()) == [0, 0.5]
    found = agreement.report(table)
    assert found.annotators.empty
    assert found.occasional["annotators"] == found.occasional["n"] == 15
    assert 0 < found.occasional["reliability"] <= 1


def test_a_lone_label_has_nothing_to_compare() -> None:
    people = agreement.annotators(annotate(t1=SAD)).to_dict("records")
    assert people[0]["n_compared"] == 0
    assert math.isnan(people[0]["agreement"])


def test_blank_and_missing_annotators_are_one() -> None:
    table = annotate(t1=[SAD, HAPPY], t2=[SAD, SAD]).assign(annotator=["", None, "x", "y"])
    people = agreement.annotators(table)
    assert people["annotator"].tolist() == ["", "x", "y"]
    assert people["n"].tolist() == [2, 1, 1]


@pytest.mark.parametrize(
    "table", [annotate(), annotate(t1=SAD), mixed_library()], ids=["none", "one", "many"]
)
def test_the_report_is_json(table: pd.DataFrame) -> None:
    found = agreement.report(table)
    plain = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert plain["n_labels"] == len(table)
    assert len(plain["classes"]) == 10
    assert [row["annotator"] for row in plain["annotators"]] == (["a", "b", "c"] if len(table) > 1 else [])
    assert plain["alpha"] == (None if len(table) < 2 else agreement.alpha(table))


@pytest.mark.parametrize(("n_tracks", "named"), [(10, [SAD, HAPPY]), (9, [])])
def test_moods_nobody_agrees_on_are_named_given_enough_labels(n_tracks: int, named: list[str]) -> None:
    """Two labels of each mood a track: 20 on ten tracks, and 18 on nine, which say nothing yet."""
    table = annotate(**{f"t{n}": [SAD, HAPPY, SAD, HAPPY] for n in range(n_tracks)}, good=[WARM, WARM])
    found = agreement.findings(table)
    assert [mood for one in found for mood, _ in one.rows] == sorted(named, key=MOODS.index)
    assert all(one.severity == "warning" for one in found)


def test_moods_people_agree_on_raise_no_warning() -> None:
    assert agreement.findings(mixed_library()) == []
