"""Print what the models hear of an audio file: ``python examples/logmel_of_a_file.py song.ogg``."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.errors import run_main
from pipeline.inference import audio
from pipeline.inference.logmel import LogMel, features


def main() -> None:
    """Decode the file, cut it into slices and print each slice's log-mel: shape and range."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("file", type=Path, help="audio: au, wav, flac, mp3, ogg")
    samples = audio.load(parser.parse_args().file)  # float32 (n_samples,), mono, 22 050 Hz
    print(f"{len(samples) / audio.SAMPLE_RATE:.1f} s")
    for number, table in enumerate(features(audio.slices(samples), LogMel())):
        bands, frames = table.shape
        print(f"slice {number}: {bands} bands x {frames} frames, {table.min():.0f} to {table.max():.0f} dB")


if __name__ == "__main__":
    run_main(main)
