"""An intake that is killed, or that meets another: nothing lost, nothing twice. With real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from pipeline.tables.mood_labels import write_labels

ROOT = Path(__file__).parents[2]
HEADER = "track_id,mood,annotator,labelled_at"
TIME = "2024-03-05T14:00:00Z"
TRACKS = [f"blues.{number:05}" for number in range(30)]
GOOD = [f"{track},Other,bob,{TIME}" for track in TRACKS]
BAD = [f"polka.{number:05},Other,bob,{TIME}" for number in range(5)]
FILES = {"a.csv": [*GOOD, *BAD], "b.csv": None}
KILLS = 6  # of either kind

# One process imports everything; each round is a child of it in a folder of its own. The first leaves a copy
# of its folder before each change of the inbox or the data: what a SIGKILL would leave at that moment, as
# those that really die then (some of them) show; others die at any time. In each of these folders a second
# one ends the work.
DRIVER = """
import json, os, random, shutil, signal, sys, threading, time
from pathlib import Path

source, root = map(Path, sys.argv[1:])
sys.path.insert(0, str(source))
import crowdkit.metrics.data, filelock, great_expectations, scipy.stats
from pipeline import params
from pipeline.labelling import inbox
from pipeline.quality import suites
from tests.labelling import test_intake_crash as crash

settings = params.read(source / "params.yaml").intake


def changes_a_file(event, arguments):
    if event == "open":
        return bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod")


def concerns_us(folder, arguments):
    ours = tuple(f"{folder}/{start}" for start in ("inbox/", "data/", ".data-"))
    paths = [one for one in arguments[:2] if isinstance(one, (str, bytes, Path))]
    return any(os.path.abspath(os.fsdecode(path)).startswith(ours) for path in paths)


def work(folder, nth, seconds, copies):
    seen, copying = [], []

    def watch(event, arguments):
        if copying or not (changes_a_file(event, arguments) and concerns_us(folder, arguments)):
            return
        seen.append(event)
        if len(seen) == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        if copies:
            copying.append(True)
            shutil.copytree(folder, root / f"before {len(seen)}")
            copying.clear()

    os.chdir(folder)
    sys.addaudithook(watch)
    if seconds is not None:
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
    start = time.monotonic()
    inbox.run(settings=settings)
    facts = {"changes": len(seen), "seconds": time.monotonic() - start}
    Path("facts.json").write_text(json.dumps(facts))


def intake(folder, *, nth=None, seconds=None, copies=False):
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        work(folder, nth, seconds, copies)
        code = 0
    finally:
        os._exit(code)


whole = crash.project(root / "whole")
assert intake(whole, copies=True) == 0
facts = json.loads((whole / "facts.json").read_text())
rng = random.Random(0)
kills = [{"nth": number} for number in rng.sample(range(1, facts["changes"] + 1), crash.KILLS)]
kills += [{"seconds": rng.uniform(0, facts["seconds"])} for _ in range(crash.KILLS)]
with open(root / "outcomes.jsonl", "w") as stream:
    for number, plan in enumerate(kills):
        folder = crash.project(root / str(number))
        first = intake(folder, **plan)
        left = crash.tree(folder)
        same = "nth" not in plan or left == crash.tree(root / f"before {plan['nth']}")
        print(json.dumps([plan, first, same, intake(folder), crash.outcome(folder)]), file=stream)
    for number in range(1, facts["changes"] + 1):
        plan, folder = {"before": number}, root / f"before {number}"
        print(json.dumps([plan, None, True, intake(folder), crash.outcome(folder)]), file=stream)
"""

GROUPS = "task,protocol,seed,valid,test,key,part\nmood,artist,0,0.25,0.25,content ab,test\n"


def project(folder: Path) -> Path:
    """Make a project with files in its inbox: one with good and bad rows, one that is no CSV."""
    (folder / "data/gtzan/blues").mkdir(parents=True)
    (folder / "inbox/labels").mkdir(parents=True)
    for track in TRACKS:
        (folder / f"data/gtzan/blues/{track}.au").touch()
    write_labels(folder / "data", None)
    (folder / "artifacts/splits").mkdir(parents=True)
    (folder / "artifacts/splits/mood.groups.csv").write_text(GROUPS)
    for name, rows in FILES.items():
        path = folder / "inbox/labels" / name
        path.write_bytes(b"\xff" if rows is None else "\n".join([HEADER, *rows, ""]).encode())
        os.utime(path, (0, 0))
    return folder


def outcome(folder: Path) -> dict[str, object]:
    """Return all that an intake leaves, but for times."""
    data, inbox = folder / "data", folder / "inbox"
    history = pd.read_csv(data / "label_history.csv", dtype=str)[["file", "rows", "accepted", "rejected"]]
    return {
        "labels": (data / "mood_labels.csv").read_text().splitlines(),
        "held out": (data / "held_out.csv").read_text(),
        "history": history.to_numpy().tolist(),
        "rejected": pd.read_csv(inbox / "rejected/a.csv", dtype=str)["track_id"].tolist(),
        "waiting": names_in(inbox / "labels"),
        "done": {path.name: path.read_text().splitlines()[1:] for path in sorted((inbox / "done").iterdir())},
        "aside": names_in(inbox / "rejected"),
        "data": names_in(data),
        "inbox": names_in(inbox),
    }


def tree(folder: Path) -> list[tuple[str, int]]:
    """Return every file and folder, but for the pages, with its size: a run's own names hold its time."""
    paths = [path for path in sorted(folder.rglob("*")) if "data_docs" not in path.parts]
    return [(str(path.relative_to(folder)), path.is_file() and path.stat().st_size) for path in paths]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


EXPECTED = {
    "labels": [HEADER, *GOOD],
    "held out": GROUPS,
    "history": [["a.csv", "35", "30", "5"], ["b.csv", "0", "0", "0"]],
    "rejected": [row.split(",")[0] for row in BAD],
    "waiting": [],
    "done": {"a.csv": [*GOOD, *BAD]},
    "aside": ["a.csv", "b.csv", "b.csv.reason.txt"],
    "data": ["gtzan", "held_out.csv", "label_history.csv", "mood_labels.csv"],
    "inbox": ["done", "labels", "rejected"],
}


@pytest.mark.slow
def test_killed_at_every_change_of_a_file_and_at_random_times(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", DRIVER, str(ROOT), str(tmp_path)], cwd=tmp_path, check=True)
    outcomes = [json.loads(line) for line in (tmp_path / "outcomes.jsonl").read_text().splitlines()]
    assert len(outcomes) >= 40 + 2 * KILLS
    assert sum(first == -signal.SIGKILL for _, first, *_ in outcomes) >= KILLS
    for plan, first, same, second, found in outcomes:
        assert first in (None, 0, -signal.SIGKILL), plan
        assert same, plan
        assert second == 0, plan
        assert found == EXPECTED, plan


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    code = (
        "import sys, json; from pathlib import Path\n"
        "from pipeline import params; from pipeline.labelling import inbox\n"
        f"settings = params.read(Path({str(ROOT / 'params.yaml')!r})).intake\n"
        "files = [Path(name) for name in sys.argv[1:]]\n"
        "done = [inbox.add(file, settings=settings) for file in files] or inbox.run(settings=settings)\n"
        "print(json.dumps([[one.file, one.accepted, one.rejected] for one in done]))\n"
    )
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )


@pytest.mark.slow
def test_two_at_once(tmp_path: Path) -> None:
    folder = project(tmp_path / "p")
    several = [start(folder), start(folder)]
    said = [one.communicate()[0].splitlines() for one in several]
    assert [one.returncode for one in several] == [0, 0]
    assert outcome(folder) == EXPECTED
    assert sum(len(json.loads(lines[-1])) for lines in said) == len(FILES)


@pytest.mark.slow
def test_two_that_add_the_same_rows(tmp_path: Path) -> None:
    folder = project(tmp_path / "p")
    for name in FILES:
        (folder / "inbox/labels" / name).unlink()
    (tmp_path / "x.csv").write_text("\n".join([HEADER, *GOOD, ""]))
    several = [start(folder, str(tmp_path / "x.csv")) for _ in range(2)]
    said = [json.loads(one.communicate()[0].splitlines()[-1]) for one in several]
    assert sorted(one[0][1:] for one in said) == [[0, 30], [30, 0]]
    assert (folder / "data/mood_labels.csv").read_text().splitlines() == [HEADER, *GOOD]
    assert names_in(folder / "inbox/done") == ["x-2.csv", "x.csv"]


@pytest.mark.slow
def test_a_plan_that_no_longer_fits_is_dropped(tmp_path: Path) -> None:
    """Data was replaced between the kill and the next run: the file is checked against the new labels."""
    folder = project(tmp_path / "p")
    (folder / "inbox/labels/b.csv").unlink()
    code = (
        "import os, signal; from pathlib import Path; from pipeline.labelling import inbox, journal\n"
        "from pipeline import params\n"
        "journal.carry_out = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"inbox.run(settings=params.read(Path({str(ROOT / 'params.yaml')!r})).intake)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert killed.returncode == -signal.SIGKILL
    assert (folder / "inbox/.intake/plan.json").exists()
    (folder / "data/mood_labels.csv").write_text("\n".join([HEADER, GOOD[3], ""]))
    assert json.loads(start(folder).communicate()[0]) == [["a.csv", 29, 6]]
    expected = [HEADER, GOOD[3], *GOOD[:3], *GOOD[4:]]
    assert (folder / "data/mood_labels.csv").read_text().splitlines() == expected


@pytest.mark.slow
def test_a_hundred_thousand_rows() -> None:
    """Checked in 30 s at most, and merged in as many, with 1.5 GB of memory at most."""
    command = [sys.executable, "-m", "benchmarks.intake", "load"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines()[-2:]:
        assert line.startswith("100000 rows: 95002 accepted, 4998 rejected")
        assert float(line.split(" s, ")[0].split()[-1]) <= 30
        assert float(line.split("peak ")[1].split()[0]) <= 1.5
