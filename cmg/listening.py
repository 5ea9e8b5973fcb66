"""For listeners: what does a file sound like, and which of my music fits a mood."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TextIO

import typer

from pipeline.errors import EXIT_USER_ERROR, CmgError, DataError
from pipeline.untrusted import visible

if TYPE_CHECKING:
    from serving.champions import Champion
    from serving.listener import Heard, Listener
    from serving.mix import Mix
    from serving.track_index import Library, Tracks

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
    shown: dict[Callable[..., None], str] = {  # in the list of commands, where a longer line would be cut
        classify: "Say genre and mood of files.",
        timeline: "Say the moods of a file over time.",
        recommend: "Choose the tracks that fit a mood best.",
        tag: "Write the mood of files into their tags; take it back.",
        serve: "Start the page and the HTTP interface.",
    }
    for command, short in shown.items():
        app.command(short_help=short)(command)
    app.add_typer(models, name="models")
    app.add_typer(index, name="index")


def classify(
    files: Files,
    as_json: AsJson = False,
    as_lines: AsLines = False,
    as_csv: AsCsv = False,
    parquet: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the same table as Parquet.", show_default=False),
    ] = None,
    per_slice: Annotated[
        bool,
        typer.Option("--per-slice", help="A row per ten seconds; in JSON a timeline in every record."),
    ] = False,
    embedding: Annotated[
        bool,
        typer.Option(
            "--embedding", help="Also the numbers by which the model compares music, if it has some."
        ),
    ] = False,
    keep: Annotated[bool, typer.Option("--index", help="Keep the answers in the library's index.")] = False,
    why: Annotated[
        bool, typer.Option("--why", help="Also say what decided: when, at which frequencies.")
    ] = False,
    library: IndexFile = None,
    workers: Workers = _CORES,
) -> None:
    """Say genre and mood of FILES. Exit code 2 if a file could not be read; each is listed."""
    from serving.champions import champions
    from serving.listener import SCHEMA, Listener
    from serving.track_index import Library, audio_files, library_file

    _check_forms(
        {"--json": as_json, "--jsonl": as_lines, "--csv": as_csv, "--parquet": parquet is not None},
        per_slice=per_slice,
        why=why,
    )
    found, missing = audio_files(files)
    if not found and not missing:
        raise DataError(
            f"expected audio below {', '.join(map(str, files))}, received none. Name another folder."
        )
    listener = Listener(_said(champions()))
    if embedding and not listener.embedding:
        names = ", ".join(champion.model for champion in listener.champions.values())
        raise CmgError(
            f"expected a champion with an embedding (musicnn_probe), received {names}. Leave out --embedding."
        )
    unread = [(str(path), reason) for path, reason in missing]

    def records() -> Iterator[dict[str, Any]]:
        # Without --index the same code runs on an index that is thrown away.
        target = Library(library or library_file()) if keep else Library(Path(":memory:"))
        for done in _progress(target.add(found, listener, workers=workers), len(found)):
            if done.heard is None:
                unread.append((str(done.path), done.reason))
                yield {"schema": SCHEMA, "path": str(done.path), "error": done.reason}
            else:
                parts = _parts(
                    listener, done.path, done.heard, why=why, per_slice=per_slice, embedding=embedding
                )
                yield listener.record(done.path, done.heard) | parts
        target.close()

    def in_order() -> list[dict[str, Any]]:
        return sorted(records(), key=lambda record: record["path"])

    if as_lines:
        for record in records():
            print(json.dumps(record, ensure_ascii=False), flush=True)
    elif as_json:
        print(json.dumps(in_order(), ensure_ascii=False, indent=2))
    elif as_csv or parquet:
        rows = [row for record in in_order() for row in _rows(record)]
        _write_parquet(rows, parquet) if parquet else _write_csv(rows, sys.stdout)
    else:
        answered = [record for record in in_order() if not record["error"]]
        _print_table([_row(record) for record in answered])
        for record in answered:
            for task, said in record.get("why", {}).items():
                print(f"{_short(record['path'])}: {task} {_decided(said)}")
    for path, reason in unread:
        print(f"unreadable: {visible(path)}: {visible(reason)}", file=sys.stderr)
    if unread:
        raise typer.Exit(EXIT_USER_ERROR)


def _check_forms(forms: Mapping[str, bool], *, per_slice: bool, why: bool) -> None:
    """Refuse two forms of output at once, and options that the chosen one cannot show."""
    chosen = [name for name, is_asked in forms.items() if is_asked]
    if len(chosen) > 1:
        raise CmgError(f"expected one of {', '.join(forms)}, received {' and '.join(chosen)}.")
    if per_slice and not chosen:
        raise CmgError(f"expected one of {', '.join(forms)} with --per-slice, received none of them.")
    if why and chosen in (["--csv"], ["--parquet"]):
        raise CmgError(f"expected --json, --jsonl or neither with --why, received {chosen[0]}.")


def _parts(
    listener: Listener, path: Path, heard: Heard, *, why: bool, per_slice: bool, embedding: bool
) -> dict[str, Any]:
    """Return what a record has only where it is asked for."""
    from serving.jobs import why_each

    parts: dict[str, Any] = {}
    if why:
        parts["why"] = why_each(listener, path)
    if per_slice:
        parts["timeline"] = _windows(listener, heard)
    if embedding and heard.embedding is not None:
        parts["embedding"] = [round(float(number), 4) for number in heard.embedding]
    return parts


def timeline(
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    as_json: AsJson = False,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A picture to write.", show_default=False)
    ] = None,
) -> None:
    """Say the mood of every ten seconds of FILE, and where each mood is strongest."""
    from serving import jobs
    from serving.champions import champions
    from serving.listener import Listener

    if png and png.suffix.lower() != ".png":
        raise CmgError(f"expected a picture .png, received {png}. Name it so.")

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
    if png:
        import numpy as np

        from pipeline.reporting import plots

        loudness = np.array(jobs.waveform(listener, file))
        plots.timeline(loudness, slices, names, heard.seconds, visible(file.name), png)
        print(f"written: {png}", file=sys.stderr)
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
    from serving.mix import Wanted, choose
    from serving.playlists import MEDIA_TYPES, Entry, playlist
    from serving.track_index import Library, library_file

    if output and output.suffix[1:] not in MEDIA_TYPES:
        raise CmgError(f"expected a playlist .m3u8, .xspf or .jspf, received {output}. Name it so.")
    known = _said(champions())
    target = Library(library or library_file())
    _fill_first(target, known)
    tracks = target.tracks(known, keep=True)
    if not tracks.paths:
        raise CmgError(
            "expected tracks in the library, received none. `cmg classify --index FOLDER` adds them."
        )
    numbers = {path: n for n, path in enumerate(tracks.paths)} if like or unlike else {}
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
    classes = {task: champion.classes for task, champion in known.items()}
    embeddings = target.embeddings(tracks, known) if like or unlike else None
    mix = choose(wanted, tracks, classes, embeddings)
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
    genre: Annotated[
        Literal["keep", "fill", "replace"],
        typer.Option(help="The genre too: never, where the file has none, or always."),
    ] = "keep",
    all_moods: Annotated[
        bool, typer.Option("--all-moods", help="Also the moods at least half as probable as the first.")
    ] = False,
    only_sure: Annotated[
        bool, typer.Option("--only-sure", help="Leave files of which the model cannot say how sure it is.")
    ] = False,
    keep_mtime: Annotated[
        bool, typer.Option("--keep-mtime", help="Leave the time at which each file was changed.")
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
    from serving.track_index import Library, audio_files

    found, missing = audio_files(files or [])
    if not found and not missing:
        raise CmgError("expected audio files to tag, received none. Name files or a folder.")
    listener = _listener_for_tags(genre)
    journal = Path.cwd() / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}.cmgundo"
    rows, refused = [], [(str(path), reason) for path, reason in missing]
    unsure = changed = 0
    for done in _progress(Library(Path(":memory:")).add(found, listener, workers=_CORES), len(found)):
        if done.heard is None:
            refused.append((str(done.path), done.reason))
            continue
        record = listener.record(done.path, done.heard)
        if record["mood"]["label"] is None or (only_sure and not record["mood"]["sure"]):
            unsure += 1
            continue
        before = {"MOOD": tags.mood_of(done.path), "GENRE": tags.genre_of(done.path)}
        has_genre = genre == "replace" or (genre == "fill" and not before["GENRE"])
        fields = tags.fields_of(record, all_moods=all_moods, genre=has_genre)
        try:
            if not (
                tags.write(done.path, fields, journal, expected=done.sha256, keep_mtime=keep_mtime)
                if write
                else tags.would_change(done.path, fields)
            ):
                continue
        except (tags.TagError, OSError) as error:
            refused.append((str(done.path), str(error).removeprefix(f"{done.path}: ")))
            continue
        changed += 1
        rows += [
            [_short(str(done.path)), field, visible(old) or "none", "; ".join(fields[field])]
            for field, old in before.items()
            if field in fields
        ]
    if rows:
        _print_table(
            sorted(rows), ["file", "field", "before" if write else "now", "now" if write else "would be"]
        )
    print(_tagged_in_words(changed, unsure, journal if write else None), file=sys.stderr)
    for path, reason in refused:
        print(f"not tagged: {visible(path)}: {visible(reason)}", file=sys.stderr)
    if refused:
        raise typer.Exit(EXIT_USER_ERROR)


def _listener_for_tags(genre: str) -> Listener:
    from serving.champions import champions
    from serving.listener import Listener

    known = _said(champions())
    if "mood" not in known:
        raise CmgError("expected a champion for moods, received none. Label moods, then `dvc repro`.")
    if genre != "keep" and "genre" not in known:
        raise CmgError(
            f"expected a champion for genres, as --genre {genre} asks, received none. `dvc repro` trains one."
        )
    return Listener(known)


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
    from serving.track_index import Library, library_file

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
    from serving.track_index import Library, library_file

    print(f"forgotten: {Library(library or library_file()).forget(folder.absolute())}")


@index.command(short_help="Write all answers of the present models as a table.")
def export(
    out: Annotated[
        Path, typer.Argument(metavar="FILE", help=".csv, .jsonl or .parquet.", show_default=False)
    ],
    library: IndexFile = None,
) -> None:
    """Write what the present models answered for every track of the index as a table."""
    from io import StringIO

    from pipeline.files import write_text
    from serving.champions import champions
    from serving.listener import Listener
    from serving.track_index import Library, library_file

    if out.suffix not in (".csv", ".jsonl", ".parquet"):
        raise CmgError(f"expected a table .csv, .jsonl or .parquet, received {out}. Name it so.")
    listener = Listener(_said(champions()))
    tracks = Library(library or library_file()).tracks(listener.champions)
    records = [tracks.record(n, listener) for n in range(len(tracks.paths))]
    if out.suffix == ".jsonl":
        write_text(out, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    else:
        rows = [row for record in records for row in _rows(record)]
        if out.suffix == ".parquet":
            _write_parquet(rows, out)
            return
        table = StringIO()
        _write_csv(rows, table)
        write_text(out, table.getvalue())
    print(f"written: {out}", file=sys.stderr)


@index.command()
def vacuum(library: IndexFile = None) -> None:
    """Remove answers of no track, and give the space back."""
    from serving.track_index import Library, library_file

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

    own = project() / "data" / "gtzan"
    if not target.is_empty() or not own.is_dir():
        return
    from serving.listener import Listener
    from serving.track_index import audio_files

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


def _windows(listener: Listener, heard: Heard) -> dict[str, Any]:
    from serving.service import windows

    return windows(dict(heard.slices), listener.classes, heard.seconds)


def _rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a record as rows of a table: one, or one per slice if it has a timeline."""
    flat: dict[str, Any] = {
        "path": record["path"],
        "seconds": record.get("seconds"),
        "error": record["error"] or "",
    }
    flat |= {name: record[name] for name in ("id", "artist", "title") if name in record}
    for task in _tasks(record):
        answer = record[task]
        flat |= {task: answer["label"] or "", f"{task}_best": answer["best"]}
        flat[f"{task}_model"] = record["model"][task]
        flat |= {f"{task}_{name}": value for name, value in answer["probabilities"].items()}
        flat |= {f"pole_{name}": value for name, value in answer.get("poles", {}).items()}
    flat |= {f"embedding_{n:03}": number for n, number in enumerate(record.get("embedding", ()))}
    return [flat] if "timeline" not in record else list(_slices(record))


def _slices(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    tasks = {task: record["timeline"]["tasks"][task] for task in _tasks(record)}
    for number, parts in enumerate(zip(*(one["windows"] for one in tasks.values()), strict=True)):
        row = {"path": record["path"], "slice": number, "start": parts[0]["start"], "end": parts[0]["end"]}
        for (task, one), part in zip(tasks.items(), parts, strict=True):
            row[f"{task}_model"] = record["model"][task]
            names = [f"{task}_{name}" for name in one["classes"]]
            row |= dict(zip(names, part["probabilities"], strict=True))
        yield row


def _tasks(record: Mapping[str, Any]) -> list[str]:
    return [task for task in ("genre", "mood") if task in record]


def _write_csv(rows: Sequence[Mapping[str, Any]], stream: TextIO) -> None:
    from pipeline.untrusted import marked

    heads = _heads(rows)
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(
        [marked(row[name]) if isinstance(row.get(name), str) else row.get(name) for name in heads]
        for row in rows
    )


def _write_parquet(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    from pipeline.files import replacing

    table = pyarrow.table({name: [row.get(name) for row in rows] for name in _heads(rows)})
    with replacing(path) as temporary:
        parquet.write_table(table, temporary)
    print(f"written: {path}", file=sys.stderr)


def _heads(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


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
