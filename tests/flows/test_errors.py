"""What a stage's last words amount to: correct it, or try again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from prefect.exceptions import ParameterTypeError

from flows import stages
from flows.errors import InfrastructureError, StageError, failure, masked_secrets

DVC_SAYS = (
    "ERROR: failed to reproduce 'labels': failed to run: python -m pipeline.stages.labels, exited with {}"
)
LOCKED = (
    "ERROR: Unable to acquire lock. Most likely another DVC process is running or was terminated abruptly."
)
BUSY = "ERROR: '/p/data' is busy, it is being blocked by:\n  (PID 7): dvc repro"


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (["error: expected a server, received none.", DVC_SAYS.format(75)], 255),
        ([DVC_SAYS.format(-9)], 255),
        ([DVC_SAYS.format(137)], 255),
        ([LOCKED], 255),
        (BUSY.splitlines(), 255),
        (["terminate called after throwing an instance of 'std::bad_alloc'", DVC_SAYS.format(-6)], 255),
        (["XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory", DVC_SAYS.format(1)], 255),
        (["OOM when allocating tensor with shape[16,64]", DVC_SAYS.format(1)], 255),
    ],
)
def test_what_passes_is_an_infrastructure_error(lines: list[str], code: int) -> None:
    assert isinstance(failure("labels", code, lines), InfrastructureError)


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (["error: line 7: expected a known mood, received MemoryError", DVC_SAYS.format(2)], 255),
        (["KeyError: 'rms'", DVC_SAYS.format(1)], 255),
        (["error: expected params.yaml to be YAML"], 2),
        ([], 1),
    ],
)
def test_what_stays_is_not_tried_again(lines: list[str], code: int) -> None:
    found = failure("labels", code, lines)
    assert isinstance(found, StageError)
    assert not isinstance(found, InfrastructureError)


def test_a_failed_check_keeps_every_row_it_names_and_drops_what_went_before() -> None:
    lines = [
        "Running stage 'labels':",
        "error: data/mood_labels.csv: 2 rows",
        "  line 3: Gloomy",
        "  line 9: Glum",
    ]
    message = str(failure("labels", 255, [*lines, DVC_SAYS.format(2)]))
    assert message == "labels: data/mood_labels.csv: 2 rows\n  line 3: Gloomy\n  line 9: Glum"


def test_a_bug_shows_its_last_lines() -> None:
    lines = [f"frame {number}" for number in range(50)] + ["KeyError: 'rms'"]
    message = str(failure("train", 255, lines))
    assert message.endswith("KeyError: 'rms'")
    assert "frame 10" not in message


def test_what_a_stage_prints_reaches_log_and_error_without_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = ["connecting to http://u:S3cr3t@h\n", "error: no store at postgresql://u:S3cr3t@h/db.\n"]

    @contextmanager
    def child(*_: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(stdout=iter(printed), returncode=255)

    monkeypatch.setattr(stages, "_child", child)
    logged: list[str] = []
    with pytest.raises(StageError, match=r"^register: no store at postgresql://\*\*\*@h/db\.$"):
        stages.reproduce("register", False, {}, logged.append)
    assert logged[0] == "connecting to http://***@h"
    assert not any("S3cr3t" in line for line in logged)


def test_prefect_knows_the_types_of_a_guarded_flow() -> None:
    """Its form and its validation come from the signature; the wrapper must not hide it."""
    from flows.retrain import retrain

    assert retrain.validate_parameters({"tasks": ["mood"]})["tasks"] == ["mood"]
    with pytest.raises(ParameterTypeError, match="tasks"):
        retrain.validate_parameters({"tasks": ["tempo"]})


def test_a_failure_that_may_pass_still_may_once_its_secret_is_masked() -> None:
    with pytest.raises(InfrastructureError, match=r"postgresql://.*@db") as told, masked_secrets():
        raise InfrastructureError("postgresql://ann:hidden@db does not answer")
    assert "hidden" not in str(told.value)
