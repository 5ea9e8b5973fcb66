"""What a data check found, in a form the stages, the report and the tests share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from pipeline.errors import QualityError
from pipeline.untrusted import visible

Severity = Literal["critical", "warning"]

_ROWS_IN_MESSAGE = 5  # the report and the Data Docs list the others
_VALUE_IN_MESSAGE = 200  # characters


@dataclass(frozen=True)
class Finding:
    """One failed check.

    Parameters
    ----------
    check
        Name of the check, e.g. ``"decodes"``.
    severity
        ``"critical"`` stops the run; ``"warning"`` is shown in the report.
    column
        The column that was looked at; empty for a check of the whole table.
    expected
        What was expected, in words.
    rows
        ``(row, value)`` of every offending row, both as text: a track id or ``"line 17"``, and what
        stood there. Empty where the check is not about rows.
    advice
        What to do about it.
    excludes
        Whether the rows are left out of the rest of the pipeline.
    """

    check: str
    severity: Severity
    column: str
    expected: str
    rows: tuple[tuple[str, str], ...]
    advice: str
    excludes: bool = False

    def message(self) -> str:
        """Return one line: the check, what was expected, the first offending rows, what to do."""
        quoted = [f"{row} ({_short(value)})" for row, value in self.rows[:_ROWS_IN_MESSAGE]]
        shown = visible(", ".join(quoted))
        more = len(self.rows) - _ROWS_IN_MESSAGE
        rows = f"; received {shown}" + (f" and {more} more" if more > 0 else "") if shown else ""
        return f"{self.check} [{self.severity}]: expected {self.expected}{rows}. {self.advice}"

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as plain JSON types."""
        return asdict(self) | {"rows": [list(row) for row in self.rows]}


def _short(value: str) -> str:
    return value if len(value) <= _VALUE_IN_MESSAGE else f"{value[:_VALUE_IN_MESSAGE]}…"


def stop_on_critical(findings: list[Finding], *, where: str) -> None:
    """Raise `QualityError` naming every critical finding's rows.

    Parameters
    ----------
    findings
        What the checks found.
    where
        The file that was checked, for the message.
    """
    critical = [finding.message() for finding in findings if finding.severity == "critical"]
    if critical:
        raise QualityError(f"{where} fails {len(critical)} critical check(s):\n  " + "\n  ".join(critical))
