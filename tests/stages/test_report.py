import re
import shutil
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline import data_folder, params, promotion_rule
from pipeline.errors import DataError
from pipeline.files import read_json, write_array, write_csv, write_json, write_text
from pipeline.inference.calibration import Calibration
from pipeline.quality.findings import Finding
from pipeline.registry import candidates
from pipeline.reporting import record_results
from pipeline.stages import evaluate, labels, register, report
from pipeline.tables.candidates import candidate_path
from pipeline.tables.champions import CHAMPIONS
from pipeline.tables.dataset import DATASET
from pipeline.tables.features import features_path
from pipeline.tables.label_history import HISTORY_COLUMNS, write_history
from pipeline.tables.labels import LABEL_FINDINGS, classes_of, labels_path, read_labels
from pipeline.tables.metrics import metrics_path
from pipeline.tables.predictions import plots_folder, predictions_path
from pipeline.tables.tracks import TRACK_COLUMNS, TRACK_FINDINGS, usable_tracks
from pipeline.tables.tracks import TRACKS as TRACKS_FILE
from pipeline.tables.trained_models import CURVE_COLUMNS, card_path, curves_path
from pipeline.taxonomy import MOODS
from pipeline.training.predict import Predicted, prediction_table, score
from pipeline.training.soft_scores import soft_summary

REPO = Path(__file__).parents[2]
GENRES = ("blues", "jazz", "rock")
TRACKS = tuple(f"{genre}.{number:05}" for genre in GENRES for number in range(4))
N_MELS, FRAMES = 16, 24
PARTS = {"train": (0, 1), "valid": (2,), "test": (3,)}  # numbers of each genre's tracks
PARAMS = """
tasks: [genre, mood]
models: [lenet5, cnn64]
split: {protocol: artist}
"""


def write_catalogue():
    rows = [
        dict.fromkeys(TRACK_COLUMNS, "")
        | {"track_id": one, "genre": one.split(".")[0], "seconds": 30.0, "n_slices": 3, "sha256": one}
        | {"artist": f"artist {number % 5}", "usable": True}
        for number, one in enumerate(TRACKS)
    ]
    rows.append(
        rows[0]
        | {"track_id": "rock.00099", "genre": "rock", "usable": False, "reason": "decodes: it does not"}
    )
    write_csv(TRACKS_FILE, pd.DataFrame(rows))
    write_json(TRACK_FINDINGS, [])
    write_json(LABEL_FINDINGS, [])


def write_labels():
    write_csv(labels_path("genre"), labels.genre_labels(usable_tracks()))
    said = [(one, MOODS[number % 3]) for number, one in enumerate(TRACKS)] + [(TRACKS[0], MOODS[3])]
    annotations = pd.DataFrame(said, columns=["track_id", "mood"])
    annotations["annotator"] = ["ann"] * len(TRACKS) + ["bob"]
    write_csv(labels_path("mood"), labels.mood_labels(annotations, usable_tracks()))


def predicted(task, part, skill, rng):
    """One slice a track; ``skill`` is how sure the model is of the truth, 0 to 1."""
    table = read_labels(task)
    classes = classes_of(table)
    wanted = table[[int(one[-1]) in PARTS[part] for one in table["track_id"]]]
    truth = np.array([classes.index(name) for name in wanted["label"]])
    guess = rng.dirichlet(np.ones(len(classes)), len(truth))
    probabilities = skill * np.eye(len(classes))[truth] + (1 - skill) * guess
    return Predicted(
        n_slices=len(truth),
        slice_truth=truth,
        slice_probabilities=probabilities,
        tracks=wanted["track_id"].to_numpy(),
        truth=truth,
        probabilities=probabilities,
    )


def write_model(task, model, skill, settings):
    rng = np.random.default_rng(0)
    parts = {part: predicted(task, part, skill, rng) for part in PARTS}
    card = {
        "task": task,
        "model": model,
        "protocol": "artist",
        "leaky": False,
        "optimistic": False,
        "params": 6_117_982,
        "seed": 0,
        "dataset": {"name": "tiny", "synthetic": True},
        "seen_tracks": [],
        "classes": classes_of(read_labels(task)),
        "weights_sha256": f"{model:0<64}",
    }
    head = ("task", "model", "protocol", "leaky", "optimistic", "params", "seed", "dataset")
    metrics = {key: card[key] for key in head}
    metrics |= {part: score(one, settings.evaluate) for part, one in parts.items()}
    if task == "mood":
        for part, one in parts.items():
            shares = np.eye(len(card["classes"]))[one.truth]
            metrics[part]["track"] |= soft_summary(shares, one.probabilities, np.full(len(shares[0]), 0.1))
    write_json(card_path(task, model), card)
    write_json(metrics_path(task, model), metrics)
    write_csv(predictions_path(task, model), prediction_table(parts, card["classes"]))
    curves = {name: [0.9, 0.5] for name in CURVE_COLUMNS} | {"epoch": [1, 2]}
    write_csv(curves_path(task, model), pd.DataFrame(curves))
    test = parts["test"]
    shares = np.eye(len(card["classes"]))[test.truth]
    places, calibration = test.probabilities[:, :2], Calibration(threshold=0.5)
    evaluate.draw(test, test, shares, places, card, calibration, plots_folder(task, model), 10)
    evaluate.write_classes(test, shares, card)


def write_project():
    write_text(Path("params.yaml"), (REPO / "params.yaml").read_text())
    write_text(Path("own.yaml"), PARAMS)
    params.apply_overlay(Path("own.yaml"))
    settings = params.read()
    write_json(DATASET, {"name": "tiny", "synthetic": True, "description": "Made by a test"})
    write_catalogue()
    write_labels()
    write_history(data_folder.DATA)
    rng = np.random.default_rng(1)
    for one in TRACKS:
        write_array(features_path(one), rng.uniform(-80, 0, (3, N_MELS, FRAMES)).astype(np.float16))
    for task in settings.tasks:
        for model, skill in (("lenet5", 0.9), ("cnn64", 0.0)):
            write_model(task, model, skill, settings)
        ranked = candidates.candidates(task, list(settings.models))
        register.record(task, ranked, promotion_rule.best(ranked))
    write_json(CHAMPIONS, {"genre": champion("genre", "lenet5"), "mood": None})


def champion(task, model):
    """What the registry says of a model of this run that serves."""
    track = read_json(metrics_path(task, model))["test"]["track"]
    low, high = track.pop("accuracy_ci")
    own = {"version": "4", "model": model, "protocol": "artist", "dataset": "tiny", "synthetic": True}
    own["weights_sha256"] = read_json(card_path(task, model))["weights_sha256"]
    return own | {"metrics": track | {"accuracy_ci_low": low, "accuracy_ci_high": high}}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project with every out the report reads, made by the stages' own functions."""
    root = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_project()
        report.main()
    return root


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    """A copy of the project to change; the working directory."""
    shutil.copytree(made, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")


@pytest.fixture
def page(made):
    """The unchanged project's page."""
    return (made / report.PAGE).read_text()


def rendered():
    return report.render(report.context(params.read()))


def kept(protocol, task="genre", **change):
    """Keep a copy of the present metrics under another protocol."""
    metrics = read_json(metrics_path(task, "lenet5")) | {"protocol": protocol} | change
    record_results.keep([metrics], None)


class Outline(HTMLParser):
    """Tags that do not match, what is fetched, and the attributes of every tag."""

    VOID = ("meta", "link", "img", "br")
    OUTSIDE = ("../../data_docs/index.html",)  # by file and by server

    def __init__(self, page):
        super().__init__()
        self.open, self.tags = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def text_of(html):
    """The text between tags; its runs of plain white space are one space each."""
    return re.sub(r"[ \n]+", " ", re.sub(r"<[^>]+>", " ", html)).strip()


def section(page, name):
    return re.search(rf'<section id="{name}".*?</section>', page, re.DOTALL)[0]


def test_the_page_is_well_formed_and_its_links_lead_somewhere(page):
    outline = Outline(page)
    assert outline.open == []
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    inside = {one["href"] for one in outline.all("a")} - set(outline.OUTSIDE)
    assert {address.removeprefix("#") for address in inside} <= set(ids)
    assert outline.all("html") == [{"lang": "en"}]


def test_nothing_is_fetched(page):
    outline = Outline(page)
    fetched = [
        one.get("src") or one.get("href") for tag, one in outline.tags if tag in ("img", "link", "script")
    ]
    assert fetched
    assert all(address.startswith("data:") for address in fetched)
    assert "://" not in page
    assert "@import" not in page
    assert "url(" not in page


def test_moods_are_compared_with_the_annotators_shares(project):
    page = rendered()
    said = text_of(section(page, "results"))
    track = read_json(metrics_path("mood", "lenet5"))["test"]["track"]
    assert f"{track['agreement']:.3f} {track['agreement_best']:.3f}" in said
    assert said.count("Rank correlation") >= 1
    assert "in the ten forecast highest" in text_of(section(page, "models"))
    assert "Annotators disagree about genres" not in said


def test_models_are_compared_on_the_same_tracks(project):
    """LeNet-5 is nearly always right in this test, CNN-64 guesses."""
    for task in ("genre", "mood"):
        rows = [{"model": model, "present": True} for model in ("lenet5", "cnn64")]
        (other,) = report.differences(task, rows, "lenet5")
        by_hand = report.worth(task, "cnn64").mean() - report.worth(task, "lenet5").mean()
        assert other["difference"] == pytest.approx(by_hand)
        assert other["interval"][0] <= other["difference"] <= other["interval"][1] <= 0
    track = read_json(metrics_path("mood", "lenet5"))["test"]["track"]
    assert -report.worth("mood", "lenet5").mean() > track["cross_entropy_floor"]
    said = text_of(section(rendered(), "results"))
    assert re.search(
        r"CNN-64 against LeNet-5 on the same test tracks: [-+]\d\.\d{3} \(accuracy; 95 % interval", said
    )


def test_every_picture_is_described_and_has_its_size(page):
    pictures = Outline(page).all("img")
    # a comparison, five pictures of four models, three genres, three moods that won a track
    assert len(pictures) == 1 + 4 * 5 + 3 + 3
    assert all(one["alt"] and int(one["width"]) > 0 and int(one["height"]) > 0 for one in pictures)


def test_the_same_outs_give_the_same_bytes_and_no_place(project, made):
    before = (made / report.PAGE).read_bytes()
    report.main()
    assert report.PAGE.read_bytes() == before
    for place in (made, Path.cwd(), REPO):
        assert str(place).encode() not in before


def test_only_synthetic_data_is_called_so(project, page):
    assert "Synthetic data." in page
    assert "tiny (synthetic data)" in page
    write_json(DATASET, {"name": "tiny", "synthetic": False, "description": "Real"})
    assert "ynthetic" not in rendered()


def test_the_summary_is_of_the_model_that_validation_chose(page):
    lead = text_of(page.split("<nav")[0])
    assert "Genre: LeNet-5 is right for 100.0\u202f% of 3 test tracks" in lead
    assert (
        "guessing among 3 classes gives 33.3\u202f% and always naming the most frequent class 33.3\u202f%"
        in lead
    )
    assert "guessing among 10 classes gives 10.0\u202f%" in lead


def test_the_library_is_counted(page):
    data = text_of(section(page, "data"))
    assert "Tracks 13" in data
    assert "Usable 12" in data
    assert "Artists known 5" in data
    assert "Hours of usable audio 0.1" in data
    assert "rock 5 4 4 2.0" in data
    assert "rock.00099 rock decodes: it does not" in data


def test_moods_have_their_agreement(page):
    data = text_of(section(page, "data"))
    assert "NegativeButHopeful 4 87.5\u202f%" in data  # one of its four tracks is 1 : 1
    assert "TotallyNegative 0 none 4.2\u202f%" in data


def test_unlisted_tasks_and_models_do_not_count(project):
    write_text(Path("own.yaml"), "{tasks: [genre], models: [cnn64]}")
    params.apply_overlay(Path("own.yaml"))
    register.record("genre", candidates.candidates("genre", ["cnn64"]), None)
    said = text_of(rendered().split("<h3>The project report")[0])
    assert "LeNet-5 is right" not in said
    assert "CNN-64 is right" in said
    assert "Mood:" not in said
    assert "NegativeButHopeful" not in said


def test_other_protocols_stand_beside_with_their_worth(project):
    kept("shuffled", leaky=True, params=111_111)
    kept("track", optimistic=True, params=222_222)
    kept("artist", params=333_333)
    record_results.keep([read_json(metrics_path("mood", "lenet5"))], "after two epochs <b>")
    results = section(rendered(), "results")
    rows = {row: text_of(row) for row in re.findall(r"<tr class=.*?</tr>", results, re.DOTALL)}
    genre = [said for said in rows.values() if "111\u202f111" in said or "222\u202f222" in said]
    assert len(genre) == 2
    assert "track optimistic: artists on both sides 222\u202f222" in genre[0]
    assert "shuffled leaky: not comparable, never promoted 111\u202f111" in genre[1]
    assert [row.startswith('<tr class="now">') for row in rows] == [
        *(True, True, False, False),
        *(True, True),  # moods by the majority's label
        *(True, True),  # and by the annotators' shares
    ]
    assert "333\u202f333" not in results
    assert "after two epochs &lt;b&gt;" in results


def test_the_project_reports_numbers_are_marked_leaky(page):
    said = text_of(section(page, "results").split("<h3>The project report")[1])
    for part in (
        "leaky: not comparable, never promoted",
        "Genre CNN-64 0.8517 0.9293 870",
        "0.5911 1.4980 900",
    ):
        assert part in said


def test_findings_are_shown_in_part_and_escaped(project, page):
    assert text_of(section(page, "quality")).count("All checks passed.") == 2
    rows = tuple((f"<i>{number}</i>", "bad & ugly") for number in range(report.ROWS_SHOWN + 4))
    finding = Finding("clipping", "warning", "clipped", "at most 5 %", rows, "Export it again.")
    write_json(TRACK_FINDINGS, [finding.as_dict()])
    quality = section(rendered(), "quality")
    assert quality.count("&lt;i&gt;") == report.ROWS_SHOWN
    assert "(bad &amp; ugly) and 4 more" in text_of(quality)
    assert "Export it again." in quality
    assert text_of(quality).count("All checks passed.") == 1


def test_the_registry_ranks_by_validation_and_names_the_candidate(page):
    registry = text_of(section(page, "registry"))
    assert re.search(
        r"genre-classifier: candidates .*? 1 LeNet-5 artist 1.000 none lenet5000000 candidate 2 CNN-64",
        registry,
    )


def test_without_a_candidate_the_registry_says_so(project):
    path = candidate_path("mood")
    write_json(path, read_json(path) | {"candidate": None})
    assert "No model of mood may be promoted from this run." in text_of(section(rendered(), "registry"))


@pytest.mark.parametrize(
    "path",
    [
        "artifacts/catalog/tracks.csv",
        "artifacts/labels/findings.json",
        "artifacts/labels/mood.csv",
        "artifacts/features/jazz.00000.npy",
        "artifacts/metrics/mood-cnn64.json",
        "artifacts/plots/genre-lenet5/curves.png",
        "artifacts/plots/genre-lenet5/classes.csv",
        "artifacts/predictions/genre-lenet5.csv",
        "artifacts/registry/genre.json",
        "mlruns/champions.json",
    ],
)
def test_a_missing_out_is_named_with_what_to_do(project, path):
    Path(path).unlink()
    with pytest.raises(
        DataError, match=re.escape(f"expected {path}, received no such file. Run `dvc repro`")
    ):
        report.context(params.read())


def test_of_equal_models_the_first_is_best():
    rows = [
        {"present": now, "model": name, "valid": {"track": {"macro_f1": value}}}
        for now, name, value in ((True, "a", 0.4), (True, "b", 0.5), (True, "c", 0.5), (False, "d", 0.9))
    ]
    assert report.best_of(rows)["model"] == "b"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "It serves, as version 4."),
        (
            {"weights_sha256": "another", "model": "cnn64", "dataset": "gtzan", "synthetic": False},
            "Another model serves: version 4, CNN-64 trained on gtzan under artist , right for",
        ),
    ],
)
def test_who_serves_is_said_beside_what_this_run_measured(project, change, said):
    write_json(CHAMPIONS, {"genre": champion("genre", "lenet5") | change, "mood": None})
    lead = text_of(rendered().split("<nav")[0])
    assert said in lead
    assert "No model of this task serves." in lead


def test_wrong_answers_are_listed_surest_first_with_a_clip_of_each(project):
    path = predictions_path("genre", "lenet5")
    table = pd.read_csv(path)
    test = table.index[table["part"] == "test"]
    assert table.loc[test, "label"].tolist() == list(GENRES)
    table.loc[test[0], ["predicted", "p_jazz", "p_blues"]] = ["jazz", 0.6, 0.3]
    table.loc[test[2], ["predicted", "p_jazz", "p_rock"]] = ["jazz", 0.8, 0.1]
    write_csv(path, table)
    tracks = pd.read_csv(TRACKS_FILE, keep_default_na=False)
    tracks["path"] = [f"{track_id}.wav" for track_id in tracks["track_id"]]
    write_csv(TRACKS_FILE, tracks)
    for row in test[[0, 2]]:
        samples = np.sin(np.arange(22_050 * 12) / 10)
        soundfile.write(f"{table['track_id'][row]}.wav", samples, 22_050)
    report.main()
    page = report.PAGE.read_text()
    said = text_of(section(page, "wrong"))
    assert "Genre, LeNet-5: 2 of 3 test tracks" in said
    assert re.search(
        r"rock\.00003 artist \d labelled rock \(10.0.%\), answered jazz \(80.0.%\) blues\.00003 ", said
    )
    assert "Mood, LeNet-5: 0 of 3 test tracks No test track was answered wrongly." in said
    players = [one["src"] for one in Outline(page).all("audio")]
    assert players == ["clips/rock.00003.flac", "clips/blues.00003.flac"]
    for address in players:
        assert soundfile.info(report.PAGE.parent / address).duration == pytest.approx(10)


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (12, "(artists and duplicates held out)"),
        (1, "(artists and duplicates held out; 11 tracks of unknown artist held out one by one)"),
        (0, "(no artist is known, so tracks and duplicates are held out)"),
    ],
)
def test_what_is_held_out_is_not_overstated(project, known, said):
    tracks = pd.read_csv(TRACKS_FILE, keep_default_na=False)
    tracks.loc[known:, "artist"] = ""
    write_csv(TRACKS_FILE, tracks)
    page = rendered()
    assert said in text_of(page)
    assert ("no artist and no duplicate is in two parts" in text_of(page)) == bool(known)


def test_numbers_are_written_for_readers():
    assert report.percent(0.12345) == "12.3\u202f%"
    assert report.score(0.5) == "0.500"
    assert report.count(6117982) == "6\u202f117\u202f982"


def test_the_comparison_holds_every_model_and_the_report():
    metrics = {"model": "cnn64", "protocol": "track", "kind": "optimistic"}
    metrics |= {"test": {"track": {"accuracy": 0.4, "accuracy_ci": [0.3, 0.5]}}}
    points = [asdict(one) for one in report.points("mood", [metrics])]
    assert points[0] == {
        "label": "CNN-64 · track",
        "accuracy": 0.4,
        "interval": (0.3, 0.5),
        "kind": "optimistic",
    }
    assert [(one["label"], one["accuracy"], one["kind"]) for one in points[1:]] == [
        ("LeNet-5 · project report", 0.5911, "leaky"),
        ("CNN-64 · project report", 0.6644, "leaky"),
    ]


def test_intakes_of_labels_are_listed_with_their_picture(project, page):
    assert "New labels over time" not in page
    rows = [
        ("monday.csv", "a" * 64, "2024-03-05T14:00:00Z", 120, 118, 2, 1, 3, 7, "0.412300", ""),
        (
            "<b>.csv",
            "b" * 64,
            "2024-03-06T14:00:00Z",
            0,
            0,
            0,
            0,
            0,
            0,
            "",
            "expected <script>alert(7)</script>",
        ),
    ]
    write_csv(report.HISTORY, pd.DataFrame(rows, columns=list(HISTORY_COLUMNS)))
    report.main()
    page = report.PAGE.read_text()
    assert "New labels over time" in page
    assert "monday.csv" in page
    assert "0.412" in page
    assert "not defined" in page
    assert ">2 (1.7\N{NARROW NO-BREAK SPACE}%)</td>" in page
    assert "rejected whole: expected &lt;script&gt;alert(7)&lt;/script&gt;" in page
    assert "&lt;b&gt;.csv" in page
    assert [one["rejected_share"] for one in report.history()["rows"]] == [2 / 120, 1.0]


def test_a_history_of_before_there_were_faults_is_read(project):
    columns = list(HISTORY_COLUMNS[:-1])
    rows = [("monday.csv", "a" * 64, "2024-03-05T14:00:00Z", 120, 118, 2, 1, 3, 7, "0.412300")]
    write_csv(report.HISTORY, pd.DataFrame(rows, columns=columns))
    assert [one["fault"] for one in report.history()["rows"]] == [""]
