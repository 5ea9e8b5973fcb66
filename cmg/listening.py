"""For listeners: what does a file sound like, and which of my music fits a mood."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pipeline.errors import EXIT_USER_ERROR, CmgError, DataError
from pipeline.untrusted import visible

if TYPE_CHECKING:
    from serving.champions import Champion
    from serving.library import Library, Tracks
    from serving.mix import Mix

_SHOWN: Final = 60  # characters of a file's name
_CORES: Final = os.cpu_count() or 1

Files = Annotated[
    list[Path], typer.Argument(metavar="FILES", help="Audio files, or folders of them.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
AsLines = Annotated[bool, typer.Option("--jsonl", help="Print one JSON line per file, as it is done.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print a table with a column per class and pole.")]
IndexFile = Annotated[
    Path | None,
    typer.Option(
        "--library",
        metavar="FILE",
        help="The library's index; else CMG_LIBRARY, else library.sqlite in the project.",
        show_default=False,
    ),
]
Workers = Annotated[int, typer.Option(min=1, help="Files at a time.")]

models = typer.Typer(help="The models that answer, kept as plain files.", invoke_without_command=True)
index = typer.Typer(help="The library's index.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to ``cmg``."""
    for command in (classify, timeline, recommend, tag, serve):
        app.command()(command)
    app.add_typer(models, name="models")
    app.add_typer(index, name="index")


def classify(
    files: Files,
    as_json: AsJson = False,
    as_lines: AsLines = False,
    as_csv: AsCsv = False,
    keep: Annotated[bool, typer.Option("--index", help="Keep the answers in the library's index.")] = False,
    why: Annotated[
        bool, typer.Option("--why", help="Also say what decided: when, at which frequencies.")
    ] = False,
    library: IndexFile = None,
    workers: Workers = _CORES,
) -> None:
    """Say genre and mood of FILES. Exit code 2 if a file could not be read; each is listed."""
    from serving.champions import champions
    from serving.jobs import why_each
    from serving.library import Library, audio_files, library_file
    from serving.listener import SCHEMA, Listener

    found, missing = audio_files(files)
    if not found and not missing:
        raise DataError(
            f"expected audio below {', '.join(map(str, files))}, received none. Name another folder."
        )
    listener = Listener(_said(champions()))
    unread = [(str(path), reason) for path, reason in missing]

    def records() -> Iterator[dict[str, Any]]:
        # Without --index the same code runs on an index that is thrown away.
        target = Library(library or library_file()) if keep else Library(Path(":memory:"))
        for done in _progress(target.add(found, listener, workers=workers), len(found)):
            if done.heard is None:
                unread.append((str(done.path), done.reason))
                yield {"schema": SCHEMA, "path": str(done.path), "error": done.reason}
            else:
                record = listener.record(done.path, done.heard)
                yield record | {"why": why_each(listener, done.path)} if why else record
        target.close()

    if as_lines:
        for record in records():
            print(json.dumps(record, ensure_ascii=False), flush=True)
    elif as_json:
        print(json.dumps(sorted(records(), key=lambda record: record["path"]), ensure_ascii=False, indent=2))
    elif as_csv:
        _print_csv([_flat(record) for record in sorted(records(), key=lambda record: record["path"])])
    else:
        answered = [record for record in sorted(records(), key=lambda r: r["path"]) if not record["error"]]
        _print_table([_row(record) for record in answered])
        for record in answered:
            for task, said in record.get("why", {}).items():
                print(f"{_short(record['path'])}: {task} {_decided(said)}")
    for path, reason in unread:
        print(f"unreadable: {visible(path)}: {visible(reason)}", file=sys.stderr)
    if unread:
        raise typer.Exit(EXIT_USER_ERROR)


def timeline(file: Annotated[Path, typer.Argument(metavar="FILE")], as_json: AsJson = False) -> None:
    """Say the mood of every ten seconds of FILE, and where each mood is strongest."""
    from serving.champions import champions
    from serving.listener import Listener

    listener = Listener(_said(champions()))
    task = "mood" if "mood" in listener.classes else "genre"
    heard = listener.hear(file)
    slices, names = heard.slices[task], listener.classes[task]
    length = heard.seconds / len(slices)
    windows = [
        {
            "start": round(n * length, 1),
            "end": round((n + 1) * length, 1),
            "label": names[int(shares.argmax())],
            "probability": round(float(shares.max()), 4),
        }
        for n, shares in enumerate(slices)
    ]
    peaks = [
        windows[int(slices[:, n].argmax())]
        | {"label": name, "probability": round(float(slices[:, n].max()), 4)}
        for n, name in enumerate(names)
        if int(slices[:, n].argmax()) < len(windows) and slices[:, n].max() >= 1 / len(names)
    ]
    if as_json:
        print(
            json.dumps(
                {"path": str(file), "task": task, "windows": windows, "peaks": peaks}, ensure_ascii=False
            )
        )
        return
    for window in windows:
        bar = "█" * round(20 * window["probability"])
        print(
            f"{_clock(window['start'])}-{_clock(window['end'])}  "
            f"{window['label']:24} {bar} {window['probability']:.2f}"
        )
    for peak in sorted(peaks, key=lambda one: -one["probability"])[:3]:
        where = f"{_clock(peak['start'])}-{_clock(peak['end'])}"
        print(f"strongest: {peak['label']} {where} ({peak['probability']:.2f})")


def recommend(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WORDS",
            help='"negative but hopeful", or calm:1 epic:0.5 void:-1 with --.',
            show_default=False,
        ),
    ] = None,
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="How many tracks.")] = 20,
    excluded: Annotated[str, typer.Option("--not", help="What must not be heard.", show_default=False)] = "",
    genre: Annotated[str, typer.Option(help="Only these, separated by commas.", show_default=False)] = "",
    like: Annotated[list[Path] | None, typer.Option(help="A file to resemble.", show_default=False)] = None,
    unlike: Annotated[
        list[Path] | None, typer.Option(help="A file not to resemble.", show_default=False)
    ] = None,
    least: Annotated[
        float | None,
        typer.Option("--min-score", min=0, max=1, help="All that fit at least so well.", show_default=False),
    ] = None,
    per_artist: Annotated[
        int | None,
        typer.Option("--max-per-artist", min=1, help="At most so many of one artist.", show_default=False),
    ] = None,
    why: Annotated[bool, typer.Option("--why", help="A column for each pole.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="A playlist: .m3u8, .xspf or .jspf.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    library: IndexFile = None,
) -> None:
    """Choose the tracks of the library that fit a mood best, and say how many really do."""
    from pipeline.files import write_text
    from serving.champions import champions
    from serving.library import Library, library_file
    from serving.listener import Listener
    from serving.mix import Wanted, choose
    from serving.playlists import MEDIA_TYPES, Entry, playlist

    if output and output.suffix[1:] not in MEDIA_TYPES:
        raise CmgError(f"expected a playlist .m3u8, .xspf or .jspf, received {output}. Name it so.")
    known = _said(champions())
    target = Library(library or library_file())
    _fill_first(target, known)
    tracks = target.tracks(known)
    if not tracks.paths:
        raise CmgError(
            "expected tracks in the library, received none. `cmg classify --index FOLDER` adds them."
        )
    numbers = {path: n for n, path in enumerate(tracks.paths)}
    wanted = Wanted(
        text=" ".join(words or []),
        excluded=excluded,
        genres=tuple(genre.split(",")) if genre else (),
        like=tuple(tracks.digests[_number(file, numbers)] for file in like or []),
        unlike=tuple(tracks.digests[_number(file, numbers)] for file in unlike or []),
        number=number,
        least=least,
        per_artist=per_artist,
    )
    mix = choose(wanted, tracks, Listener(known).classes)
    if as_json:
        print(json.dumps(mix.as_dict(tracks), ensure_ascii=False))
    else:
        _print_mix(mix, tracks, why=why)
    if output:
        entries = [
            Entry(Path(tracks.paths[n]), tracks.artists[n], tracks.titles[n], float(tracks.seconds[n]))
            for n in mix.chosen
        ]
        write_text(output, playlist(output.suffix[1:], entries, output.absolute().parent))
        print(f"written: {output}", file=sys.stderr)


def tag(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILES", help="Audio files, or folders.", show_default=False),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write; without it, only say what would change.")
    ] = False,
    undo: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Take back what was written.", show_default=False)
    ] = None,
) -> None:
    """Write the mood of FILES into their own tags, so that any player can use it; nothing else is changed."""
    from serving import tags

    if undo is not None:
        _untag(undo)
        return
    from serving.champions import champions
    from serving.library import Library, audio_files
    from serving.listener import Listener

    found, missing = audio_files(files or [])
    if not found and not missing:
        raise CmgError("expected audio files to tag, received none. Name files or a folder.")
    known = _said(champions())
    if "mood" not in known:
        raise CmgError("expected a champion for moods, received none. Label moods, then `dvc repro`.")
    listener = Listener(known)
    journal = Path.cwd() / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}.cmgundo"
    rows, refused = [], [(str(path), reason) for path, reason in missing]
    unsure = 0
    for done in _progress(Library(Path(":memory:")).add(found, listener, workers=_CORES), len(found)):
        if done.heard is None:
            refused.append((str(done.path), done.reason))
            continue
        record = listener.record(done.path, done.heard)
        if record["mood"]["label"] is None:
            unsure += 1
            continue
        fields = tags.fields_of(record)
        before = tags.mood_of(done.path)
        try:
            changed = (
                tags.write(done.path, fields, journal) if write else tags.would_change(done.path, fields)
            )
        except (tags.TagError, OSError) as error:
            refused.append((str(done.path), str(error).removeprefix(f"{done.path}: ")))
            continue
        if changed:
            rows.append([_short(str(done.path)), "MOOD", before or "none", fields["MOOD"]])
    if rows:
        _print_table(
            sorted(rows), ["file", "field", "before" if write else "now", "now" if write else "would be"]
        )
    print(_tagged_in_words(len(rows), unsure, journal if write else None), file=sys.stderr)
    for path, reason in refused:
        print(f"not tagged: {visible(path)}: {visible(reason)}", file=sys.stderr)
    if refused:
        raise typer.Exit(EXIT_USER_ERROR)


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8700,
    library: IndexFile = None,
    workers: Workers = _CORES,
    max_mb: Annotated[int, typer.Option(min=1, max=2048, help="Largest upload.")] = 100,
) -> None:
    """Start the page and the HTTP interface, at http://127.0.0.1:8700, until Ctrl-C.

    Elsewhere than on loopback CMG_TOKEN is needed, which clients send as a bearer token or as the password.
    """
    from serving.server import run

    run(host, port, library=library, workers=workers, megabytes=max_mb)


def _tagged_in_words(number: int, unsure: int, journal: Path | None) -> str:
    files = f"{number} {'file' if number == 1 else 'files'}"
    if unsure:
        said = _tagged_in_words(number, 0, journal)
        return f"{said}\nnot sure of the mood, so left as they are: {unsure}"
    if journal is None:
        return f"{files} would change; --write does it"
    return f"{files} changed" + (f"; cmg tag --undo {journal.name} takes it back" if number else "")


def _untag(journal: Path) -> None:
    from serving import tags

    if not journal.is_file():
        raise CmgError(
            f"expected an undo file, received {journal}: no such file. `cmg tag --write` prints its name."
        )
    refused = tags.undo(journal)
    for path, reason in refused.items():
        print(f"left as it is: {visible(str(path))}: {visible(reason)}", file=sys.stderr)
    if refused:
        raise typer.Exit(EXIT_USER_ERROR)
    print("every file has its old bytes again")


@models.callback()
def _models(context: typer.Context) -> None:
    """List the models that answer: version, data, honest figures."""
    if context.invoked_subcommand:
        return
    from serving.champions import champions

    for champion in _said(champions()).values():
        own = champion.metrics
        low, high = own.get("accuracy_ci_low", float("nan")), own.get("accuracy_ci_high", float("nan"))
        print(
            f"{champion.name}: {champion.model}, protocol {champion.protocol}, trained on {champion.dataset}"
            f"{' (synthetic)' if champion.synthetic else ''}; right for {own['accuracy']:.3f} "
            f"[{low:.3f}, {high:.3f}] of its test tracks; run {champion.run_id}"
        )


@models.command("pull")
def pull() -> None:
    """Fetch the champions from the registry."""
    from serving import champions

    for champion in champions.pull().values():
        print(f"{champion.name}: {champion.model}, trained on {champion.dataset}")


@index.command()
def status(library: IndexFile = None) -> None:
    """Say what the index holds."""
    from serving.library import Library, library_file

    found = Library(library or library_file()).status()
    print(
        f"{found['file']}: {found['tracks']} tracks ({found['contents']} different), "
        f"{found['unreadable']} unreadable"
    )
    for model, number in found["answers"].items():
        print(f"  answered by {model}: {number}")


@index.command()
def forget(folder: Annotated[Path, typer.Argument(metavar="DIR")], library: IndexFile = None) -> None:
    """Forget a file, or all below a folder; the files stay."""
    from serving.library import Library, library_file

    print(f"forgotten: {Library(library or library_file()).forget(folder.absolute())}")


@index.command()
def vacuum(library: IndexFile = None) -> None:
    """Remove answers of no track, and give the space back."""
    from serving.library import Library, library_file

    Library(library or library_file()).vacuum()


def _said(known: Mapping[str, Champion]) -> Mapping[str, Champion]:
    """Say once what a listener must know of the models."""
    from serving.champions import newer

    for champion in known.values():
        if other := newer(champion):
            print(
                f"{champion.task}: version {other} serves now; `cmg models pull` fetches it", file=sys.stderr
            )
    if synthetic := [task for task, champion in known.items() if champion.synthetic]:
        print(
            f"{' and '.join(synthetic)}: learned from synthetic data, so do not trust it on real music",
            file=sys.stderr,
        )
    return known


def _fill_first(target: Library, known: Mapping[str, Champion]) -> None:
    """Fill an empty index with the project's own tracks."""
    from serving.champions import project
    from serving.library import audio_files
    from serving.listener import Listener

    own = project() / "data" / "gtzan"
    if target.status()["tracks"] or not own.is_dir():
        return
    found, _ = audio_files([own])
    print(f"the library is empty; adding the project's own {len(found)} tracks", file=sys.stderr)
    for _ in _progress(target.add(found, Listener(known), workers=_CORES), len(found)):
        pass


def _number(file: Path, numbers: Mapping[str, int]) -> int:
    if str(file.absolute()) not in numbers:
        raise CmgError(
            f"expected a track of the library, received {file}. `cmg classify --index {file}` adds it."
        )
    return numbers[str(file.absolute())]


def _print_mix(mix: Mix, tracks: Tracks, *, why: bool) -> None:
    print("understood: " + "; ".join(mix.query.understood), file=sys.stderr)
    heads = [pole if weight > 0 else f"not {pole}" for pole, weight in mix.query.poles.items()]
    rows = []
    for place, n in enumerate(mix.chosen, start=1):
        named = f"{tracks.artists[n]} - {tracks.titles[n]}" if tracks.artists[n] and tracks.titles[n] else ""
        tops = [f"top {max(1, round(100 * (1 - values[n])))} %" for values in mix.ranking.because.values()]
        shown = [_short(tracks.paths[n]), visible(named)[:_SHOWN], f"{mix.ranking.score[n]:.2f}"]
        rows.append([str(place), *shown, *(tops if why else [])])
    columns = ["", "track", "title", "score", *(heads if why else [])]
    if not any(row[2] for row in rows):
        rows, columns = [row[:2] + row[3:] for row in rows], columns[:2] + columns[3:]
    _print_table(rows, columns)
    for note in mix.notes:
        print(note, file=sys.stderr)


def _row(record: Mapping[str, Any]) -> list[str]:
    cells = [_short(record["path"])]
    for task in ("genre", "mood"):
        if task in record:
            said = record[task]["label"] or f"not sure ({record[task]['best']}?)"
            cells += [said, f"{record[task]['probability']:.2f}"]
    return cells


def _decided(said: Mapping[str, Any]) -> str:
    """Say what decided in a line; the cell that adds most stands for all."""
    if "error" in said:
        return said["error"]
    share, row, column = max(
        (share, row, column)
        for row, shares in enumerate(said["shares"])
        for column, share in enumerate(shares)
    )
    (start, end), (low, high) = said["times"][column], said["hertz"][row : row + 2]
    return (
        f"{said['label']} {said['probability']:.2f}; without the {said['area']:.0%} that decided "
        f"{said['without']:.2f}, by that alone {said['only']:.2f}; most of it at {start:.1f}-{end:.1f} s, "
        f"{low:.0f}-{high:.0f} Hz (+{share:.2f})"
    )


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {
        "path": record["path"],
        "seconds": record.get("seconds", ""),
        "error": record["error"] or "",
    }
    for task in ("genre", "mood"):
        if task in record:
            answer = record[task]
            flat |= {task: answer["label"] or "", f"{task}_best": answer["best"]}
            flat[f"{task}_model"] = record["model"][task]
            flat |= {f"{task}_{name}": value for name, value in record[task]["probabilities"].items()}
            flat |= {f"pole_{name}": value for name, value in record[task].get("poles", {}).items()}
    return flat


def _print_csv(rows: list[dict[str, Any]]) -> None:
    from pipeline.untrusted import marked

    heads = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(
        [marked(row[name]) if isinstance(row.get(name), str) else row.get(name, "") for name in heads]
        for row in rows
    )


def _print_table(rows: list[list[str]], heads: list[str] | None = None) -> None:
    lines = ([heads] if heads else []) + rows
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))] if lines else []
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _progress(done: Iterable[Any], total: int) -> Iterable[Any]:
    if not sys.stderr.isatty():
        return done
    from tqdm import tqdm

    return tqdm(done, total=total, unit="track", leave=False)


def _short(path: str) -> str:
    here = os.path.relpath(path)
    shown = visible(here if len(here) < len(path) else path)
    return shown if len(shown) <= _SHOWN else "…" + shown[1 - _SHOWN :]


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
