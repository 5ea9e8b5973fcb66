"""Dates as people write them, as ISO 8601 with an offset; what has two readings stays as it is written.

``25/11/2026 14:00`` has one reading, ``03/04/2026`` two, unless another date of the file shows the order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Final

import pandas as pd

_TIME: Final = (
    r"(?:[T ,]\s*(?P<hour>\d{1,2})[:.](?P<minute>\d{2})"
    r"(?:[:.](?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?"
    r"\s*(?P<half>[AaPp])?(?(half)\.?[Mm]\.?)\s*(?P<offset>Z|UTC|GMT|[+-]\d{2}:?\d{2})?)?"
)
_YEAR: Final = r"(?P<year>\d{4})"
_MONTH_NAMES: Final = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_NAMED: Final = rf"(?P<name>{'|'.join(f'{name[:3]}(?:{name[3:]})?' for name in _MONTH_NAMES)}|sept)\.?"
_FORMS: Final = tuple(
    re.compile(rf"\s*(?:{day}){_TIME}\s*", re.IGNORECASE | re.ASCII)
    for day in (
        rf"{_YEAR}(?P<mark>[-/.])(?P<month>\d{{1,2}})(?P=mark)(?P<day>\d{{1,2}})",
        rf"(?P<day>\d{{1,2}})\.\s?(?P<month>\d{{1,2}})\.\s?{_YEAR}",  # never month first
        rf"(?P<first>\d{{1,2}})(?P<mark>[-/])(?P<last>\d{{1,2}})(?P=mark){_YEAR}",
        rf"(?P<day>\d{{1,2}})(?:st|nd|rd|th)?[ .-]+{_NAMED}[ ,-]+{_YEAR}",
        rf"{_NAMED} +(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,? +{_YEAR}",
    )
)
_WRITTEN_SO: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:?\d{2})", re.ASCII
)
_LONGEST: Final = 60  # characters of a date


@dataclass(frozen=True)
class Dates:
    """A column of dates.

    Parameters
    ----------
    times
        ISO 8601 with an offset where there is one reading; else as they were.
    notes
        How they were read, in words.
    hints
        By the text of a date that was not read: its readings.
    """

    times: pd.Series
    notes: tuple[str, ...] = ()
    hints: dict[str, str] = field(default_factory=dict)


def read(times: pd.Series, *, zone: tzinfo | None = None) -> Dates:
    """Read a column of dates.

    Parameters
    ----------
    times
        As they were written.
    zone
        Of times without an offset; None is this computer's.

    Examples
    --------
    >>> from datetime import UTC
    >>> found = read(pd.Series(["25/11/2026", "03/12/2026 14:00"]), zone=UTC)
    >>> found.times.tolist()
    ['2026-11-25T00:00:00+00:00', '2026-12-03T14:00:00+00:00']
    >>> found.notes[0]
    'labelled_at: day/month/year, as in 25/11/2026'
    """
    distinct = [time for time in times.unique() if not _WRITTEN_SO.fullmatch(time)]
    parts = {time: found for time in distinct if len(time) <= _LONGEST and (found := _parts(time))}
    order, shown = _order(parts)
    moments = {time: moment for time, found in parts.items() if (moment := _moment(found, order, zone))}
    notes = [f"labelled_at: {order.replace(',', '/')}/year, as in {shown}"] if order and shown else []
    notes += _zone_note(moments, parts)
    hints = {time: hint for time, found in parts.items() if time not in moments and (hint := _both(found))}
    read_as = {time: moment.isoformat() for time, moment in moments.items()}
    return Dates(times.map(lambda time: read_as.get(time, time)).astype("str"), tuple(notes), hints)


def _parts(text: str) -> dict[str, str]:
    """Return the named parts of a date; nothing if it has none of the forms."""
    for form in _FORMS:
        if found := form.fullmatch(text):
            return {name: part for name, part in found.groupdict().items() if part is not None}
    return {}


def _order(parts: dict[str, dict[str, str]]) -> tuple[str, str]:
    """Return ``day,month`` or ``month,day`` as the dates themselves show it, and a date that does.

    Blank where none does, or two contradict each other.
    """
    shown: dict[str, str] = {}
    for text, found in parts.items():
        orders = [order for order, _ in _readings(found)]
        if len(orders) == 1:
            shown.setdefault(orders[0], text)
    return next(iter(shown.items())) if len(shown) == 1 else ("", "")


def _readings(found: dict[str, str]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield order, and month and day, of each day that two numbers before a year can mean."""
    if "first" in found:
        first, last = int(found["first"]), int(found["last"])
        for order, month, day in (("day,month", last, first), ("month,day", first, last)):
            with suppress(ValueError):
                date(int(found["year"]), month, day)
                yield order, (month, day)


def _month_and_day(found: dict[str, str], order: str) -> tuple[int, int] | None:
    """Return month and day; None where there are two readings."""
    if "first" not in found:
        name = found.get("name", "").lower()[:3]
        month = [each[:3] for each in _MONTH_NAMES].index(name) + 1 if name else int(found["month"])
        return month, int(found["day"])
    readings = dict(_readings(found))
    if len(set(readings.values())) == 1:
        return next(iter(readings.values()))
    return readings.get(order)


def _moment(found: dict[str, str], order: str, zone: tzinfo | None) -> datetime | None:
    """Return the moment that a date's parts mean; None where that is not one."""
    month_and_day = _month_and_day(found, order)
    if month_and_day is None:
        return None
    hour = int(found.get("hour", "0"))
    if half := found.get("half", "").lower():
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half == "p" else 0)
    clock = (hour, int(found.get("minute", "0")), int(found.get("second", "0")))
    microsecond = int(found.get("fraction", "0").ljust(6, "0")[:6])
    try:
        moment = datetime(int(found["year"]), *month_and_day, *clock, microsecond)
        own = _offset(found["offset"]) if "offset" in found else zone
        return moment.replace(tzinfo=own) if own else moment.astimezone()
    except (
        ValueError,
        OverflowError,
    ):  # the 30th of February; a year beyond the clock's
        return None


def _offset(text: str) -> tzinfo:
    """Return the zone of ``Z`` or ``+01:00``."""
    if text[0] not in "+-":
        return UTC
    hours, minutes = int(text[1:3]), int(text[-2:])
    return timezone((-1 if text[0] == "-" else 1) * timedelta(hours=hours, minutes=minutes))


def _zone_note(moments: dict[str, datetime], parts: dict[str, dict[str, str]]) -> list[str]:
    """Say in which zone the times without an offset were read."""
    naive = [moment for time, moment in moments.items() if "offset" not in parts[time]]
    zones = sorted({f"{moment:%z}" for moment in naive})
    if not naive:
        return []
    shown = ", ".join(f"UTC{zone[:3]}:{zone[3:]}" for zone in zones)
    return [f"labelled_at: times without an offset are in this computer's zone ({shown})"]


def _both(found: dict[str, str]) -> str:
    """Return the readings of a date as ISO 8601: ``2026-04-03 or 2026-03-04``."""
    days: Sequence[tuple[int, int]] = [day for _, day in _readings(found)]
    return " or ".join(f"{found['year']}-{month:02}-{day:02}" for month, day in days) + "?" * bool(days)
