"""The command line: readable or JSON, exit code 0 or 2, and quick to say what it can do."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import pytest
from filelock import FileLock

from cmg import cli
from pipeline import files, params
from pipeline.labelling import inbox
from pipeline.stages import catalog, labels
from pipeline.taxonomy import MOODS
from tests.conftest import Library

ROOT = Path(__file__).parents[2]
HEADER = "track_id,mood,annotator,labelled_at"
TIME = "2024-03-05T14:00:00Z"
HEAVY = ("numpy", "pandas", "great_expectations", "mlflow", "tensorflow", "sklearn")


def cmg(*arguments: str, check: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command in this process: each of its own would import Great Expectations anew, for seconds."""
    out, errors = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["cmg", *arguments]),
        mock.patch.dict(os.environ, {"COLUMNS": "100"}),
        redirect_stdout(out),
        redirect_stderr(errors),
        pytest.raises(SystemExit) as ended,
    ):
        cli.main()
    done = subprocess.CompletedProcess(arguments, ended.value.code or 0, out.getvalue(), errors.getvalue())
    assert done.returncode == check, done.stderr
    return done


@pytest.fixture
def good(library: Library) -> Path:
    path = Path("good.csv")
    path.write_text(f"{HEADER}\nblues.00000,Other,dora,{TIME}\nblues.00001,calm but warm,dora,{TIME}\n")
    return path


@pytest.fixture
def bad(library: Library) -> Path:
    path = Path("bad.csv")
    path.write_text(f"{HEADER}\nblues.00002,Other,dora,{TIME}\npolka.00001,Other,dora,{TIME}\n")
    return path


def test_the_version_is_printed() -> None:
    assert cmg("--version").stdout == f"{version('composite-mood-genre')}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["labels", "--help"], ["labels", "check", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from cmg import cli; sys.argv[1:] = " + repr(arguments) + "\n"
        "try:\n    cli.main()\nfinally:\n"
        f"    print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")
    assert "Usage" in done.stdout


def test_every_command_is_there() -> None:
    said = cmg("labels", "--help").stdout
    for name in ("check", "add", "remove", "correct", "agreement", "audit", "next", "guide"):
        assert f" {name} " in said


def test_nothing_in_a_file_steers_the_terminal(library: Library) -> None:
    """Escapes in a cell coloured the terminal, or set its title; some terminals run what is put there."""
    attack = "\x1b]0;x\x07\x9b31m\u202e"
    Path("bad.csv").write_text(
        f"{HEADER}\nblues.00000,{attack},dora,{TIME}\nblues.00001,Other,d\u202eora,{TIME}\n"
    )
    for arguments in (["bad.csv"], ["bad.csv", "--json"]):
        said = cmg("labels", "check", *arguments, check=2).stdout
        assert not [one for one in said if one != "\n" and not one.isprintable()]
        assert "x1b" in said or "u001b" in said


def test_check_names_row_column_value_and_reason_and_changes_nothing(bad: Path) -> None:
    before = files.sha256(Path("data/mood_labels.csv"))
    said = cmg("labels", "check", "bad.csv", check=2).stdout
    for part in (
        "line 3",
        "track_id",
        "polka.00001",
        "known_track: expected the id of a track",
        "1 rejected",
    ):
        assert part in said
    assert files.sha256(Path("data/mood_labels.csv")) == before
    assert not Path("inbox").exists()


def test_a_label_is_corrected_and_taken_back(library: Library) -> None:
    before = Path("data/mood_labels.csv").read_text()
    said = cmg("labels", "correct", "blues.00000", "Other", check=2).stderr
    assert "expected a label of blues.00000, received 3" in said
    arguments = ["blues.00000.wav", "calm but epic", "--all", "--reason", "heard again"]
    assert "Labels that would be changed: 3" in cmg("labels", "correct", *arguments, "--dry-run").stdout
    assert Path("data/mood_labels.csv").read_text() == before
    found = json.loads(cmg("labels", "correct", *arguments, "--json").stdout)["changed"]
    assert [row["mood_after"] for row in found] == ["CalmButEpic"] * 3
    cmg("labels", "remove", "--annotator", found[0]["annotator"])
    assert f",{found[0]['annotator']}," not in Path("data/mood_labels.csv").read_text()


@pytest.mark.slow
def test_add_merges_what_is_good(good: Path, bad: Path) -> None:
    assert (
        "2 were accepted (1 in a corrected spelling), 0 rejected" in cmg("labels", "add", "good.csv").stdout
    )
    settings = Path("params.yaml").read_text()
    Path("params.yaml").write_text(settings.replace("  - genre\n  - mood\n", "  - genre\n"))
    said = cmg("labels", "add", "bad.csv", check=2).stdout
    assert "to learn moods: write mood into tasks" in said
    assert "rejected: inbox/rejected/bad.csv" in said
    lines = Path("data/mood_labels.csv").read_text().splitlines()
    assert lines[-3:] == [
        f"blues.00000,Other,dora,{TIME}",
        f"blues.00001,CalmButWarm,dora,{TIME}",
        f"blues.00002,Other,dora,{TIME}",
    ]


@pytest.mark.slow
def test_json_is_one_document_and_what_the_function_returns(bad: Path) -> None:
    said = json.loads(cmg("labels", "check", "bad.csv", "--json", check=2).stdout)
    expected = inbox.check(bad, settings=params.read().intake).as_dict()
    assert said | {"received_at": ""} == json.loads(json.dumps(expected)) | {"received_at": ""}
    added = json.loads(cmg("labels", "add", "bad.csv", "--json", check=2).stdout)
    assert (added["accepted"], added["moved_to"]) == (1, "done/bad.csv")


@pytest.mark.timeout(90)  # said elsewhere, it would be waited for in vain
def test_json_alone_is_on_standard_output_even_while_waiting(good: Path) -> None:
    Path(".cache").mkdir()
    command = [sys.executable, "-m", "cmg.cli", "labels", "add", "good.csv", "--json"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with FileLock(".cache/workspace.lock"):
        adding = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert adding.stderr is not None
        assert "waiting for another process" in adding.stderr.readline()
    assert json.loads(adding.communicate()[0])["accepted"] == 2


def test_a_file_that_is_rejected_whole(library: Library) -> None:
    Path("b.csv").write_bytes(b"\xff")
    assert "rejected whole: b.csv: expected UTF-8 text" in cmg("labels", "add", "b.csv", check=2).stdout
    assert Path("inbox/rejected/b.csv.reason.txt").exists()


@pytest.mark.parametrize("command", ["check", "add"])
def test_a_user_error_is_one_line(library: Library, command: str) -> None:
    done = cmg("labels", command, "none.csv", "--json", check=2)
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert done.stderr.startswith("error: expected a file of labels at none.csv")


def test_a_wrong_option_is_an_error(library: Library) -> None:
    assert "tempo" in cmg("labels", "audit", "--task", "tempo", check=2).stderr


def test_agreement(library: Library) -> None:
    said = json.loads(cmg("labels", "agreement", "--json").stdout)
    assert (said["n_labels"], said["n_tracks"]) == (36, 12)
    shown = cmg("labels", "agreement").stdout
    for part in (
        "36 labels of 12 tracks by 3 annotators",
        f"alpha {said['alpha']:.4f}",
        "CalmButWarm",
        "ann",
    ):
        assert part in shown


def test_confusions_by_annotator_the_most_frequent_in_text_and_all_in_json(library: Library) -> None:
    """Whoever has given few labels is in the JSON only: one slip each says nothing about people."""
    others = [mood for mood in MOODS if mood != "CalmButWarm"]
    wrong = [("cy", "Other")] * 3 + [(who, mood) for who in ("cy", "dee", "eve") for mood in others]
    wrong += [("dee", "CalmButWarm"), ("eve", "CalmButWarm"), ("few", "Other")]
    rows = [
        row
        for track, (who, mood) in enumerate(wrong)
        for row in [(track, "CalmButWarm", "ann"), (track, "CalmButWarm", "bob"), (track, mood, who)]
    ]
    lines = [f"blues.{track:05},{mood},{who},{TIME}" for track, mood, who in rows]
    Path("data/mood_labels.csv").write_text("\n".join([HEADER, *lines, ""]))
    said = json.loads(cmg("labels", "agreement", "--json").stdout)["confusions"]
    assert len(said) == 28
    assert said[0] == {"annotator": "cy", "said": "Other", "others": "CalmButWarm", "n": 4}
    shown = cmg("labels", "agreement").stdout
    header, first = (
        next(line for line in shown[shown.index("Confusions by annotator") :].splitlines() if part in line)
        for part in ("most others said", "cy")
    )
    assert [cell.strip() for cell in header.split("┃")[1:-1]] == [
        "annotator",
        "said",
        "most others said",
        "times",
    ]
    assert [cell.strip() for cell in first.split("│")[1:-1]] == ["cy", "Other", "CalmButWarm", "4"]
    table, _, rest = shown[shown.index("Confusions by annotator") :].partition(
        "… and 7 more; --json has them all"
    )
    assert rest
    assert (table.count("│ eve"), table.count("│ few")) == (2, 0)


def test_what_agreement_leaves_out_or_counts_twice_is_said(library: Library) -> None:
    with Path("data/mood_labels.csv").open("a") as stream:
        stream.write(f"blues.00000,Gloomy,ann,{TIME}\nblues.00001,Other,ann,{TIME}\n")
    shown = cmg("labels", "agreement").stdout
    assert "37 labels of 12 tracks" in shown
    assert "left out: 1 labels with a mood that is not in the taxonomy" in shown
    assert "counted again: 1 labels of annotators who had labelled the track before" in shown


def test_a_terminal_of_few_letters_is_no_error(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    command = [sys.executable, "-m", "cmg.cli", "labels", "agreement"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert "labels of 12 tracks" in done.stdout


def test_next(library: Library) -> None:
    catalog.main()
    said = json.loads(cmg("labels", "next", "-n", "3", "--out", "next.csv", "--json").stdout)
    assert (said["n_unlabelled"], len(said["rows"]), said["file"]) == (0, 3, "next.csv")
    assert len(Path("next.csv").read_text().splitlines()) == 4
    assert said["rows"][0]["track_id"] in cmg("labels", "next", "-n", "3").stdout
    assert cmg("labels", "next", "-n", "0", check=2).stderr.startswith("error: -n: expected at least 1")


def test_audit_without_a_cross_validation_says_what_to_do(library: Library) -> None:
    catalog.main()
    labels.main()
    assert "cross" in cmg("labels", "audit", "--json", check=2).stderr


def test_guide(library: Library) -> None:
    said = json.loads(cmg("labels", "guide", "--out", "guide.html", "--json").stdout)
    assert (said["path"], len(said["moods"])) == ("guide.html", 10)
    assert "guide.html: print it" in cmg("labels", "guide", "--out", "guide.html").stdout
