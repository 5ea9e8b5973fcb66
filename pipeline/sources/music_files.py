"""The files of a music library: every one is a track, or is left out for a reason."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.errors import DataError
from pipeline.inference import audio
from pipeline.labelling.track_names import AUDIO_SUFFIXES
from pipeline.untrusted import few, listing

HIDDEN: Final = "hidden"
NO_AUDIO: Final = "no audio"
NOT_READ: Final = "audio in a format that is not read"
NOT_HERE: Final = "links whose content is not there (git-annex and DataLad fetch it by `get`)"
NOT_REGULAR: Final = "no regular files"
REFUSED: Final = "may not be read"
NOT_UTF_8: Final = "names that are not UTF-8 (rename the files)"
OWN_FOLDER: Final = "the folder of this project, not looked into"

_ARCHIVES: Final = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
_SUFFIXES_SHOWN: Final = 5


@dataclass(frozen=True)
class MusicFiles:
    """What a folder holds.

    Parameters
    ----------
    root
        The folder.
    tracks
        Audio files relative to it, ``rock/Artist/Album/song.mp3``, sorted.
    left_out
        By reason, the other files, relative too.
    """

    root: Path
    tracks: tuple[str, ...]
    left_out: Mapping[str, tuple[str, ...]]

    def summary(self) -> str:
        """Return how many files were found, taken and left out, and why; in one line."""
        n_out, reasons = sum(map(len, self.left_out.values())), self.reasons()
        return f"files found: {len(self.tracks) + n_out}, taken: {len(self.tracks)}, left out: {n_out}" + (
            f" ({reasons})" if reasons else ""
        )

    def reasons(self) -> str:
        """Return why files were left out, and which; blank if none was."""
        return "; ".join(_said(reason, names) for reason, names in sorted(self.left_out.items()))


def find(root: Path) -> MusicFiles:
    """List the audio files below a folder, at any depth, and what else lies there.

    Raises
    ------
    DataError
        It is no folder, or there is no audio in it.
    """
    if not root.is_dir():
        raise DataError(f"expected a folder with music, received {root}, {_no_folder(root)}")
    tracks, left_out = list[str](), dict[str, list[str]]()
    for path in _files(root):
        name = path.relative_to(root).as_posix()
        reason = OWN_FOLDER if _is_own(path) else _reason(path, name)
        left_out.setdefault(reason, []).append(name) if reason else tracks.append(name)
    found = MusicFiles(root, tuple(sorted(tracks)), {why: tuple(sorted(n)) for why, n in left_out.items()})
    if not tracks:
        raise DataError(
            f"expected audio ({', '.join(audio.SUFFIXES)}) in {root} or below it, received "
            f"{found.reasons() or 'no file at all'}. Name the folder that holds the music."
        )
    return found


def _no_folder(path: Path) -> str:
    """Return what a path is instead of a folder, and what to do."""
    if not path.exists():
        there = next(parent for parent in path.absolute().parents if parent.is_dir())
        return f"which does not exist; {there} does. Check the spelling."
    if path.suffix.lower() in _ARCHIVES:
        return "an archive. Unpack it and name the folder with its files."
    if path.suffix.lower() in AUDIO_SUFFIXES:
        return f"one audio file. Name the folder that holds your music, such as {path.parent}."
    return "which is no folder. Name another."


def _is_own(folder: Path) -> bool:
    """Return whether a folder is this project's, whose ``data/`` holds copies of music."""
    return (folder / "dvc.yaml").is_file() and folder.samefile(Path.cwd())


def _files(root: Path) -> Iterator[Path]:
    """Yield what is no folder, through links to folders too, each folder once; of this project its folder."""
    seen = set[tuple[int, int]]()
    for folder, folders, names in os.walk(root, followlinks=True, onerror=_refuse):
        state = Path(folder).stat()
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        if _is_own(Path(folder)):
            folders.clear()
            yield Path(folder)
            continue
        folders.sort()
        yield from (Path(folder, name) for name in names)


def _refuse(error: OSError) -> None:
    raise DataError(
        f"expected folders that may be opened, received {error.filename}: {error.strerror}. "
        "Correct its permissions, or move it away."
    )


def _reason(path: Path, name: str) -> str:
    """Return why a file is no track; blank if it is one."""
    suffix = path.suffix.lower()
    if any(part.startswith(".") for part in name.split("/")):
        return HIDDEN
    if suffix not in AUDIO_SUFFIXES:
        return NO_AUDIO
    if suffix not in audio.SUFFIXES:
        return NOT_READ
    if not _is_utf_8(name):
        return NOT_UTF_8
    if not path.exists():
        return NOT_HERE
    if not path.is_file():
        return NOT_REGULAR
    return "" if os.access(path, os.R_OK) else REFUSED


def _is_utf_8(name: str) -> bool:
    """Return whether a table can hold a name; Python stands half a surrogate pair for each other byte."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _said(reason: str, names: tuple[str, ...]) -> str:
    """Return a reason with its count: of files without audio the suffixes, of others the first names."""
    if reason != NO_AUDIO:
        return f"{reason}: {listing(names)}"
    suffixes = Counter(Path(name).suffix.lower() or "none" for name in names).most_common()
    shown = few([f"{suffix} {n}" for suffix, n in suffixes[:_SUFFIXES_SHOWN]])
    return f"{reason}: {len(names)} by suffix: {shown}" + (" …" if len(suffixes) > _SUFFIXES_SHOWN else "")
