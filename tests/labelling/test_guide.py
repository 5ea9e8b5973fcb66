"""The annotators' guide: every mood with its poles, and an example that the label checks accept."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import params
from pipeline.labelling import guide
from pipeline.quality import labels as checks
from pipeline.tables.mood_labels import read_annotations
from pipeline.taxonomy import MOODS
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("name", "words"),
    [("CalmButEpic", "Calm but epic"), ("TotallyPositive", "Totally positive"), ("Other", "Other")],
)
def test_names_in_words(name: str, words: str) -> None:
    assert guide.in_words(name) == words


def test_every_mood_is_on_the_page_with_its_poles_and_what_to_listen_for(workspace: Path) -> None:
    written = guide.write()
    page = html.unescape(written.path.read_text(encoding="utf-8"))
    assert [one.name for one in written.moods] == list(MOODS)
    for mood in written.moods:
        assert f"<code>{mood.name}</code>" in page
        assert f"{mood.poles[0]} <span>↔</span> {mood.poles[1]}" in page
        assert mood.listen_for
        assert mood.listen_for in page
    assert not re.findall(r"https?://|src=|@import|url\(", page)
    assert "@page { size: A4;" in page
    assert [row["name"] for row in json.loads(json.dumps(written.as_dict()))["moods"]] == list(MOODS)


def test_the_pages_example_passes_the_checks(workspace: Path, settings: params.Params) -> None:
    page = html.unescape(guide.write().path.read_text(encoding="utf-8"))
    (example,) = re.findall(r'<pre class="example">(.*?)</pre>', page, re.DOTALL)
    Path("example.csv").write_text(example + "\n")
    found = checks.check_labels(
        read_annotations(Path("example.csv")),
        known_tracks={"rock.00042", "jazz.00007"},
        settings=settings.labels,
        docs=None,
    )
    assert [one.check for one in found] == ["labels_per_class"], (
        "two lines are few, and nothing else is wrong"
    )


def test_the_page_is_the_same_every_time(workspace: Path) -> None:
    assert guide.write(Path("a.html")).path.read_bytes() == guide.write(Path("b.html")).path.read_bytes()


def test_the_command_line(workspace: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.labelling.guide", "--out", "mine/guide.html"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "mine/guide.html: print it on one sheet of A4\n"
    assert Path("mine/guide.html").exists()
