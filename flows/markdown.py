"""Text from data, on its way into what Prefect shows as Markdown, or sends to where somebody may."""

from __future__ import annotations

import re
from typing import Final

from pipeline.untrusted import visible

# Every ASCII character that means something in Markdown or HTML, somewhere; a dot and a dash only where
# they begin a list, or an address that is made a link.
_ACTIVE: Final = re.compile(r"""[\\`*_{}\[\]()#+!|<>~&:@"'$=^]|^-|(?i:(?<=\bwww))\.|^\d+[.)]""")
_PICTURE: Final = re.compile(r"\](?=[(\[:])")
_MENTION: Final = re.compile(r"@(?=everyone\b|here\b|channel\b)")
_QUOTES: Final = str.maketrans({"<": "‹", ">": "›", "`": "'"})


def inline(text: object) -> str:
    """Return a text that Markdown shows letter by letter, in a line or a cell of a table.

    What is active becomes an entity, which by definition never begins a picture, a link, code or a tag.

    >>> inline("a|b ![x](http://y)")
    'a&#124;b &#33;&#91;x&#93;&#40;http&#58;//y&#41;'
    """
    line = " ".join(visible(str(text)).split())
    return _ACTIVE.sub(lambda found: "".join(f"&#{ord(character)};" for character in found[0]), line)


def code_block(text: str) -> str:
    """Return lines of text as a block that nothing in them ends."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{visible(text)}\n{fence}"


def message(text: str) -> str:
    """Return text for a run's state: people read it as it is, and chats and mails as Markdown or HTML.

    >>> message("![x](http://y) <b>")
    '![x] (http://y) ‹b›'
    """
    return _MENTION.sub("＠", _PICTURE.sub("] ", visible(text).translate(_QUOTES)))
