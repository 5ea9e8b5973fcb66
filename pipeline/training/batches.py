"""Rows of a split, read batch by batch from memory-mapped features; importing this imports Keras."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from pipeline.errors import DataError
from pipeline.inference.normalise import Normaliser
from pipeline.params import TrainParams
from pipeline.tables.features import COPIES_FOLDER, FEATURES, features_path, load_features
from pipeline.tables.labels import classes_of, soft_labels
from pipeline.training import augment

_MAX_CLASS_WEIGHT = 5.0  # a mood with one track must not steer the whole network


@dataclass(frozen=True)
class Rows:
    """What a model learns from or is asked about, a row each; arrays of length n.

    Parameters
    ----------
    track_id, slice, copy
        Where the row is: copy 0 is the slice itself, 1 to 5 an augmented copy of it.
    targets
        float32 (n, n_classes), rows sum to 1.
    weights
        float32 (n,), 1 on average.
    """

    track_id: np.ndarray
    slice: np.ndarray
    copy: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.track_id)

    def take(self, index: np.ndarray) -> Rows:
        """Return the rows at ``index``, in its order."""
        return Rows(**{name: getattr(self, name)[index] for name in self.__dataclass_fields__})

    def balanced(self) -> Rows:
        """Return the rows with weights under which every class that occurs counts the same."""
        counts = self.targets.sum(axis=0)  # (n_classes,), fractions where targets are soft
        present = counts > 0
        weight = np.zeros(len(counts), np.float32)
        # As scikit-learn's "balanced", but over the classes that occur.
        weight[present] = len(self) / (present.sum() * counts[present])
        rows = self.targets @ np.minimum(weight, _MAX_CLASS_WEIGHT)
        # 1 on average, so that the learning rate keeps its meaning.
        return replace(self, weights=(rows / rows.mean()).astype(np.float32))


@dataclass(frozen=True)
class Layout:
    """A file of features, and what its header says: the array's shape and type, where it begins in bytes.

    NumPy reads headers with `ast.literal_eval`, which up to Python 3.11.7 fails at random where threads call
    it together (python/cpython#106905). So one thread reads them once, and loader threads only map.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int

    @classmethod
    def of(cls, track_id: str, copy: int, features: Path = FEATURES) -> Layout:
        """Read the header of the file that holds a track's slices, or its copies."""
        folder = COPIES_FOLDER if copy else features
        mapped: Any = load_features(track_id, folder)
        return cls(features_path(track_id, folder), mapped.shape, mapped.dtype, mapped.offset)

    def row(self, number: int, copy: int) -> np.ndarray:
        """Read one row's features: float16 (n_mels, frames) in dB.

        The file is opened for each row: a thousand open maps would exceed the usual limit of open files.
        """
        mapped = np.memmap(self.path, self.dtype, "r", self.offset, self.shape)
        return mapped[number, copy - 1] if copy else mapped[number]


def read_row(track_id: str, number: int, copy: int, features: Path = FEATURES) -> np.ndarray:
    """Read one row's features: float16 (n_mels, frames) in dB."""
    return Layout.of(track_id, copy, features).row(number, copy)


def expand(split: pd.DataFrame, *, copies: bool) -> pd.DataFrame:
    """Return a split's rows as track_id, slice, copy: a track without slices named gives all of its own."""
    # The protocol `shuffled` splits slices and copies; the others, whole tracks.
    if split["slice"].notna().all():
        return split[["track_id", "slice", "copy"]].astype({"slice": int, "copy": int})
    versions = range(1 + (len(augment.COPIES) if copies else 0))  # 0 is the slice itself
    rows = [
        (track_id, number, copy)
        for track_id in split["track_id"]
        for number in range(len(load_features(track_id)))
        for copy in versions
    ]
    return pd.DataFrame(rows, columns=["track_id", "slice", "copy"])


def select(
    split: pd.DataFrame, table: pd.DataFrame, part: str, *, soft: bool = True, copies: bool = False
) -> Rows:
    """Return one part's rows with their targets.

    Parameters
    ----------
    split, table
        The task's split and labels.
    part
        ``"train"``, ``"valid"`` or ``"test"``.
    soft
        Targets are the annotators' shares; otherwise the majority label, one-hot.
    copies
        Also the augmented copies of tracks whose slices the split does not name.
    """
    rows = expand(split[split["part"] == part], copies=copies)
    if rows.empty:
        raise DataError(f"part {part}: expected rows, received none. Run the stage `split` again.")
    shares = soft_labels(table)
    if not soft:
        classes = classes_of(table)
        shares = np.eye(len(classes), dtype=np.float32)[[classes.index(name) for name in table["label"]]]
    position = pd.Series(range(len(table)), index=table["track_id"])
    return Rows(
        track_id=rows["track_id"].to_numpy(object),
        slice=rows["slice"].to_numpy(int),
        copy=rows["copy"].to_numpy(int),
        targets=shares[position[rows["track_id"]].to_numpy()],
        weights=np.ones(len(rows), np.float32),
    )


class Batches(keras.utils.PyDataset):
    """Rows in order: inputs float32 (batch, n_mels, frames, 1), targets, weights."""

    def __init__(
        self,
        rows: Rows,
        normaliser: Normaliser,
        *,
        batch_size: int,
        features: Path = FEATURES,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.rows = rows
        self.normaliser = normaliser
        self.batch_size = batch_size
        files = set(zip(rows.track_id, rows.copy > 0, strict=True))  # a file has all of a track's rows
        self.layouts = {
            (track_id, copied): Layout.of(track_id, copied, features) for track_id, copied in files
        }

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)  # rounded up: the last batch may be smaller

    def decibels(self, rows: Rows) -> np.ndarray:
        """Return the rows' features, float32 (n, n_mels, frames) in dB."""
        where = zip(rows.track_id, rows.slice, rows.copy, strict=True)
        read = [self.layouts[track_id, copy > 0].row(number, copy) for track_id, number, copy in where]
        return np.stack(read).astype(np.float32)  # float16 on disk halves what is read

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = self.rows.take(np.arange(len(self.rows))[self._span(index)])
        inputs = self.normaliser(self.decibels(rows))[..., None]  # (batch, n_mels, frames, 1)
        return inputs, rows.targets, rows.weights

    def _span(self, index: int) -> slice:
        return slice(index * self.batch_size, (index + 1) * self.batch_size)


class TrainBatches(Batches):
    """Rows drawn and shuffled again every epoch, augmented on the fly if so set.

    Everything random comes from (seed, epoch, batch), so the outcome does not depend on the number
    of loader threads.
    """

    def __init__(
        self, rows: Rows, normaliser: Normaliser, settings: TrainParams, *, seed: int, **kwargs: Any
    ) -> None:
        super().__init__(rows, normaliser, batch_size=settings.batch_size, **kwargs)
        self.settings = settings
        self.seed = seed
        self.epoch = 0
        self.order = self._draw()

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def on_epoch_end(self) -> None:
        """Draw the next epoch's rows."""
        self.epoch += 1
        self.order = self._draw()

    def _draw(self) -> np.ndarray:
        """Return this epoch's row numbers, shuffled: all, or so many of each track."""
        # 0 draws the order; batch `index` augments with 1 + index.
        order = np.random.default_rng((self.seed, self.epoch, 0)).permutation(len(self.rows))
        if self.settings.slices_per_track is None:
            return order
        # Which of its track's rows a row is, in the order drawn: others come up next epoch.
        nth = pd.Series(self.rows.track_id[order]).groupby(self.rows.track_id[order]).cumcount()
        return order[nth.to_numpy() < self.settings.slices_per_track]

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = self.rows.take(self.order[self._span(index)])
        decibels, targets = self.decibels(rows), rows.targets
        if self.settings.augment != "specaugment":
            return self.normaliser(decibels)[..., None], targets, rows.weights
        rng = np.random.default_rng((self.seed, self.epoch, 1 + index))
        # SpecAugment is in dB, before normalisation; mixup blends what the network sees.
        inputs = self.normaliser(augment.specaugment(decibels, self.settings.specaugment, rng))
        inputs, targets = augment.mixup(inputs, targets, self.settings.specaugment.mixup_alpha, rng)
        return inputs[..., None], targets, rows.weights
