"""Columns of label files by the names that people give them: ``filename`` is the track, ``label`` the mood.

A column with the contract's own name is that column. Another name counts where exactly one column of the
file has it; two that could be the same are an error that names both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from pipeline.labelling.file_limits import FileFaultError
from pipeline.tables.mood_labels import LABEL_COLUMNS
from pipeline.untrusted import few

# Without blanks, dashes and underscores.
ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "track_id": (
        *("trackid", "track", "trackname", "id", "file", "fileid", "filename", "filepath", "path"),
        *("song", "songid", "songname", "musicid", "audio", "audiofile", "audiopath", "clip", "clipid"),
    ),
    "mood": ("moods", "moodlabel", "label", "labels", "tag", "tags", "emotion", "emotions", "feeling"),
    "annotator": (
        *("annotatorid", "rater", "raterid", "user", "userid", "username", "labeler", "labeller"),
        *("listener", "listenerid", "participant", "participantid", "worker", "workerid", "completedby"),
    ),
    "labelled_at": (
        *("labelledat", "labeledat", "date", "datetime", "time", "timestamp", "createdat", "updatedat"),
        *("labelledon", "labeledon", "when"),
    ),
    "artist": ("artistname", "artists", "performer", "band", "singer", "composer"),
}


def column_name(cell: object) -> str:
    """Return a header cell as columns are compared: ``" Track ID"`` → ``"track_id"``."""
    return re.sub(r"[ -]+", "_", str(cell).strip().lower())


def renamed(header: Sequence[str], *, name: str, wanted: Sequence[str] = LABEL_COLUMNS) -> dict[str, str]:
    """Return, by a column's name, the contract's name for it, where that is another.

    Parameters
    ----------
    header
        Names in lower case, with underscores.
    name
        The file's.
    wanted
        Which columns are looked for.

    Raises
    ------
    FileFaultError
        Two columns may be the same one.

    Examples
    --------
    >>> renamed(["filename", "mood", "rater", "why"], name="monday.csv")
    {'filename': 'track_id', 'rater': 'annotator'}
    """
    found = {}
    for column in wanted:
        if column in header:
            continue
        candidates = [cell for cell in header if re.sub(r"[\W_]", "", cell) in ALIASES[column]]
        if len(candidates) > 1:
            raise FileFaultError(
                f"{name}: expected one column that is {column}, received {few(candidates)}. "
                f"Call the one that is meant {column}."
            )
        found.update(dict.fromkeys(candidates, column))
    return found
