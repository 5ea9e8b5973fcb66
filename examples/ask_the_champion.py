"""Ask the model that serves about a file: ``python examples/ask_the_champion.py mood song.ogg``."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from pipeline import tracking
from pipeline.errors import run_main
from pipeline.taxonomy import TASKS


def main() -> None:
    """Load the task's champion from the registry and print its three most probable classes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("file", type=Path, help="audio: au, wav, flac, mp3, ogg")
    args = parser.parse_args()
    model = tracking.configure().pyfunc.load_model(f"models:/{args.task}-classifier@champion")
    answer = model.predict(pd.DataFrame({"audio": [args.file.read_bytes()]})).iloc[0]  # one column per class
    for name, probability in answer.nlargest(3).items():
        print(f"{probability:.2f} {name}")


if __name__ == "__main__":
    run_main(main)
