"""Annotations written into the inbox, beside files of others, and at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.errors import DataError
from serving.corrections import ContradictionError, annotate

TRACK = "pop.00001"
INBOX = Path("inbox/labels")


@pytest.fixture
def track(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of the only track of a project."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").touch()
    Path("data").mkdir()
    INBOX.mkdir(parents=True)
    Path("data/index.csv").write_text(f"track_id,sha256\n{TRACK},abc\n")
    return Path(f"data/gtzan/pop/{TRACK}.wav").absolute()


@pytest.mark.parametrize(
    "content",
    [
        b"track_id,mood,annotator\n" + TRACK.encode() + b"\n",
        b"track_id,mood,annotator\n\xff,CalmButWarm,Ann\n",
        b"something\nelse\n",
        b"track_id,mood,annotator\n" + b"a" * 200_000 + b",CalmButWarm,Ann\n",
        b"track_id,mood,annotator,track_id\n,,,,,\n",
        b"\x00" * 50,
        b"",
    ],
)
def test_a_file_of_others_in_the_inbox_keeps_nobody_from_answering(track: Path, content: bytes) -> None:
    (INBOX / "heard-other.csv").write_bytes(content)
    done = annotate("abc", track, mood="CalmButWarm", annotator="Ann")
    assert done.file is not None
    with pytest.raises(ContradictionError):
        annotate("abc", track, mood="CalmButEpic", annotator="ann")


def test_labels_are_read_as_spreadsheets_save_them(track: Path) -> None:
    labels = f"\ufefftrack_id;mood;annotator\n{TRACK};CalmButWarm;Ann\n"
    Path("data/mood_labels.csv").write_text(labels, encoding="utf-8")
    assert annotate("abc", track, mood="CalmButWarm", annotator="Ann").file is None
    Path("data/mood_labels.csv").write_bytes(b"track_id,mood\n\xff\n")
    with pytest.raises(DataError, match=r"mood_labels\.csv: expected a UTF-8 CSV file"):
        annotate("abc", track, mood="CalmButWarm", annotator="Ann")


def test_two_answers_at_once_do_not_contradict_each_other(track: Path) -> None:
    def say(mood: str) -> bool:
        try:
            return annotate("abc", track, mood=mood, annotator="Ann").file is not None
        except ContradictionError:
            return False

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(say, ["CalmButWarm", "CalmButEpic", "Other", "TotallyPositive"] * 6))
    assert sum(said) == 1
    assert len(list(INBOX.iterdir())) == 1
