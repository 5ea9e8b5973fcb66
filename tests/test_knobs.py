"""Every key of params.yaml: which stages depend on it, and what it changes; none changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from pipeline import files, params, promotion_rule
from pipeline.inference import logmel
from pipeline.labelling import inbox
from pipeline.params import Params
from pipeline.presets import _leaves
from pipeline.promotion_rule import Comparison, Floor, Terms, Version
from pipeline.quality import audio, intake, labels
from pipeline.quality.suites import with_severity
from pipeline.stages import labels as label_stage
from pipeline.stages.split import split
from pipeline.tables.features import COPIES_FOLDER, features_path, logmel_of
from pipeline.taxonomy import MOODS
from pipeline.training import best_epoch, calibrate
from pipeline.training.models import FRONT_ENDS
from pipeline.training.predict import Predicted, score

ROOT = Path(__file__).parents[1]
STAGES: dict[str, Any] = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
NETWORKS = [name for name, front_end in FRONT_ENDS.items() if front_end == "logmel"]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
VALUES: dict[str, Any] = YAML(typ="safe").load(ROOT / "params.yaml")


def pairs(settings: Params) -> list[str]:
    """Return the stages that dvc.yaml makes of its matrices."""
    chosen = {"${tasks}": settings.tasks, "${models}": settings.models}
    matrix = {name: chosen[listed] for name, listed in STAGES["train"]["matrix"].items()}
    return [f"{task}-{model}" for task in matrix["task"] for model in matrix["model"]]


def audio_checks(settings: Params) -> list[Any]:
    own = settings.catalog
    checks = with_severity([*audio._measure_checks(own), *audio._library_checks(own)], own.severity)
    return [(check.name, check.expected, check.arguments, check.severity) for check in checks]


def mood_checks(settings: Params) -> list[Any]:
    checks = with_severity([labels._class_check(settings.labels)], settings.labels.severity)
    return [(check.name, check.expected, check.arguments, check.severity) for check in checks]


def moods(settings: Params) -> list[float]:
    """Return the soft labels of two tracks whose annotators differ."""
    rows = [
        (track, MOODS[(n + (who == "cy")) % 2], who)
        for n, track in enumerate("ab")
        for who in ("ann", "bob", "cy")
    ]
    annotations = pd.DataFrame(rows, columns=["track_id", "mood", "annotator"])
    table = label_stage.mood_labels(
        annotations, pd.DataFrame({"track_id": ["a", "b"]}), settings.labels.aggregation
    )
    return table.filter(like="p_").to_numpy().round(3).ravel().tolist()


def new_labels(settings: Params) -> list[Any]:
    """Return what is said of a file of new labels: its size, its cells, and the moods in it."""
    rows = "".join(f"t{n},Other,ann,2024-03-05T14:00:00Z\n" for n in range(60))
    file = Path("new.csv")
    file.write_text(f"track_id,mood,annotator,labelled_at\n{rows}")
    fault = inbox._received_from(file, settings=settings.intake, annotator="", label_map="").intake.fault
    checks = with_severity(intake._row_checks(settings.intake, NOW), settings.intake.severity)
    batch = [check.expected for check in intake._batch_checks(settings.intake)]
    before = pd.Series([MOODS[0]] * 50 + [MOODS[1]] * 50)
    shift = intake._shift(pd.Series([MOODS[0]] * 35 + [MOODS[1]] * 5), before, settings=settings.intake)
    return [fault, [(check.expected, check.severity) for check in checks], batch, shift]


def too_large(settings: Params) -> str:
    """Return what is said of a file of 2 MB."""
    file = Path("large.csv")
    file.write_bytes(b"x" * 2_000_000)
    return inbox._received_from(file, settings=settings.intake, annotator="", label_map="").intake.fault


def features(settings: Params) -> list[Any]:
    noise = np.random.default_rng(0).standard_normal((1, 220_598)).astype(np.float32)
    made = logmel.features(noise, logmel_of(settings.spectrogram))
    return [made.shape, float(made.astype(float).mean())]


def parts(settings: Params) -> list[str]:
    """Return the part of each of 24 tracks, two by each artist."""
    ids = [f"{genre}.{n}" for genre in ("blues", "metal") for n in range(12)]
    tracks = pd.DataFrame(
        {"track_id": ids, "n_slices": 2, "duplicate_of": "", "sha256": ids, "filtered_split": ""}
    )
    tracks["artist"] = [f"{one[:-1]}{int(one.split('.')[1]) // 2}" for one in ids]
    table = pd.DataFrame({"track_id": ids, "label": [one.split(".")[0] for one in ids]})
    copies = settings.spectrogram.waveform_copies
    return split(table, tracks, settings.split, seed=settings.seed, copies=copies)["part"].tolist()


def copied(settings: Params) -> int:
    """Return how many rows the protocol that shuffles slices makes of the tracks."""
    shuffled = settings.split.model_copy(update={"protocol": "shuffled"})
    return len(parts(settings.model_copy(update={"split": shuffled})))


def trained(settings: Params, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what Keras is given to train each model with."""
    from pipeline.training import fit, models
    from pipeline.training.batches import select

    table = pd.DataFrame({"track_id": list("abcd"), "label": ["x", "x", "x", "y"], "p_x": 0.75, "p_y": 0.25})
    table.loc[3, ["p_x", "p_y"]] = 0.25, 0.75
    assigned = pd.DataFrame({"track_id": list("abcd"), "part": "train", "slice": pd.NA, "copy": pd.NA})
    own = settings.train
    rows = select(assigned, table, "train", soft=own.targets == "soft", copies=own.augment == "report")
    given: list[Any] = []

    class Model:
        def compile(self, optimizer: Any, loss: Any, **_: Any) -> None:
            optimizer.iterations.assign(1)  # a schedule differs from its first value
            given.extend([float(optimizer.learning_rate.numpy()), loss.get_config()])

        def fit(self, batches: Any, *, epochs: int, callbacks: list[Any], **_: Any) -> Any:
            inputs, targets, weights = batches[0]
            given.extend([len(batches), epochs, callbacks[0].patience])
            given.extend(array.round(4).tolist() for array in (inputs, targets, weights))
            callbacks[0].best = 0
            return type("History", (), {"history": {"val_loss": [1.0]}})

    monkeypatch.setattr(models, "build", lambda *_, **architecture: given.append(architecture) or Model())
    monkeypatch.setattr(models, "SMALLEST", (1, 1))
    for name in NETWORKS:
        fit.fit(name, rows, rows, own, seed=settings.seed, log=False)
    return given


def tried(settings: Params, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the values of C that a probe tries."""
    from pipeline.training import fit, probe

    given: list[Any] = []
    monkeypatch.setattr(probe, "fit", lambda name, train, valid, grid, log: given.append(grid) or (0, 0, 0))
    fit.fit("musicnn_probe", None, None, settings.train, seed=0, log=False)
    return given


def kept(settings: Params) -> int | None:
    """Return which of five epochs is kept: by the answers a late one, by the loss an early one."""
    from pipeline.training.batches import Rows

    doubtful = [[0.6, 0.4], [0.51, 0.49], [0.51, 0.49]]  # one of three right
    certain = [[0.6, 0.4], [0.99, 0.01], [0.4, 0.6]]  # two of three, at a higher loss
    said = iter(np.array([doubtful] * 3 + [certain] * 2))
    targets = np.eye(2, dtype=np.float32)[[0, 1, 1]]
    rows = Rows(np.array(list("abc"), object), np.zeros(3, int), np.zeros(3, int), targets, np.ones(3))
    model = SimpleNamespace(predict=lambda *_, **__: next(said), get_weights=list, stop_training=False)
    keeper = best_epoch.keeper(SimpleNamespace(rows=rows), settings.train, patience=9, chance=0.0)
    keeper.set_model(model)
    for epoch in range(5):
        keeper.on_epoch_end(epoch, {"accuracy": 1.0})
    return keeper.best


def scored(settings: Params) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shares, truth = rng.dirichlet(np.ones(3), 40), rng.integers(0, 3, 40)
    tracks = np.arange(40).astype(str)
    return score(Predicted(40, truth, shares, tracks, truth, shares), settings.evaluate)


def sure(settings: Params) -> float | None:
    """Return above which probability answers are sure: of 40 tracks the ten least likely are wrong."""
    likely = np.linspace(0.5, 0.89, 40)
    truth = (np.arange(40) < 10).astype(int)
    shares = np.column_stack([likely, 1 - likely])
    return calibrate.fit_threshold(truth, shares, settings.evaluate.sure_precision)


def decided(settings: Params) -> list[Any]:
    candidate, champion = (Version(number, number, False, frozenset("xy")) for number in "21")
    comparison = Comparison(champion, 12, 0.52, 0.50, noise=(0.01, 0.03))
    own = settings.promote
    terms = Terms(own.margin, own.min_tracks, own.floor_confidence)
    rivals = promotion_rule.rivals(candidate, champion, [champion], lambda _: 12, own.min_tracks)
    return [rivals, promotion_rule.decide(candidate, champion, [comparison], Floor(20, 13, 10), terms)]


@dataclass(frozen=True)
class Knob:
    """A key: the stages that run again when it changes, another value, and what differs then."""

    stages: str
    value: Any
    shows: Callable[..., Any]
    also: dict[str, Any] | None = None  # what must be set for the key to matter


SPECAUGMENT = {"train.augment": "specaugment"}
KNOBS = {
    "seed": Knob("split train evaluate", 1, parts),
    "tasks": Knob("labels register promote report", ["genre"], pairs),
    "models": Knob("spectrogram register promote report", ["lenet5"], pairs),
    "catalog.min_seconds": Knob("catalog", 2.0, audio_checks),
    "catalog.max_seconds": Knob("catalog", 60.0, audio_checks),
    "catalog.silence_dbfs": Knob("catalog", -50.0, audio_checks),
    "catalog.max_clipped": Knob("catalog", 0.1, audio_checks),
    "catalog.min_tracks_per_genre": Knob("catalog", 7, audio_checks),
    "catalog.min_usable": Knob("catalog", 0.9, audio_checks),
    "catalog.severity": Knob("catalog", {"clipping": "critical"}, audio_checks),
    "labels.aggregation": Knob("labels", "majority", moods),
    "labels.min_labels_per_class": Knob("labels", 9, mood_checks),
    "labels.severity": Knob("labels", {"labels_per_class": "critical"}, mood_checks),
    "intake.max_rows": Knob("", 50, new_labels),
    "intake.max_megabytes": Knob("", 1, too_large),
    "intake.max_columns": Knob("", 3, new_labels),
    "intake.max_values": Knob("", 100, new_labels),
    "intake.max_cell": Knob("", 100, new_labels),
    "intake.same_answer_rows": Knob("", 5, new_labels),
    "intake.shift_rows": Knob("", 41, new_labels),
    "intake.shift_distance": Knob("", 0.5, new_labels),
    "intake.shift_p_value": Knob("", 1e-9, new_labels),
    "intake.severity": Knob("", {"spelling": "critical"}, new_labels),
    "spectrogram.n_fft": Knob("spectrogram train", 1024, features),
    "spectrogram.hop_length": Knob("spectrogram train report", 1024, features),
    "spectrogram.n_mels": Knob("spectrogram train", 64, features),
    "spectrogram.waveform_copies": Knob("spectrogram split", True, copied),
    "split.protocol": Knob("split report", "track", parts),
    "split.valid": Knob("split", 0.5, parts),
    "split.test": Knob("split", 0.5, parts),
    "train.batch_size": Knob("train", 3, trained),
    "train.slices_per_track": Knob("train", 1, trained),
    "train.normalise": Knob("train", "l2", trained),
    "train.augment": Knob("train", "specaugment", trained),
    "train.targets": Knob("train", "hard", trained),
    "train.class_weight": Knob("train", "none", trained),
    "train.choose_epoch_by": Knob("train", "loss", kept),
    "train.smooth_epochs": Knob("train", 1, kept),
    "train.specaugment.time_masks": Knob("train", 0, trained, SPECAUGMENT),
    "train.specaugment.time_mask_frames": Knob("train", 2, trained, SPECAUGMENT),
    "train.specaugment.mel_masks": Knob("train", 0, trained, SPECAUGMENT),
    "train.specaugment.mel_mask_bands": Knob("train", 1, trained, SPECAUGMENT),
    "train.specaugment.gain_db": Knob("train", 0.0, trained, SPECAUGMENT),
    "train.specaugment.shift_frames": Knob("train", 0, trained, SPECAUGMENT),
    "train.specaugment.mixup_alpha": Knob("train", 0.0, trained, SPECAUGMENT),
    **{
        f"train.models.{model}.{key}": Knob("train", value, trained)
        for model in NETWORKS
        for key, value in (("epochs", 2), ("learning_rate", 0.0123), ("patience", 2))
    },
    **{
        f"train.models.cnn64_gap.{key}": Knob("train", value, trained)
        for key, value in (
            ("schedule", "constant"),
            ("label_smoothing", 0.0),
            ("class_weight", "balanced"),
            ("augment", "none"),
            ("mixup_alpha", 0.0),
            ("batch_norm", False),
            ("pooling", "mean"),
            ("spatial_dropout", 0.0),
        )
    },
    "train.models.musicnn_probe.c": Knob("train", [0.5], tried),
    "evaluate.calibration_bins": Knob("evaluate", 3, scored),
    "evaluate.sure_precision": Knob("evaluate", 0.99, sure),
    "promote.margin": Knob("promote", 0.1, decided),
    "promote.min_tracks": Knob("promote", 21, decided),
    "promote.floor_confidence": Knob("promote", 0.5, decided),
}


def test_every_key_has_an_entry() -> None:
    assert sorted(KNOBS) == sorted(key for key, _ in _leaves(VALUES))


def test_each_key_is_a_parameter_of_the_stages_named() -> None:
    def depends(stage: str, key: str) -> bool:
        listed = [
            one.replace("${item.model}", key.split(".")[2]) if "item" in one else one
            for one in STAGES[stage].get("params", ())
            if "item" not in one or key.count(".") == 3
        ]
        return any(key == one or key.startswith(f"{one}.") for one in listed)

    found = {key: {stage for stage in STAGES if depends(stage, key)} for key in KNOBS}
    assert found == {key: set(knob.stages.split()) for key, knob in KNOBS.items()}


def with_values(changes: dict[str, Any]) -> Params:
    values = YAML(typ="safe").load(ROOT / "params.yaml")
    for key, value in changes.items():
        *above, last = key.split(".")
        section = values
        for name in above:
            section = section[name]
        section[last] = value
    return params.parse(values)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the features of four tracks, two slices each, and their augmented copies."""
    folder = tmp_path_factory.mktemp("knobs")
    rng = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for track in "abcd":
            files.write_array(features_path(track), rng.normal(size=(2, 8, 60)).astype(np.float16))
            copies = rng.normal(size=(2, 5, 8, 60)).astype(np.float16)
            files.write_array(features_path(track, COPIES_FOLDER), copies)
    return folder


@pytest.mark.parametrize("key", KNOBS)
def test_a_key_changes_something(key: str, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    knob = KNOBS[key]
    monkeypatch.chdir(library)
    more = (monkeypatch,) if knob.shows in (trained, tried) else ()
    before = knob.shows(with_values(knob.also or {}), *more)
    after = knob.shows(with_values((knob.also or {}) | {key: knob.value}), *more)
    assert repr(after) != repr(before), f"{key} changes nothing"
