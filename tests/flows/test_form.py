"""What the form of a retrain says and refuses; Prefect's server validates with the same function."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.utilities.schema_tools.validation import validate

from flows.retrain import retrain
from pipeline.params import Params

SCHEMA = retrain.parameters.model_dump()


def refused(overrides: Any) -> list[str]:
    return [error.message for error in validate({"overrides": overrides}, SCHEMA)]


def test_every_field_has_a_description_and_an_example() -> None:
    assert set(SCHEMA["properties"]) == {"tasks", "models", "protocol", "force", "overrides"}
    for field in SCHEMA["properties"].values():
        assert field["description"].endswith(".")
        assert len(field["examples"]) == 1


def test_the_protocol_is_one_list() -> None:
    assert SCHEMA["properties"]["protocol"]["enum"] == [
        "params.yaml",
        "artist",
        "fault_filtered",
        "track",
        "shuffled",
    ]


def dotted(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Return each section and value of params.yaml by its dotted key."""
    found = {}
    for name, value in values.items():
        found[above + name] = value
        found |= dotted(value, f"{above}{name}.") if isinstance(value, dict) else {}
    return found


def test_every_key_of_params_is_taken_with_its_own_value(settings: Params) -> None:
    for key, value in dotted(settings.model_dump(mode="json")).items():
        assert refused({key: value}) == [], key


@pytest.mark.parametrize(
    "overrides",
    [
        {"trian.batch_size": 8},
        {"train.batch_size": 0},
        {"train.batch_size": "8"},
        {"train": {"batchsize": 8}},
        {"train.models.cnn64.epochs": -1},
        {"train.models.cnn65.epochs": 1},
        {"catalog.severity": {"clipping": "fatal"}},
        {"split.valid": 1.5},
        {"nothing": 1, "seed": 1},
    ],
)
def test_what_params_would_refuse_is_not_queued(overrides: dict[str, Any]) -> None:
    assert len(refused(overrides)) == 1


@pytest.mark.parametrize(
    "overrides",
    [
        {"train.models.cnn64": {"epochs": 10}},
        {"train.slices_per_track": None},
        {"catalog.severity.clipping": "critical"},
        {"seed": 11, "train.batch_size": 4},
    ],
)
def test_a_part_of_a_section_is_enough(overrides: dict[str, Any]) -> None:
    assert refused(overrides) == []
