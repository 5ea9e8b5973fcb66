"""Text from others is text: no spreadsheet runs it, no terminal obeys it, and it is read back as it was."""

from __future__ import annotations

import unicodedata

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.errors import CmgError, run_main
from pipeline.untrusted import few, for_spreadsheet, marked, visible, without_mark

FORMULAS = [
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "＝1+1",
    "a;=1+1",  # Excel in German, French or Italian separates by semicolons
    "a\t@x",
    "a\n=1",
]


@pytest.mark.parametrize("cell", FORMULAS)
def test_what_a_spreadsheet_would_run_is_marked(cell: str) -> None:
    pieces = marked(cell).replace("\t", ";").replace("\r", ";").replace("\n", ";").split(";")
    assert not [one for one in pieces if one.startswith(("=", "+", "-", "@", "＝"))]
    assert without_mark(marked(cell)) == cell


@pytest.mark.parametrize("cell", ["-1.5", "+3", "-1,5", "Doe, John", "AC-DC", "a@b.org", "O'Hara", ""])
def test_what_is_harmless_stays(cell: str) -> None:
    assert marked(cell) == cell


@given(st.text(st.sampled_from("=+-@'\t\r\n;,\"1a＝") | st.characters(), max_size=8))
@example("'=1")
@example("''-1")
def test_a_marked_cell_is_read_back_as_it_was(cell: str) -> None:
    assert without_mark(marked(cell)) == cell


def test_numbers_of_a_table_stay_numbers() -> None:
    table = pd.DataFrame({"score": [-1.5], "title": ["=x"]})
    assert for_spreadsheet(table).to_dict("records") == [{"score": -1.5, "title": "'=x"}]


@given(st.text(max_size=20))
def test_nothing_visible_steers_a_terminal(text: str) -> None:
    shown = visible(text)
    assert not [one for one in shown if unicodedata.category(one) in ("Cc", "Cf", "Cs") and one != "\n"]
    assert visible(shown) == shown


def test_an_error_does_not_pass_escapes_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise CmgError("received \x1b]0;title\x07\x9b31m\u202e")

    with pytest.raises(SystemExit):
        run_main(main)
    assert capsys.readouterr().err == "error: received \\x1b]0;title\\x07\\x9b31m\\u202e\n"


def test_a_message_lists_a_handful() -> None:
    assert few(["a" * 100, "b"]) == f"{'a' * 60}…, b"
    assert few(range(40_000)) == "0, 1, 2, 3, 4 … and 39,995 more"
