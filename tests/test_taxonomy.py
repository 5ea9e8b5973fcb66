"""The classes of the project report, and the spellings that are accepted."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from pipeline import taxonomy
from pipeline.errors import ParamsError
from pipeline.labelling import agreement
from pipeline.quality import labels
from pipeline.taxonomy import GTZAN_GENRES, MOODS, TASKS, canonical_genre, canonical_mood, nearest_mood

ROOT = Path(__file__).parents[1]


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
    assert [mood.aliases for mood in taxonomy.read().moods.values() if mood.aliases] == [
        ("NegetiveButHopeful",)
    ]
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


def test_the_taxonomy_is_the_project_reports_until_somebody_edits_it() -> None:
    found = taxonomy.read()
    assert tuple(found.moods) == MOODS
    assert tuple(found.genres) == GTZAN_GENRES
    poles = [mood.poles for mood in found.moods.values()]
    assert len(set(poles)) == len(MOODS)
    assert all(len({*pair}) == 2 and all(pair) for pair in poles)
    assert all(mood.listen_for for mood in found.moods.values())


def test_own_moods_and_genres_are_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert taxonomy.moods() == MOODS, "of the project, where a folder has no taxonomy"
    own = tmp_path / "own"
    own.mkdir()
    (own / "taxonomy.yaml").write_text(
        "moods:\n  Wach: {poles: [awake, still], aliases: [alert]}\n  Müde:\ngenres:\n  hiphop: [Rap]\n"
    )
    monkeypatch.chdir(own)
    assert taxonomy.moods() == ("Wach", "Müde")
    assert [canonical_mood(name) for name in ("ALERT", "mu\u0308de", "Other")] == ["Wach", "Müde", None]
    assert nearest_mood("Alertt") == "Wach"
    assert [canonical_genre(name) for name in ("rap", "Hip Hop", "polka")] == ["hiphop", "hiphop", "polka"]
    check = next(one for one in labels.content_checks() if one.name == "known_mood")
    assert check.expected == "one of Wach, Müde"
    found = agreement.report(
        pd.DataFrame([["a", "Wach", "ann"], ["a", "müde", "bob"]], columns=["track_id", "mood", "annotator"])
    )
    assert found.classes["mood"].tolist() == ["Wach", "Müde"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("moods: [A]", "moods: .* at least 2"),
        ("moods: [A, 'a,b']", "printable names without .* received 'a,b'"),
        ("moods: {A: {aliases: [b]}, B: {}}", "'B' is A and B"),
        ("moods: {A: {pole: [x, y]}, B: {}}", r"moods\.A\.pole: Extra"),
        ("moods: [A, B]\ngenres: {x: [y], Y: []}", "'Y' is x and Y"),
        ("moods: [", "to be YAML"),
        ("", "all: "),
    ],
)
def test_a_taxonomy_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    (tmp_path / "taxonomy.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError, match=said):
        taxonomy.read()
