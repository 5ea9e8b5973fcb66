"""Features are made once per content and parameters, and the folder holds exactly the tracks asked for."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline import files
from pipeline.errors import DataError
from pipeline.inference import audio, logmel
from pipeline.inference.logmel import LogMel
from pipeline.stages import spectrogram
from pipeline.tables.features import (
    COPIES_FOLDER,
    FEATURES,
    features_path,
    front_end_folder,
    front_end_path,
    load_features,
)
from pipeline.training import models, musicnn

if TYPE_CHECKING:
    from conftest import Library

SPEC = LogMel(n_fft=1024, hop_length=2048, n_mels=32)


def tracks_of(library: Library) -> pd.DataFrame:
    """Return what the stage reads of the catalogue."""
    paths = [library.path_of(track_id) for track_id in library.track_ids]
    return pd.DataFrame(
        {
            "track_id": library.track_ids,
            "path": [path.as_posix() for path in paths],
            "sha256": [files.sha256(path) for path in paths],
            "seconds": 1.5,
        }
    )


def published(folder: Path = FEATURES) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def content(folder: Path = FEATURES) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.npy"))}


def test_every_track_gets_the_features_of_its_audio(library: Library) -> None:
    assert spectrogram.build_features(tracks_of(library), SPEC) == 12
    assert published() == sorted(f"{track_id}.npy" for track_id in library.track_ids)
    for track_id in library.track_ids:
        slices = audio.slices(audio.load(library.path_of(track_id)))
        loaded = load_features(track_id)
        assert loaded.dtype == np.float16
        np.testing.assert_array_equal(loaded, logmel.features(slices, SPEC))


def test_features_are_read_lazily(library: Library) -> None:
    spectrogram.build_features(tracks_of(library).iloc[:1], SPEC)
    assert isinstance(load_features("blues.00000"), np.memmap)


def test_a_second_run_computes_nothing(library: Library) -> None:
    spectrogram.build_features(tracks_of(library), SPEC)
    before = content()
    assert spectrogram.build_features(tracks_of(library), SPEC) == 0
    assert content() == before


def test_one_changed_file_computes_one(library: Library) -> None:
    spectrogram.build_features(tracks_of(library), SPEC)
    before = content()
    soundfile.write(library.path_of("metal.00002"), 0.3 * np.sin(np.arange(33_075) / 5), 22_050)
    assert spectrogram.build_features(tracks_of(library), SPEC) == 1
    assert [name for name, one in content().items() if one != before[name]] == ["metal.00002.npy"]


def test_other_parameters_compute_all_and_going_back_none(library: Library) -> None:
    spectrogram.build_features(tracks_of(library), SPEC)
    before = content()
    for other in (LogMel(2048, 2048, 32), LogMel(1024, 1024, 32), LogMel(1024, 2048, 40)):
        assert spectrogram.build_features(tracks_of(library), other) == 12
    assert spectrogram.build_features(tracks_of(library), SPEC) == 0
    assert content() == before


def test_features_of_tracks_that_are_gone_are_removed(library: Library) -> None:
    spectrogram.build_features(tracks_of(library), SPEC)
    assert spectrogram.build_features(tracks_of(library).iloc[2:], SPEC) == 0
    assert len(published()) == 10
    assert "blues.00000.npy" not in published()


def test_equal_audio_is_computed_once(library: Library) -> None:
    library.path_of("pop.00003").write_bytes(library.path_of("blues.00000").read_bytes())
    assert spectrogram.build_features(tracks_of(library), SPEC) == 11
    assert len(published()) == 12
    np.testing.assert_array_equal(load_features("pop.00003"), load_features("blues.00000"))


def test_a_renamed_track_computes_nothing(library: Library) -> None:
    tracks = tracks_of(library)
    spectrogram.build_features(tracks, SPEC)
    tracks["track_id"] = [f"{one}.new" for one in tracks["track_id"]]
    assert spectrogram.build_features(tracks, SPEC) == 0
    assert "blues.00000.new.npy" in published()


def test_a_killed_run_goes_on_where_it_stopped(library: Library) -> None:
    tracks = tracks_of(library)
    spectrogram.build_features(tracks.iloc[:5], SPEC)
    assert spectrogram.build_features(tracks, SPEC) == 7


def test_a_file_that_breaks_leaves_what_was_computed(library: Library) -> None:
    tracks = tracks_of(library)
    library.path_of("pop.00003").write_bytes(b"")
    with pytest.raises(DataError, match=r"pop\.00003\.au"):
        spectrogram.build_features(tracks, SPEC)
    assert len(list(spectrogram.CACHE.glob("*.npy"))) == 11
    assert not list(spectrogram.CACHE.glob(".new-*"))


def test_a_file_with_samples_that_are_not_finite_is_named(library: Library) -> None:
    path = library.path_of("pop.00003")
    soundfile.write(path, np.full(33_075, np.nan), 22_050, subtype="FLOAT")
    with pytest.raises(DataError, match=r"finite.*pop\.00003|pop\.00003.*finite"):
        spectrogram.build_features(tracks_of(library), SPEC)


def test_every_key_is_its_own() -> None:
    choices = [SPEC, LogMel(2048, 2048, 32), LogMel(1024, 512, 32), LogMel(1024, 2048, 33)]
    keys = [
        key(content, settings)
        for key in (spectrogram.feature_key, spectrogram.copies_key)
        for content in "ab"
        for settings in choices
    ]
    assert len(set(keys)) == len(keys) == 16
    assert spectrogram.feature_key("a", SPEC) == spectrogram.feature_key("a", LogMel(1024, 2048, 32))


def test_the_copies_of_a_track(library: Library) -> None:
    tracks = tracks_of(library).iloc[:1]
    assert spectrogram.build_copies(tracks, SPEC) == 1
    first = content(COPIES_FOLDER)
    assert load_features("blues.00000", COPIES_FOLDER).shape == (1, 5, *SPEC.shape)
    for path in spectrogram.CACHE.iterdir():
        path.unlink()
    assert spectrogram.build_copies(tracks, SPEC) == 1
    assert content(COPIES_FOLDER) == first, "the noise depends on the audio alone"


def test_copies_that_are_not_wanted_are_removed(library: Library) -> None:
    tracks = tracks_of(library)
    files.write_array(features_path("old", COPIES_FOLDER), np.zeros(3))
    assert spectrogram.build_copies(tracks.iloc[:0], SPEC) == 0
    assert not list(COPIES_FOLDER.glob("*.npy"))


def damage_by_777_db(path: Path, _: Path) -> None:
    np.lib.format.open_memmap(path, mode="r+")[:] = 777


def damage_by_cutting(path: Path, _: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def damage_by_another_track(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


def damage_by_another_name(path: Path, other: Path) -> None:
    path.rename(other)


def damage_by_another_shape(path: Path, _: Path) -> None:
    np.save(path, np.zeros((1, 2, 3), np.float16))


def damage_by_emptying(path: Path, _: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "damage",
    [
        damage_by_777_db,
        damage_by_cutting,
        damage_by_another_track,
        damage_by_another_name,
        damage_by_another_shape,
        damage_by_emptying,
    ],
)
def test_a_damaged_cache_entry_is_computed_again(
    library: Library, damage: Callable[[Path, Path], None]
) -> None:
    tracks = tracks_of(library).iloc[:4]
    spectrogram.build_features(tracks, SPEC)
    before = content()
    for path in spectrogram.FEATURES.iterdir():
        path.unlink()  # so that damage reaches the cache alone
    first, second = sorted(spectrogram.CACHE.iterdir())[:2]
    damage(first, second)
    assert spectrogram.build_features(tracks, SPEC) in (1, 2)
    assert content() == before
    assert spectrogram.build_features(tracks, SPEC) == 0


def test_a_published_array_that_is_written_into_does_not_stay(library: Library) -> None:
    """Published arrays are links to the cache's: what is done to one must not outlive the next run."""
    tracks = tracks_of(library).iloc[:3]
    spectrogram.build_features(tracks, SPEC)
    before = content()
    damage_by_777_db(features_path("blues.00001"), Path())
    assert spectrogram.build_features(tracks, SPEC) == 1
    assert content() == before


def test_published_arrays_take_no_room_of_their_own(library: Library) -> None:
    spectrogram.build_features(tracks_of(library), SPEC)
    assert {path.stat().st_nlink for path in spectrogram.FEATURES.iterdir()} == {2}


def test_arrays_are_copied_where_the_disk_has_no_links(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(source: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", no_link)
    spectrogram.build_features(tracks_of(library), SPEC)
    assert len(published()) == 12
    assert {path.stat().st_nlink for path in spectrogram.FEATURES.iterdir()} == {1}


def test_entries_of_the_first_cache_are_removed_and_nothing_else(library: Library) -> None:
    """They have no digest: 64 hexadecimal digits and ``.npy``; nothing could use them again."""
    old, own = spectrogram.CACHE / f"{'a' * 64}.npy", spectrogram.CACHE / "notes.npy"
    for path in (old, own):
        files.write_array(path, np.zeros(3))
    spectrogram.build_features(tracks_of(library).iloc[:1], SPEC)
    spectrogram.build_features(tracks_of(library).iloc[1:2], SPEC)
    assert not old.exists()
    assert own.exists()
    assert len(list(spectrogram.CACHE.iterdir())) == 3


def test_used_entries_are_marked_so_that_old_ones_can_be_told(library: Library) -> None:
    tracks = tracks_of(library).iloc[:2]
    spectrogram.build_features(tracks, SPEC)
    for path in spectrogram.CACHE.iterdir():
        os.utime(path, (0, 0))
    spectrogram.build_features(tracks.iloc[:1], SPEC)
    assert sorted(path.stat().st_mtime > 0 for path in spectrogram.CACHE.iterdir()) == [False, True]


def test_the_key_follows_from_the_code_and_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """One changed line of `logmel` once went unnoticed: its VERSION was raised by hand, or forgotten."""

    def keys() -> tuple[str, str]:
        spectrogram._feature_code.cache_clear()
        spectrogram._copies_code.cache_clear()
        return spectrogram.feature_key("a", SPEC), spectrogram.copies_key("a", SPEC)

    before = keys()
    source = inspect.getsource

    def edited(old: str, new: str) -> tuple[str, str]:
        def read(item: object) -> str:
            return source(item).replace(old, new)  # type: ignore[arg-type]

        monkeypatch.setattr("inspect.getsource", read)
        return keys()

    assert edited("_TOP_DB: Final = 80.0", "_TOP_DB: Final = 60.0") != before
    assert edited("mixed /= stream.channels", "mixed *= stream.channels")[0] != before[0]
    assert (
        edited("logmel.features(_slices(job.audio)", "2 * logmel.features(_slices(job.audio)")[0] != before[0]
    )
    features, copies = edited("_NOISE_SIGMA: Final = 0.005", "_NOISE_SIGMA: Final = 0.006")
    assert features == before[0]
    assert copies != before[1]
    assert edited('"""Return one slice', '"""Give one slice') == before
    assert edited("  # Hz, GTZAN's", "  # hertz") == before
    monkeypatch.setattr("inspect.getsource", source)
    monkeypatch.setattr("soundfile.__libsndfile_version__", "9.9.9")
    assert keys()[0] != before[0]
    monkeypatch.undo()
    assert keys() == before


@pytest.mark.parametrize(("available", "workers"), [(1 << 40, os.cpu_count()), (1 << 20, 1)])
def test_as_many_decoders_as_memory_allows(
    library: Library, monkeypatch: pytest.MonkeyPatch, available: int, workers: int
) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=available))
    assert spectrogram._n_workers(tracks_of(library), 64 << 20) == workers


def test_a_front_end_is_computed_once_and_for_the_models_that_need_it_alone(library: Library) -> None:
    tracks = tracks_of(library).head(2)
    assert spectrogram.build_front_ends(tracks, ["lenet5"]) == 0
    for name in models.MODELS:
        assert published(front_end_folder(name)) == ["front_end.json"]
    assert spectrogram.build_front_ends(tracks, ["lenet5", "musicnn_probe"]) == 2
    folder = front_end_folder("musicnn_probe")
    assert files.read_json(front_end_path("musicnn_probe")) == {"front_end": "musicnn"}
    assert published(front_end_folder("lenet5")) == ["front_end.json"]
    for row in tracks.itertuples():
        slices = audio.slices(audio.load(Path(row.path)))
        np.testing.assert_array_equal(
            load_features(row.track_id, folder), musicnn.front_end().features(slices)
        )
    before = content(folder)
    assert spectrogram.build_front_ends(tracks, ["musicnn_probe"]) == 0
    assert content(folder) == before
