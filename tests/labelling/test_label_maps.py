"""Mood data sets that people have, in the shapes they have, and the maps that read them as labels."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline import params
from pipeline.errors import ParamsError
from pipeline.labelling import formats, inbox, label_maps
from pipeline.labelling.file_limits import FileFaultError, Limits
from pipeline.tables.mood_labels import write_labels

ROOT = Path(__file__).parents[2]
MAPS = ROOT / "label_maps"
WRITTEN = datetime(2026, 11, 25, 14, tzinfo=UTC)


def read(content: str, name: str, label_map: str) -> formats.Batch:
    source = formats.Source(name, modified=WRITTEN, label_map=label_maps.load(label_map, folder=MAPS))
    return formats.read(content.encode(), source=source, limits=Limits(1000, 100, 100_000))


def labels_of(batch: formats.Batch) -> list[tuple[str, ...]]:
    return [tuple(row) for row in batch.rows[["track_id", "mood", "annotator"]].to_numpy().tolist()]


GEMS = "amazement,solemnity,tenderness,nostalgia,calmness,power,joyful_activation,tension,sadness"
EMOTIFY = f"track id,genre,{GEMS}, mood, liked, disliked, age, gender, mother tongue\n"


@pytest.mark.parametrize(
    ("ticked", "mood"),
    [
        ("sadness nostalgia", "NegativeButHopeful"),
        ("sadness tension joyful_activation", "NegativeButHopeful"),
        ("tension solemnity joyful_activation", "ConcernedButLight"),
        ("tension calmness", "InsecureButInessential"),
        ("sadness power", "TotallyNegative"),
        ("calmness solemnity", "CalmButEpic"),
        ("calmness joyful_activation", "RelaxButEnergetic"),
        ("tenderness power", "CalmButWarm"),
        ("joyful_activation", "TotallyPositive"),
        ("amazement nostalgia", "PositiveButVoid"),
        ("amazement power", "Other"),
        ("", "Other"),
    ],
)
def test_emotify(ticked: str, mood: str) -> None:
    answers = ",".join(str(int(name in ticked.split())) for name in GEMS.split(","))
    batch = read(EMOTIFY + f"1,classical,{answers},3,0,0,24,1,German\n", "data.csv", "emotify")
    assert labels_of(batch) == [("classical/1", mood, "emotify 2")]
    assert (batch.positions, batch.dropped) == (["line 2"], ())


def test_emotifys_songs_are_numbered_anew_in_every_folder() -> None:
    songs = ((100, "classical"), (101, "rock"), (400, "pop"))
    rows = "".join(f"{n},{genre},{'0,' * 9}3,0,0,24,1,x\n" for n, genre in songs)
    batch = read(EMOTIFY + rows, "data.csv", "emotify")
    assert batch.rows["track_id"].tolist() == ["classical/100", "rock/1", "pop/100"]


JAMENDO = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\n"


def test_mtg_jamendo() -> None:
    """Each tag is in a cell of its own, beyond the header."""
    tags = "mood/theme---film\tmood/theme---happy\tmood/theme---emotional"
    content = f"{JAMENDO}track_0000948\tartist_000087\talbum_000149\t48/948.mp3\t212.7\t{tags}\n"
    content += "track_1\ta\tb\t1/1.mp3\t2.5\tmood/theme---film\n"
    batch = read(content, "autotagging_moodtheme.tsv", "mtg-jamendo")
    assert labels_of(batch) == [
        ("48/948.mp3", "TotallyPositive", "mtg-jamendo happy"),
        ("48/948.mp3", "NegativeButHopeful", "mtg-jamendo emotional 1"),
        ("48/948.mp3", "CalmButWarm", "mtg-jamendo emotional 2"),
    ]
    assert batch.positions == ["line 2, happy", "line 2, emotional 1", "line 2, emotional 2"]
    assert batch.notes[:2] == (
        "2 rows of the data set are 3 labels; rows without a mood: 1",
        "tags that the map has no mood for, not taken: film 2",
    )
    assert batch.extra == {}


@pytest.mark.parametrize(
    ("label_map", "header", "scale"),
    [
        ("deam", "song_id, valence_mean, valence_std, arousal_mean, arousal_std", 1.0),
        ("pmemo", "musicId,Valence(mean),x,Arousal(mean),y", 1 / 8),
    ],
)
@pytest.mark.parametrize(
    ("valence", "arousal", "mood"),
    [
        (3.1, 7, "TotallyNegative"),
        (4.5, 7, "ConcernedButLight"),
        (4.5, 3, "NegativeButHopeful"),
        (5.5, 2, "CalmButEpic"),
        (7, 3, "CalmButWarm"),
        (7, 5, "RelaxButEnergetic"),
        (7, 8, "TotallyPositive"),
        (5.5, 8, "PositiveButVoid"),
        (5.5, 5, "Other"),
    ],
)
def test_regions_of_valence_and_arousal(
    label_map: str, header: str, scale: float, valence: float, arousal: float, mood: str
) -> None:
    low = 1 if label_map == "deam" else 0
    values = [low + scale * (one - 1) for one in (valence, arousal)]
    batch = read(f"{header}\n10,{values[0]},0.9,{values[1]},1\n", "table.csv", label_map)
    assert labels_of(batch) == [("10", mood, label_map)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n", "expected the columns that the map names, received a, b; arousal_mean, song_id"),
        ("song_id,valence_mean,arousal_mean\n1,high,2\n", "line 2: expected numbers in arousal_mean"),
        ("song_id,valence_mean,arousal_mean\n1,0.5,0.3\n", "received 1 without"),
    ],
)
def test_a_table_that_is_not_the_data_sets(content: str, said: str) -> None:
    with pytest.raises(FileFaultError, match=said):
        read(content, "table.csv", "deam")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules: [{mood: CalmButWram}]", "'CalmButWram' is no mood, did you mean CalmButWarm"),
        ("rules: []", "either tags or rules"),
        ("rules: [{mood: Other, when: 1}]", r"rules\.0\.when: Extra"),
    ],
)
def test_a_map_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(f"about: x\ntrack: '{{a}}'\nannotator: x\n{text}\n")
    with pytest.raises(ParamsError, match=said):
        label_maps.load(str(path))
    with pytest.raises(ParamsError, match=r"one of deam, emotify, mtg-jamendo, pmemo, or a \.yaml"):
        label_maps.load("spotify", folder=MAPS)


@pytest.mark.parametrize(
    ("shares", "moods"),
    [
        ({"Other": 0.5, "CalmButWarm": 0.5}, ["Other", "CalmButWarm"]),
        ({"Other": 2, "CalmButWarm": 3}, ["Other"] * 2 + ["CalmButWarm"] * 3),
        ({"Other": 1}, ["Other"]),
    ],
)
def test_shares_become_labels_in_their_ratio(shares: dict[str, float], moods: list[str]) -> None:
    votes = list(label_maps._votes(shares))
    assert [mood for mood, _ in votes] == moods
    assert len({suffix for _, suffix in votes}) == len(moods), "each has a name of its own"


def test_of_a_whole_data_set_the_tracks_that_are_here_are_taken(workspace: Path) -> None:
    for track in ("948", "949"):
        path = Path(f"data/gtzan/unknown/{track}.mp3")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    write_labels(Path("data"))
    rows = "".join(f"t\ta\tb\t{n % 100}/{n}.mp3\t1\tmood/theme---happy\n" for n in (948, 949, 950, 951))
    Path("m.tsv").write_text(JAMENDO + rows)
    intake = inbox.check(
        Path("m.tsv"), settings=params.read().intake, label_map=str(MAPS / "mtg-jamendo.yaml")
    )
    assert (intake.rows, intake.accepted, intake.rejected) == (2, 2, 0)
    assert "labels of tracks that are not in this library, left out: 2" in intake.notes
    Path("none.tsv").write_text(JAMENDO + "t\ta\tb\t1/1.mp3\t1\tmood/theme---happy\n")
    intake = inbox.check(
        Path("none.tsv"), settings=params.read().intake, label_map=str(MAPS / "mtg-jamendo.yaml")
    )
    assert "expected tracks of this library, received none" in intake.fault
