"""Files that others drop to harm: what is no file is never opened, what is too much is refused at once."""

from __future__ import annotations

import json
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline import params
from pipeline.errors import DataError
from pipeline.labelling import dropped, formats, inbox, journal
from pipeline.labelling.file_limits import FileFaultError, Limits
from pipeline.tables.mood_labels import LABEL_COLUMNS, write_labels
from pipeline.untrusted import visible
from tests.conftest import ROOT

TIME = "2024-03-05T14:00:00Z"
HEADER = ",".join(LABEL_COLUMNS)
ROW = f"blues.00001,Other,bob,{TIME}"
SECRET = "root:x:0:0"
LABELS = Path("inbox/labels")


@pytest.fixture
def project(workspace: Path) -> Path:
    """Work in a project of two tracks, with a file beside it that is nobody's business."""
    Path("data/gtzan/blues").mkdir(parents=True)
    for number in range(2):
        Path(f"data/gtzan/blues/blues.{number:05}.au").touch()
    write_labels(Path("data"), None)
    LABELS.mkdir(parents=True)
    Path("private").mkdir()
    Path("private/passwd").write_text(f"{HEADER}\n{SECRET},Other,bob,{TIME}\n")
    return workspace


def drop(name: str, text: str = f"{HEADER}\n{ROW}\n") -> Path:
    path = LABELS / name
    path.write_text(text)
    os.utime(path, (0, 0))
    return path


def run() -> list[inbox.Intake]:
    return inbox.run(settings=params.read().intake)


def copies_of_the_secret() -> list[Path]:
    found = [path for path in Path().rglob("*") if path.is_file() and not path.is_symlink()]
    others = [path for path in found if not path.samefile("private/passwd")]
    return [path for path in others if SECRET in path.read_text(errors="replace")]


def link(path: Path, target: str = "../../private/passwd") -> None:
    path.symlink_to(target)


def listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def device(path: Path) -> None:
    try:
        os.mknod(path, 0o020666, os.makedev(1, 5))  # /dev/zero: reading it never ends
    except PermissionError:
        os.mkfifo(path)


NO_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "link.csv": (link, "a symbolic link"),
    "chain.csv": (lambda path: link(path, "link.csv"), "a symbolic link"),
    "dangling.csv": (lambda path: link(path, "nowhere"), "a symbolic link"),
    "loop.csv": (lambda path: link(path, "loop.csv"), "a symbolic link"),
    "folder-link.csv": (lambda path: link(path, "../../private"), "a symbolic link"),
    "hard.csv": (lambda path: path.hardlink_to("private/passwd"), "a hard link"),
    "pipe.csv": (os.mkfifo, "a named pipe"),
    "socket.csv": (listen, "a socket"),
    "zero.csv": (device, "a "),
    "folder.csv": (Path.mkdir, "a folder"),
}


def test_only_regular_files_are_taken_and_the_rest_is_named(project: Path) -> None:
    """A link to a system file became a readable copy, and its first line stood in the flow's state."""
    for name, (make, _) in NO_FILES.items():
        make(LABELS / name)
    drop("good.csv")
    good, *others = run()
    assert (good.file, good.is_whole) == ("good.csv", True)
    assert {one.file for one in others} == set(NO_FILES)
    for one in others:
        assert f"{one.file}: expected a regular file, received {NO_FILES[one.file][1]}" in one.fault
        assert "It stays where it is." in one.fault
        assert (one.moved_to, os.path.lexists(LABELS / one.file)) == ("", True)
    assert copies_of_the_secret() == []


@pytest.mark.parametrize("make", [link, os.mkfifo, device, Path.mkdir])
def test_a_file_that_is_exchanged_between_look_and_opening_is_not_read(
    project: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], object]
) -> None:
    path = drop("a.csv")
    settled = inbox._settled

    def exchange(*args: object, **kwargs: object) -> list[str]:
        found = settled(*args, **kwargs)
        path.unlink()
        make(path)
        return found

    monkeypatch.setattr(inbox, "_settled", exchange)
    (intake,) = run()
    assert "expected a regular file" in intake.fault
    assert (os.path.lexists(path), copies_of_the_secret()) == (True, [])


def test_a_file_that_is_exchanged_after_it_was_read_is_kept_as_it_was_read(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drop("a.csv", "no header\n")
    monkeypatch.setattr(inbox, "_fault_page", lambda *_, **__: ())
    commit = journal.commit

    def exchange(*args: object, **kwargs: object) -> None:
        path.unlink()
        link(path)
        commit(*args, **kwargs)

    monkeypatch.setattr(journal, "commit", exchange)
    (intake,) = run()
    assert Path("inbox", intake.moved_to).read_text() == "no header\n"
    assert (path.is_symlink(), copies_of_the_secret()) == (True, [])


@pytest.mark.parametrize("name", ["labels", "done", "rejected", ".intake"])
def test_a_folder_of_the_inbox_that_leads_elsewhere_stops_the_intake(project: Path, name: str) -> None:
    drop("a.csv", "no header\n")
    folder = Path("inbox", name)
    if folder.exists():
        folder.rename("inbox/moved")
    folder.symlink_to("../private")
    with pytest.raises(DataError, match=rf"expected inbox/{name} to be a folder, received a symbolic link"):
        run()
    assert [path.name for path in Path("private").iterdir()] == ["passwd"]


@pytest.mark.parametrize(
    "changes",
    [
        {"file": "../../private/passwd"},
        {"moves_to": "../private/passwd"},
        {"moves_to": "done/.."},
        {"beside": "/tmp/x"},
        {"beside": "rejected/../../private/passwd"},
        {"more": 1},
        {"docs": None},
    ],
)
def test_a_plan_may_name_nothing_outside_the_inbox(project: Path, changes: dict[str, object]) -> None:
    plan = {"file": "a.csv", "sha256": "", "store_before": "", "store_after": "x", "moves_to": "done/a.csv"}
    Path("inbox/.intake").mkdir()
    whole = plan | {"beside": "", "record": {}, "docs": []} | changes
    Path("inbox/.intake/plan.json").write_text(json.dumps(whole))
    with pytest.raises(DataError, match=r"expected the plan of an intake, within inbox"):
        run()


def test_a_link_at_the_destination_is_replaced_and_not_written_through(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop("a.csv", "no header\n")
    Path("inbox/rejected").mkdir()
    link(Path("inbox/rejected/a.csv"))
    link(Path("inbox/rejected/a-2.csv.reason.txt"))
    monkeypatch.setattr(inbox, "_fault_page", lambda *_, **__: ())
    (intake,) = run()
    assert intake.moved_to == "rejected/a-2.csv"
    assert SECRET in Path("private/passwd").read_text()


def test_the_user_may_name_a_link_but_no_pipe(project: Path) -> None:
    settings = params.read().intake
    link(Path("mine.csv"), "private/passwd")
    assert dropped.read_chosen(Path("mine.csv"), max_megabytes=1).data == Path("private/passwd").read_bytes()
    os.mkfifo("pipe.csv")
    with pytest.raises(DataError, match=r"expected a file of labels at pipe\.csv"):
        inbox.check(Path("pipe.csv"), settings=settings)


def test_a_copy_cannot_be_led_elsewhere_while_it_is_written(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may write into ``inbox/labels/`` sees the new name before it is written to."""
    open_ = os.open

    def exchange(path: str | Path, *args: int, **kwargs: int) -> int:
        handle = open_(path, *args, **kwargs)
        for new in LABELS.glob(".new-*"):
            new.unlink()
            link(new)
        return handle

    monkeypatch.setattr(inbox, "_fault_page", lambda *_, **__: ())
    Path("mine.csv").write_text("no header\n")
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", exchange)
        with dropped.opened(LABELS) as folder:
            dropped.put("mine.csv", dropped.Content(b"mine", "", 0.0), folder=folder)
    assert SECRET in Path("private/passwd").read_text()
    (LABELS / "mine.csv").unlink()
    intake = inbox.add(Path("mine.csv"), settings=params.read().intake)
    assert Path("inbox", intake.moved_to).read_text() == "no header\n"


def test_a_file_that_is_too_large_is_neither_read_nor_copied(project: Path) -> None:
    """A terabyte of nothing costs its owner nothing."""
    os.truncate(drop("huge.csv"), 10**12)
    (intake,) = run()
    assert "expected at most 100 MB, received 1,000,000.0 MB" in intake.fault
    (LABELS / "huge.csv").rename("huge.csv")
    assert "at most 100 MB" in inbox.add(Path("huge.csv"), settings=params.read().intake).fault
    assert list(LABELS.iterdir()) == []


def test_very_many_links_are_told_in_few_lines(project: Path) -> None:
    for number in range(2000):
        link(LABELS / f"{number:04}.csv")
    found = run()
    assert len(found) == 21
    assert "1,980 others: expected a regular file, received a symbolic link" in found[-1].fault
    assert len(found[-1].fault) < 300


MB = 10**6
DEEP = 10**5
HEAP = "\u0301\u0316" * 50_000  # CPython puts such a run into order in quadratic time: 23 s


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def tasks_of(**annotation: str) -> bytes:
    """Return an export of one task; values are JSON already."""
    cells = {"completed_by": "1", "updated_at": f'"{TIME}"', "id": "1"} | annotation
    text = ", ".join(f'"{name}": {value}' for name, value in cells.items())
    return f'[{{"data": {{"track_id": "a"}}, "annotations": [{{{text}}}]}}]'.encode()


HOSTILE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "40,000 columns": ("b.csv", lambda: ",".join(f"c{n}" for n in range(40_000)).encode() + b"\nx\n"),
    "200,000 equal columns": ("b.csv", lambda: b"c," * 200_000 + b"\nx\n"),
    "many columns in quotes": ("b.csv", lambda: b'"c\n",' * 200_000 + b"\nx\n"),
    "one line": ("b.csv", lambda: b"x" * (20 * MB)),
    "only line ends": ("b.csv", lambda: b"\n" * (20 * MB)),
    "only carriage returns": ("b.csv", lambda: b"\r" * (20 * MB)),
    "line ends up to the limit": ("b.csv", lambda: b"\n" * 3 * MB),
    "only separators": ("b.csv", lambda: b"," * (20 * MB)),
    "only quotes": ("b.csv", lambda: b'"' * (20 * MB)),
    "a quote that never closes": ("b.csv", lambda: f'{HEADER}\n"'.encode() + b"x\n" * MB),
    "a long cell": ("b.csv", lambda: f"{HEADER}\n".encode() + b"x" * MB + b",a,b,c\n"),
    "NUL bytes": ("b.csv", lambda: b"\0" * (20 * MB)),
    "rows beyond the limit": ("b.csv", lambda: f"{HEADER}\n".encode() + b"a,b,c,d\n" * 300_000),
    "short rows under many columns": (
        "b.csv",
        lambda: (HEADER + "," + ",".join(f"c{n}" for n in range(90)) + "\n").encode() + b"a\n" * 190_000,
    ),
    "long rows under few columns": ("b.csv", lambda: (HEADER + "\n" + "x" + "," * 2_900_000 + "\n").encode()),
    "a heap of accents": (
        "b.csv",
        lambda: f"{HEADER}\na,Other,x{HEAP},{TIME}\n".encode(),
    ),
    "heaps of accents on moods": (
        "b.csv",
        lambda: f"{HEADER}\n".encode() + f"a,x{HEAP},b,{TIME}\n".encode() * 10,
    ),
    "UTF-16": ("b.csv", lambda: f"{HEADER}\n{ROW}\n".encode("utf-16")),
    "UTF-32": ("b.csv", lambda: f"{HEADER}\n{ROW}\n".encode("utf-32")),
    "UTF-16 without a mark": ("b.csv", lambda: f"{HEADER}\n{ROW}\n".encode("utf-16-le")),
    "compressed": ("b.csv", lambda: b"\x1f\x8b\x08" + b"\0" * MB),
    "a suffix without end": (f"b.{'x' * 200}", lambda: b""),
    "deep JSON": ("b.json", lambda: nested(DEEP).encode()),
    "empty lists": ("b.json", lambda: b"[" + b"[]," * (10 * MB) + b"[]]"),
    "empty lists up to the limit": ("b.json", lambda: b"[" + b"[]," * 700_000 + b"[]]"),
    "objects": ("b.json", lambda: b"[" + b'{"":0},' * (4 * MB) + b"{}]"),
    "keys": ("b.json", lambda: b"[{" + b",".join(b'"%d":0' % n for n in range(2 * MB)) + b"}]"),
    "a long string": ("b.json", lambda: b'["' + b"x" * (20 * MB) + b'"]'),
    "a number of a million digits": ("b.json", lambda: b"[" + b"9" * MB + b"]"),
    "an id that is a tree, of many annotations": (
        "b.json",
        lambda: (
            '[{"data": {}, "id": [' + "[]," * 200_000 + '0], "annotations": [' + "{}," * 9_999 + "{}]}]"
        ).encode(),
    ),
    **{
        f"an answer {depth} lists deep": (
            "b.json",
            lambda depth=depth: tasks_of(completed_by=f'{{"email": {nested(depth)}}}'),
        )
        for depth in (700, 900, 980)
    },
}


@pytest.fixture
def bounded_memory() -> Iterator[None]:
    """Let this process have a gigabyte more than it has; beyond it allocations fail."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 10**9, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_is_answered_soon_briefly_and_in_bounded_memory(
    what: str, bounded_memory: None
) -> None:
    """40,000 columns took 58 s under the lock, and the message listed them all; 200,000 had no end."""
    settings = params.read(ROOT / "params.yaml").intake
    limits = Limits(settings.max_rows, settings.max_columns, settings.max_values)
    name, make = HOSTILE[what]
    content = make()
    start, said = time.process_time(), ""
    try:
        formats.read(content, source=formats.Source(name), limits=limits)
    except FileFaultError as fault:
        said = str(fault)
    assert time.process_time() - start < 2
    assert len(said) < 600
    assert visible(said) == said


def test_a_message_lists_a_handful_of_many_columns() -> None:
    content = ",".join(f"c{n}" for n in range(40_000)).encode()
    with pytest.raises(FileFaultError, match=r"received 40,000: c0, c1, c2, c3, c4 … and 39,995 more\."):
        formats.read(content, source=formats.Source("b.csv"), limits=Limits(10, 100, 3_000_000))


def test_the_limits_are_those_of_the_params() -> None:
    """A file at each limit passes, and one beyond it says which key to raise."""
    rows = f"{HEADER},x\n" + f"{ROW},\n" * 3  # 3 rows, 5 columns, 16 separators and 4 line ends
    for change, key in ((0, ""), (-1, "max_rows"), (-1, "max_columns"), (-1, "max_values")):
        found = {"max_rows": 3, "max_columns": 5, "max_values": 20}
        if not key:
            assert (
                len(formats.read(rows.encode(), source=formats.Source("b.csv"), limits=Limits(**found)).rows)
                == 3
            )
            continue
        limits = Limits(**found | {key: found[key] + change})
        with pytest.raises(FileFaultError, match=rf"raise intake\.{key}"):
            formats.read(rows.encode(), source=formats.Source("b.csv"), limits=limits)
