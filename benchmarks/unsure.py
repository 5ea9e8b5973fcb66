"""Does a model know when it does not know? ``python -m benchmarks.unsure --task genre --models lenet5``.

Asks the models of the workspace, as they would be registered, about 40 clips that are no music: noise,
silence, tones, hum, clicks, and voices of espeak-ng, which must be installed. Prints how many are answered
"not sure", and beside it what the test part says: coverage, how right the sure answers are, and the
calibration error. Fails where a bar is missed that can be measured.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import soundfile

from pipeline.errors import DataError, run_main
from pipeline.files import read_json
from pipeline.inference.audio import SAMPLE_RATE
from pipeline.inference.musicnn import GRAPH
from pipeline.inference.network import Network
from pipeline.registry.candidates import export_onnx, shipped_card
from pipeline.tables.metrics import metrics_path
from pipeline.taxonomy import TASKS
from pipeline.training import models, musicnn

BARS: Final = {"not music, not sure": 0.95, "coverage": 0.6}  # at least
MOST_ERROR: Final = 0.08  # of calibration
SECONDS: Final = 30
LANGUAGES: Final = ("en-gb", "en-us", "de", "fr", "es", "it", "pl", "nl", "sv", "tr")
VOICES: Final = (*LANGUAGES, "en+f2", "en+m3", "en+whisper", "de+f4")
TEXT: Final = (
    "A description of the weather of the coming days. In the morning fog lies over the valleys, and it takes "
    "until noon before the sun comes through. In the afternoon it is dry nearly everywhere, with eighteen to "
    "twenty two degrees. At night clouds come in from the west, and towards the end of the week it rains. "
)


def _coloured(rng: np.random.Generator, exponent: float) -> np.ndarray:
    """Return noise whose power falls with the frequency to that exponent: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(SECONDS * SAMPLE_RATE))
    spectrum[1:] /= np.arange(1, len(spectrum)) ** (exponent / 2)
    noise = np.fft.irfft(spectrum)
    return noise / np.abs(noise).max()


def _made() -> Iterator[tuple[str, np.ndarray]]:
    """Give the names and samples of 26 clips, each within full scale."""
    rng, time = np.random.default_rng(0), np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE
    for colour, exponent in (("white", 0), ("pink", 1), ("brown", 2)):
        for level in (0.5, 0.05):
            yield f"{colour} noise at {level}", level * _coloured(rng, exponent)
    yield "noise in bursts", 0.5 * _coloured(rng, 0) * (time % 1 < 0.3)
    yield "noise that swells", 0.5 * _coloured(rng, 1) * np.sin(np.pi * time / SECONDS)
    yield "digital silence", np.zeros_like(time)
    yield "silence of a sound card", 1e-4 * rng.standard_normal(len(time))
    for hertz in (55, 110, 440, 1_000, 4_000, 9_000):
        yield f"sine of {hertz} Hz", 0.5 * np.sin(2 * np.pi * hertz * time)
    yield "square wave of 220 Hz", 0.3 * np.sign(np.sin(2 * np.pi * 220 * time))
    yield "beating tones", 0.25 * (np.sin(2 * np.pi * 440 * time) + np.sin(2 * np.pi * 441 * time))
    for hertz in (50, 60):
        hum = np.sum([np.sin(2 * np.pi * hertz * n * time) / n for n in range(1, 12)], axis=0)
        yield f"mains hum of {hertz} Hz", 0.2 * hum
    for top in (2_000, 8_000):
        yield f"sweep up to {top} Hz", 0.5 * np.sin(np.pi * top / SECONDS * time**2)
    for every in (0.05, 0.5, 2.0):
        yield f"clicks every {every} s", 0.9 * (time % every < 1 / SAMPLE_RATE)
    yield "ticks of a clock", 0.2 * np.exp(-(time % 0.5) * 400) * rng.standard_normal(len(time))


def _spoken(voice: str) -> bytes:
    """Return a WAV of at least 20 s read by espeak-ng."""
    command = ["espeak-ng", "-v", voice, "--stdout", TEXT * 2]
    return subprocess.run(command, check=True, capture_output=True).stdout


def clips() -> dict[str, bytes]:
    """Return 40 clips that are no music, as audio files by name."""
    if shutil.which("espeak-ng") is None:
        raise DataError("expected the program espeak-ng, received none. Install it: apt install espeak-ng.")
    found = {}
    for name, samples in _made():
        stream = io.BytesIO()
        soundfile.write(stream, samples, SAMPLE_RATE, format="WAV")
        found[name] = stream.getvalue()
    return found | {f"voice {voice}": _spoken(voice) for voice in VOICES}


def open_network(task: str, name: str, folder: Path) -> Network:
    """Return a trained model of the workspace as its registered version would answer."""
    export_onnx(task, name, folder / "model.onnx")
    if models.FRONT_ENDS[name] == "musicnn":
        shutil.copyfile(musicnn.graph(), folder / GRAPH)
    return Network(folder / "model.onnx", shipped_card(task, name))


def answered(network: Network, asked: dict[str, bytes]) -> list[str]:
    """Return the clips whose answer is not called "not sure"."""
    means = {name: network.of_audio(encoded).mean(axis=0) for name, encoded in asked.items()}
    return [name for name, mean in means.items() if network.calibration.is_sure(mean) is not False]


def measure(task: str, name: str, asked: dict[str, bytes]) -> dict[str, Any]:
    """Return what is measured of one model."""
    with tempfile.TemporaryDirectory() as folder:
        wrong = answered(open_network(task, name, Path(folder)), asked)
    metrics = read_json(metrics_path(task, name))
    test = metrics["test"]["track"]
    return {
        "model": name,
        "not music, not sure": 1 - len(wrong) / len(asked),
        "answered": ", ".join(wrong),
        "test tracks": metrics["test"]["n_tracks"],
        "accuracy": test["accuracy"],
        "threshold": metrics["calibration"]["threshold"],
        "coverage": test.get("coverage"),
        "accuracy of the sure": test.get("sure_accuracy"),
        "error before": metrics["uncalibrated"]["track"]["ece"],
        "error": test["ece"],
    }


def missed(found: dict[str, Any]) -> list[str]:
    """Return in words which bars a model misses; what cannot be measured is not missed."""
    low = [key for key, bar in BARS.items() if found[key] is not None and found[key] < bar]
    faults = [f"{key} {found[key]:.2f}, expected {BARS[key]:.2f} or more" for key in low]
    if found["error"] > MOST_ERROR:
        faults.append(f"calibration error {found['error']:.3f}, expected {MOST_ERROR} or less")
    return faults


def main() -> None:
    """Ask the models of the workspace about clips that are no music."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unsure", description=main.__doc__)
    parser.add_argument("--task", choices=TASKS, default="genre")
    parser.add_argument("--models", nargs="+", choices=list(models.MODELS), required=True)
    args = parser.parse_args()
    asked = clips()
    found = [measure(args.task, name, asked) for name in args.models]
    print(f"{len(asked)} clips that are no music")
    print(pd.DataFrame(found).round(3).T.to_string(header=False))
    faults = [f"{one['model']}: {fault}" for one in found for fault in missed(one)]
    if faults:
        raise DataError(f"{'; '.join(faults)}. See docs/results.md for what was reached.")


if __name__ == "__main__":
    run_main(main)
