"""``data/mood_labels.csv``: one annotation of one listener per row."""

from __future__ import annotations

from pathlib import Path
from typing import Final

MOOD_LABELS: Final = Path("data/mood_labels.csv")
