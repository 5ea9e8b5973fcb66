"""Every row is read once, from the right place, and what is random depends on the seed and epoch alone."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from pipeline import files, params
from pipeline.errors import DataError
from pipeline.inference.normalise import Normaliser
from pipeline.tables.features import COPIES_FOLDER, FEATURES, features_path, load_features

if TYPE_CHECKING:
    from pipeline.training.batches import Batches, Rows, TrainBatches

N_MELS, FRAMES = 8, 12
PLAIN = Normaliser("standard", (0.0,) * N_MELS, (1.0,) * N_MELS)


def number_of(track: int, one: int, copy: int) -> float:
    """Return the value that fills a row's features: small whole numbers are exact in float16."""
    return 64 * track + 8 * one + copy


def write_features(n_slices: list[int], *, copies: bool = False) -> list[str]:
    """Write features of a track each; each row is filled with its own number."""
    names = [f"track{number}" for number in range(len(n_slices))]
    for track, (name, n) in enumerate(zip(names, n_slices, strict=True)):
        whole = np.empty((n, 6, N_MELS, FRAMES), np.float16)
        for one in range(n):
            for copy in range(6):
                whole[one, copy] = number_of(track, one, copy)
        files.write_array(features_path(name), whole[:, 0])
        if copies:
            files.write_array(features_path(name, COPIES_FOLDER), whole[:, 1:])
    return names


def split_of(names: list[str], part: str = "train") -> pd.DataFrame:
    table = pd.DataFrame({"track_id": names, "part": part, "slice": pd.NA, "copy": pd.NA})
    return table.astype({"slice": "Int64", "copy": "Int64"})


def labels_of(names: list[str]) -> pd.DataFrame:
    """Return labels: a track in four is b, the others mostly a."""
    odd = np.arange(len(names)) % 4 == 3
    label = np.where(odd, "b", "a")
    return pd.DataFrame(
        {
            "track_id": names,
            "label": label,
            "p_a": np.where(odd, 0.25, 0.75),
            "p_b": np.where(odd, 0.75, 0.25),
        }
    )


def make_rows(n_slices: list[int], *, copies: bool = False) -> Rows:
    from pipeline.training import batches

    names = write_features(n_slices, copies=copies)
    return batches.select(split_of(names), labels_of(names), "train", copies=copies)


def train_settings(settings: params.Params, **changes: object) -> params.TrainParams:
    return settings.train.model_copy(update={"batch_size": 4, "slices_per_track": None, **changes})


def train_batches(rows: Rows, settings: params.TrainParams, *, seed: int = 0) -> TrainBatches:
    from pipeline.training import batches

    return batches.TrainBatches(rows, PLAIN, settings, seed=seed)


def numbers(inputs: np.ndarray) -> list[float]:
    """Return what fills each row, and check that it fills the whole row."""
    assert inputs.shape[1:] == (N_MELS, FRAMES, 1)
    assert inputs.dtype == np.float32
    np.testing.assert_array_equal(inputs, np.broadcast_to(inputs[:, :1, :1], inputs.shape))
    return inputs[:, 0, 0, 0].tolist()


def epoch_of(sequence: Batches) -> list[float]:
    return [number for index in range(len(sequence)) for number in numbers(sequence[index][0])]


@pytest.mark.parametrize("batch_size", [1, 4, 5, 100])
def test_batches_give_every_row_once_in_order(workspace: Path, batch_size: int) -> None:
    from pipeline.training import batches

    rows = make_rows([3, 1, 2])
    sequence = batches.Batches(rows, PLAIN, batch_size=batch_size)
    expected = [number_of(*row) for row in [(0, 0, 0), (0, 1, 0), (0, 2, 0), (1, 0, 0), (2, 0, 0), (2, 1, 0)]]
    assert epoch_of(sequence) == expected
    assert len(sequence) == -(-6 // batch_size)
    assert sum(len(sequence[index][1]) for index in range(len(sequence))) == 6


def test_targets_and_weights_go_with_their_rows(workspace: Path) -> None:
    from pipeline.training import batches

    rows = make_rows([2, 1, 1, 2]).balanced()
    sequence = batches.Batches(rows, PLAIN, batch_size=4)
    for index in range(len(sequence)):
        inputs, targets, weights = sequence[index]
        for number, target, weight in zip(numbers(inputs), targets, weights, strict=True):
            odd = number // 64 == 3
            np.testing.assert_array_equal(target, [0.25, 0.75] if odd else [0.75, 0.25])
            assert weight == rows.weights[rows.track_id == ("track3" if odd else "track0")][0]


def test_the_normaliser_is_applied(workspace: Path) -> None:
    from pipeline.training import batches

    rows = make_rows([1, 1])
    half = Normaliser("standard", (10.0,) * N_MELS, (2.0,) * N_MELS)
    assert epoch_of(batches.Batches(rows, half, batch_size=2)) == [-5.0, 27.0]
    unit = batches.Batches(rows, Normaliser("l2"), batch_size=2)[0][0]
    np.testing.assert_allclose(np.linalg.norm(unit[1, ..., 0], axis=-1), 1, atol=1e-6)


def test_copies_are_read_from_where_they_are(workspace: Path) -> None:
    from pipeline.training import batches

    names = write_features([2, 3], copies=True)
    for track, name in enumerate(names):
        for one in range(2):
            for copy in range(6):
                row = batches.read_row(name, one, copy)
                assert np.all(row == number_of(track, one, copy))


def test_copies_multiply_the_rows_by_six(workspace: Path) -> None:
    from pipeline.training import batches

    rows = make_rows([2, 1], copies=True)
    assert len(rows) == 18
    seen = epoch_of(batches.Batches(rows, PLAIN, batch_size=5))
    assert sorted(seen) == sorted(
        number_of(track, one, copy) for track, one in [(0, 0), (0, 1), (1, 0)] for copy in range(6)
    )


def test_a_split_that_names_slices_is_followed(workspace: Path) -> None:
    from pipeline.training import batches

    names = write_features([3, 3], copies=True)
    split = pd.DataFrame({"track_id": names, "part": "train", "slice": [2, 0], "copy": [0, 4]}).astype(
        {"slice": "Int64", "copy": "Int64"}
    )
    rows = batches.select(split, labels_of(names), "train")
    assert epoch_of(batches.Batches(rows, PLAIN, batch_size=8)) == [number_of(0, 2, 0), number_of(1, 0, 4)]


@pytest.mark.parametrize("copies", [False, True])
def test_loader_threads_parse_no_headers(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, copies: bool
) -> None:
    """Up to Python 3.11.7 `ast.literal_eval` fails at random in several threads."""
    from pipeline.training import batches

    names = write_features([2, 3], copies=copies)
    rows = batches.select(split_of(names), labels_of(names), "train", copies=copies)
    sequence = batches.Batches(rows, PLAIN, batch_size=4)

    def parse(*_: object) -> None:
        raise AssertionError("a header was parsed")

    monkeypatch.setattr("ast.literal_eval", parse)
    with pytest.raises(AssertionError, match="a header"):
        load_features(names[0])
    assert len(epoch_of(sequence)) == 5 * (6 if copies else 1)


def test_select_takes_its_part_only(workspace: Path) -> None:
    from pipeline.training import batches

    names = write_features([1, 1, 1])
    split = split_of(names).assign(part=["train", "test", "train"])
    rows = batches.select(split, labels_of(names), "train")
    assert rows.track_id.tolist() == ["track0", "track2"]
    with pytest.raises(DataError, match=r"part valid: expected rows, received none\. Run the stage `split`"):
        batches.select(split, labels_of(names), "valid")


def test_hard_targets_are_the_majority(workspace: Path) -> None:
    from pipeline.training import batches

    names = write_features([1] * 4)
    soft = batches.select(split_of(names), labels_of(names), "train", soft=True)
    hard = batches.select(split_of(names), labels_of(names), "train", soft=False)
    np.testing.assert_array_equal(soft.targets, [[0.75, 0.25]] * 3 + [[0.25, 0.75]])
    np.testing.assert_array_equal(hard.targets, [[1, 0]] * 3 + [[0, 1]])
    assert soft.targets.dtype == hard.targets.dtype == np.float32


def test_the_order_of_the_label_table_does_not_matter(workspace: Path) -> None:
    from pipeline.training import batches

    names = write_features([1] * 4)
    rows = batches.select(split_of(names), labels_of(names).iloc[::-1].reset_index(drop=True), "train")
    np.testing.assert_array_equal(rows.targets, [[0.75, 0.25]] * 3 + [[0.25, 0.75]])


def test_balanced_weights_count_every_class_the_same(workspace: Path) -> None:
    from pipeline.training import batches

    names = write_features([1] * 8)
    rows = batches.select(split_of(names), labels_of(names), "train", soft=False).balanced()
    assert rows.weights.dtype == np.float32
    assert rows.weights.mean() == pytest.approx(1)
    total = rows.weights @ rows.targets
    assert total[0] == pytest.approx(total[1])


def test_a_rare_class_does_not_steer_everything(workspace: Path) -> None:
    from dataclasses import replace

    rows = make_rows([1] * 4)
    targets = np.zeros((4, 3), np.float32)
    targets[:, 0] = 1
    many = replace(rows.take(np.zeros(400, int)), targets=np.tile(targets, (100, 1)))
    many.targets[0] = [0, 1, 0]
    balanced = many.balanced()
    assert balanced.weights.mean() == pytest.approx(1)
    assert np.isfinite(balanced.weights).all(), "a class nobody has does no harm"
    assert balanced.weights[0] / balanced.weights[1] == pytest.approx(5 / (400 / (2 * 399)), rel=1e-4)


@pytest.mark.parametrize("per_track", [1, 2, None])
def test_slices_per_track(workspace: Path, settings: params.Params, per_track: int | None) -> None:
    rows = make_rows([3, 1, 4, 2])
    sequence = train_batches(rows, train_settings(settings, slices_per_track=per_track, augment="none"))
    for _ in range(3):
        seen = epoch_of(sequence)
        assert len(seen) == len(set(seen)), "no row twice in an epoch"
        tracks = [int(number // 64) for number in seen]
        expected = [min(n, per_track or 9) for n in (3, 1, 4, 2)]
        assert [tracks.count(track) for track in range(4)] == expected
        assert len(sequence) == -(-sum(expected) // 4)
        sequence.on_epoch_end()


def test_every_slice_is_drawn_in_some_epoch(workspace: Path, settings: params.Params) -> None:
    sequence = train_batches(make_rows([3, 3]), train_settings(settings, slices_per_track=1, augment="none"))
    seen: set[float] = set()
    for _ in range(30):
        seen |= set(epoch_of(sequence))
        sequence.on_epoch_end()
    assert len(seen) == 6


def all_of(sequence: Batches, order: list[int]) -> dict[int, list[bytes]]:
    return {index: [part.tobytes() for part in sequence[index]] for index in order}


@pytest.mark.parametrize("augment", ["none", "specaugment"])
def test_training_batches_depend_on_seed_and_epoch_alone(
    workspace: Path, settings: params.Params, augment: str
) -> None:
    rows = make_rows([3, 1, 4, 2])
    chosen = train_settings(settings, augment=augment)
    forward = all_of(train_batches(rows, chosen), [0, 1, 2])
    backward = all_of(train_batches(rows, chosen), [2, 0, 1, 0, 2])
    other_seed = all_of(train_batches(rows, chosen, seed=1), [0, 1, 2])
    sequence = train_batches(rows, chosen)
    sequence.on_epoch_end()
    next_epoch = all_of(sequence, [0, 1, 2])
    assert forward == backward, "neither the order of access nor asking twice matters"
    assert forward != other_seed
    assert forward != next_epoch
    assert len(np.unique([one for batch in forward.values() for one in batch[:1]])) == 3


def test_augmentation_acts_on_training_batches(workspace: Path, settings: params.Params) -> None:
    from pipeline.training import batches

    rows = make_rows([3, 1, 4, 2])
    plain = batches.Batches(rows, PLAIN, batch_size=10)[0]
    chosen = train_settings(settings, augment="specaugment", batch_size=10)
    inputs, targets, weights = train_batches(rows, chosen)[0]
    assert inputs.shape == plain[0].shape
    assert inputs.dtype == np.float32
    assert not set(inputs.ravel().tolist()) <= set(plain[0].ravel().tolist())
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
    assert weights.shape == (10,)


def test_augmentation_differs_from_epoch_to_epoch_and_from_batch_to_batch(
    workspace: Path, settings: params.Params
) -> None:
    same = make_rows([1]).take(np.zeros(3, int))
    sequence = train_batches(same, train_settings(settings, augment="specaugment", batch_size=1))
    drawn = [sequence[index][0].tobytes() for index in range(3)]
    sequence.on_epoch_end()
    drawn += [sequence[index][0].tobytes() for index in range(3)]
    assert len(set(drawn)) == 6


def test_rows_are_read_when_they_are_asked_for(workspace: Path, settings: params.Params) -> None:
    sequence = train_batches(make_rows([2, 2]), train_settings(settings, augment="none"))
    epoch_of(sequence)
    for path in FEATURES.iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError):
        sequence[0]


def test_memory_does_not_grow_with_the_library(workspace: Path) -> None:
    from pipeline.training import batches

    names = [f"track{number}" for number in range(40)]
    for name in names:
        files.write_array(features_path(name), np.zeros((3, 64, 216), np.float16))
    tracemalloc.start()
    rows = batches.select(split_of(names), labels_of(names), "train")
    sequence = batches.Batches(rows, Normaliser("l2"), batch_size=4)
    for index in range(len(sequence)):
        sequence[index]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    one_batch = 4 * 64 * 216 * 4
    assert len(rows) == 120
    assert peak < 8 * one_batch, "the whole library is 30 batches"


@pytest.mark.parametrize("workers", [1, 2])
def test_keras_sees_each_epochs_draw_once(workspace: Path, settings: params.Params, workers: int) -> None:
    import keras

    from pipeline.training import batches

    class Recording(batches.TrainBatches):
        asked: list[tuple[int, int]]

        def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            self.asked.append((self.epoch, index))
            return super().__getitem__(index)

    model = keras.Sequential(
        [keras.layers.Input((N_MELS, FRAMES, 1)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")]
    )
    model.compile("sgd", "categorical_crossentropy", jit_compile=False)
    chosen = train_settings(settings, slices_per_track=1)
    sequence = Recording(make_rows([2] * 8), PLAIN, chosen, seed=0, workers=workers)
    sequence.asked = []
    model.fit(sequence, epochs=3, verbose=0)
    drawn = [one for one in sequence.asked if one[0] > 0]  # of epoch 0 Keras reads the shapes only
    assert sorted(drawn) == [(epoch, index) for epoch in (1, 2, 3) for index in (0, 1)]
