"""What decided an answer: how much each part of a recording's spectrogram speaks for a class.

A part is compared with silence in its place. Compared with a map of zeros its share would not say what the
answer is without it: silence is no map of zeros, and speaks for some class too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipeline.errors import ParamsError
from pipeline.inference import logmel
from serving import attribution, masking
from serving.champions import FRONT_END

AREA: Final = 0.2  # of the spectrogram, that is called what decided

_BATCH: Final = 4  # slices: CNN-64 takes 45 MB for each
_TOP_DB: Final = 80.0  # `pipeline.inference.logmel` hears nothing so far below a slice's loudest
_FLOOR_DB: Final = -100.0  # nor below this
_MOST_ROWS: Final = 8  # of a grid, so that LeNet-5's 30 x 106 places are as easily heard as CNN-64's 6 x 25
_MOST_COLUMNS: Final = 32  # of a slice


@dataclass(frozen=True)
class Grid:
    """How a recording's spectrogram is divided into cells.

    Parameters
    ----------
    bands
        Edges of the rows in mel bands, from the lowest, (n_rows + 1,).
    times
        Start and end of each column in seconds, (n_columns, 2).
    """

    bands: np.ndarray
    times: np.ndarray

    @property
    def area(self) -> np.ndarray:
        """Return each cell's part of all cells, (n_rows, n_columns)."""
        areas = np.diff(self.bands)[:, None] * np.diff(self.times, axis=1)[:, 0]
        return areas / areas.sum()

    def painted(self, cells: np.ndarray, n_mels: int, seconds: np.ndarray) -> np.ndarray:
        """Return the value of the cell at each mel band and time, 0 where there is none.

        Parameters
        ----------
        cells
            A value for each cell, (n_rows, n_columns).
        n_mels
            How many mel bands.
        seconds
            The times, (n,).
        """
        rows = np.searchsorted(self.bands, np.arange(n_mels) + 0.5, side="right") - 1
        return np.pad(cells, [(0, 0), (0, 1)])[rows][:, self.columns_at(seconds)]

    def columns_at(self, seconds: np.ndarray) -> np.ndarray:
        """Return the column at each time, n_columns where no cell covers it."""
        columns = np.searchsorted(self.times[:, 0], seconds, side="right") - 1
        return np.where(seconds > self.times[columns, 1], len(self.times), columns)


@dataclass(frozen=True)
class Explanation:
    """What decided.

    Parameters
    ----------
    label
        The class that is explained.
    probability
        Of it, as `Explainer.probabilities`.
    grid
        The cells.
    shares
        What each cell adds to the logit compared with silence, (n_rows, n_columns); below zero it speaks
        against the class.
    silence, logit
        The class's logit above the mean of all classes', mean over slices, and the same for silence:
        ``shares.sum() + silence == logit``.
    """

    label: str
    probability: float
    grid: Grid
    shares: np.ndarray
    silence: float
    logit: float

    def region(self, area: float = AREA) -> np.ndarray:
        """Return the cells with the largest shares for their size, bool (n_rows, n_columns).

        Parameters
        ----------
        area
            How much of the spectrogram they cover, 0 to 1; less where less speaks for the class.
        """
        return chosen(self.grid, np.where(self.density > 0, self.density, -np.inf), area)

    @property
    def density(self) -> np.ndarray:
        """Return the shares for their cells' size, (n_rows, n_columns); 0 where a cell has none."""
        sizes = self.grid.area
        return np.divide(self.shares, sizes, out=np.zeros_like(self.shares), where=sizes > 0)


def chosen(grid: Grid, order: np.ndarray, area: float) -> np.ndarray:
    """Return the cells of the highest ``order`` that cover ``area``, none of -inf: bool, as ``order``."""
    ranked = np.argsort(-order, axis=None, kind="stable")
    before = np.cumsum(grid.area.ravel()[ranked]) - grid.area.ravel()[ranked]
    taken = np.zeros(order.size, bool)
    taken[ranked[before < area - 1e-9]] = True
    return taken.reshape(order.shape) & np.isfinite(order)


class Explainer:
    """A version's network, opened such that its decisions can be taken apart.

    Parameters
    ----------
    package, network
        From `serving.champions.Champion.open`.
    graph
        The version's ``model.onnx``.

    Raises
    ------
    UnexplainableError
        The version is none of the kinds that can.
    """

    def __init__(self, package: Any, network: Any, graph: Path) -> None:
        self._package, self._network = package, network
        self._session, self._head = attribution.open_graph(graph)
        self._frozen = None
        if graph.with_name(FRONT_END).exists():
            self._frozen = _front_end(package, graph)
            self._silent_window = self._frozen(np.zeros(package.audio.SLICE_SAMPLES, np.float32))[:1]

    @property
    def classes(self) -> list[str]:
        """Return the names of the classes."""
        return list(self._network.classes)

    @property
    def settings(self) -> Any:
        """Return the settings of the network's log-mel."""
        return self._network.settings

    def explain(self, samples: np.ndarray, label: str = "") -> Explanation:
        """Return what speaks for a class.

        Parameters
        ----------
        samples
            float32 (n_samples,) at 22 050 Hz.
        label
            One of ``classes``; blank for the most probable.
        """
        if label and label not in self.classes:
            raise ParamsError(f"expected one of {', '.join(self.classes)}, received {label[:80]!r}.")
        pairs = [(self._places(one), self._places(self._silence(one))) for one in self._features(samples)]
        places, silent = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        logits, silence = (self._logits(one) for one in (places, silent))
        probabilities = self._softmax(logits).mean(axis=0)
        number = self.classes.index(label) if label else int(probabilities.argmax())
        direction = np.eye(len(self.classes))[number] - 1 / len(self.classes)
        flat, reference = self._flat(places), self._flat(silent)
        slopes = attribution.multipliers(self._head.layers, flat, reference, direction)
        return Explanation(
            self.classes[number],
            float(probabilities[number]),
            self._grid(samples, len(places), places.shape[1:3]),
            np.concatenate(_coarse(self._shares(places, silent, slopes)), axis=1) / len(places),
            float((silence @ direction).mean()),
            float((logits @ direction).mean()),
        )

    def probabilities(self, samples: np.ndarray) -> np.ndarray:
        """Return the network's probabilities, mean over slices: (n_classes,).

        With the version's temperature, but not made level where audio is unfamiliar: a recording of which a
        part has been removed always is.
        """
        each = [self._softmax(self._logits(self._places(one))) for one in self._features(samples)]
        return np.concatenate(each).mean(axis=0)

    def _logits(self, places: np.ndarray) -> np.ndarray:
        return attribution.logits(self._head.layers, self._flat(places))

    def _softmax(self, logits: np.ndarray) -> np.ndarray:
        calibration = getattr(self._network, "calibration", None)  # of versions of release 0.2 there is none
        logits = logits / (1.0 if calibration is None else calibration.temperature)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def only(self, samples: np.ndarray, grid: Grid, region: np.ndarray) -> np.ndarray:
        """Return the recording with nothing but a region of the grid to be heard."""
        return self._masked(samples, grid, np.pad(region, [(0, 0), (0, 1)]))

    def without(self, samples: np.ndarray, grid: Grid, region: np.ndarray) -> np.ndarray:
        """Return the recording without a region of the grid."""
        return self._masked(samples, grid, ~np.pad(region, [(0, 0), (0, 1)]))

    def _masked(self, samples: np.ndarray, grid: Grid, heard: np.ndarray) -> np.ndarray:
        """Mask the recording; the last column of ``heard`` stands for what no cell covers."""
        centres = np.arange(masking.n_frames(len(samples))) * masking.HOP_LENGTH / self._rate
        return masking.apply(samples, heard, self._rows_of_bins(grid), grid.columns_at(centres))

    def hertz(self, grid: Grid) -> list[float]:
        """Return the edges of a grid's rows in Hz, (n_rows + 1,)."""
        rows = self._rows_of_bins(grid)
        edges = np.searchsorted(rows, np.arange(1, len(grid.bands) - 1))
        return [0.0, *(edges * self._rate / masking.N_FFT).tolist(), self._rate / 2]

    @property
    def _rate(self) -> int:
        return self._package.audio.SAMPLE_RATE

    def _features(self, samples: np.ndarray) -> Iterator[np.ndarray]:
        """Yield what the network is given: (n_slices, n_mels, frames) in dB, or the probe's numbers."""
        slices = self._package.audio.slices(samples)
        while batch := list(islice(slices, _BATCH)):
            if self._frozen is None:
                yield self._package.logmel.features(batch, self._network.settings)
            else:
                yield np.stack([self._frozen(one) for one in batch])  # (n_slices, 3, 1506)

    def _silence(self, features: np.ndarray) -> np.ndarray:
        """Return what silence beside the loudest sound of each slice gives instead."""
        if self._frozen is not None:
            return np.broadcast_to(self._silent_window, features.shape)
        loudest = features.max(axis=(1, 2), keepdims=True)
        return np.broadcast_to(np.maximum(loudest - _TOP_DB, _FLOOR_DB), features.shape)

    def _places(self, features: np.ndarray) -> np.ndarray:
        """Return the numbers before the dense layers, float32 (n_slices, n_rows, n_columns, n_channels)."""
        if self._frozen is not None:
            return self._network.normaliser(features[..., None])[:, None, :, :, 0]
        inputs = self._network.normaliser(features)[..., None]
        if self._head.tensor == self._network.input:
            return inputs
        [maps] = self._session.run([self._head.tensor], {self._network.input: inputs})
        return maps.transpose(0, 2, 3, 1) if self._head.channels_first else maps

    def _flat(self, places: np.ndarray) -> np.ndarray:
        """Return what the dense layers are given, (n_slices, k): the probe's is the mean over windows."""
        return places.mean(axis=(1, 2)) if self._frozen else self._head.numbers(places)

    def _shares(self, places: np.ndarray, silent: np.ndarray, slopes: np.ndarray) -> np.ndarray:
        """Return what each place adds, (n_slices, n_rows, n_columns)."""
        if self._frozen:
            return ((places - silent) @ slopes[:, None, :, None])[..., 0] / places.shape[2]
        return self._head.shares(places, silent, slopes)

    def _grid(self, samples: np.ndarray, number: int, places: tuple[int, int]) -> Grid:
        """Return the cells of all slices; ``places`` are the rows and columns of one slice."""
        settings, lengths = self._network.settings, [len(one) for one in np.array_split(samples, number)]
        if self._frozen is not None:
            music = self._package.musicnn
            length = music.WINDOW * music.HOP_LENGTH / music.SAMPLE_RATE
            bands, inside = np.array([0, settings.n_mels]), length * np.arange(places[1] + 1)
        else:
            # Band b reaches from b to b + 1, and frame t is centred at t.
            bands = _edges(self._head.rows, settings.n_mels, places[0], _MOST_ROWS, middle=0.5)
            frames = _edges(self._head.columns, settings.frames, places[1], _MOST_COLUMNS, middle=0.0)
            inside = frames * settings.hop_length / self._rate
        times = []
        for length, start in zip(lengths, np.cumsum([0, *lengths]), strict=False):
            edges = np.minimum(inside, length / self._rate) + start / self._rate
            times.append(np.stack([edges[:-1], edges[1:]], axis=1))
        return Grid(bands, np.concatenate(times))

    def _rows_of_bins(self, grid: Grid) -> np.ndarray:
        """Return the row of each frequency of `serving.masking`: that of the mel band it counts most in."""
        bank = logmel.mel_filters(self._network.settings.n_mels, masking.N_FFT, self._rate).toarray()
        bands = np.maximum.accumulate(np.where(bank.any(axis=0), bank.argmax(axis=0), 0))
        return np.searchsorted(grid.bands, bands, side="right") - 1


def _front_end(package: Any, graph: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return what gives a slice's numbers window by window, float32 (3, 1506)."""
    session = package.musicnn.FrontEnd(graph.with_name(FRONT_END)).session
    return lambda samples: session.run(None, {"mel": package.musicnn.windows(samples)})[0]


def _groups(number: int, most: int) -> np.ndarray:
    """Return the first of each of at most ``most`` groups of neighbouring places."""
    return np.arange(0, number, math.ceil(number / most))


def _coarse(shares: np.ndarray) -> np.ndarray:
    """Add neighbouring places up: (n_slices, at most 8, at most 32)."""
    rows, columns = _groups(shares.shape[1], _MOST_ROWS), _groups(shares.shape[2], _MOST_COLUMNS)
    return np.add.reduceat(np.add.reduceat(shares, rows, axis=1), columns, axis=2)


def _edges(axis: attribution.Axis, length: int, number: int, most: int, *, middle: float) -> np.ndarray:
    """Return the edges of the groups of places on an axis of the input, halfway between their centres."""
    between = axis.first + middle + axis.step * (_groups(number, most)[1:] - 0.5)
    return np.array([0.0, *between, length])
