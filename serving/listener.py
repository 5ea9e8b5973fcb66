"""Answer what a file sounds like: decoded once, asked of every champion by the code that it ships."""

from __future__ import annotations

import csv
import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pipeline.errors import CmgError, ParamsError
from serving.champions import Champion

if TYPE_CHECKING:
    from serving.explanation import Explainer

SCHEMA: Final = "cmg.track/1"

_BATCH: Final = 4  # slices: CNN-64 takes 45 MB for each
_POLES: Final = Path(__file__).with_name("poles.csv")


@dataclass(frozen=True)
class Heard:
    """What the champions say of a file.

    Parameters
    ----------
    seconds
        Its length.
    slices
        By task, float32 (n_slices, n_classes).
    embedding
        float32 (n_numbers,), mean over the slices, alike where music is; None if no champion gives one.
    """

    seconds: float
    slices: Mapping[str, np.ndarray]
    embedding: np.ndarray | None = None


class UnreadableError(CmgError):
    """A file is no audio that can be answered; the message says why."""


class Listener:
    """The champions, opened.

    Parameters
    ----------
    champions
        By task, from `serving.champions.champions`.
    """

    def __init__(self, champions: Mapping[str, Champion]) -> None:
        self.champions = dict(champions)
        self._opened = {task: champion.open() for task, champion in champions.items()}
        self._explainers: dict[str, Explainer] = {}
        self.classes = {task: list(network.classes) for task, (_, network) in self._opened.items()}
        for task, (_, network) in self._opened.items():
            network.session = _one_thread(champions[task])

    def hear(self, path: Path) -> Heard:
        """Return the champions' answers to a file.

        Raises
        ------
        UnreadableError
            It is not there, no audio, empty, too long, or has samples that are no numbers.
        """
        decoded: dict[str, np.ndarray] = {}
        features: dict[tuple[str, Any], tuple[np.ndarray, np.ndarray | None]] = {}
        answers, embedding = {}, None
        for task, (package, network) in self._opened.items():
            # Versions of release 0.2 know the log-mel alone.
            key = (package.__name__, getattr(network, "front_end", network.settings))
            if package.__name__ not in decoded:
                decoded[package.__name__] = _decoded(package, path)
            if key not in features:
                features[key] = _features(package, decoded[package.__name__], network)
            whole, described = features[key]
            if described is not None and embedding is None:
                embedding = described.mean(axis=0)
            parts = [
                network.of_features(whole[first : first + _BATCH]) for first in range(0, len(whole), _BATCH)
            ]
            answers[task] = np.concatenate(parts)
        package = next(iter(self._opened.values()))[0]
        return Heard(len(decoded[package.__name__]) / package.audio.SAMPLE_RATE, answers, embedding)

    @property
    def embedding(self) -> str:
        """Return the name of the embedding that `hear` gives; empty if none of the champions gives one."""
        names = [getattr(network, "embedding", "") for _, network in self._opened.values()]
        return next(filter(None, names), "")

    def is_sure(self, task: str, mean: np.ndarray) -> bool | None:
        """Return whether an answer is sure, by the version's own code; None if the version cannot say."""
        calibration = getattr(self._opened[task][1], "calibration", None)  # earlier versions have none
        return None if calibration is None else calibration.is_sure(mean)

    def explainer(self, task: str) -> Explainer:
        """Return a champion opened such that its decisions can be taken apart; kept for the next question.

        Raises
        ------
        ParamsError
            The task has no champion.
        UnexplainableError
            Its decisions cannot be taken apart.
        """
        if task not in self.champions:
            raise ParamsError(f"expected a champion for {task}, received none. `dvc repro` trains one.")
        if task not in self._explainers:
            self._explainers[task] = self.champions[task].explainer()
        return self._explainers[task]

    @property
    def sample_rate(self) -> int:
        """Return the rate of `samples` in Hz."""
        return next(iter(self._opened.values()))[0].audio.SAMPLE_RATE

    def samples(self, path: Path, task: str | None = None) -> np.ndarray:
        """Return a file's audio as a task's champion (None: any) hears it, float32 (n_samples,), mono.

        Raises
        ------
        UnreadableError
            As in `hear`.
        """
        return _decoded(self._opened[task or next(iter(self._opened))][0], path)

    def record(self, path: Path, heard: Heard) -> dict[str, Any]:
        """Return an answer in the form ``cmg.track/1``."""
        means = {task: slices.mean(axis=0) for task, slices in heard.slices.items()}
        return track_record(
            means,
            self.classes,
            self.champions,
            {task: self.is_sure(task, mean) for task, mean in means.items()},
            path=str(path),
            seconds=round(heard.seconds, 3),
        )


def _decoded(package: Any, path: Path) -> np.ndarray:
    try:
        return package.audio.load(path)
    except package.errors.CmgError as error:
        # Who lists it names the file.
        raise UnreadableError(str(error).removeprefix(f"expected audio, received {path}: ")) from None
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from None


def _features(package: Any, samples: np.ndarray, network: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Return what a network is given, and the embedding of each slice if its front end gives one."""
    slices = package.audio.slices(samples)
    features = getattr(network, "features", None) or partial(
        package.logmel.features, settings=network.settings
    )
    # Versions registered before there was an embedding have the features alone.
    described = getattr(network, "described", lambda batch: (features(batch), None))
    found, embeddings = [], []
    while batch := list(islice(slices, _BATCH)):
        numbers, embedding = described(batch)
        found.append(numbers)
        embeddings += [] if embedding is None else [embedding]
    return np.concatenate(found), np.concatenate(embeddings) if embeddings else None


def _one_thread(champion: Champion) -> Any:
    """Open a graph for a worker among several: ONNX Runtime would take every core for each of them."""
    import onnxruntime

    from serving.champions import cache_folder

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    graph = cache_folder() / champion.folder / "model.onnx"
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def track_record(
    means: Mapping[str, np.ndarray],
    classes: Mapping[str, list[str]],
    champions: Mapping[str, Champion],
    sure: Mapping[str, bool | None],
    **facts: Any,
) -> dict[str, Any]:
    """Return a track's record of plain JSON types: a label and probabilities per task, poles of its moods.

    Where an answer is not sure, ``label`` is null; the most probable class is ``best`` in any case.
    """
    record: dict[str, Any] = {"schema": SCHEMA, **facts}
    for task, mean in means.items():
        best = int(np.argmax(mean))
        shares = {name: round(float(value), 6) for name, value in zip(classes[task], mean, strict=True)}
        record[task] = {
            "label": None if sure[task] is False else classes[task][best],
            "sure": sure[task],
            "best": classes[task][best],
            "probability": shares[classes[task][best]],
            "probabilities": shares,
        }
        if task == "mood":
            values = poles(mean[None], classes[task])
            record[task]["poles"] = {name: round(float(value[0]), 6) for name, value in values.items()}
    record["model"] = {task: champion.name for task, champion in champions.items()}
    record["trained_on"] = {
        task: champion.dataset + (" (synthetic)" if champion.synthetic else "")
        for task, champion in champions.items()
    }
    record["error"] = None
    return record


@functools.cache
def pole_matrix() -> dict[str, dict[str, float]]:
    """Return by pole how much each mood says for it, -1 to 1 (``serving/poles.csv``)."""
    with _POLES.open(encoding="utf-8", newline="") as stream:
        return {
            row.pop("pole"): {mood: float(value) for mood, value in row.items()}
            for row in csv.DictReader(stream)
        }


def poles(
    probabilities: np.ndarray, classes: list[str], *, of: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Return each pole's strength, 0 to 1, (n_tracks,), from mood probabilities (n_tracks, n_classes).

    ``of`` names the poles; None for all of them.
    """
    matrix = pole_matrix()
    weights = [[matrix[pole].get(name, 0.0) for name in classes] for pole in of or matrix]
    strengths = np.array(weights) @ probabilities.astype(float).T
    return dict(zip(of or matrix, np.clip(strengths, 0.0, 1.0), strict=True))


def sha256(path: Path) -> str:
    """Return a file's digest, by which it is known wherever it moves.

    Raises
    ------
    UnreadableError
        It cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from None
