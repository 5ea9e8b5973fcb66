"""Checks of the audio files: which tracks may be used, and is the library large enough."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from pipeline.inference.audio import SAMPLE_RATE
from pipeline.inference.recordings import FAULTS
from pipeline.quality.findings import Finding
from pipeline.quality.suites import Check, run, with_severity

if TYPE_CHECKING:
    from pipeline.params import CatalogParams

_NULL_IF_BLANK: Final = ("duplicate_of", "longer", *FAULTS)
_MEASURES: Final = ("seconds", "sample_rate", "channels", "clipped", "nonfinite", "rms_dbfs")
# Digital silence would be -inf dB, which JSON has no word for.
_SMALLEST_RMS: Final = 1e-10

_IDENTITY_CHECKS: Final = (
    Check(
        name="unique_id",
        column="track_id",
        expected="every file stem once",
        advice="Rename one of the files: the stem is the track's id.",
        expectation="ExpectColumnValuesToBeUnique",
        severity="critical",
        shown=("path",),
    ),
    Check(
        name="duplicate_content",
        column="duplicate_of",
        expected="every recording once",
        advice="Both stay, in one group of the split; delete one to be rid of the warning.",
        expectation="ExpectColumnValuesToBeNull",
    ),
    Check(
        name="genre_folder",
        column="genre",
        expected="no track id that names another genre's folder",
        advice="Move the file to its genre's folder, or rename it.",
        expectation="ExpectColumnPairValuesToBeEqual",
        arguments={"column_A": "genre", "column_B": "id_genre"},
        shown=("path",),
    ),
    Check(
        name="decodes",
        column="error",
        expected="a file that decodes",
        advice="The track is not used; replace or delete the file.",
        expectation="ExpectColumnValuesToBeNull",
        excludes=True,
    ),
)

# Of files that decode nevertheless.
_CONTENT_CHECKS: Final = (
    Check(
        name="truncated",
        column="truncated",
        expected="a file as long as its header says",
        advice="What is there is used; it may be a broken download: fetch the file again.",
        expectation="ExpectColumnValuesToBeNull",
    ),
    Check(
        name="damaged",
        column="damaged",
        expected="a file without damaged parts",
        advice="The parts are left out; fetch the file again.",
        expectation="ExpectColumnValuesToBeNull",
    ),
    Check(
        name="joined",
        column="joined",
        expected="one recording, no longer than its header says",
        advice="What was read is used as one track; cut the file if it is not one song.",
        expectation="ExpectColumnValuesToBeNull",
    ),
)

# The pipeline works on mono at one rate; what differs is converted, and loses nothing that the models would
# hear. Only what lacks something is a finding. No parameters: the models need these.
_FORMAT_CHECKS: Final = (
    Check(
        name="sample_rate",
        column="sample_rate",
        expected=f"at least {SAMPLE_RATE} Hz",
        advice="Above half of its rate the track has no sound. Use a better copy if there is one.",
        expectation="ExpectColumnValuesToBeBetween",
        arguments={"column": "sample_rate", "min_value": SAMPLE_RATE},
    ),
    Check(
        name="channels",
        column="channels",
        expected="mono or stereo",
        advice="The channels are averaged into one.",
        expectation="ExpectColumnValuesToBeInSet",
        arguments={"column": "channels", "value_set": [1, 2]},
    ),
)


def check_tracks(tracks: pd.DataFrame, *, settings: CatalogParams, docs: Path | None) -> list[Finding]:
    """Check every file, then what is left of the library without the excluded tracks.

    Parameters
    ----------
    tracks
        One row per file: ``track_id``, ``genre``, ``path``, ``seconds``, ``longer`` (``"more"`` if it goes
        on beyond the limit, else ``""``), ``sample_rate`` in Hz, ``channels``, ``rms`` (linear, 1 = full
        scale), ``clipped`` (share of the samples, 0 to 1), ``nonfinite`` (number of samples),
        ``duplicate_of``, ``error``, ``truncated``, ``damaged`` and ``joined`` (all ``""`` for none).
        The measures of a file with an ``error`` are not looked at.
    settings
        The thresholds, and severities by check name.
    docs
        Folder of the Data Docs; suites ``audio`` and ``audio_library``. None writes none.

    Returns
    -------
    list of Finding
        The failed checks; see `exclusions` for the tracks they rule out.
    """
    of_files = (*_IDENTITY_CHECKS, *_CONTENT_CHECKS, *_measure_checks(settings))
    checks = with_severity(of_files, settings.severity)
    found = run(_measured(tracks), checks, name="audio", row="track_id", docs=docs)
    checks = with_severity(_library_checks(settings), settings.severity)
    library = _library(tracks, excluded=exclusions(found))
    return found + run(library, checks, name="audio_library", row="genre", docs=docs)


def exclusions(findings: Sequence[Finding]) -> dict[str, str]:
    """Return why a track is not used, by track id: ``"duration: expected at least 1 s, received 0.4"``."""
    reasons: dict[str, list[str]] = {}
    for finding in findings:
        for track_id, value in finding.rows if finding.excludes else ():
            reason = f"{finding.check}: expected {finding.expected}, received {value}"
            reasons.setdefault(track_id, []).append(reason)
    return {track_id: "; ".join(said) for track_id, said in reasons.items()}


def _measure_checks(settings: CatalogParams) -> tuple[Check, ...]:
    """Return the checks of what was measured in the files."""
    return (
        Check(
            name="finite",
            column="nonfinite",
            expected="no NaN or infinite sample",
            advice="The track is not used; export the file again.",
            expectation="ExpectColumnValuesToBeBetween",
            arguments={"column": "nonfinite", "max_value": 0},
            excludes=True,
        ),
        Check(
            name="duration",
            column="seconds",
            expected=f"at least {settings.min_seconds:g} s",
            advice="The track is not used; see catalog.min_seconds.",
            expectation="ExpectColumnValuesToBeBetween",
            arguments={"column": "seconds", "min_value": settings.min_seconds},
            excludes=True,
        ),
        Check(
            name="duration",
            column="longer",
            expected=f"at most {settings.max_seconds:g} s (max_seconds)",
            advice="The track is not used; cut the file if it is not one song; see catalog.max_seconds.",
            expectation="ExpectColumnValuesToBeNull",
            excludes=True,
        ),
        Check(
            name="silence",
            column="rms_dbfs",
            expected=f"a level of at least {settings.silence_dbfs:g} dBFS",
            advice="The track is not used; see catalog.silence_dbfs.",
            expectation="ExpectColumnValuesToBeBetween",
            arguments={"column": "rms_dbfs", "min_value": settings.silence_dbfs},
            excludes=True,
        ),
        Check(
            name="clipping",
            column="clipped",
            expected=f"at most {settings.max_clipped:g} of the samples at full scale",
            advice="Listen to it, and replace it if it is distorted; see catalog.max_clipped.",
            expectation="ExpectColumnValuesToBeBetween",
            arguments={"column": "clipped", "max_value": settings.max_clipped},
        ),
        *_FORMAT_CHECKS,
    )


def _library_checks(settings: CatalogParams) -> tuple[Check, ...]:
    """Return the checks of the library as a whole."""
    return (
        Check(
            name="tracks_per_genre",
            column="usable",
            expected=f"at least {settings.min_tracks_per_genre} usable tracks in each genre",
            advice="Add tracks to the genre, or delete its folder; see catalog.min_tracks_per_genre.",
            expectation="ExpectColumnValuesToBeBetween",
            arguments={"column": "usable", "min_value": settings.min_tracks_per_genre},
        ),
        Check(
            name="usable_share",
            column="usable_share",
            expected=f"a usable share of all tracks of at least {settings.min_usable:g}",
            advice="Correct the files that the other checks name; see catalog.min_usable.",
            expectation="ExpectColumnSumToBeBetween",
            arguments={"column": "usable_share", "min_value": settings.min_usable},
            severity="critical",
        ),
    )


def _measured(tracks: pd.DataFrame) -> pd.DataFrame:
    """Return the tracks as the suite reads them: nothing to object to is null, levels are in dBFS."""
    decoded = tracks["error"] == ""
    # GTZAN's ids begin with their genre; another library's may begin with anything.
    prefix = tracks["track_id"].str.partition(".")[0]
    view = tracks.assign(
        error=tracks["error"].mask(decoded),
        **{name: tracks[name].mask(tracks[name] == "") for name in _NULL_IF_BLANK},
        rms_dbfs=20.0 * np.log10(tracks["rms"].clip(lower=_SMALLEST_RMS)),  # 20: of an amplitude
        id_genre=prefix.where(prefix.isin(tracks["genre"]), tracks["genre"]),
    )
    # A file that does not decode fails one check, not all.
    view[list(_MEASURES)] = view[list(_MEASURES)].where(decoded)
    return view.set_axis(tracks["path"].tolist())


def _library(tracks: pd.DataFrame, *, excluded: dict[str, str]) -> pd.DataFrame:
    """Return one row a genre: ``genre``, ``tracks``, ``usable``, and ``usable_share`` of the library."""
    # Of what is left: a genre of faulty files has no tracks.
    usable = ~tracks["track_id"].isin(list(excluded))
    counts = tracks.assign(usable=usable).groupby("genre")["usable"].agg(tracks="size", usable="sum")
    return counts.assign(usable_share=counts["usable"] / len(tracks), genre=counts.index).rename_axis(None)
