"""What comes from data is shown letter by letter in Markdown: no picture, link, tag, code or new cell."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from flows.markdown import code_block, inline, message
from pipeline.untrusted import visible

ATTACKS = [
    "![x](http://evil.example/pixel.png)",
    "[click](javascript:alert(1))",
    "<img src=x onerror=alert(1)>",
    "<http://evil.example>",
    "a | b \\| c",
    "`code` ``x``",
    "**bold** _it_ ~~del~~",
    "&lt;script&gt; &#60;",
    "[x]: http://evil.example",
    "[x][y] ![x][y]",
    "\\![x](y) \\\\[x](y)",
    "# head",
    "- list",
    "1. list",
    "> quote",
    "www.evil.example a@evil.example ftp://evil.example",
    "line\n\n| new | row |\n",
    "\x1b[31mred\u202e",
]


def shown(text: str) -> str:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_shown_as_it_was_written(attack: str) -> None:
    """In a paragraph and in a cell; the landed escaping let pictures and links through."""
    seen = " ".join(visible(attack).split())
    assert html.unescape(shown(inline(attack))) == f"<p>{seen}</p>\n"
    page = shown(f"| a | b |\n| --- | --- |\n| {inline(attack)} | x |\n")
    assert len(re.findall("<td", page)) == 2
    assert not re.search(r"<(a|img|code|em|strong|s|script)\b", page)


@given(st.text(st.sampled_from("![]()<>`*_~|\\&#:@.-+1w \n") | st.characters(), max_size=20))
def test_any_text_is_shown_as_it_was_written(text: str) -> None:
    seen = " ".join(visible(text).split())
    expected = f"<p>x {seen}</p>\n" if seen else "<p>x</p>\n"
    assert html.unescape(shown(f"x {inline(text)}")) == expected
    assert not re.search(r"(?i)https?://|www\.|@", inline(text))  # of which some renderers make links


@given(st.text(st.sampled_from("`~\n a") | st.characters(), max_size=20))
def test_nothing_ends_a_code_block(text: str) -> None:
    assert re.fullmatch(r"<pre><code>[^<]*</code></pre>\n", shown(code_block(text)))


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_state_has_no_pictures_links_or_tags(attack: str) -> None:
    assert not re.search(r"<(a|img|script|code)\b", shown(message(f"x {attack}").replace("\n", " ")))


def test_a_state_mentions_nobody() -> None:
    assert message("@everyone a@b <!here>") == "＠everyone a@b ‹!here›"
