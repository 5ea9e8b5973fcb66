"""A printable page for annotators: the moods, the two poles of each, and how to fill in the list.

``python -m pipeline.labelling.guide`` writes ``label_next/guide.html``, one sheet of A4, beside the list of
tracks.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from pipeline import taxonomy, templates
from pipeline.errors import run_main
from pipeline.files import write_text
from pipeline.labelling import next_tracks
from pipeline.tables.mood_labels import LABEL_COLUMNS

PAGE: Final = next_tracks.FILE.with_name("guide.html")
TEMPLATE: Final = "guide.html.j2"


@dataclass(frozen=True)
class Mood:
    """One mood: how to write it, its name in words, what pulls which way, and what to listen for."""

    name: str
    words: str
    poles: tuple[str, str]
    listen_for: str


@dataclass(frozen=True)
class Guide:
    """The page that was written, and the moods on it."""

    path: Path
    moods: tuple[Mood, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {"path": self.path.as_posix(), "moods": [asdict(mood) for mood in self.moods]}


def in_words(name: str) -> str:
    """Return a mood's name as words: ``"CalmButEpic"`` → ``"Calm but epic"``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).capitalize()


def moods() -> tuple[Mood, ...]:
    """Return the moods in the taxonomy's order."""
    known = taxonomy.read().moods
    return tuple(Mood(name, in_words(name), one.poles, one.listen_for) for name, one in known.items())


def render(shown: tuple[Mood, ...]) -> str:
    """Return the page; nothing in it comes from a network."""
    values = {"moods": shown, "columns": LABEL_COLUMNS, "tracks": next_tracks.FILE.name}
    return templates.render(TEMPLATE, values)


def write(path: Path = PAGE) -> Guide:
    """Write the page."""
    guide = Guide(path, moods())
    write_text(path, render(guide.moods))
    return guide


def main() -> None:
    """Write the annotators' guide."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.labelling.guide", description=main.__doc__)
    parser.add_argument("--out", type=Path, default=PAGE, help=f"page to write (default: {PAGE})")
    print(f"{write(parser.parse_args().out).path}: print it on one sheet of A4")


if __name__ == "__main__":
    run_main(main)
