"""params.yaml: every wrong key is named, overlays apply whole or not at all, nothing changes later."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest
from pydantic import BaseModel, ValidationError

from pipeline import params
from pipeline.errors import ParamsError
from pipeline.quality import labels
from pipeline.tables.mood_labels import LABEL_COLUMNS

ROOT = Path(__file__).parents[1]


def put(values: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    *way, last = key.split(".")
    section = values
    for name in way:
        section = section[name]
    section[last] = value
    return values


def remove(values: dict[str, Any], key: str) -> dict[str, Any]:
    *way, last = key.split(".")
    section = values
    for name in way:
        section = section[name]
    del section[last]
    return values


def leaves(model: BaseModel, prefix: str = "") -> Iterator[str]:
    """Yield the dotted key of every value, by the names of the file."""
    for name, field in type(model).model_fields.items():
        key, value = prefix + (field.alias or name), getattr(model, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, key + ".")
        else:
            yield key


def sections(value: Any) -> Iterator[BaseModel]:
    if isinstance(value, dict):
        for one in value.values():
            yield from sections(one)
    if isinstance(value, BaseModel):
        yield value
        for name in type(value).model_fields:
            yield from sections(getattr(value, name))


def numbers(section: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, type]]:
    """Yield the dotted key and the type of every number of the file, those of each model too."""
    for name, value in section.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{prefix}{name}.")
        elif type(value) in (int, float):
            yield prefix + name, type(value)


KEYS = list(leaves(params.read(ROOT / "params.yaml")))
NUMBERS = dict(numbers(params.load(ROOT / "params.yaml")))


def test_the_committed_file_reads(settings: params.Params) -> None:
    assert settings.seed == 0
    assert settings.train.models["cnn64"].learning_rate == 0.001
    assert settings.promote.min_tracks == 10
    assert len(KEYS) > 30


@pytest.mark.parametrize("key", KEYS)
def test_a_missing_key_is_named(values: dict[str, Any], key: str) -> None:
    with pytest.raises(ParamsError, match=rf"params\.yaml: (.*; )?{key}: .*received nothing.*run again"):
        params.parse(remove(values, key))


@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_that_only_a_slip_of_the_keys_makes_is_refused(values: dict[str, Any], key: str) -> None:
    huge = 10**12 if NUMBERS[key] is int else 1e12
    with pytest.raises(ParamsError, match=rf"{re.escape(key)}: Input should be .*, received 1"):
        params.parse(put(values, key, huge))


@pytest.mark.parametrize("key", KEYS)
def test_a_mistyped_value_is_named_and_shown(values: dict[str, Any], key: str) -> None:
    with pytest.raises(ParamsError, match=rf"{key}.*: .*received 'wrong type'"):
        params.parse(put(values, key, "wrong type"))


@pytest.mark.parametrize(
    "key",
    ["colour", "catalog.colour", "train.specaugment.colour", "train.models.cnn64.colour", "promote.colour"],
)
def test_an_unknown_key_is_named(values: dict[str, Any], key: str) -> None:
    with pytest.raises(ParamsError, match=rf"{key}: Extra inputs are not permitted, received 3"):
        params.parse(put(values, key, 3))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1),
        ("tasks", []),
        ("models", []),
        ("catalog.silence_dbfs", 0.0),
        ("catalog.min_seconds", 0.0),
        ("catalog.max_seconds", 1800.5),  # longer than what is served
        ("catalog.max_clipped", 1.01),
        ("catalog.min_usable", -0.1),
        ("intake.max_rows", 0),
        ("intake.max_megabytes", 0),
        ("intake.max_cell", 0),
        ("intake.same_answer_rows", 1),
        ("intake.shift_rows", 0),
        ("intake.shift_distance", 1.1),
        ("intake.shift_p_value", 0.0),
        ("spectrogram.n_fft", 8),
        ("spectrogram.hop_length", 0),
        ("split.valid", 0.0),
        ("split.test", 1.0),
        ("train.batch_size", 0),
        ("train.slices_per_track", 0),
        ("train.specaugment.mixup_alpha", -0.5),
        ("train.specaugment.gain_db", float("inf")),
        ("train.models.cnn64.learning_rate", 0.0),
        ("train.models.lenet5.epochs", True),
        ("evaluate.calibration_bins", 10.5),
        ("promote.margin", float("nan")),
    ],
)
def test_a_value_out_of_range_is_named(values: dict[str, Any], key: str, value: Any) -> None:
    with pytest.raises(ParamsError, match=rf"params\.yaml: {key}: "):
        params.parse(put(values, key, value))


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("tasks", ["genre", "tempo"], r"tasks\.1: .*'tempo'"),
        ("models", ["lenet6"], r"models\.0: .*'lenet6'"),
        ("split.protocol", "random", r"split\.protocol: .*'artist', 'fault_filtered', 'track' or 'shuffled'"),
        ("catalog.severity", {"loudness": "critical"}, r"catalog\.severity\.loudness.*'loudness'"),
        ("intake.severity", {"colour": "critical"}, r"intake\.severity\.colour.*'colour'"),
        (
            "labels.aggregation",
            "mean",
            r"labels\.aggregation: .*'share', 'majority' or .*'mean'",
        ),
        ("labels.severity", {"schema": "fatal"}, r"labels\.severity\.schema: .*'fatal'"),
    ],
)
def test_an_unknown_name_is_shown(values: dict[str, Any], key: str, value: Any, named: str) -> None:
    with pytest.raises(ParamsError, match=named):
        params.parse(put(values, key, value))


def test_a_row_that_training_stops_on_cannot_be_let_in(values: dict[str, Any]) -> None:
    for name in params.ALWAYS_CRITICAL:
        said = rf"params\.yaml: intake\.severity: .*{name} must stay critical.*`labels`.*may be .*spelling"
        with pytest.raises(ParamsError, match=said):
            params.parse(put(values, "intake.severity", {name: "warning"}))


def test_any_other_check_of_an_intake_may_be_relaxed_and_all_tightened(values: dict[str, Any]) -> None:
    names = get_args(params.IntakeCheck)
    free = dict.fromkeys(set(names) - set(params.ALWAYS_CRITICAL), "warning")
    for severity in (free, dict.fromkeys(names, "critical")):
        assert params.parse(put(values, "intake.severity", severity)).intake.severity == severity


def test_what_an_intake_holds_critical_is_what_training_stops_on() -> None:
    stage = (*labels.schema_checks(pd.DataFrame(columns=list(LABEL_COLUMNS))), *labels.content_checks())
    critical = {check.name for check in stage if check.severity == "critical"}
    # The intake tells apart how a second row of a track and an annotator fails.
    critical = critical - {"unique_annotation"} | {"duplicate", "conflict"}
    assert set(params.ALWAYS_CRITICAL) == critical


def test_all_faults_are_named_at_once(values: dict[str, Any]) -> None:
    put(put(values, "seed", -1), "evaluate.calibration_bins", 0)
    with pytest.raises(ParamsError, match=r"seed: .*evaluate\.calibration_bins: "):
        params.parse(values)


def test_shares_that_leave_nothing_to_train_on(values: dict[str, Any]) -> None:
    values["split"] |= {"valid": 0.5, "test": 0.5}
    with pytest.raises(ParamsError, match=r"split: .*expected valid \+ test below 1, received 0\.5 \+ 0\.5"):
        params.parse(values)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("train.augment", "report", "train.augment: report expects spectrogram.waveform_copies: true"),
        ("train.models", {}, "train.models lacks cnn64, lenet5"),
    ],
)
def test_settings_that_do_not_fit_together(values: dict[str, Any], key: str, value: Any, said: str) -> None:
    with pytest.raises(ParamsError) as caught:
        params.parse(put(values, key, value))
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300, "one line, not a dump of the whole file"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("split.protocol", "seed", "split.protocol: 'seed' is called 'shuffled' now"),
        ("train.augment", "seed", "train.augment: 'seed' is called 'report' now"),
        ("train.augment", "spec", "train.augment: 'spec' is called 'specaugment' now"),
        ("train.spec", {"gain_db": 3.0}, "the section train.spec is called train.specaugment now"),
    ],
)
def test_a_word_of_an_earlier_version_is_refused_with_the_new_one(
    values: dict[str, Any], key: str, value: Any, said: str
) -> None:
    with pytest.raises(ParamsError) as caught:
        params.parse(put(values, key, value))
    assert str(caught.value) == f"params.yaml: {said}. Write the new word and run again."


def test_every_section_is_frozen(settings: params.Params) -> None:
    found = list(sections(settings))
    assert len(found) > 10
    for section in found:
        name = next(iter(type(section).model_fields))
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, name, getattr(section, name))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a mapping of sections, received NoneType"),
        ("- a\n- b\n", "expected a mapping of sections"),
        ("seed: [1\n", "to be YAML"),
        ("seed: 1\nseed: 2\n", "to be YAML.*seed"),
    ],
)
def test_a_file_that_is_no_params_file(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError, match=f"mine.yaml.*{said}"):
        params.read(path)


def test_no_file(workspace: Path) -> None:
    Path("params.yaml").unlink()
    with pytest.raises(ParamsError, match=r"expected params\.yaml, received no such file\. Run in"):
        params.read()


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("seed: 0  # Größe\n".encode("latin-1"))
    with pytest.raises(ParamsError, match=r"latin\.yaml"):
        params.read(path)


def test_an_overlay_applies_and_keeps_comments(workspace: Path) -> None:
    before = Path("params.yaml").read_text()
    Path("own.yaml").write_text("split:\n  protocol: track\n")
    params.apply_overlay(Path("own.yaml"))
    assert Path("params.yaml").read_text() == before.replace("protocol: artist ", "protocol: track  "), (
        "the comment stays in its column"
    )


@pytest.mark.parametrize("text", ["split:\n  protokoll: track\n", "seed: many\n", "seed: [\n", "7\n"])
def test_a_bad_overlay_leaves_the_file_untouched(workspace: Path, text: str) -> None:
    before = Path("params.yaml").read_bytes()
    Path("bad.yaml").write_text(text)
    with pytest.raises(ParamsError, match=r"bad\.yaml"):
        params.apply_overlay(Path("bad.yaml"))
    assert Path("params.yaml").read_bytes() == before
    assert sorted(path.name for path in workspace.iterdir()) == ["bad.yaml", "params.yaml"]
