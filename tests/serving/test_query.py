"""What listeners write is understood, or said not to be: grammar, words, weights."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline import taxonomy
from pipeline.errors import ParamsError
from serving.listener import pole_matrix
from serving.query import Query, thesaurus, understand
from serving.ranking import rank

MOODS = {name: mood.poles for name, mood in taxonomy.read().moods.items()}
GENRES = ("jazz", "pop", "hiphop")

# Phrase, and the composites that a person would take for it. The words were written knowing them.
PHRASES = {
    "melancholic yet uplifting": "NegativeButHopeful",
    "sunday morning": "CalmButWarm",
    "angry workout": "TotallyNegative RelaxButEnergetic",
    "calm but hopeful": "NegativeButHopeful CalmButWarm CalmButEpic",
    "dark and heavy with no hope": "TotallyNegative",
    "feel-good summer hits": "TotallyPositive",
    "elevator music, pleasant but empty": "PositiveButVoid",
    "slow cinematic strings, vast landscape": "CalmButEpic",
    "cosy evening by the fire": "CalmButWarm",
    "laid-back groove to dance to": "RelaxButEnergetic",
    "hesitant sketch, nothing at stake": "InsecureButInessential",
    "worried but playful": "ConcernedButLight",
    "heartbroken but moving on": "NegativeButHopeful",
    "chill beats to study to": "RelaxButEnergetic CalmButWarm",
    "rage": "TotallyNegative",
    "lullaby": "CalmButWarm",
    "epic film trailer": "CalmButEpic",
    "bittersweet": "NegativeButHopeful ConcernedButLight",
    "party all night": "TotallyPositive RelaxButEnergetic",
    "shallow pop, catchy": "PositiveButVoid",
    "anything but calm": "RelaxButEnergetic TotallyPositive TotallyNegative",
    "not sad": "TotallyPositive PositiveButVoid RelaxButEnergetic",
    "hope after loss": "NegativeButHopeful",
    "tense thriller": "ConcernedButLight TotallyNegative",
}


def asked(text: str, excluded: str = "") -> Query:
    return understand(text, moods=MOODS, genres=GENRES, excluded=excluded)


@pytest.mark.parametrize("phrase", PHRASES)
def test_a_phrase_puts_a_fitting_mood_among_its_first_three(phrase: str) -> None:
    names = list(MOODS)
    means = np.full((len(names), len(names)), 0.2 / (len(names) - 1), np.float32)
    np.fill_diagonal(means, 0.8)  # a track for each mood
    query = asked(phrase)
    query = Query(query.poles, query.moods)  # whatever its genre
    first = [names[n] for n in rank(query, {"mood": means}, {"mood": names}).order[:3]]
    assert set(first) & set(PHRASES[phrase].split())


@pytest.mark.parametrize("name", [name for name in MOODS if name != "Other"])
def test_every_composite_is_known_by_its_name_and_by_its_poles(name: str) -> None:
    poles = [pole for pole in MOODS[name] if pole in pole_matrix()]
    spaced = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()
    for text in (
        name,
        spaced,
        *([" but ".join(poles), " and ".join(reversed(poles))] if len(poles) == 2 else []),
    ):
        assert asked(text).moods == (name,), text
        assert {pole for pole, weight in asked(text).poles.items() if weight > 0} == set(poles)


@pytest.mark.parametrize(
    ("text", "poles"),
    [
        ("calm:1 epic:0.5 void:-1", {"calm": 1, "epic": 0.5, "void": -1}),
        ("warm, not sad", {"warm": 1, "negative": -1}),
        ("without hope", {"hopeful": -1}),
        ("not calm or relaxed", {"calm": -1, "relaxed": -1}),
        ("calm but not epic", {"calm": 1, "epic": -1}),
        ("Totally Positive", {"positive": 1, "negative": -1}),
        ("CALM — and WARM!", {"calm": 1, "warm": 1}),
    ],
)
def test_strengths_and_negations(text: str, poles: dict[str, float]) -> None:
    assert dict(asked(text).poles) == poles


def test_what_is_excluded_counts_against() -> None:
    assert dict(asked("calm but hopeful", "epic").poles) == {"calm": 1, "hopeful": 1, "epic": -1}


def test_genres_are_a_filter_and_unknown_words_are_said() -> None:
    query = asked("sad hip-hop with kazoos")
    assert (query.genres, dict(query.poles), query.ignored) == (("hiphop",), {"negative": 1}, ("kazoos",))
    assert asked("jazz").genres == ("jazz",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("qwertz", "received qwertz in 'qwertz', which is not known. The nearest poles are calm, epic, warm"),
        ("hopefull", "The nearest poles are hopeful"),
        ("calm but hopefull", "received hopefull in 'calm but hopefull'"),
        ("hopeless:3", "expected a weight of -1 to 1, received hopeless:3"),
        ("enrgetc", "The nearest poles are energetic"),
        ("", "expected words for a mood, received ''"),
        ("no shadow", "which is not known"),
    ],
)
def test_what_is_not_known_is_refused_with_the_nearest(text: str, said: str) -> None:
    with pytest.raises(ParamsError) as refused:
        asked(text)
    assert said in str(refused.value)


def test_every_word_means_a_pole_that_there_is() -> None:
    assert {pole for poles in thesaurus().values() for pole in poles} == set(pole_matrix())
    assert set(pole_matrix()) == {pole for pair in MOODS.values() for pole in pair} - {
        *("no shadow", "no relief", "none fits", "several fit")
    }
