"""``make bench``: our speed against librosa (features), bare Keras (training) and TensorFlow (inference).

Each pair runs in alternating rounds in one process, so that other load meets both alike; the medians are
compared. Clips come from data/ (the first 30) or, without data, are noise.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
from threadpoolctl import threadpool_limits

from pipeline import files, params
from pipeline.errors import run_main
from pipeline.inference import audio, logmel
from pipeline.inference.normalise import Normaliser
from pipeline.tables.audio_files import AUDIO
from pipeline.tables.features import features_path
from pipeline.training import backend, models

ROUNDS: Final = 5
CLIPS: Final = 30
ROWS: Final = 96
BATCH: Final = 32
SPEC: Final = logmel.LogMel()


def medians(*runs: Callable[[], object]) -> list[float]:
    """Return the median seconds of each function over alternating rounds, after one round to warm up."""
    seconds: list[list[float]] = [[] for _ in runs]
    for number in range(ROUNDS + 1):
        for own, run in zip(seconds, runs, strict=True):
            start = time.perf_counter()
            run()
            if number:
                own.append(time.perf_counter() - start)
    return [statistics.median(own) for own in seconds]


def load_clips() -> list[np.ndarray]:
    """Return float32 clips (n_samples,) of about 30 s."""
    paths = sorted(path for path in AUDIO.glob("*/*") if path.suffix in audio.SUFFIXES)[:CLIPS]
    if paths:
        return [audio.load(path) for path in paths]
    rng = np.random.default_rng(0)
    return [rng.normal(0, 0.1, 661_794).astype(np.float32) for _ in range(CLIPS)]


def over_all_cores(function: Callable[[np.ndarray], object], clips: Iterable[np.ndarray]) -> None:
    """Map a function over clips on a thread a core, as the stage ``spectrogram`` does."""
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(function, clips))


def bench_features() -> None:
    """Log-mel of whole clips: librosa clip by clip, librosa on threads, ours."""
    import librosa

    clips = load_clips()

    def by_librosa(clip: np.ndarray) -> list[np.ndarray]:
        mels = (librosa.feature.melspectrogram(y=part, sr=audio.SAMPLE_RATE) for part in audio.slices(clip))
        return [librosa.power_to_db(mel) for mel in mels]

    def ours(clip: np.ndarray) -> np.ndarray:
        return logmel.features(audio.slices(clip), SPEC)

    alone, threaded, own = medians(
        lambda: list(map(by_librosa, clips)),
        lambda: over_all_cores(by_librosa, clips),
        lambda: over_all_cores(ours, clips),
    )
    each = 1000 / len(clips)
    figures = f"librosa {alone * each:.1f} ms, on threads {threaded * each:.1f} ms, ours {own * each:.1f} ms"
    print(f"log-mel of a clip: {figures}")
    print(f"  ours is {alone / own:.2f} x librosa per clip, {threaded / own:.2f} x librosa on threads")


def bench_training() -> None:
    """Train CNN-64 for one pass over ROWS rows: arrays in memory by bare Keras, and ours from files."""
    backend.prepare(seed=0)
    from pipeline.training.batches import Rows, TrainBatches

    settings = params.read().train.model_copy(
        update={"augment": "none", "slices_per_track": None, "batch_size": BATCH}
    )
    rng = np.random.default_rng(0)
    clips = rng.normal(-40, 10, (ROWS, 1, *SPEC.shape)).astype(np.float16)
    names = np.array([f"bench{number:03}" for number in range(ROWS)], dtype=object)
    targets = np.eye(10, dtype=np.float32)[np.arange(ROWS) % 10]
    normaliser = Normaliser("l2")
    zeros, ones = np.zeros(ROWS, int), np.ones(ROWS, np.float32)
    with tempfile.TemporaryDirectory() as folder:
        before = Path.cwd()
        os.chdir(folder)
        try:
            for name, clip in zip(names, clips, strict=True):
                files.write_array(features_path(name), clip)
            batches = TrainBatches(
                Rows(names, zeros, zeros, targets, ones), normaliser, settings, seed=0, workers=2
            )
            inputs = normaliser(clips[:, 0])[..., None]
            bare, own = _compiled(), _compiled()
            plain, piped = medians(
                lambda: bare.fit(inputs, targets, batch_size=BATCH, verbose=0),
                lambda: own.fit(batches, verbose=0),
            )
        finally:
            os.chdir(before)
    print(f"training CNN-64: bare Keras {ROWS / plain:.1f} rows/s, ours from files {ROWS / piped:.1f}")
    print(f"  ours is {plain / piped:.2f} x bare Keras")


def _compiled():  # type: ignore[no-untyped-def]  # keras is imported late
    model = models.build("cnn64", SPEC.shape, 10)
    model.compile("adam", "categorical_crossentropy", jit_compile=False)
    return model


def bench_inference() -> None:
    """Classify slices by CNN-64: TensorFlow's predict and the served ONNX graph."""
    from pipeline.inference.network import Network

    backend.prepare(seed=0)
    model = models.build("cnn64", SPEC.shape, 10)
    features = np.random.default_rng(0).normal(-40, 10, (BATCH, *SPEC.shape)).astype(np.float16)
    normaliser = Normaliser("l2")
    card = {
        "classes": [str(number) for number in range(10)],
        "spectrogram": {"n_fft": SPEC.n_fft, "hop_length": SPEC.hop_length, "n_mels": SPEC.n_mels},
        "normaliser": normaliser.as_dict(),
    }
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "model.onnx"
        model(np.zeros((1, *SPEC.shape, 1), np.float32))
        model.export(graph, format="onnx", verbose=False)
        network = Network(graph, card)
        tensorflow, served = medians(
            lambda: model.predict(normaliser(features)[..., None], verbose=0, batch_size=BATCH),
            lambda: network.of_features(features),
        )
    print(f"classifying by CNN-64: TensorFlow {BATCH / tensorflow:.0f} slices/s, served {BATCH / served:.0f}")
    print(f"  ours is {tensorflow / served:.2f} x TensorFlow")


def main() -> None:
    """Run all three comparisons."""
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, medians of {ROUNDS} rounds")
    bench_features()
    bench_training()
    bench_inference()


if __name__ == "__main__":
    run_main(main)
