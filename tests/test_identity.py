"""One person, however their name is written: in checks, agreement, aggregation and lists."""

from __future__ import annotations

import time
import unicodedata

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import identity
from pipeline.labelling import agreement
from pipeline.quality.annotators import spelling_findings
from pipeline.stages import labels

TIME = "2024-03-05T14:00:00Z"
TWINS = [
    "Bob",
    "bob ",
    "Bo\u200bb",
    "\u202eBob\u202c",
    "Ｂｏｂ",
    "Bob\u2060",
    "\ufeffBOB",
    "B\u00adob",
    "Bob\u2800",
]


@pytest.mark.parametrize("twin", TWINS)
def test_twins_are_one_person(twin: str) -> None:
    assert identity.key(twin) == "bob"


@pytest.mark.parametrize(
    ("one", "other"), [("Bob", "Rob"), ("Bob", "Bo b"), ("José", "Jose"), ("ann1", "ann2")]
)
def test_others_are_not(one: str, other: str) -> None:
    assert identity.key(one) != identity.key(other)


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=20))
def test_a_key_is_stable_under_every_respelling(name: str) -> None:
    key = identity.key(name)
    respelled = [unicodedata.normalize(form, name) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    respelled += [key, name.casefold(), f"\u200f{name} ", "\u2060".join(name), identity.spelling(name)]
    assert {identity.key(one) for one in respelled} == {key}


@given(st.text(max_size=20))
def test_a_spelling_is_stable(name: str) -> None:
    assert identity.spelling(identity.spelling(name)) == identity.spelling(name)


def test_a_heap_of_accents_takes_no_time() -> None:
    """CPython orders a run of accents in quadratic time: 80 s for one cell."""
    start = time.process_time()
    for heap in ("\u0301" * 60_000 + "\u0316" * 60_000, "a" + "\u0301\u0316" * 60_000):
        assert identity.key(heap)
        assert identity.has_stacked_accents(heap)
    assert time.process_time() - start < 1
    assert not identity.has_stacked_accents("ä" * 100 + "e\u0301\u0316\u0323" * 100)


STORE = pd.DataFrame(
    [
        ("a", "Other", "Bob"),
        ("a", "CalmButEpic", "bob"),
        ("a", "Other", "ann"),
        ("b", "CalmButEpic", "B\u200bob"),
        ("b", "CalmButEpic", "ann"),
    ],
    columns=["track_id", "mood", "annotator"],
).assign(labelled_at=TIME)


def test_a_store_that_holds_twins_keeps_working_and_says_so() -> None:
    """The landed version took them for three people: their labels count once for a track, the first."""
    found = agreement.report(STORE)
    assert (found.n_annotators, found.n_repeats) == (2, 1)
    assert identity.first_spellings(STORE["annotator"]).tolist() == ["Bob", "Bob", "ann", "Bob", "ann"]
    tracks = pd.DataFrame({"track_id": ["a", "b"]})
    moods = labels.mood_labels(STORE, tracks).set_index("track_id")
    assert moods["n_labels"].to_dict() == {"a": 2, "b": 2}
    assert moods.loc["a", "p_Other"] == 1
    (finding,) = spelling_findings(STORE)
    assert finding.rows == (("Bob", "bob, B\\u200bob"),)
    assert spelling_findings(STORE.head(1)) == []
