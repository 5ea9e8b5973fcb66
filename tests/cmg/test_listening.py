"""The commands for listeners, on a library of three kinds of noise."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import mutagen
import numpy as np
import pytest
import soundfile
from pyarrow import parquet
from typer.testing import CliRunner, Result

from cmg import cli
from pipeline.errors import CmgError
from serving.listener import Listener, sha256
from tests.conftest import ROOT
from tests.listener import listener, with_moods
from tests.registry import tiny

__all__ = ["listener"]  # a fixture

HEAVY = ("mlflow", "pandas", "tensorflow", "keras", "librosa", "scipy.signal", "sklearn", "prefect", "dvc")


def cmg(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def test_files_are_classified_as_a_table_json_lines_and_csv(listener: Listener) -> None:
    files = sorted(Path("data").rglob("*.wav"))
    classes = listener.classes["genre"]
    table = cmg("classify", "data")
    assert table.exit_code == 0
    rows = [line.split() for line in table.stdout.splitlines()]
    assert [row[0] for row in rows] == [str(file) for file in files]
    assert all(row[1] == Path(row[0]).name.split(".")[0] for row in rows)  # the class it was made for
    documents = json.loads(cmg("classify", "data", "--json").stdout)
    lines = [json.loads(line) for line in cmg("classify", "data", "--jsonl").stdout.splitlines()]
    assert sorted(lines, key=lambda one: one["path"]) == documents
    assert [set(one["genre"]["probabilities"]) for one in documents] == [set(classes)] * len(files)
    tabled = list(csv.DictReader(io.StringIO(cmg("classify", "data", "--csv").stdout)))
    assert [one["genre"] for one in tabled] == [one["genre"]["label"] for one in documents]
    assert float(tabled[0][f"genre_{classes[0]}"]) == documents[0]["genre"]["probabilities"][classes[0]]


def test_what_decided_is_said_with_the_answer(listener: Listener) -> None:
    file = sorted(Path("data").rglob("*.wav"))[0]
    [record] = json.loads(cmg("classify", file, "--why", "--json").stdout)
    said = record["why"]["genre"]
    assert (said["label"], said["schema"]) == (record["genre"]["best"], "cmg.why/1")
    assert sum(map(sum, said["shares"])) + said["silence"] == pytest.approx(said["logit"], abs=1e-3)
    [_, line] = cmg("classify", file, "--why").stdout.splitlines()
    assert line.startswith(f"{file}: genre {said['label']} {said['probability']:.2f}; without the ")
    assert re.search(r"most of it at 0\.0-0\.1 s, \d+-\d+ Hz \(\+\d+\.\d\d\)$", line)
    assert "why" not in json.loads(cmg("classify", file, "--json").stdout)[0]


def test_tables_are_written_per_track_and_per_slice_as_csv_and_parquet(listener: Listener) -> None:
    listener = with_moods()
    long = np.random.default_rng(0).normal(0, 0.05, 25 * 22_050)
    soundfile.write("data/long.wav", long, 22_050)
    Path("data/empty.wav").write_bytes(b"")
    documents = json.loads(cmg("classify", "data", "--json", "--per-slice").stdout)
    for option in ((), ("--per-slice",)):
        tabled = cmg("classify", "data", "--csv", *option)
        written = cmg("classify", "data", "--parquet", "all.parquet", *option)
        assert tabled.exit_code == written.exit_code == 2  # one is unreadable
        assert written.stdout == ""
        table = parquet.read_table("all.parquet")
        rows = list(csv.DictReader(io.StringIO(tabled.stdout)))
        assert table.column_names == list(rows[0])
        for row, typed in zip(rows, table.to_pylist(), strict=True):
            assert row == {name: "" if value is None else str(value) for name, value in typed.items()}
        assert {row["mood_model"] for row in rows} >= {"mood-classifier/1"}
    answered = [one for one in documents if not one["error"]]
    windows = [one["timeline"]["tasks"]["mood"]["windows"] for one in answered]
    probabilities = [window["probabilities"] for part in windows for window in part]
    moods = listener.classes["mood"]
    sliced = [row for row in table.to_pylist() if row.get("slice") is not None]
    assert [[row[f"mood_{name}"] for name in moods] for row in sliced] == probabilities
    assert [row["start"] for row in sliced if row["path"].endswith("long.wav")] == [0.0, 12.5]


def test_the_index_is_exported(listener: Listener) -> None:
    cmg("classify", "data", "--index")
    documents = {one["path"]: one for one in json.loads(cmg("classify", "data", "--json").stdout)}
    for suffix in ("csv", "jsonl", "parquet"):
        assert cmg("index", "export", f"out.{suffix}").exit_code == 0
    lines = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert {one["path"] for one in lines} == set(documents)
    for one in lines:
        expected = documents[one["path"]]
        assert one["genre"]["best"] == expected["genre"]["best"]
        assert one["genre"]["probabilities"] == pytest.approx(expected["genre"]["probabilities"], abs=1e-5)
        assert one["id"] == sha256(Path(one["path"]))
    table = parquet.read_table("out.parquet").to_pylist()
    with Path("out.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["id"] for row in rows] == [row["id"] for row in table] == [one["id"] for one in lines]
    assert [float(row["genre_pop"]) for row in rows] == [row["genre_pop"] for row in table]


def test_an_answer_that_is_not_sure_says_so(listener: Listener) -> None:
    """The same model with a calibration is a version of its own; the one before never doubts."""
    before = json.loads(cmg("classify", "data", "--json").stdout)
    assert {one["genre"]["sure"] for one in before} == {None}
    tracks = tiny.write_tracks(list(tiny.CLASSES) * 5)
    calibration = {"temperature": 2.0, "threshold": 0.6, "domain": None}
    tiny.run(tiny.put_model(tracks, calibration=calibration))
    assert cmg("models", "pull").exit_code == 0
    after = json.loads(cmg("classify", "data", "--json").stdout)
    assert [one["genre"]["best"] for one in after] == [one["genre"]["label"] for one in before]
    for one in after:
        answer = one["genre"]
        assert answer["sure"] == (answer["probability"] >= 0.6)
        assert answer["label"] == (answer["best"] if answer["sure"] else None)
        assert answer["probability"] < 1
    assert {one["genre"]["sure"] for one in after} == {True, False}
    doubted = next(one for one in after if not one["genre"]["sure"])
    table = cmg("classify", doubted["path"]).stdout
    assert f"not sure ({doubted['genre']['best']}?)" in table
    row = next(csv.DictReader(io.StringIO(cmg("classify", doubted["path"], "--csv").stdout)))
    assert (row["genre"], row["genre_best"]) == ("", doubted["genre"]["best"])


def test_unreadable_files_are_listed_and_the_others_answered(listener: Listener) -> None:
    Path("in").mkdir()
    Path("in/=cmd.mp3").write_text("no music")
    good = next(Path("data").rglob("*.wav"))
    done = cmg("classify", "in", good, "nowhere.wav", "--json")
    assert done.exit_code == 2
    assert [one["error"] is None for one in json.loads(done.stdout)] == [True, False]
    assert "unreadable: nowhere.wav: no such file or folder\n" in done.stderr
    assert re.search(r"unreadable: .*in/=cmd\.mp3: not an audio file that can be decoded", done.stderr)
    tabled = list(csv.DictReader(io.StringIO(cmg("classify", "in", "--csv").stdout)))
    assert tabled[0]["error"]


def test_a_library_is_kept_searched_and_forgotten(listener: Listener, tmp_path: Path) -> None:
    assert cmg("classify", "data", "--index").exit_code == 0
    assert "15 tracks (15 different), 0 unreadable" in cmg("index", "status").stdout
    seed = next(Path("data").rglob("pop*.wav"))
    found = json.loads(cmg("recommend", "--like", seed, "-n", "4", "--json").stdout)
    names = [Path(track["path"]).name for track in found["tracks"]]
    assert len(names) == 4
    assert all(name.startswith("pop") for name in names)
    assert seed.name not in names
    playlist = tmp_path / "lists" / "a b.m3u8"
    playlist.parent.mkdir()
    assert cmg("recommend", "--genre", "pop", "-o", playlist).exit_code == 0
    written = [line for line in playlist.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert len(written) == 5
    assert all((playlist.parent / line).is_file() and not Path(line).is_absolute() for line in written)
    assert cmg("recommend", "--genre", "pop", "-o", playlist.with_suffix(".xspf")).exit_code == 0
    tree = ElementTree.parse(playlist.with_suffix(".xspf"))
    assert len(tree.findall(".//{http://xspf.org/ns/0/}location")) == 5
    assert cmg("index", "forget", "data").stdout == "forgotten: 15\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("recommend", "--genre", "polka"), "expected genres among"),
        (
            ("recommend",),
            "expected words, genres or a track to resemble, received none of them. Try ",
        ),
        (("recommend", "calm"), "expected a champion for moods, received none"),
        (
            ("recommend", "--genre", "pop", "-o", "list.txt"),
            "expected a playlist .m3u8, .xspf or .jspf, received list.txt",
        ),
        (("recommend", "--like", "params.yaml"), "expected a track of the library, received params.yaml"),
        (("timeline", "a.wav", "--png", "a.jpg"), "expected a picture .png, received a.jpg"),
        (("index", "export", "a.xlsx"), "expected a table .csv, .jsonl or .parquet, received a.xlsx"),
        (
            ("classify", "data", "--per-slice"),
            "expected one of --json, --jsonl, --csv, --parquet with --per-slice",
        ),
        (("classify", "data", "--csv", "--parquet", "a"), "received --csv and --parquet"),
        (("classify", "data", "--json", "--jsonl"), "received --json and --jsonl"),
        (("classify", "data", "--why", "--csv"), "with --why, received --csv"),
        (("classify", "mlruns"), "expected audio below mlruns, received none"),
    ],
)
def test_what_cannot_be_done_is_said(listener: Listener, arguments: tuple[str, ...], said: str) -> None:
    done = cmg(*arguments)
    assert isinstance(done.exception, CmgError)
    assert said in str(done.exception)


def test_the_models_are_listed_with_their_figures(listener: Listener) -> None:
    said = cmg("models").stdout
    assert re.fullmatch(
        r"genre-classifier/1: lenet5, protocol artist, trained on tiny; right for 0\.500 \[0\.100, 0\.900\] "
        r"of its test tracks; run [0-9a-f]+\n",
        said,
    )
    assert cmg("models", "pull").stdout.startswith("genre-classifier/1: lenet5")


def test_a_cold_command_imports_nothing_heavy(listener: Listener) -> None:
    file = next(Path("data").rglob("*.wav"))
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "cmg.cli", "classify", str(file)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {
        line.rsplit("|")[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time")
    }
    assert "serving.listener" in imported
    assert not {name for name in imported for heavy in HEAVY if name == heavy or name.startswith(heavy + ".")}


def test_tags_are_shown_written_and_taken_back(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "expected a champion for moods" in str(cmg("tag", "data").exception)
    with_moods()
    Path("in").mkdir()
    for label in ("blues", "metal"):
        samples, rate = soundfile.read(next(Path("data").rglob(f"{label}.*.wav")))
        soundfile.write(f"in/{label}.flac", samples, rate)
    tagged = mutagen.File("in/metal.flac")
    tagged["genre"] = "Rock"
    tagged.save()
    shutil.copy(next(Path("data").rglob("*.wav")), "in")
    old = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path("in").iterdir()}

    shown = cmg("tag", "in", "--genre", "fill")
    assert shown.exit_code == 2
    assert "expected MP3, FLAC, Ogg, Opus or M4A, got .wav" in shown.stderr
    assert [line.split(maxsplit=3) for line in shown.stdout.splitlines()[1:]] == [
        ["in/blues.flac", "GENRE", "none", "Blues"],
        ["in/blues.flac", "MOOD", "none", "Totally positive"],
        ["in/metal.flac", "MOOD", "none", "Calm but warm"],
    ]
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path("in").iterdir()} == old
    assert "2 files would change" in shown.stderr

    only_sure = cmg("tag", "in", "--write", "--only-sure")  # the model has no threshold
    assert "left as they are: 3" in only_sure.stderr
    written = cmg("tag", "in", "--write", "--genre", "replace", "--all-moods", "--keep-mtime")
    moods = {name: mutagen.File(f"in/{name}.flac")["mood"] for name in ("blues", "metal")}
    assert {name: values[0] for name, values in moods.items()} == {
        "blues": "Totally positive",
        "metal": "Calm but warm",
    }
    assert mutagen.File("in/metal.flac")["genre"] == ["Metal"]
    assert {path.stat().st_mtime_ns for path in old} == {at for _, at in old.values()}
    journal = re.search(r"cmg tag --undo (\S+) takes it back", written.stderr)
    assert journal is not None
    assert cmg("tag", "--undo", journal[1]).exit_code == 0
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path("in").iterdir()} == old


def test_a_timeline_says_the_strongest_place(listener: Listener) -> None:
    file = next(Path("data").rglob("pop*.wav"))
    found = json.loads(cmg("timeline", file, "--json").stdout)
    assert [window["label"] for window in found["windows"]] == ["pop"]
    assert "strongest: pop 0:00-0:00" in cmg("timeline", file, "--png", "pop.png").stdout
    assert Path("pop.png").read_bytes().startswith(b"\x89PNG")
