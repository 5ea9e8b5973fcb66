"""Parameters that hold for one retrain: the user's own come back whatever happens."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import overrides
from pipeline import params
from pipeline.errors import ParamsError

OVERRIDES = {"train.models.cnn64.epochs": 3, "split.protocol": "track"}


@pytest.fixture
def own(workspace: Path) -> str:
    """Return the text of the user's own params.yaml."""
    return params.PARAMS_FILE.read_text()


def test_overrides_hold_within_the_block_only(own: str) -> None:
    with overrides.overridden(OVERRIDES) as chosen:
        assert chosen.train.models["cnn64"].epochs == 3
        assert params.read().split.protocol == "track"
    assert params.PARAMS_FILE.read_text() == own


def test_without_overrides_the_file_is_not_touched(own: str) -> None:
    before = params.PARAMS_FILE.stat().st_mtime_ns
    with overrides.overridden({}):
        pass
    assert params.PARAMS_FILE.stat().st_mtime_ns == before


def test_they_come_back_after_a_failure(own: str) -> None:
    with pytest.raises(KeyError), overrides.overridden(OVERRIDES):
        raise KeyError("a bug")
    assert params.PARAMS_FILE.read_text() == own


def test_they_come_back_after_a_kill(own: str) -> None:
    block = overrides.overridden(OVERRIDES)
    block.__enter__()  # and never leaves
    assert params.PARAMS_FILE.read_text() != own
    with overrides.overridden({}) as chosen:
        assert chosen.split.protocol == "artist"
    assert params.PARAMS_FILE.read_text() == own


def test_an_edit_made_meanwhile_stays(own: str) -> None:
    edited = own.replace("seed: 0", "seed: 7")
    with overrides.overridden(OVERRIDES):
        params.PARAMS_FILE.write_text(edited)
    assert params.PARAMS_FILE.read_text() == edited


@pytest.mark.parametrize(
    "wrong",
    [{"split.colour": 1}, {"train.batch_size": "many"}, {"train": 1, "train.batch_size": 2}, {"nothing": {}}],
)
def test_a_wrong_override_is_named_and_changes_nothing(own: str, wrong: dict[str, object]) -> None:
    with pytest.raises(ParamsError), overrides.overridden(wrong):
        pytest.fail("the block must not run")
    assert params.PARAMS_FILE.read_text() == own


@given(st.dictionaries(st.from_regex(r"[a-c]\.[a-c]\.[a-c]", fullmatch=True), st.integers()))
def test_nesting_keeps_every_value(dotted: dict[str, int]) -> None:
    tree = overrides.nested(dotted)
    flat = {f"{a}.{b}.{c}": v for a, bs in tree.items() for b, cs in bs.items() for c, v in cs.items()}
    assert flat == dotted
