"""The whole graph through the real DVC, on a tiny library: what runs, what does not, what comes out."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline import source_code
from pipeline.stages import promote
from tests import project as projects
from tests.flows import browser
from tests.pages import loaded_from_elsewhere
from tests.project import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TASKS = ("genre", "mood")
MODELS = ("lenet5", "cnn64")
PAIRS = tuple(f"{task}-{model}" for task in TASKS for model in MODELS)
ALL = {"code", "catalog", "labels", "spectrogram", "register", "promote", "report"} | {
    *(f"split@{task}" for task in TASKS),
    *(f"{stage}@{pair}" for stage in ("train", "evaluate") for pair in PAIRS),
}
LAST = {"register", "promote", "report"}


def both(pair: str) -> set[str]:
    return {f"train@{pair}", f"evaluate@{pair}"}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that has run once."""
    project = projects.make(tmp_path_factory.mktemp("done"))
    audit = tmp_path_factory.mktemp("audit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(projects.ROOT / "tests/audit"))
        patch.setenv("CMG_AUDIT", str(audit))
        assert set(project.repro()) == ALL
    assert project.run("git", "status", "--porcelain").stdout == "?? dvc.lock\n"
    shutil.move(audit, project.root / ".dvc/tmp/audit")
    return project


@pytest.fixture
def restored(done: Project) -> Iterator[Project]:
    """The finished project; what a test changes in it is put back."""
    done.run("git", "add", "--all")
    done.run(
        "git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "--allow-empty", "-m", "before"
    )
    inputs = done.root / promote.INPUTS  # in neither git nor DVC's cache
    before = inputs.read_bytes()
    yield done
    done.run("git", "checkout", "--quiet", "--force", "HEAD")
    done.dvc("checkout", "--quiet", "--force")
    inputs.write_bytes(before)


def test_everything_promised_comes_out(done: Project) -> None:
    for pair in PAIRS:
        metrics = done.read_json(f"artifacts/metrics/{pair}.json")
        assert metrics["protocol"] == "artist"
        assert not metrics["leaky"]
        assert metrics["test"]["n_tracks"] > 0
        low, high = metrics["test"]["track"]["accuracy_ci"]
        assert low <= metrics["test"]["track"]["accuracy"] <= high
        for picture in ("confusion.png", "curves.png", "calibration.png", "embedding.png"):
            assert (done.root / f"artifacts/plots/{pair}/{picture}").stat().st_size > 1000
    assert "synthetic" in (done.root / "artifacts/report/index.html").read_text()
    assert (done.root / "data_docs/index.html").exists()


def test_registry_has_a_champion_for_each_task_that_answers_audio(done: Project) -> None:
    code = (
        "from pipeline import tracking; import pandas as pd, pathlib\n"
        "mlflow = tracking.configure()\n"
        "audio = pd.DataFrame({'audio': [next(pathlib.Path('data/gtzan').glob('*/*.au')).read_bytes()]})\n"
        "for task in ('genre', 'mood'):\n"
        "    model = mlflow.pyfunc.load_model(f'models:/{task}-classifier@champion')\n"
        "    answer = model.predict(audio)\n"
        "    assert abs(answer.sum(axis=1).iloc[0] - 1) < 1e-5, answer\n"
        "    print(task, len(answer.columns))\n"
    )
    assert done.run(sys.executable, "-c", code).stdout.split() == ["genre", "3", "mood", "10"]


def test_the_example_scripts_show_the_champion_and_the_runs(done: Project) -> None:
    song = next((done.root / "data/gtzan").glob("*/*.au"))
    answer = done.run(sys.executable, "examples/ask_the_champion.py", "genre", str(song)).stdout
    assert re.fullmatch(r"(?:[01]\.\d\d (?:blues|disco|metal)\n){3}", answer)
    runs = done.run(sys.executable, "examples/compare_runs.py", "genre").stdout.splitlines()
    assert runs[0].split() == ["started", "model", "protocol", "macro_f1", "accuracy"]
    assert sorted(model for row in runs[1:] for model in MODELS if model in row) == ["cnn64", "lenet5"]


def test_second_repro_runs_nothing_and_readme_is_no_dependency(restored: Project) -> None:
    (restored.root / "README.md").write_text("changed")
    assert restored.repro() == []


def test_forced_repro_leaves_the_lock_as_it_was(restored: Project) -> None:
    """A stage of each kind but for ``train``, which is made anew below, after a kill."""
    before = (restored.root / "dvc.lock").read_bytes()
    kinds = {stage.partition("@")[0]: stage for stage in sorted(ALL)} | {"evaluate": "evaluate@mood-lenet5"}
    chosen = set(kinds.values()) - {kinds["train"]}
    assert set(restored.repro("--force", "--single-item", *sorted(chosen))) == chosen
    assert (restored.root / "dvc.lock").read_bytes() == before


def add_label(project: Project) -> None:
    """Label a track that trains: a held-out one would leave the weights as they are."""
    split = pd.read_csv(project.root / "artifacts/splits/mood.csv")
    track = split.loc[split["part"] == "train", "track_id"].iloc[0]
    with (project.root / "data/mood_labels.csv").open("a") as stream:
        stream.write(f"{track},PositiveButVoid,dora,2024-03-06T10:00:00Z\n")


def change_audio(project: Project) -> None:
    path = project.root / "data/gtzan/blues/blues.00000.au"
    samples, rate = soundfile.read(path, dtype="int16")
    soundfile.write(path, (samples // 2).astype(np.int16), rate, format="AU", subtype="PCM_16")


def comment(module: str):
    def change(project: Project) -> None:
        with (project.root / module).open("a") as stream:
            stream.write("\n# a remark\n")

    return change


def parameter(**changes):
    return lambda project: project.edit_params(changes)


MOOD_DOWNSTREAM = {"labels", "split@mood", *both("mood-lenet5"), *both("mood-cnn64"), *LAST}
CHANGES = {
    "one audio file": (change_audio, ALL - {"code"}),
    "a mel parameter": (
        parameter(spectrogram={"n_mels": 96}),
        {"spectrogram", *LAST}.union(*(both(pair) for pair in PAIRS)),
    ),
    "LeNet-5's epochs": (
        parameter(train={"models": {"lenet5": {"epochs": 3}}}),
        both("genre-lenet5") | both("mood-lenet5") | LAST,
    ),
    "a CNN-64-only parameter": (
        parameter(train={"models": {"cnn64": {"learning_rate": 0.002}}}),
        both("genre-cnn64") | both("mood-cnn64") | LAST,
    ),
    "the promotion margin": (parameter(promote={"margin": 0.01}), {"promote", "report"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_change_concerns(restored: Project, name: str) -> None:
    """Ask for all that is downstream; a new label, which DVC sees as new data, really runs further below."""
    change, expected = CHANGES[name]
    change(restored)
    assert set(restored.would_run()) == expected


def test_new_label_really_reruns_mood_alone_and_no_spectrogram(restored: Project) -> None:
    features = restored.root / "artifacts/features"
    before = {path: path.stat().st_mtime_ns for path in features.iterdir()}
    add_label(restored)
    assert set(restored.repro("split@mood")) == {"labels", "split@mood"}
    assert {path: path.stat().st_mtime_ns for path in features.iterdir()} == before
    assert set(restored.would_run()) == MOOD_DOWNSTREAM - {"labels", "split@mood"}


def test_merged_labels_leave_the_test_part_as_it_was(restored: Project) -> None:
    """What the split held out is noted as the labels are merged, and edits by hand before the next run."""
    root = restored.root
    before, genre = (pd.read_csv(root / f"artifacts/splits/{task}.csv") for task in TASKS[::-1])
    tested = before.loc[before["part"] == "test", "track_id"]
    rows = [f"{track},TotallyNegative,dora,2024-03-06T10:00:00Z" for track in before["track_id"][::2]]
    (root / "new.csv").write_text("\n".join(["track_id,mood,annotator,labelled_at", *rows, ""]))
    try:
        restored.run(sys.executable, "-m", "cmg.cli", "labels", "add", "new.csv")
        noted = pd.read_csv(root / "data/held_out.csv")
        assert set(noted["task"]) == {"mood"}
        assert len(noted) == 2 * len(before)  # by content, and by artist
        assert set(restored.repro("split@mood", "split@genre")) == {"labels", "split@mood"}
        after = pd.read_csv(root / "artifacts/splits/mood.csv").set_index("track_id")
        assert set(after.loc[tested, "part"]) == {"test"}
        index = root / "data/index.csv"
        index.write_text(index.read_text() + "\n")
        restored.run(sys.executable, "-m", "pipeline.labelling.hand_edits")
        assert set(pd.read_csv(root / "data/held_out.csv")["task"]) == set(TASKS)
        restored.repro("split@genre")
        pd.testing.assert_frame_equal(pd.read_csv(root / "artifacts/splits/genre.csv"), genre)
    finally:
        shutil.rmtree(root / "inbox", ignore_errors=True)
        (root / "new.csv").unlink()


def test_a_comment_runs_no_stage_but_the_one_that_looks_at_the_code(restored: Project) -> None:
    for module in ("stages/split", "tables/labels", "training/fit", "inference/audio", "files"):
        comment(f"pipeline/{module}.py")(restored)
    assert restored.repro() == ["code"]


def test_other_targets_train_every_model_anew(restored: Project) -> None:
    path = restored.root / "pipeline/tables/labels.py"
    text = path.read_text()
    assert ".sum(axis=1, keepdims=True)" in text
    path.write_text(text.replace(".sum(axis=1, keepdims=True)", ".max(axis=1, keepdims=True)"))
    assert restored.repro("code") == ["code"]
    assert set(restored.would_run()) == LAST.union(*(both(pair) for pair in PAIRS))


def test_one_changed_track_recomputes_one_spectrogram(restored: Project) -> None:
    change_audio(restored)
    output = restored.dvc("repro", "spectrogram").stdout
    assert projects.stages_run(output) == ["catalog", "spectrogram"]
    assert "12 tracks, 1 spectrograms computed, 11 from the cache" in output


def test_metrics_plots_and_experiments_are_declared(done: Project) -> None:
    shown = done.dvc("metrics", "show").stdout
    assert all(f"{pair}.json" in shown for pair in PAIRS)
    assert len(done.read_json("artifacts/scores/mood-cnn64.json")["mood-cnn64"]) == 2
    done.dvc("plots", "show", "--out", "dvc_plots")
    page = (done.root / "dvc_plots/index.html").read_text()
    assert "val_accuracy" in page
    assert "confusion" in page
    assert loaded_from_elsewhere(page) == []


@pytest.mark.browser
@pytest.mark.skipif(browser.chromium() is None, reason="needs Chromium: apt-get install chromium")
def test_pages_are_complete_without_a_network_and_fit_a_phone(done: Project) -> None:
    done.dvc("plots", "show", "--out", "dvc_plots")
    pages = [done.root / "artifacts/report/index.html", *sorted((done.root / "data_docs").rglob("*.html"))]
    with browser.page(width=390, height=844) as opened:
        for path in (*pages, done.root / "dvc_plots/index.html"):
            assert browser.shown_alone(opened, path.as_uri()) == []
            assert opened.evaluate("document.documentElement.scrollWidth") <= 390, path
            assert opened.evaluate("getComputedStyle(document.body).maxWidth") != "none", (
                path
            )  # it has a style
        charts = opened.locator("svg.marks")  # the plots page is the last
        charts.nth(2 * len(PAIRS) - 1).wait_for()
        assert charts.count() == 2 * len(PAIRS)
        assert all(chart.bounding_box()["width"] <= 390 for chart in charts.all())


def test_registry_refills_after_it_is_lost_although_outputs_are_links(
    restored: Project, tmp_path: Path
) -> None:
    kept = tmp_path / "mlruns"
    (restored.root / "mlruns").rename(kept)
    restored.dvc("config", "--local", "cache.type", "symlink")
    restored.dvc("checkout", "--relink")
    try:
        assert (restored.root / "artifacts/models/mood-cnn64.json").is_symlink()
        told = restored.dvc("repro").stdout
        assert projects.stages_run(told) == ["promote"]
        assert told.count("promoted version 1: there was no champion") == 2
        assert restored.repro() == []
        assert restored.stage("promote").stdout.count("is champion already") == 2
    finally:
        shutil.rmtree(restored.root / "mlruns", ignore_errors=True)
        kept.rename(restored.root / "mlruns")
        restored.dvc("config", "--local", "--unset", "cache.type")
        restored.dvc("checkout", "--relink")


def test_colleague_has_the_same_models_without_training(restored: Project, tmp_path: Path) -> None:
    # Relative paths, since DVC writes its configuration in ASCII: it refuses an umlaut.
    add = ("remote", "add", "--local", "--default", "team")
    restored.dvc(*add, os.path.relpath(tmp_path / "remote", restored.root))
    restored.dvc("push")
    restored.dvc("remote", "remove", "--local", "team")
    clone = Project(tmp_path / "clone")
    restored.run("git", "clone", "--quiet", ".", str(clone.root))
    shutil.copytree(restored.root / "data", clone.root / "data")
    assert set(clone.would_run()) == ALL  # the committed lock alone has made nothing
    clone.dvc(*add, "../remote")
    clone.dvc("pull")
    told = clone.dvc("repro").stdout
    assert projects.stages_run(told) == ["promote"]
    assert told.count("promoted version 1: there was no champion") == 2
    weights = "artifacts/models/mood-cnn64.weights.h5"
    assert (clone.root / weights).read_bytes() == (restored.root / weights).read_bytes()


PARITY = """
from benchmarks import parity
from serving.champions import champions
files = parity.chosen(4)
for champion in champions().values():
    off = parity.by_command(files, champion) - parity.forecasts(champion).loc[list(files)]
    print(champion.task, len(off), off.abs().max(axis=None))
"""


def test_the_command_answers_what_the_stage_evaluate_forecast(done: Project) -> None:
    lines = done.run(done.python, "-c", PARITY).stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["genre", "4"], ["mood", "4"]]
    assert all(float(line.split()[2]) <= 1e-5 for line in lines)


def test_crossvalidation_is_one_run_with_a_child_a_fold(done: Project) -> None:
    arguments = ("--task", "genre", "--model", "lenet5", "--folds", "3")
    output = done.run(sys.executable, "-m", "pipeline.training.crossvalidate", *arguments).stdout
    assert "±" in output
    code = (
        "from pipeline import tracking; mlflow = tracking.configure()\n"
        "find = lambda rule: mlflow.search_runs(\n"
        "    experiment_names=['genre'], filter_string=rule, output_format='list')\n"
        "parent, = find(\"attributes.run_name LIKE 'lenet5 · 3-fold%'\")\n"
        "children = find(f\"tags.mlflow.parentRunId = '{parent.info.run_id}'\")\n"
        "mean = sum(c.data.metrics['test.track.accuracy'] for c in children) / len(children)\n"
        "assert abs(parent.data.metrics['accuracy.mean'] - mean) < 1e-5\n"
        "print(len(children))\n"
    )
    assert done.run(sys.executable, "-c", code).stdout.split()[-1] == "3"


def test_experiment_runs_and_is_shown(restored: Project) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@t")
    restored.run("git", "add", "--all")
    restored.run("git", *identity, "commit", "--quiet", "--allow-empty", "--message", "run")
    restored.run("git", "config", "user.name", "t")
    restored.run("git", "config", "user.email", "t@t")
    output = restored.dvc("exp", "run", "--name", "wider", "--set-param", "promote.margin=0.02").stdout
    assert projects.stages_run(output) == ["promote"]
    assert "wider" in restored.dvc("exp", "show", "--md", "--no-pager").stdout


@pytest.mark.parametrize("elsewhere", ["--temp", "--queue"])
def test_an_experiment_aside_promotes_nothing_until_it_is_applied(restored: Project, elsewhere: str) -> None:
    restored.run("git", "config", "user.name", "t")
    restored.run("git", "config", "user.email", "t@t")
    change = ("--name", "aside", "--set-param", "promote.margin=0.03")
    output = restored.dvc("exp", "run", elsewhere, *change).stdout
    if elsewhere == "--queue":
        restored.dvc("queue", "start")
        output = restored.dvc("queue", "logs", "--follow", "aside").stdout
        restored.dvc("queue", "stop")
    assert output.count("an experiment promotes nothing") == 2
    assert restored.read_json("mlruns/promotion_inputs.json")["mood"]["margin"] != 0.03
    restored.dvc("exp", "apply", "aside")
    assert restored.repro() == ["promote"]
    assert restored.read_json("mlruns/promotion_inputs.json")["mood"]["margin"] == 0.03


def test_a_listener_asks_for_a_mood_and_gets_music(done: Project) -> None:
    """Right after a reproduction: the champions are fetched, and the project's own tracks are the library."""
    ask = ("-m", "cmg.cli", "recommend", "negative but hopeful", "-n", "3", "--json")
    first = json.loads(done.run(sys.executable, *ask).stdout)
    assert first["understood"][-1] == "the composite NegativeButHopeful"
    assert len(first["tracks"]) == 3
    assert all((done.root / track["path"]).is_file() for track in first["tracks"])
    assert json.loads(done.run(sys.executable, *ask).stdout) == first


def test_a_mood_goes_into_a_file_and_out_again(done: Project, tmp_path: Path) -> None:
    samples, rate = soundfile.read(next((done.root / "data").rglob("*.au")))
    song = tmp_path / "a b.flac"
    soundfile.write(song, samples, rate)
    before = song.read_bytes()
    tag = (sys.executable, "-m", "cmg.cli", "tag")
    assert "1 file would change" in done.run(*tag, str(song)).stderr
    assert song.read_bytes() == before
    written = done.run(*tag, str(song), "--write").stderr
    assert song.read_bytes() != before
    assert "0 files would change" in done.run(*tag, str(song)).stderr
    (journal,) = done.root.glob("*.cmgundo")
    assert f"cmg tag --undo {journal.name}" in written
    done.run(*tag, "--undo", journal.name)
    assert song.read_bytes() == before
    journal.unlink()


def test_a_table_of_experiments_has_few_columns(done: Project) -> None:
    header = done.dvc("exp", "show", "--csv").stdout.splitlines()[0].split(",")
    shown = {"genre": ("accuracy", "macro_f1"), "mood": ("agreement", "cross_entropy")}
    every = {name for names in shown.values() for name in names} | {"rank_correlation", "ece"}
    scores = [name for name in header if name.rpartition(".")[2] in every]
    assert sorted(scores) == sorted(
        f"{pair}.{score}" for pair in PAIRS for score in shown[pair.split("-")[0]]
    )


def resolved(project: Project) -> dict[str, dict[str, list[str]]]:
    """Return each stage's dependencies, parameters and outs by its address, as DVC resolves them."""
    code = (
        "import json; from dvc.repo import Repo; from dvc.dependency import ParamsDependency as P\n"
        "stages = [s for s in Repo().index.stages if s.addressing != 'data.dvc']\n"
        "print(json.dumps({s.addressing: {\n"
        "    'deps': [d.def_path for d in s.deps if not isinstance(d, P)],\n"
        "    'params': [k for d in s.deps if isinstance(d, P) for k in d.params],\n"
        "    'outs': [o.def_path for o in s.outs]} for s in stages}))"
    )
    return json.loads(project.run(sys.executable, "-c", code).stdout)


# What a stage's process reads beside its inputs, and why its outputs do not depend on it.
READ_BESIDES = {
    "params.yaml": "its keys are dependencies, see the parameters below",
    "dvc.yaml": "which inputs to watch while the stage runs",
    "dvc.lock": "its hash is a tag of the MLflow run",
    "data.dvc": "its hash is a tag of the MLflow run",
    ".venv": "the environment; the versions in it are an input of the stage code",
    ".git": "the commit is a tag of the MLflow run",
    "mlruns": "the registry, state beside the graph",
    "data_docs": "pages that Great Expectations renews",
    ".cache": "spectrograms by the content and code that made them",
    "requirements.lock": "an input of the stage code",
    "pipeline": "the list of the stage's code, see below",
    "serving": "the list of the stage's code, see below",
}


def below(path: str, folders: Iterable[str]) -> bool:
    return any(path == one or path.startswith(f"{one}/") for one in folders)


def test_what_a_stage_reads_is_declared(done: Project) -> None:
    """The records of the audit that the one run was made under, against what dvc.yaml says."""
    undeclared = {}
    for stage, entry in resolved(done).items():
        lines = audit_of(done, stage)
        read = {line.partition(" ")[2] for line in lines if line.startswith(("open", "list"))}
        used = {line.removeprefix("param ") for line in lines if line.startswith("param ")}
        model = stage.rpartition("-")[2]
        declared = [*entry["deps"], *entry["outs"], *READ_BESIDES]
        above = {parent.as_posix() for one in declared for parent in Path(one).parents}
        files = {path for path in read if not below(path, declared) and path not in above}
        # A file that is written beside an out gets its name at last.
        files = {path for path in files if not Path(path).name.startswith(".new-")}
        keys = {key.replace(".*.", f".{model}.") for key in used}
        listed = [key.replace(".", "/") for key in entry["params"]]
        keys = {key for key in keys if not below(key.replace(".", "/"), listed)}
        if files or keys:
            undeclared[stage] = sorted(files | keys)
        assert len(read) > 5, f"the audit of {stage} saw nothing"
    assert undeclared == {}


def test_every_function_that_a_stage_calls_is_in_its_list_of_code(done: Project) -> None:
    """The list comes from reading the code; this is what really ran."""
    missed = {}
    for stage in resolved(done):
        kind = stage.partition("@")[0]
        listed = done.read_json(f"artifacts/code/{kind}.json")["code"] if kind != "code" else {"pipeline": ""}
        called = {line.removeprefix("call ") for line in audit_of(done, stage) if line.startswith("call ")}
        assert len(called) > 3, f"the audit of {stage} saw nothing"
        # pipeline.source_code, which is exempt, calls pipeline.syntax in every stage; others list it.
        known = [*listed, *source_code.EXEMPT, "pipeline.syntax"]
        missed[stage] = {
            name for name in called if not any(name == k or name.startswith(f"{k}.") for k in known)
        }
    assert {stage: names for stage, names in missed.items() if names} == {}


def audit_of(project: Project, stage: str) -> list[str]:
    """Return what the audit recorded of a stage in the one run that was made under it."""
    return (project.root / f".dvc/tmp/audit/{re.sub('[@-]', '_', stage)}.txt").read_text().splitlines()


def test_a_parameter_that_is_changed_during_a_training_is_not_recorded_as_its_own(restored: Project) -> None:
    before = (restored.root / "dvc.lock").read_text()
    running = start(restored, "--force", "--single-item", "train@genre-lenet5")
    wait_for(restored, running, "Epoch 1/")
    restored.edit_params({"train": {"models": {"lenet5": {"learning_rate": 0.5}}}})
    assert running.wait() != 0
    said = (restored.root / LOG).read_text()
    assert "expected inputs that stay as they are" in said
    assert "train.models.lenet5" in said
    assert (restored.root / "dvc.lock").read_text() == before
    (restored.root / LOG).unlink()
    assert "train@genre-lenet5" in restored.would_run()


LOG = "running.log"


def start(project: Project, *arguments: str) -> subprocess.Popen[bytes]:
    """Start ``dvc repro`` with its output in a file."""
    with (project.root / LOG).open("w") as stream:
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "dvc", "repro", *arguments],
            cwd=project.root,
            env=project.environment | {"PYTHONUNBUFFERED": "1"},
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_for(project: Project, running: subprocess.Popen[bytes], appears: str) -> None:
    """Wait until ``appears`` stands in its output."""
    deadline = time.monotonic() + 300
    while appears not in (log := (project.root / LOG).read_text()):
        assert running.poll() is None, f"ended too early:\n{log}"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def kill_when(project: Project, target: str, appears: str) -> None:
    """Start ``dvc repro TARGET`` and kill its whole process group once ``appears`` stands in its output."""
    running = start(project, target)
    wait_for(project, running, appears)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    (project.root / LOG).unlink()


def test_killed_runs_go_on_and_end_the_same(done: Project, tmp_path: Path) -> None:
    project = projects.make(tmp_path)
    for target, appears, result in (
        ("spectrogram", "> python -m pipeline.stages.spectrogram", "artifacts/features"),
        ("train@genre-lenet5", "Epoch 1/", "artifacts/models"),
    ):
        kill_when(project, target, appears)
        project.dvc("repro", target)
        names = {path.name for path in (project.root / result).iterdir()}
        wanted = {name: (done.root / result / name).read_bytes() for name in names}
        assert {name: (project.root / result / name).read_bytes() for name in names} == wanted
