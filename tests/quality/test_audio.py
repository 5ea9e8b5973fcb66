import subprocess
import sys

import pandas as pd
import pytest

from pipeline.params import CatalogParams
from pipeline.quality.audio import check_tracks, exclusions

FAULTY = "rock.00003"


def settings(**changes):
    defaults = {
        "min_seconds": 1.0,
        "max_seconds": 900.0,
        "silence_dbfs": -60.0,
        "max_clipped": 0.05,
        "min_tracks_per_genre": 5,
        "min_usable": 0.5,
        "severity": {},
    }
    return CatalogParams(**(defaults | changes))


def sound_tracks():
    ids = [f"{genre}.{number:05d}" for genre in ("metal", "rock") for number in range(6)]
    return pd.DataFrame(
        {
            "track_id": ids,
            "genre": [track_id.split(".")[0] for track_id in ids],
            "path": [f"data/gtzan/{track_id.split('.')[0]}/{track_id}.au" for track_id in ids],
            "seconds": 30.0,
            "longer": "",
            "sample_rate": 22050,
            "channels": 1,
            "peak": 0.9,
            "rms": 0.1,
            "clipped": 0.0,
            "nonfinite": 0,
            "sha256": [f"{number:064x}" for number in range(len(ids))],
            "artist": "",
            "title": "",
            "duplicate_of": "",
            "error": "",
            "truncated": "",
            "damaged": "",
            "joined": "",
        }
    )


def with_fault(**cells):
    """Return valid tracks of which the fourth rock track has other values in some cells."""
    tracks = sound_tracks()
    for column, value in cells.items():
        tracks[column] = [
            value if track_id == FAULTY else valid
            for track_id, valid in zip(tracks["track_id"], tracks[column], strict=True)
        ]
    return tracks


def check(tracks, **changes):
    return check_tracks(tracks, settings=settings(**changes), docs=None)


def summary(findings):
    return [(finding.check, finding.severity, finding.rows) for finding in findings]


def test_sound_tracks_have_no_findings():
    assert check(sound_tracks()) == []


def test_the_limits_themselves_pass():
    assert check(with_fault(seconds=1.0, rms=1e-3, clipped=0.05)) == []
    assert check(with_fault(seconds=900.0)) == []


@pytest.mark.parametrize(
    ("cells", "name", "value", "excluded"),
    [
        ({"error": "not a sound file", "seconds": 0.0}, "decodes", "not a sound file", True),
        ({"truncated": "2.0 of 6.0 s"}, "truncated", "2.0 of 6.0 s", False),
        ({"damaged": "at 4.2 s"}, "damaged", "at 4.2 s", False),
        ({"joined": "another recording from 6.0 s on"}, "joined", "another recording from 6.0 s on", False),
        ({"sample_rate": 11025}, "sample_rate", "11025", False),
        ({"channels": 6}, "channels", "6", False),
        ({"seconds": 0.4}, "duration", "0.4", True),
        ({"seconds": 901.0, "longer": "more"}, "duration", "more", True),
        ({"rms": 0.0}, "silence", "-200", True),
        ({"rms": 0.9e-3}, "silence", "-60.9151", True),
        ({"clipped": 0.06}, "clipping", "0.06", False),
        ({"nonfinite": 3, "rms": float("nan")}, "finite", "3", True),
        ({"duplicate_of": "metal.00001"}, "duplicate_content", "metal.00001", False),
    ],
)
def test_a_fault_of_one_file_is_a_warning_that_names_it(cells, name, value, excluded):
    findings = check(with_fault(**cells))
    assert summary(findings) == [(name, "warning", ((FAULTY, value),))]
    assert (FAULTY in exclusions(findings)) is excluded


def test_an_undecodable_file_fails_nothing_but_decodes():
    cells = {"seconds": 0.0, "sample_rate": 0, "channels": 0, "rms": 0.0, "error": "truncated"}
    assert summary(check(with_fault(**cells))) == [("decodes", "warning", ((FAULTY, "truncated"),))]


def test_an_id_that_names_another_genres_folder():
    tracks = sound_tracks()
    tracks.loc[0, ["genre", "path"]] = ["rock", "data/gtzan/rock/metal.00000.au"]
    rows = (("metal.00000", "data/gtzan/rock/metal.00000.au"),)
    assert summary(check(tracks)) == [("genre_folder", "warning", rows)]


def test_ids_without_a_genre_pass():
    tracks = sound_tracks()
    tracks["track_id"] = ["0815", "mr.brightside", *tracks["track_id"][2:]]
    assert check(tracks) == []


def test_an_id_that_stands_twice_is_critical_and_names_both_files():
    findings = check(with_fault(path="data/gtzan/rock/rock.00004.wav", track_id="rock.00004"))
    rows = (
        ("rock.00004", "data/gtzan/rock/rock.00004.wav"),
        ("rock.00004", "data/gtzan/rock/rock.00004.au"),
    )
    assert summary(findings) == [("unique_id", "critical", rows)]


def test_genres_are_counted_without_the_excluded_tracks():
    tracks = sound_tracks()
    tracks.loc[:1, "rms"] = 0.0
    last = check(tracks)[-1]
    assert (last.check, last.severity, last.rows) == ("tracks_per_genre", "warning", (("metal", "4"),))


def test_a_genre_without_any_usable_track_is_counted_as_zero():
    tracks = sound_tracks()
    tracks.loc[tracks["genre"] == "metal", "seconds"] = 0.1
    assert check(tracks)[-1].rows == (("metal", "0"),)


def test_too_few_usable_tracks_is_critical():
    tracks = sound_tracks()
    tracks.loc[:6, "nonfinite"] = 1
    last = check(tracks, min_tracks_per_genre=0)[-1]
    assert (last.check, last.severity, last.rows) == (
        "usable_share",
        "critical",
        (("usable_share", "0.416667"),),
    )


def test_a_severity_of_the_params_replaces_the_default():
    tracks = with_fault(channels=6, longer="more")
    severity = {"channels": "critical", "duration": "critical", "unique_id": "warning"}
    assert [(finding.check, finding.severity) for finding in check(tracks, severity=severity)] == [
        ("duration", "critical"),
        ("channels", "critical"),
    ]


def test_every_reason_to_exclude_a_track_is_given():
    findings = check(with_fault(seconds=0.4, nonfinite=2, clipped=0.5))
    assert exclusions(findings) == {
        FAULTY: "finite: expected no NaN or infinite sample, received 2; "
        "duration: expected at least 1 s, received 0.4"
    }


def test_importing_the_checks_does_not_import_great_expectations():
    code = "import sys, pipeline.quality.audio; print('great_expectations' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
