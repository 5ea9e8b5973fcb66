import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import params
from pipeline.errors import DataError
from pipeline.files import read_json, write_json, write_text
from pipeline.reporting import record_results

REPO = Path(__file__).parents[2]


def metrics(task="genre", model="lenet5", protocol="artist", dataset="tiny"):
    return {
        "task": task,
        "model": model,
        "protocol": protocol,
        "dataset": {"name": dataset, "synthetic": True},
    }


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_text(Path("params.yaml"), (REPO / "params.yaml").read_text())
    write_text(Path("own.yaml"), "{tasks: [genre], models: [cnn64, lenet5], split: {protocol: artist}}")
    params.apply_overlay(Path("own.yaml"))
    write_json(Path("data/dataset.json"), {"name": "tiny", "synthetic": True, "description": "none"})
    for model in ("lenet5", "cnn64"):
        write_json(Path(f"artifacts/metrics/genre-{model}.json"), metrics(model=model))
    return params.read()


def test_keeps_the_same_bytes_under_dataset_and_protocol(settings):
    written = record_results.keep(record_results.measured(settings), None)
    assert [str(path) for path in written] == [
        "results/tiny/artist/genre-cnn64.json",
        "results/tiny/artist/genre-lenet5.json",
    ]
    for path in written:
        assert path.read_bytes() == Path(f"artifacts/metrics/{path.name}").read_bytes()


def test_a_stale_file_of_another_task_is_not_kept(settings):
    write_json(Path("artifacts/metrics/mood-lenet5.json"), metrics("mood"))
    record_results.keep(record_results.measured(settings), None)
    assert not Path("results/tiny/artist/mood-lenet5.json").exists()


def test_a_note_stays_until_another_is_given(settings):
    assert record_results.note("tiny", "artist") == ""
    for remark, expected in (("  on a GPU\n", "on a GPU"), (None, "on a GPU"), ("again", "again")):
        record_results.keep(record_results.measured(settings), remark)
        assert record_results.note("tiny", "artist") == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"protocol": "shuffled"},
            r"genre-cnn64.json: expected protocol 'artist', received 'shuffled'. Run `dvc repro`",
        ),
        ({"dataset": {"name": "old"}}, "expected dataset 'tiny', received 'old'"),
        ({"model": "lenet5"}, "expected model 'cnn64', received 'lenet5'"),
        ({"dataset": "tiny"}, "expected the metrics of a model, received TypeError"),
    ],
)
def test_metrics_of_another_run_are_refused(settings, change, message):
    write_json(Path("artifacts/metrics/genre-cnn64.json"), metrics(model="cnn64") | change)
    with pytest.raises(DataError, match=message):
        record_results.measured(settings)


def test_missing_metrics_are_named(settings):
    Path("artifacts/metrics/genre-cnn64.json").unlink()
    with pytest.raises(
        DataError, match=r"expected artifacts/metrics/genre-cnn64.json, received no such file"
    ):
        record_results.measured(settings)


def test_recorded_are_the_other_protocols_of_this_dataset_tasks_and_models(settings):
    for one in (
        metrics(protocol="track"),
        metrics(protocol="shuffled"),
        metrics(protocol="artist"),
        metrics(protocol="shuffled", dataset="another"),
        metrics("mood", protocol="shuffled"),
    ):
        record_results.keep([one], "a note is no result")
    found = record_results.recorded(settings, "tiny")
    assert [(one["protocol"], one["task"]) for one in found] == [("track", "genre"), ("shuffled", "genre")]


def test_nothing_recorded_is_no_error(settings):
    assert record_results.recorded(settings, "tiny") == []


@pytest.mark.parametrize("text", ["<<<<<<< HEAD", json.dumps({"task": "genre"}), json.dumps([1])])
def test_a_broken_record_is_refused(settings, text):
    write_text(Path("results/tiny/shuffled/genre-lenet5.json"), text)
    with pytest.raises(
        DataError, match=r"results/tiny/shuffled/genre-lenet5.json: expected the metrics of a model"
    ):
        record_results.recorded(settings, "tiny")


def test_a_record_in_the_wrong_folder_is_refused(settings):
    write_json(Path("results/tiny/track/genre-lenet5.json"), metrics(protocol="shuffled"))
    with pytest.raises(
        DataError, match=r"expected protocol 'track', received 'shuffled'. Restore it from git"
    ):
        record_results.recorded(settings, "tiny")


@pytest.mark.parametrize("name", ["../up", "a/b", "..", ""])
def test_a_dataset_name_that_is_no_folder_name_is_refused(name):
    with pytest.raises(DataError, match="expected a name that can name a folder"):
        record_results.folder_of(name, "artist")


def test_the_command_says_what_to_commit(settings, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["record", "--note", "two epochs"])
    record_results.main()
    out = capsys.readouterr().out
    assert "results/tiny/artist/note.txt" in out
    assert "git add results/tiny/artist, git commit" in out
    assert read_json(Path("results/tiny/artist/genre-cnn64.json"))["model"] == "cnn64"


def test_the_command_ends_with_2_and_no_traceback_on_a_users_error(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.reporting.record_results"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: expected params.yaml")
    assert "Traceback" not in done.stderr
