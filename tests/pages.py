"""What a page loads by itself: for tests that it is complete without a network."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_LOADING = {"src", "srcset", "poster", "data", "background", "xlink:href"}
_STYLE = re.compile(r"""(?:url\(|@import\s+(?:url\()?)\s*["']?([^"')\s;]+)""")


class _Loaded(HTMLParser):
    """Addresses in tags and styles; links that a person clicks are none."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.within = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.within = tag
        for name, value in attrs:
            if name in _LOADING or (name == "href" and tag not in ("a", "area")):
                self.addresses.append(value or "")
            if name == "style":
                self.addresses += _STYLE.findall(value or "")

    def handle_endtag(self, tag: str) -> None:
        self.within = ""

    def handle_data(self, data: str) -> None:
        if self.within == "style":
            self.addresses += _STYLE.findall(data)


def loaded_from_elsewhere(page: str) -> list[str]:
    """Return the addresses on other hosts that a browser would load to show the page."""
    return [
        one for one in _Loaded(page).addresses if re.match(r"(?!data:)([a-z][a-z0-9+.-]*:|//)", one, re.I)
    ]
