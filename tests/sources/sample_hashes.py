"""Print the SHA-256 of two files of the sample as JSON: run under other CPU settings by test_synth."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from pipeline.sources import sample, synth
from pipeline.taxonomy import GTZAN_GENRES

if __name__ == "__main__":
    plan = sample.plan_tracks(sample.SEED, GTZAN_GENRES, sample.ARTISTS_PER_GENRE, sample.TRACKS_PER_ARTIST)
    n_samples = round(sample.CLIP_SECONDS * synth.SAMPLE_RATE)
    with tempfile.TemporaryDirectory() as folder:
        written = [sample._write_track(Path(folder), n_samples, plan[number]) for number in (9, 76)]
    print(json.dumps([digest for _, digest in written]))
