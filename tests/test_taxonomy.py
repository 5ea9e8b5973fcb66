"""The classes of the project report, and the spellings that are accepted."""

from __future__ import annotations

import pytest

from pipeline.taxonomy import GTZAN_GENRES, MOOD_ALIASES, MOODS, POLES, TASKS, canonical_mood


def test_ten_of_each() -> None:
    assert len(set(GTZAN_GENRES)) == len(set(MOODS)) == 10
    assert list(GTZAN_GENRES) == sorted(GTZAN_GENRES)
    assert MOODS[-1] == "Other"
    assert TASKS == ("genre", "mood")


@pytest.mark.parametrize("name", MOODS)
def test_spellings_of_a_mood(name: str) -> None:
    words = "".join(f" {letter}" if letter.isupper() else letter for letter in name).strip()
    for spelling in (
        name,
        name.lower(),
        name.upper(),
        words,
        words.replace(" ", "_"),
        words.replace(" ", "-"),
        words.replace(" ", " \u2013\u00a0"),
        words.replace(" ", "\t\u2011"),
        "".join(chr(ord(letter) + 0xFEE0) for letter in name),  # full width, as East Asian keyboards write
    ):
        assert canonical_mood(spelling) == name
    assert canonical_mood(f"  {name} ") == name


def test_the_reports_own_misspelling() -> None:
    assert MOOD_ALIASES == {"NegetiveButHopeful": "NegativeButHopeful"}
    assert canonical_mood("NegetiveButHopeful") == "NegativeButHopeful"
    assert canonical_mood("negetive but hopeful") == "NegativeButHopeful"


@pytest.mark.parametrize("name", ["", " ", "Happy", "TotallyPositiv", "OtherMood", "123", "Calm", "Ödd"])
def test_what_is_no_mood(name: str) -> None:
    assert canonical_mood(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "Other?",
        "=Other",
        "Other 2",
        "Other / не знаю",
        "Other/CalmButWarm",
        "CalmButWarm!!!",
        "Calm, but warm",
        "(Other)",
        "'Other'",
        "Other.",
        "Oth\u00e9er",
        "日Other",
        "\u2212Other",
    ],
)
def test_nothing_but_case_blanks_dashes_and_underscores_is_passed_over(name: str) -> None:
    assert canonical_mood(name) is None


def test_every_mood_has_two_poles_of_its_own() -> None:
    assert tuple(POLES) == MOODS
    assert len(set(POLES.values())) == len(MOODS)
    assert all(len({*poles}) == 2 and all(poles) for poles in POLES.values())
