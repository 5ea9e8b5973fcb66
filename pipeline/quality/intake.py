"""Checks of new mood labels before they join ``mood_labels.csv``: which rows may, and what is odd about them.

Three suites, each over what the one before has left: ``label_intake`` looks at every row by itself,
``label_intake_repeats`` at rows against earlier rows and the labels, ``label_intake_batch`` at the whole.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from pipeline import identity
from pipeline.quality import labels as label_checks
from pipeline.quality.findings import Finding
from pipeline.quality.suites import Check, run, with_severity
from pipeline.tables.mood_labels import LABEL_COLUMNS, LINE
from pipeline.taxonomy import canonical_mood
from pipeline.untrusted import visible

if TYPE_CHECKING:
    from pipeline.params import IntakeParams

SUITE: Final = "label_intake"
# So many intakes are listed in the Data Docs' index, which is read whole at every run.
KEPT_INTAKES: Final = 30
KEPT_PAGES: Final = "intakes"  # the pages of all of them, beside Great Expectations' own

NO_CELLS: Final[Mapping[str, str]] = MappingProxyType({})

_STEPS: Final = ("", "_repeats", "_batch")
_KEY: Final = ["track_id", "annotator"]
_TEXT: Final = ("track_id", "mood", "annotator")  # the other columns are held to a pattern
_QUOTED: Final = 80  # characters
# Unicode's control characters (Cc), lone surrogates, and what stands for a character that was lost.
_UNWRITABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffd]")
# Older than the project by far: a clock that was never set, or a slip of the pen.
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
# Two computers' clocks may differ by so much.
_CLOCK_SKEW: Final = timedelta(minutes=5)

_SPELLING_CHECKS: Final = (
    Check(
        name="spelling",
        column="mood",
        expected="the taxonomy's spelling",
        advice="An accepted row is merged in that spelling; nothing to do.",
        expectation="ExpectColumnPairValuesToBeEqual",
        arguments={"column_A": "mood", "column_B": "mood_class", "ignore_row_if": "either_value_is_missing"},
        shown=("normalised",),
    ),
    Check(
        name="spelling",
        column="row",
        expected="no invisible characters, and a name as it was first spelled",
        advice="An accepted row is merged in that spelling; nothing to do.",
        expectation="ExpectColumnValuesToBeNull",
        arguments={"column": "respelled"},
        shown=("respelled",),
    ),
)

_FILE_CHECK: Final = Check(
    name="file",
    column="fault",
    expected="a file that can be read row by row",
    advice="Correct what the fault says, and drop the file again.",
    expectation="ExpectColumnValuesToBeNull",
    severity="critical",
)

_WIDTH_CHECK: Final = Check(
    name="columns",
    column="row",
    expected="no more cells than the header has columns",
    advice="Put quotes round a cell that has a comma, or delete what is too much.",
    expectation="ExpectColumnValuesToBeNull",
    arguments={"column": "extra_cells"},
    severity="critical",
    shown=("extra_cells",),
)

_REPEAT_CHECKS: Final = (
    Check(
        name="duplicate",
        column="annotator",
        expected="one answer of an annotator for a track",
        advice="It is there already; nothing to do.",
        expectation="ExpectColumnPairValuesToBeEqual",
        arguments={"column_A": "row", "column_B": "given_first"},
        severity="critical",
        shown=(*_KEY, "earlier"),
    ),
    Check(
        name="conflict",
        column="mood",
        expected="no second, other answer of an annotator for a track",
        advice="The earlier answer stands; if this one is meant: cmg labels correct.",
        expectation="ExpectColumnPairValuesToBeEqual",
        arguments={"column_A": "mood_class", "column_B": "earlier_mood"},
        severity="critical",
        shown=(*_KEY, "mood", "earlier"),
    ),
)


@dataclass(frozen=True)
class Verdict:
    """What the checks say of a batch.

    Parameters
    ----------
    findings
        Every failed check.
    reasons
        Why a row is rejected, by its position; accepted rows are not in it.
    normalised
        The accepted rows of which a mood, name or track was spelled otherwise, by position.
    fault
        Why the whole batch is rejected: a check of the batch is critical, if the parameters want it so.
    """

    findings: tuple[Finding, ...]
    reasons: dict[str, str]
    normalised: frozenset[str]
    fault: str = ""


def check_batch(
    rows: pd.DataFrame,
    positions: Sequence[str],
    *,
    labels: pd.DataFrame,
    known_tracks: Collection[str],
    now: datetime,
    settings: IntakeParams,
    dropped: Sequence[str] = (),
    extra: Mapping[str, str] = NO_CELLS,
    respelled: Mapping[str, str] = NO_CELLS,
    hints: Mapping[str, Mapping[str, str]] = label_checks.NO_HINTS,
    docs: Path | None = None,
    page: str = "",
) -> Verdict:
    """Check a batch of labels.

    Parameters
    ----------
    rows
        ``track_id``, ``mood``, ``annotator``, ``labelled_at`` and ``confidence`` as text, blank as ``""``.
    positions
        Names of the rows, unique.
    labels
        What is there already, as `read_annotations` returns it.
    known_tracks
        Ids of the tracks in the library.
    now
        The time after which nothing can have been labelled, with its UTC offset.
    settings
        Thresholds, and severities by check name; a row is rejected by critical checks only.
    dropped
        Columns of the file that are not kept.
    extra
        By position, the cells of a row that lie beyond the header.
    respelled
        By position, the cells that were spelled otherwise, and how.
    hints
        By column, and by the text of a cell that may be rejected: what was meant, perhaps.
    docs, page
        Folder of the Data Docs, and what this batch's pages are called beside their suite's name.
    """
    table = derived(rows, positions, known_tracks=known_tracks, extra=extra, hints=hints)
    table["respelled"] = table["row"].map(dict(respelled)).astype("object")
    found = _run(table, _row_checks(settings, now), 0, settings, docs, page)
    valid = table.loc[~table.index.isin(list(_reasons(found)))]
    found += _run(_with_earlier(valid, labels), _REPEAT_CHECKS, 1, settings, docs, page)
    reasons = _reasons(found)
    accepted = table.loc[~table.index.isin(list(reasons))]
    subjects = _subjects(accepted, labels, dropped=dropped, settings=settings)
    # A blank mood, where the parameters allow it, is no other spelling of one.
    is_other_mood = accepted["mood"].notna() & (accepted["mood"] != accepted["mood_class"])
    whole = _run(subjects, _batch_checks(settings), 2, settings, docs, page)
    return Verdict(
        findings=(*found, *whole),
        reasons=reasons,
        normalised=frozenset(accepted.index[is_other_mood | accepted["respelled"].notna()]),
        fault="; ".join(finding.message() for finding in whole if finding.severity == "critical"),
    )


def report_fault(file: str, fault: str, *, docs: Path, page: str) -> None:
    """Write the page of a file that is rejected whole before its rows could be checked."""
    table = pd.DataFrame({"row": [file], "fault": [fault]}, index=[file])
    run(table, [_FILE_CHECK], name=_suites(page)[0], row="row", docs=docs)


def keep_pages(docs: Path, page: str) -> tuple[str, ...]:
    """Copy a batch's pages to where they stay, and return their paths relative to ``docs``; rows first.

    Great Expectations deletes a page once it has forgotten the suite. The copies lie as deep in the folder,
    so that their link to the index holds.
    """
    for name in _suites(page):
        if (docs / "validations" / name).is_dir():
            shutil.copytree(docs / "validations" / name, docs / KEPT_PAGES / name, dirs_exist_ok=True)
    # Great Expectations puts folders named after the run and its time between suite and page.
    found = (sorted(docs.glob(f"{KEPT_PAGES}/{name}/**/*.html")) for name in _suites(page))
    return tuple(path.relative_to(docs).as_posix() for several in found for path in several)


def _suites(page: str) -> list[str]:
    """Return the names of a batch's suites; its own, so that its pages outlive the next intake."""
    return [f"{SUITE}{step}-{page}" for step in _STEPS]


def _run(
    table: pd.DataFrame,
    checks: Sequence[Check],
    step: int,
    settings: IntakeParams,
    docs: Path | None,
    page: str,
) -> list[Finding]:
    """Run one of the three suites; nothing to look at is nothing found."""
    if table.empty:
        return []
    return run(
        table, with_severity(checks, settings.severity), name=_suites(page)[step], row="row", docs=docs
    )


def _row_checks(settings: IntakeParams, now: datetime) -> list[Check]:
    """Return the checks of single rows, of the stage ``labels`` and of the intake."""
    sizes = [
        Check(
            name="cell_size",
            column=column,
            expected=f"at most {settings.max_cell} characters",
            advice="Shorten it, or correct the quotes that joined cells.",
            expectation="ExpectColumnValueLengthsToBeBetween",
            arguments={"column": column, "max_value": settings.max_cell},
            severity="critical",
        )
        for column in LABEL_COLUMNS
    ]
    clean = [
        Check(
            name="characters",
            column=column,
            expected="no line break, control character, lost character (U+FFFD) or heap of accents",
            advice="Delete it.",
            expectation="ExpectColumnValuesToBeNull",
            arguments={"column": f"unwritable_{column}"},
            severity="critical",
            shown=(f"unwritable_{column}",),
        )
        for column in _TEXT
    ]
    # The reader has found the columns already; what is left is that they are filled in.
    filled = label_checks.schema_checks(pd.DataFrame(columns=list(LABEL_COLUMNS)))
    # Repeats have their own suite here: of two equal rows the first is good.
    content = [check for check in label_checks.content_checks() if check.name != "unique_annotation"]
    return [_WIDTH_CHECK, *filled, *sizes, *clean, *content, *_time_checks(now), *_SPELLING_CHECKS]


def _time_checks(now: datetime) -> tuple[Check, ...]:
    """Return the checks of when a row was labelled."""
    spans = (
        ("future_date", "a time that is not in the future", {"max_value": now.astimezone(UTC) + _CLOCK_SKEW}),
        ("past_date", f"a time in or after {_EARLIEST.year}", {"min_value": _EARLIEST}),
    )
    return tuple(
        Check(
            name=name,
            column="labelled_at",
            expected=expected,
            advice="Correct the time, or the clock of the computer that wrote it.",
            expectation="ExpectColumnValuesToBeBetween",
            arguments={"column": "time", **span},
            severity="critical",
            shown=("labelled_at",),
        )
        for name, expected, span in spans
    )


def _batch_checks(settings: IntakeParams) -> tuple[Check, ...]:
    """Return the checks of annotators and of the whole batch."""
    return (
        Check(
            name="same_answer",
            column="mood",
            expected=f"different moods in {settings.same_answer_rows} answers or more of one annotator",
            advice="Ask whether they listened; if not: cmg labels remove --annotator NAME.",
            expectation="ExpectColumnValuesToBeBetween",
            arguments={"column": "moods", "min_value": 2},
            shown=("always",),
        ),
        Check(
            name="class_shift",
            column="mood",
            expected=f"the moods' shares within {settings.shift_distance:g} (total variation) of the labels'",
            advice="Make sure that the tracks differ, and not the annotators' idea of the moods.",
            expectation="ExpectColumnValuesToBeBetween",
            arguments={"column": "distance", "max_value": settings.shift_distance},
            shown=("shift",),
        ),
        Check(
            name="extra_columns",
            column="header",
            expected="no columns but the contract's",
            advice="They are not kept; nothing to do.",
            expectation="ExpectColumnValuesToBeNull",
            arguments={"column": "dropped"},
            shown=("dropped",),
        ),
    )


def derived(
    rows: pd.DataFrame,
    positions: Sequence[str],
    *,
    known_tracks: Collection[str],
    extra: Mapping[str, str] = NO_CELLS,
    hints: Mapping[str, Mapping[str, str]] = label_checks.NO_HINTS,
) -> pd.DataFrame:
    """Return the rows as the suite reads them, each named by its position."""
    lines = rows.assign(**{LINE: range(len(rows))})
    table = label_checks.derived(lines, known_tracks=known_tracks, hints=hints)
    table = table.assign(row=list(positions)).set_axis(list(positions))
    table["extra_cells"] = table["row"].map(dict(extra)).astype("object")
    for column in _TEXT:
        table[f"unwritable_{column}"] = table[column].map(_visible, na_action="ignore").astype("object")
    # Of a batch without any mood it would be a column of numbers.
    table["mood_class"] = table["mood_class"].astype("str")
    table["normalised"] = table["mood"] + " → " + table["mood_class"]
    return table


def _visible(cell: str) -> str | None:
    """Return a cell as Python writes it if it holds what no cell may; else None."""
    return ascii(cell) if _UNWRITABLE.search(cell) or identity.has_stacked_accents(cell) else None


def _reasons(findings: Sequence[Finding]) -> dict[str, str]:
    """Return why a row is rejected, by position: column, value, expectation and advice of every check."""
    reasons: dict[str, list[str]] = {}
    for finding in findings:
        for row, value in finding.rows if finding.severity == "critical" else ():
            # One line for each finding, joined by semicolons: a cell of the CSV of rejected rows.
            said = (
                f"{finding.column}: {finding.check} expected {finding.expected}, received {_short(value)}. "
            )
            reasons.setdefault(row, []).append((said + finding.advice).removesuffix("."))
    return {row: "; ".join(several) for row, several in reasons.items()}


def _short(value: str) -> str:
    """Return a value as a reason quotes it; the cell itself is kept whole beside it."""
    value = visible(value)
    return value if len(value) <= _QUOTED else f"{value[:_QUOTED]}… ({len(value)} characters)"


def _with_earlier(valid: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Add the annotator's first answer for the track, and the row in which this answer was given first."""
    here = _answers(valid, valid["row"])
    there = _answers(labels, "line " + labels[LINE].astype(str) + " of mood_labels.csv")
    # The labels first: what is merged already stands.
    first = pd.concat([there, here]).drop_duplicates(_KEY).set_index(_KEY)
    earlier = first.reindex(pd.MultiIndex.from_frame(here[_KEY])).set_axis(valid.index)
    answer = earlier["mood_class"].astype("str") + " in " + earlier["where"].astype("str")
    is_same = earlier["mood_class"] == valid["mood_class"]
    return valid.assign(
        earlier=answer,
        earlier_mood=earlier["mood_class"],
        given_first=earlier["where"].where(is_same, valid["row"]),
    )


def _answers(rows: pd.DataFrame, where: pd.Series) -> pd.DataFrame:
    """Return who said what of which track, and where: a person has one name here, however it is spelled."""
    names = rows["annotator"]
    people = names.map({name: identity.key(name) for name in names.unique()}).astype("str")
    return pd.DataFrame(
        {
            "track_id": rows["track_id"],
            "annotator": people,
            "mood_class": _classes(rows["mood"]),
            "where": where,
        }
    )


def _classes(moods: pd.Series) -> pd.Series:
    """Return moods in the taxonomy's spelling; unknown ones as they are."""
    return moods.map({name: canonical_mood(name) or name for name in moods.unique()}).astype("str")


def _subjects(
    accepted: pd.DataFrame, labels: pd.DataFrame, *, dropped: Sequence[str], settings: IntakeParams
) -> pd.DataFrame:
    """Return a row for the batch and one for each of its annotators; what does not concern a row is null."""
    before = labels.assign(mood_class=_classes(labels["mood"]))
    whole = pd.DataFrame({"row": ["the batch"], "dropped": [", ".join(dropped) or None]})
    distance, shift = _shift(accepted["mood_class"], before["mood_class"], settings=settings)
    people = _variety(accepted, before, least=settings.same_answer_rows)
    table = pd.concat([whole.assign(distance=distance, shift=shift), people], ignore_index=True)
    return table.set_axis(table["row"].tolist()).rename_axis(None)


def _variety(accepted: pd.DataFrame, before: pd.DataFrame, *, least: int) -> pd.DataFrame:
    """Return how many moods each annotator of the batch has used: ``row``, ``moods`` and, if one, ``always``.

    Of fewer than ``least`` answers nothing follows: null.
    """
    both = pd.concat([before, accepted], ignore_index=True)[["annotator", "mood_class"]]
    both["annotator"] = identity.first_spellings(both["annotator"])
    # The batch's annotators only, with all that they have ever said.
    both = both[both["annotator"].isin(both["annotator"].tail(len(accepted)))]
    people = both.groupby("annotator")["mood_class"].agg(["size", "nunique", "first"])
    return pd.DataFrame(
        {
            "row": "annotator " + people.index,
            "moods": people["nunique"].where(people["size"] >= least).to_numpy(),
            "always": (people["size"].astype(str) + " answers, all " + people["first"]).to_numpy(),
        }
    )


def _shift(new: pd.Series, before: pd.Series, *, settings: IntakeParams) -> tuple[float | None, str]:
    """Return how far the moods' shares have moved (total variation), and that in words; null if by chance."""
    counts = pd.DataFrame({"new": new.value_counts(), "before": before.value_counts()}).fillna(0)
    if min(len(new), len(before)) < settings.shift_rows or len(counts) < 2:
        return None, ""
    from scipy.stats import chi2_contingency

    p_value = float(chi2_contingency(counts.to_numpy()).pvalue)
    if p_value >= settings.shift_p_value:
        return None, ""
    shares = counts / counts.sum()
    moved = shares["new"] - shares["before"]
    # Total variation: half of what moved, since it leaves one mood and enters another.
    distance, mood = 0.5 * float(np.abs(moved).sum()), str(moved.abs().idxmax())
    return distance, (
        f"{distance:.2f} (chi-square p {p_value:.1g}; {mood} {shares.loc[mood, 'before']:.0%} before, "
        f"{shares.loc[mood, 'new']:.0%} now)"
    )


def forget_old_pages(docs: Path) -> None:
    """Take all intakes but the latest out of the Data Docs' index; their names begin with their time."""
    from filelock import FileLock

    store = docs.resolve() / ".store"
    if not store.is_dir():
        return
    # Another intake, or the stage `labels`, may be writing its pages.
    with FileLock(store / "lock"):
        names = {path.stem for path in (store / "expectations").glob(f"{SUITE}-*.json")}
        for name in sorted(names)[:-KEPT_INTAKES]:
            _forget(docs, store, page=name.removeprefix(f"{SUITE}-"))


def _forget(docs: Path, store: Path, *, page: str) -> None:
    for name in _suites(page):
        shutil.rmtree(store / "results" / name, ignore_errors=True)
        shutil.rmtree(docs / "validations" / name, ignore_errors=True)
        (store / "expectations" / f"{name}.json").unlink(missing_ok=True)
        (docs / "expectations" / f"{name}.html").unlink(missing_ok=True)


def page_name(file: str, now: datetime) -> str:
    """Return what a batch's pages are called: ``20261105T101500123-batch_3`` (no dots, in order of time)."""
    # A file system takes 255 bytes.
    stem = "".join(letter if letter.isalnum() else "_" for letter in Path(file).stem)[:40]
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}-{stem}"
