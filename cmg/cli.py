"""The command ``cmg``: the pipeline's functions for people at a terminal.

Nothing heavy is imported before a command runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from cmg import listening
from pipeline.errors import EXIT_USER_ERROR, run_main
from pipeline.untrusted import is_unseen, visible

if TYPE_CHECKING:
    from pipeline.labelling.agreement import Agreement
    from pipeline.labelling.changes import Changed
    from pipeline.labelling.inbox import Intake

_ROWS_SHOWN: Final = 20
_CELL_SHOWN: Final = 60  # characters

app = typer.Typer(
    name="cmg",
    help="Genre and composite mood of music.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,  # rich takes half of the time in which --help answers
)
labels = typer.Typer(
    help="Mood labels: check and add new ones, see where they help most.", no_args_is_help=True
)
app.add_typer(labels, name="labels")
listening.register(app)

LabelFile = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="At least a track (filename) and a mood a row: .csv, .tsv, .txt, .xlsx, .json, .jsonl, or an "
        "export of Label Studio.",
        show_default=False,
    ),
]
Annotator = Annotated[
    str,
    typer.Option(
        "--annotator",
        metavar="NAME",
        help="Who labelled the rows that name nobody.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Map = Annotated[
    str,
    typer.Option(
        "--map",
        metavar="NAME",
        help="What a data set's columns mean: emotify, mtg-jamendo, deam, pmemo, or a .yaml file.",
        show_default=False,
    ),
]


def _print_version(wanted: bool) -> None:
    """Print the version, before Typer asks for a command."""
    if wanted:
        from importlib.metadata import version

        print(version("composite-mood-genre"))
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Genre and composite mood of music."""


@labels.command()
def check(file: LabelFile, annotator: Annotator = "", label_map: Map = "", as_json: AsJson = False) -> None:
    """Say what adding FILE would do; change nothing. Exit code 2 if any row would be rejected."""
    from pipeline import params
    from pipeline.labelling import inbox

    with _quiet(as_json):
        intake = inbox.check(file, settings=params.read().intake, annotator=annotator, label_map=label_map)
    _print_outcome(intake, as_json=as_json, verb="would be")


@labels.command()
def add(file: LabelFile, annotator: Annotator = "", label_map: Map = "", as_json: AsJson = False) -> None:
    """Copy FILE into the inbox and merge its good rows. Exit code 2 if any row was rejected."""
    from pipeline import params
    from pipeline.labelling import inbox

    settings = params.read()
    with _quiet(as_json):
        intake = inbox.add(file, settings=settings.intake, annotator=annotator, label_map=label_map)
        if intake.accepted:
            learned = "mood" in settings.tasks
            print("now: dvc repro" if learned else "to learn moods: write mood into tasks in params.yaml")
    _print_outcome(intake, as_json=as_json, verb="were")


Track = Annotated[str, typer.Argument(metavar="TRACK", help="Its id, file name or path.", show_default=False)]
Whose = Annotated[
    str, typer.Option("--annotator", metavar="NAME", help="Whose label it is.", show_default=False)
]
Everyone = Annotated[bool, typer.Option("--all", help="All labels of the track, if there are several.")]
Reason = Annotated[str, typer.Option(help="Kept with the change.", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would change; change nothing.")]


@labels.command(short_help="Take back labels of a track or an annotator.")
def remove(
    track: Track = "",
    annotator: Whose = "",
    everyone: Everyone = False,
    reason: Reason = "",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Take back a label of TRACK, or all labels of an annotator; data/label_changes.csv remembers them."""
    from pipeline.labelling import changes

    with _quiet(as_json):
        changed = changes.change(
            track, annotator=annotator, everyone=everyone, reason=reason, dry_run=dry_run
        )
    _print_changed(changed, as_json=as_json, dry_run=dry_run)


@labels.command(short_help="Give a label of a track another mood.")
def correct(
    track: Track,
    mood: Annotated[str, typer.Argument(metavar="MOOD", help="What it should be.", show_default=False)],
    annotator: Whose = "",
    everyone: Everyone = False,
    reason: Reason = "",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Give a label of TRACK another MOOD; data/label_changes.csv remembers the one before."""
    from pipeline.labelling import changes

    with _quiet(as_json):
        changed = changes.change(
            track, mood=mood, annotator=annotator, everyone=everyone, reason=reason, dry_run=dry_run
        )
    _print_changed(changed, as_json=as_json, dry_run=dry_run)


@labels.command(short_help="Say how far annotators agree.")
def agreement(as_json: AsJson = False) -> None:
    """Say how far annotators agree: overall, by mood, and who differs from whom."""
    from pipeline.labelling import agreement
    from pipeline.tables.mood_labels import MOOD_LABELS, read_annotations

    with _quiet(as_json):
        found = agreement.report(read_annotations(MOOD_LABELS))
    _print_json(found.as_dict()) if as_json else _print_agreement(found)


@labels.command(short_help="List the labels most likely wrong.")
def audit(
    task: Annotated[Literal["genre", "mood"], typer.Option(help="Whose labels.")] = "mood",
    model: Annotated[
        Literal["lenet5", "cnn64", "cnn64_gap", "musicnn_probe"],
        typer.Option(help="Whose cross-validation tells."),
    ] = "lenet5",
    top: Annotated[int, typer.Option(help="How many labels to list.")] = 20,
    folds: Annotated[
        int | None, typer.Option(help="Cross-validate first, in so many folds (minutes).", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the labels most likely wrong, and write a page with a player for each."""
    from pipeline.labelling import audit

    with _quiet(as_json):
        found = audit.audit(task, model=model, top=top, folds=folds)
    if as_json:
        _print_json(found.as_dict() | {"notes": found.notes(), "page": str(audit.PAGE)})
        return
    rows = found.rows[["track_id", "given", "suggested", "quality", "annotators"]]
    _print_table(found.headline(), list(rows), rows.to_numpy().tolist())
    print("\n".join([*found.notes(), f"listen to them: {audit.PAGE}"]))


@labels.command(name="next", short_help="List the tracks whose label would help most.")
def next_(
    n: Annotated[int, typer.Option("-n", help="How many tracks.")] = 50,
    out: Annotated[
        Path | None,
        typer.Option(help="CSV to write; label_next/tracks.csv if not named.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the tracks whose label would help most, in a CSV to be filled in and on a page with players."""
    from pipeline.labelling import next_tracks

    out = out or next_tracks.FILE
    with _quiet(as_json):
        wanted = next_tracks.next_tracks(n)
        next_tracks.publish(wanted, out)
    if as_json:
        _print_json(wanted.as_dict() | {"file": str(out), "page": str(next_tracks.PAGE)})
        return
    rows = wanted.rows[["track_id", *next_tracks.SCORES]].astype(object).fillna("")
    _print_table(f"{wanted.n_unlabelled} tracks have no label yet", list(rows), rows.to_numpy().tolist())
    print("\n".join([*wanted.notes, f"to be filled in: {out}", f"listen to them: {next_tracks.PAGE}"]))


@labels.command()
def guide(
    out: Annotated[
        Path | None,
        typer.Option(help="Page to write; label_next/guide.html if not named.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the annotators' guide to the moods, one sheet to print."""
    from pipeline.labelling import guide

    written = guide.write(out or guide.PAGE)
    _print_json(written.as_dict()) if as_json else print(f"{written.path}: print it on one sheet of A4")


def _print_changed(changed: Changed, *, as_json: bool, dry_run: bool) -> None:
    """Print what was taken back or corrected, and what to do next."""
    if as_json:
        _print_json(changed.as_dict())
        return
    rows = [
        (row["track_id"], row["annotator"], row["mood_before"], row["mood_after"] or "(taken back)")
        for row in changed.rows
    ]
    verb = "would be" if dry_run else "were"
    _print_table(f"Labels that {verb} changed: {len(rows)}", ("track", "annotator", "before", "after"), rows)
    if not dry_run:
        print("remembered in data/label_changes.csv; now: dvc repro")


@contextlib.contextmanager
def _quiet(as_json: bool) -> Iterator[None]:
    """Send what a function says on its way to standard error, if standard output is for JSON."""
    if not as_json:
        yield
        return
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _print_outcome(intake: Intake, *, as_json: bool, verb: str) -> None:
    """Print an intake; leave with 2 if something was rejected."""
    if as_json:
        _print_json(intake.as_dict())
    else:
        _print_intake(intake, verb=verb)
    if not intake.is_whole:
        raise typer.Exit(EXIT_USER_ERROR)


def _print_json(value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    # JSON itself writes only the first 32 control characters so, and a terminal obeys others too.
    print("\n".join(line if line.isprintable() else _escaped(line) for line in text.split("\n")))


def _escaped(line: str) -> str:
    return "".join(json.dumps(letter)[1:-1] if is_unseen(letter) else letter for letter in line)


def _print_intake(intake: Intake, *, verb: str) -> None:
    """Print what an intake did: what was taken for what, the rejected cells, the warnings, the sums."""
    for note in intake.notes:
        print(visible(note))
    if intake.fault:
        print(visible(f"rejected whole: {intake.fault}"))
    critical = [finding for finding in intake.findings if finding.severity == "critical"]
    if critical:
        cells = [
            (row, finding.column, _short(value), finding.check)
            for finding in critical
            for row, value in finding.rows
        ]
        _print_table(f"Rows that {verb} rejected", ("row", "column", "received", "check"), cells)
    for finding in critical:
        print(f"{finding.check}: expected {finding.expected}. {finding.advice}")
    for finding in intake.findings:
        if finding.severity == "warning":
            print(finding.message())
    _print_sums(intake, verb=verb)


def _print_sums(intake: Intake, *, verb: str) -> None:
    """Print an intake's counts, and where the file and what was rejected lie."""
    print(
        f"{intake.file}: {intake.rows} rows, {intake.accepted} {verb} accepted "
        f"({intake.mended} in a corrected spelling), {intake.rejected} rejected; "
        f"{intake.new_tracks} tracks have their first label; alpha {_number(intake.alpha)}"
    )
    for what, where in (("file", intake.moved_to), ("rejected", intake.rejected_to)):
        if where:
            print(f"{what}: inbox/{where}")


def _short(value: str) -> str:
    """Return a cell as a table shows it."""
    value = visible(value)
    return value if len(value) <= _CELL_SHOWN else f"{value[:_CELL_SHOWN]}…"


def _number(value: float) -> str:
    return "not defined" if value != value else f"{value:.4f}"


def _print_agreement(found: Agreement) -> None:
    """Print the figures overall, by mood and by annotator, and what is confused with what."""
    print(
        f"{found.n_labels} labels of {found.n_tracks} tracks by {found.n_annotators} annotators; "
        f"{found.n_shared} tracks have two or more; Krippendorff's alpha {_number(found.alpha)}"
    )
    if found.n_unknown:
        print(f"left out: {found.n_unknown} labels with a mood that is not in the taxonomy")
    if found.n_repeats:
        print(f"counted again: {found.n_repeats} labels of annotators who had labelled the track before")
    classes = [
        (row["mood"], row["n"], _number(row["alpha"]), "nobody agrees on it" if row["flagged"] else "")
        for row in found.classes.to_dict("records")
    ]
    _print_table("Moods", ("mood", "labels", "alpha", ""), classes)
    people = [
        (row["annotator"], row["n"], _number(row["agreement"]), _number(row["reliability"]), _confusion(row))
        for row in found.annotators.to_dict("records")
    ]
    _print_table(
        "Annotators", ("annotator", "labels", "agreement", "reliability", "said, where others said"), people
    )
    few = found.occasional
    if few.get("annotators"):
        print(
            f"{few['annotators']} others with few labels: {few['n']}, agreement {_number(few['agreement'])}"
        )
    _print_confusions(found)


def _print_confusions(found: Agreement) -> None:
    """Print what annotators said where most others of the track said something else."""
    header = ("said", "most others said", "times")
    both = ["said", "others", "n"]
    regular = found.confusions[found.confusions["annotator"].isin(found.annotators["annotator"])]
    if len(regular):
        by_annotator = regular[["annotator", *both]].to_numpy().tolist()
        _print_table("Confusions by annotator", ("annotator", *header), by_annotator)
    _print_table("Confusions of all together", header, found.confused_moods[both].to_numpy().tolist())


def _confusion(row: dict[str, Any]) -> str:
    return f"{row['said']}, {row['others']} ({row['times']})" if row["times"] else ""


def _print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print the first rows as a table as wide as the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows[:_ROWS_SHOWN]:
        table.add_row(*(Text(visible(str(cell))) for cell in row))
    Console().print(table)
    if len(rows) > _ROWS_SHOWN:
        print(f"… and {len(rows) - _ROWS_SHOWN} more; --json has them all")


def main() -> None:
    """Run ``cmg``; what the terminal cannot show becomes a question mark."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    command: Callable[[], None] = app
    run_main(command)


if __name__ == "__main__":
    main()
