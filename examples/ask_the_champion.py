"""Ask the model that serves about a file: ``python examples/ask_the_champion.py mood song.ogg``."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from pipeline import tracking
from pipeline.errors import run_main


def main() -> None:
    """Load the task's champion from the registry and print its three most probable classes."""
    task, path = sys.argv[1], Path(sys.argv[2])
    model = tracking.configure().pyfunc.load_model(f"models:/{task}-classifier@champion")
    answer = model.predict(pd.DataFrame({"audio": [path.read_bytes()]})).iloc[0]  # one column per class
    for name, probability in answer.nlargest(3).items():
        print(f"{probability:.2f} {name}")


if __name__ == "__main__":
    run_main(main)
