"""How much a file of labels may hold, and the error of a file that cannot be taken in part."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import DataError


class FileFaultError(DataError):
    """A file that cannot be taken in part: the message says what was expected, what came, what to do."""


@dataclass(frozen=True)
class Limits:
    """How much a file may hold: rows, columns, and cells of a table or values of a JSON document."""

    max_rows: int
    max_columns: int
    max_values: int


def check_size(n_rows: int, *, name: str, limits: Limits) -> None:
    """Raise `FileFaultError` on more rows than allowed, before any of them is left out."""
    if n_rows > limits.max_rows:
        raise FileFaultError(
            f"{name}: expected at most {limits.max_rows} rows, received more. "
            "Split the file, or raise intake.max_rows."
        )


def check_values(n_values: int, *, name: str, limits: Limits) -> None:
    """Raise `FileFaultError` on more cells or values than can be read in a second or two."""
    if n_values > limits.max_values:
        raise FileFaultError(
            f"{name}: expected at most {limits.max_values:,} cells or values, received {n_values:,}. "
            "Take out what is not needed, split the file, or raise intake.max_values."
        )
