"""Show what the intake of labels finds and what it costs.

``python -m benchmarks.intake emotify MOOD_LABELS_CSV`` drops real ratings in ten batches with faults, and
exits with 1 if a planted fault is missed, a good row rejected or the merged labels not the clean ones;
``python -m benchmarks.intake load [ROWS]`` checks a large file against as many tracks.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

import numpy as np
import pandas as pd

from pipeline import data_folder, params
from pipeline.errors import run_main
from pipeline.labelling import inbox
from pipeline.tables.audio_files import AUDIO
from pipeline.tables.label_history import HISTORY_FILE
from pipeline.tables.mood_labels import LABEL_COLUMNS, LABELS_FILE, write_labels
from pipeline.tables.text_csv import read_table
from pipeline.taxonomy import MOODS

BATCHES: Final = 10
FAULTY: Final = 0.05  # planted rows, as a share of the real ones
MISSPELLED: Final = 0.02  # real rows in another accepted spelling
SEED: Final = 0

Row = dict[str, str]
TIME: Final = "2015-01-01T00:00:00Z"


def unknown_track(row: Row, rng: np.random.Generator) -> Row:
    return row | {"track_id": row["track_id"] + "9", "annotator": _stranger(rng)}


def unknown_mood(row: Row, rng: np.random.Generator) -> Row:
    return row | {"mood": str(rng.choice(["Sad", "CalmButWram", "7"])), "annotator": _stranger(rng)}


def blank_cell(row: Row, rng: np.random.Generator) -> Row:
    blank = str(rng.choice(LABEL_COLUMNS))
    return row | {"annotator": _stranger(rng)} | {blank: str(rng.choice(["", "  "]))}


def date_format(row: Row, rng: np.random.Generator) -> Row:
    wrong = str(rng.choice(["01/02/2015", "yesterday", "2015-13-01"]))
    return row | {"labelled_at": wrong, "annotator": _stranger(rng)}


def impossible_date(row: Row, rng: np.random.Generator) -> Row:
    return row | {"labelled_at": "2015-02-30T00:00:00Z", "annotator": _stranger(rng)}


def future_date(row: Row, rng: np.random.Generator) -> Row:
    return row | {"labelled_at": "2115-01-01T00:00:00Z", "annotator": _stranger(rng)}


def confidence(row: Row, rng: np.random.Generator) -> Row:
    return row | {"confidence": str(rng.choice(["0", "4", "sure"])), "annotator": _stranger(rng)}


def cell_size(row: Row, rng: np.random.Generator) -> Row:
    return row | {"annotator": _stranger(rng) * 40}


def duplicate(row: Row, rng: np.random.Generator) -> Row:
    return dict(row)


def conflict(row: Row, rng: np.random.Generator) -> Row:
    return row | {"mood": str(rng.choice([mood for mood in MOODS if mood != row["mood"]]))}


# What a planted fault is found as; `duplicate` and `conflict` repeat rows of this batch or of an earlier one.
FAULTS: Final[dict[Callable[[Row, np.random.Generator], Row], str]] = {
    unknown_track: "known_track",
    unknown_mood: "known_mood",
    blank_cell: "schema",
    date_format: "date_format",
    impossible_date: "date_format",
    future_date: "future_date",
    confidence: "confidence",
    cell_size: "cell_size",
    duplicate: "duplicate",
    conflict: "conflict",
}


def _stranger(rng: np.random.Generator) -> str:
    return f"planted-{rng.integers(10**9):09}"


@dataclass
class Tally:
    """What was planted, and what became of it."""

    planted: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)
    wrongly_rejected: list[str] = field(default_factory=list)
    misspelled: int = 0
    mended: int = 0


@contextmanager
def project(track_ids: list[str]) -> Iterator[None]:
    """Work in a folder with so many (empty) tracks and no labels yet."""
    before, settings = Path.cwd(), Path("params.yaml").read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            Path("params.yaml").write_bytes(settings)
            for genre in {_genre(track_id) for track_id in track_ids}:
                (AUDIO / genre).mkdir(parents=True)
            for track_id in track_ids:
                (AUDIO / _genre(track_id) / f"{track_id}.ogg").touch()
            write_labels(data_folder.DATA, None)
            Path("inbox/labels").mkdir(parents=True)
            yield
        finally:
            os.chdir(before)


def _genre(track_id: str) -> str:
    return track_id.split(".")[-2]


def planted(rows: list[Row], earlier: list[Row], rng: np.random.Generator) -> list[tuple[Row, str]]:
    """Return faulty rows, ten kinds in turn, each with its kind."""
    out = []
    for number in range(round(FAULTY * len(rows))):
        make = list(FAULTS)[number % len(FAULTS)]
        source = earlier if earlier and number % 3 == 0 else rows
        out.append((make(source[rng.integers(len(source))], rng), make.__name__))
    return out


def misspell(mood: str, rng: np.random.Generator) -> str:
    """Return another accepted spelling of a mood."""
    spaced = mood.replace("But", " but ")
    return str(rng.choice([mood.upper(), spaced.lower(), f"  {spaced} ", mood.replace("But", "-but_")]))


def mixed(good: list[Row], bad: list[tuple[Row, str]], rng: np.random.Generator) -> list[tuple[Row, str]]:
    """Put each faulty row at a random place; repeats come after the row that they repeat."""
    keys = np.arange(len(good), dtype=float)
    place = {(row["track_id"], row["annotator"]): at for at, row in enumerate(good)}
    low = [place.get((row["track_id"], row["annotator"]), -1) for row, _ in bad]
    places = [rng.uniform(least + 0.5, len(good)) for least in low]
    order = np.argsort(np.concatenate([keys, places]), kind="stable")
    rows = [(row, "") for row in good] + bad
    return [rows[at] for at in order]


def drop(number: int, rows: list[tuple[Row, str]], tally: Tally, rng: np.random.Generator) -> None:
    """Write one batch into the inbox, take it, and compare what was rejected with what was planted."""
    path = Path(f"inbox/labels/batch-{number}.csv")
    with path.open("w", encoding=("utf-8", "utf-8-sig")[number % 2], newline="") as stream:
        columns = [*LABEL_COLUMNS, "confidence", "ratings"]
        writer = csv.DictWriter(
            stream, columns, delimiter=",;"[number % 2], lineterminator=("\n", "\r\n")[number % 2]
        )
        writer.writeheader()
        for row, kind in rows:
            mood = misspell(row["mood"], rng) if not kind and rng.random() < MISSPELLED else row["mood"]
            tally.misspelled += not kind and mood.strip() != row["mood"]
            writer.writerow(row | {"mood": mood})
    os.utime(path, (0, 0))
    (intake,) = inbox.run(settings=params.read().intake)
    count(intake, [kind for _, kind in rows], tally)


def count(intake: inbox.Intake, kinds: list[str], tally: Tally) -> None:
    """Add one intake to the tally; a fault counts as found if the reason names the check meant for it."""
    reasons = {row.position: row.reason for row in intake.rejected_rows}
    checks = {make.__name__: check for make, check in FAULTS.items()}
    for line, kind in enumerate(kinds, 2):
        reason = reasons.get(f"line {line}", "")
        if not kind and reason:
            tally.wrongly_rejected.append(f"{intake.file} line {line}: {reason}")
        if kind:
            tally.planted[kind] += 1
            tally.found[kind] += f": {checks[kind]} expected" in reason
            if f": {checks[kind]} expected" not in reason:
                tally.missed.append(f"{intake.file} line {line} ({kind}): {reason or 'accepted'}")
    tally.mended += intake.mended


def replay(labels: Path) -> list[str]:
    """Drop a label file in ten batches with planted faults, and print what was found.

    Returns
    -------
    shortfalls : list of str
        What is not as it must be; nothing where all is well.
    """
    table = read_table(labels, columns=LABEL_COLUMNS)
    rng, tally, start = np.random.default_rng(SEED), Tally(), time.perf_counter()
    rows: list[Row] = table.to_dict("records")  # type: ignore[assignment]
    with project(sorted(table["track_id"].unique())):
        for number, indexes in enumerate(np.array_split(np.arange(len(rows)), BATCHES)):
            good = rows[indexes[0] : indexes[-1] + 1]
            drop(number, mixed(good, planted(good, rows[: indexes[0]], rng), rng), tally, rng)
        print_tally(tally, n_rows=len(rows), seconds=time.perf_counter() - start)
        clean = table[list(LABEL_COLUMNS)]
        merged = read_table(data_folder.DATA / LABELS_FILE, columns=LABEL_COLUMNS)
        wrong = shortfalls(tally, merged=merged, clean=clean)
        print(f"merged labels equal the clean set: {merged.equals(clean)} ({len(merged)} rows)")
        print(pd.read_csv(data_folder.DATA / HISTORY_FILE).drop(columns="sha256").to_string(index=False))
        print_agreement(merged)
    return wrong


def shortfalls(tally: Tally, *, merged: pd.DataFrame, clean: pd.DataFrame) -> list[str]:
    """Return which of the bar's three parts failed, with the first case of each."""
    said = []
    if tally.missed:
        said.append(f"{len(tally.missed)} of {tally.planted.total()} faults missed, first {tally.missed[0]}")
    if tally.wrongly_rejected:
        said.append(f"{len(tally.wrongly_rejected)} good rows rejected, first {tally.wrongly_rejected[0]}")
    if not merged.equals(clean):
        said.append(f"merged labels of {len(merged)} rows that are not the clean set of {len(clean)}")
    return said


def fail(wrong: list[str]) -> NoReturn:
    """Exit with 1, which tells a bar that is missed from a command that cannot be done (2)."""
    print(
        "error: expected every planted fault found, no valid row rejected and merged labels equal to the "
        f"clean set, received {'; '.join(wrong)}. Correct the intake's checks, then run this again.",
        file=sys.stderr,
    )
    raise SystemExit(1)


def print_tally(tally: Tally, *, n_rows: int, seconds: float) -> None:
    """Print what was found, by kind of fault."""
    print(
        f"{n_rows} real rows, {tally.planted.total()} planted, {seconds:.0f} s, load {os.getloadavg()[0]:.1f}"
    )
    for kind, number in tally.planted.items():
        print(f"  {kind:16} {tally.found[kind]:3} of {number} found")
    print(f"missed {len(tally.missed)}, good rows rejected {len(tally.wrongly_rejected)}")
    print(f"misspelled {tally.misspelled}, corrected {tally.mended}")
    print("\n".join([*tally.missed, *tally.wrongly_rejected]))


def print_agreement(labels: pd.DataFrame) -> None:
    """Print Krippendorff's alpha, overall and by mood, and the annotators; those with few labels together."""
    from pipeline.labelling import agreement

    found = agreement.report(labels)
    print(f"alpha {found.alpha:.4f}, {found.n_annotators} annotators, {found.n_labels} labels")
    print(found.classes.to_string(index=False))
    print(found.annotators.to_string(index=False) if len(found.annotators) else "no annotator has ten labels")
    print(f"those with few labels together: {found.occasional}")
    print(agreement.annotators(labels).head(5).to_string(index=False))


def load(n_rows: int) -> None:
    """Check and take ``n_rows`` rows against as many tracks; print seconds and the peak of memory."""
    tracks = [f"load.blues.{number:06}" for number in range(n_rows)]
    rng = np.random.default_rng(SEED)
    faulty = rng.random(n_rows) < FAULTY
    table = pd.DataFrame(
        {
            "track_id": np.where(faulty, "unknown", tracks),
            "mood": rng.choice([*MOODS, "calm but warm"], n_rows),
            "annotator": [f"annotator {number}" for number in rng.integers(500, size=n_rows)],
            "labelled_at": TIME,
        }
    )
    with project(tracks):
        table.to_csv("new.csv", index=False)
        settings, start = params.read().intake, time.perf_counter()
        checked = inbox.check(Path("new.csv"), settings=settings)
        middle = time.perf_counter()
        print_load(checked, seconds=middle - start)
        print_load(inbox.add(Path("new.csv"), settings=settings), seconds=time.perf_counter() - middle)


def print_load(intake: inbox.Intake, *, seconds: float) -> None:
    memory = _peak_memory() / 1e9
    print(
        f"{intake.rows} rows: {intake.accepted} accepted, {intake.rejected} rejected, {seconds:.1f} s, "
        f"peak {memory:.2f} GB, load {os.getloadavg()[0]:.1f}"
    )


def _peak_memory() -> int:
    """Return the most memory that this process has held, bytes.

    Linux' own book-keeping: what getrusage calls the peak includes that of the process which started us.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.intake", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("emotify").add_argument("labels", type=Path)
    commands.add_parser("load").add_argument("rows", type=int, nargs="?", default=100_000)
    arguments = parser.parse_args()
    if arguments.command == "load":
        load(arguments.rows)
    elif wrong := replay(arguments.labels.resolve()):
        fail(wrong)


if __name__ == "__main__":
    run_main(main)
