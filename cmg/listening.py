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
from xml.sax.saxutils import escape

import typer

from pipeline.errors import EXIT_USER_ERROR, CmgError, DataError
from pipeline.untrusted import visible

if TYPE_CHECKING:
    from serving.champions import Champion
    from serving.library import Library
    from serving.ranking import Ranking

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
    for command in (classify, timeline, recommend, tag):
        app.command()(command)
    app.add_typer(models, name="models")
    app.add_typer(index, name="index")


def classify(
    files: Files,
    as_json: AsJson = False,
    as_lines: AsLines = False,
    as_csv: AsCsv = False,
    keep: Annotated[bool, typer.Option("--index", help="Keep the answers in the library's index.")] = False,
    library: IndexFile = None,
    workers: Workers = _CORES,
) -> None:
    """Say genre and mood of FILES. Exit code 2 if a file could not be read; each is listed."""
    from serving.champions import champions
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
                yield listener.record(done.path, done.heard)
        target.close()

    if as_lines:
        for record in records():
            print(json.dumps(record, ensure_ascii=False), flush=True)
    elif as_json:
        print(json.dumps(sorted(records(), key=lambda record: record["path"]), ensure_ascii=False, indent=2))
    elif as_csv:
        _print_csv([_flat(record) for record in sorted(records(), key=lambda record: record["path"])])
    else:
        _print_table(
            [_row(record) for record in sorted(records(), key=lambda r: r["path"]) if not record["error"]]
        )
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
    why: Annotated[bool, typer.Option("--why", help="A column for each pole.")] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A playlist: .m3u8 or .xspf.", show_default=False)
    ] = None,
    as_json: AsJson = False,
    library: IndexFile = None,
) -> None:
    """Choose the tracks of the library that fit a mood best, and say how many really do."""
    from pipeline import taxonomy
    from serving.champions import champions
    from serving.library import Library, library_file
    from serving.listener import Listener
    from serving.query import Query, understand
    from serving.ranking import rank

    text = " ".join(words or [])
    if not text and not genre and not like:
        raise CmgError(
            'expected words, --genre or --like, received none of them. Try "negative but hopeful".'
        )
    if output and output.suffix not in (".m3u8", ".xspf"):
        raise CmgError(f"expected a playlist .m3u8 or .xspf, received {output}. Name it so.")
    known = _said(champions())
    if "mood" not in known and text:
        raise CmgError("expected a champion for moods, received none. Label moods, then `dvc repro`.")
    target = Library(library or library_file())
    _fill_first(target, known)
    paths, means, _ = target.tracks(known)
    if not paths:
        raise CmgError(
            "expected tracks in the library, received none. `cmg classify --index FOLDER` adds them."
        )
    listener = Listener(known)
    moods = {name: mood.poles for name, mood in taxonomy.read().moods.items()}
    names = listener.classes.get("genre", [])
    query = Query({})
    if text or excluded:
        query = understand(text, moods=moods, genres=names, excluded=excluded)
    if genre:
        wanted = tuple(taxonomy.canonical_genre(one.strip()) for one in genre.split(","))
        if unknown := set(wanted) - set(names):
            raise CmgError(
                f"expected genres among {', '.join(names)}, received {', '.join(sorted(unknown))}."
            )
        query = Query(query.poles, query.moods, wanted, query.understood, query.ignored)
    numbers = {path: n for n, path in enumerate(paths)}
    seeds = [[_number(file, numbers) for file in group or []] for group in (like, unlike)]
    ranking = rank(query, means, listener.classes, like=seeds[0], unlike=seeds[1])
    chosen = [int(n) for n in ranking.order if least is None or ranking.score[n] >= least]
    chosen = chosen if least is not None else chosen[:number]
    _print_recommended(
        chosen, number if least is None else None, query, ranking, paths, why=why, as_json=as_json
    )
    if output:
        _write_playlist(output, [Path(paths[n]) for n in chosen])
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
    for done in _progress(Library(Path(":memory:")).add(found, listener, workers=_CORES), len(found)):
        if done.heard is None:
            refused.append((str(done.path), done.reason))
            continue
        record = listener.record(done.path, done.heard)
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
    print(_tagged_in_words(len(rows), journal if write else None), file=sys.stderr)
    for path, reason in refused:
        print(f"not tagged: {visible(path)}: {visible(reason)}", file=sys.stderr)
    if refused:
        raise typer.Exit(EXIT_USER_ERROR)


def _tagged_in_words(number: int, journal: Path | None) -> str:
    files = f"{number} {'file' if number == 1 else 'files'}"
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


def _print_recommended(
    chosen: list[int],
    asked: int | None,
    query: Any,
    ranking: Ranking,
    paths: list[str],
    *,
    why: bool,
    as_json: bool,
) -> None:
    order = list(query.poles)
    heads = {pole: pole if weight > 0 else f"not {pole}" for pole, weight in query.poles.items()}
    notes = [
        f"{ranking.fitting} of your {len(paths)} tracks {'is' if ranking.fitting == 1 else 'are'} "
        + _all_of(list(heads.values()))
    ]
    if query.ignored:
        notes.append("not understood: " + ", ".join(query.ignored))
    if asked is not None and len(chosen) < asked:
        notes.append(f"only {len(chosen)} of the {asked} asked for, as no other track is left")
    if as_json:
        found = [
            {
                "path": paths[n],
                "score": round(float(ranking.score[n]), 4),
                "because": {pole: round(float(ranking.because[pole][n]), 4) for pole in order},
            }
            for n in chosen
        ]
        print(
            json.dumps(
                {"understood": list(query.understood), "notes": notes, "tracks": found}, ensure_ascii=False
            )
        )
        return
    print("understood: " + "; ".join(query.understood or ["the files to resemble"]), file=sys.stderr)
    columns = ["", "track", "score", *(heads.values() if why else [])]
    rows = [
        [
            str(place),
            _short(paths[n]),
            f"{ranking.score[n]:.2f}",
            *(
                [f"top {max(1, round(100 * (1 - ranking.because[pole][n])))} %" for pole in order]
                if why
                else []
            ),
        ]
        for place, n in enumerate(chosen, start=1)
    ]
    _print_table(rows, columns)
    for note in notes:
        print(note, file=sys.stderr)


def _all_of(poles: list[str]) -> str:
    *others, last = poles or ["what was asked"]
    return "in your top fifth for " + (f"{', '.join(others)} and {last}" if others else last)


def _row(record: Mapping[str, Any]) -> list[str]:
    cells = [_short(record["path"])]
    for task in ("genre", "mood"):
        if task in record:
            cells += [record[task]["label"], f"{record[task]['probability']:.2f}"]
    return cells


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {
        "path": record["path"],
        "seconds": record.get("seconds", ""),
        "error": record["error"] or "",
    }
    for task in ("genre", "mood"):
        if task in record:
            flat |= {task: record[task]["label"], f"{task}_model": record["model"][task]}
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


def _write_playlist(file: Path, paths: list[Path]) -> None:
    """Write addresses relative to the playlist, UTF-8, without percent codes in .m3u8."""
    import urllib.parse

    from pipeline.files import write_text

    base = file.absolute().parent
    relative = [Path(os.path.relpath(path, base)).as_posix() for path in paths]
    if file.suffix == ".m3u8":
        text = "#EXTM3U\n" + "".join(
            f"#EXTINF:-1,{path.stem}\n{way}\n" for path, way in zip(paths, relative, strict=True)
        )
    else:
        tracks = "".join(
            f"<track><location>{escape(urllib.parse.quote(way))}</location><title>{escape(path.stem)}</title></track>\n"
            for path, way in zip(paths, relative, strict=True)
        )
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<playlist version="1" xmlns="http://xspf.org/ns/0/"><trackList>\n'
            f"{tracks}</trackList></playlist>\n"
        )
    write_text(file, text)


def _short(path: str) -> str:
    here = os.path.relpath(path)
    shown = visible(here if len(here) < len(path) else path)
    return shown if len(shown) <= _SHOWN else "…" + shown[1 - _SHOWN :]


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
