"""A preset gives the same parameters whatever was there before, and says what it has changed."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import params, presets
from pipeline.errors import ParamsError

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "presets"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def text_after(*names: str) -> str:
    for name in names:
        presets.apply(name, folder=FOLDER)
    return params.PARAMS_FILE.read_text()


def test_the_presets_are_the_four_named() -> None:
    assert NAMES == ["gtzan", "library", "report", "sample"]


@pytest.mark.parametrize(
    ("before", "edit", "is_applied"),
    [("sample", "", True), ("gtzan", "", True), ("report", "", False), ("sample", "min_seconds: 2.5", False)],
)
def test_music_of_ones_own_has_its_settings_unless_others_were_chosen(
    workspace: Path, capsys: pytest.CaptureFixture[str], before: str, edit: str, is_applied: bool
) -> None:
    presets.apply(before, folder=FOLDER)
    if edit:
        params.PARAMS_FILE.write_text(params.PARAMS_FILE.read_text().replace("min_seconds: 1.0", edit))
    presets.fit_tasks(genres=3, labelled=False, anew=True)  # tasks are the data's, not a choice
    text = params.PARAMS_FILE.read_text()
    capsys.readouterr()
    presets.begin_library(folder=FOLDER)
    said = capsys.readouterr().out
    assert ("settings for your own music" in said) == is_applied
    if is_applied:
        assert "musicnn_probe" in params.read().models
    else:
        assert params.PARAMS_FILE.read_text() == text


def test_the_defaults_are_what_is_committed(workspace: Path) -> None:
    assert presets.values_of("sample", FOLDER) == params.load(ROOT / "params.yaml")
    before = params.PARAMS_FILE.read_text()
    assert presets.apply("sample", folder=FOLDER) == []
    assert text_after("sample") == before


@pytest.mark.parametrize(("first", "second"), itertools.product(NAMES, repeat=2))
def test_what_was_applied_before_does_not_matter(workspace: Path, first: str, second: str) -> None:
    own = params.PARAMS_FILE.read_text()
    alone = text_after(second)
    params.PARAMS_FILE.write_text(own)
    assert text_after(first, second) == alone


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_changes_what_its_file_names_and_says_so(workspace: Path, name: str) -> None:
    before = dict(presets._leaves(params.load(params.PARAMS_FILE)))
    comments = params.PARAMS_FILE.read_text().count("#")
    changes = {change.key: change for change in presets.apply(name, folder=FOLDER)}
    after = dict(presets._leaves(params.load(params.PARAMS_FILE)))
    named = dict(presets._leaves(params.load(FOLDER / f"{name}.yaml")))
    assert changes.keys() == {key for key in before if before[key] != after[key]} <= named.keys()
    assert after == before | named
    assert all((one.before, one.after) == (before[one.key], after[one.key]) for one in changes.values())
    assert not any(one.is_own for one in changes.values())
    assert params.PARAMS_FILE.read_text().count("#") == comments


def test_an_own_edit_is_replaced_and_named_as_such(workspace: Path) -> None:
    text = params.PARAMS_FILE.read_text()
    edited = text.replace("min_seconds: 1.0", "min_seconds: 2.5")
    edited = edited.replace("severity: {}", "severity: {clipping: critical}", 1)
    params.PARAMS_FILE.write_text(edited)
    changes = [str(change) for change in presets.apply("sample", folder=FOLDER)]
    assert changes == [
        "catalog.min_seconds: 2.5 → 1.0  (replaces an edit of your own)",
        "catalog.severity: nothing → {}  (replaces an edit of your own)",
        "catalog.severity.clipping: critical → nothing  (replaces an edit of your own)",
    ]
    assert params.read() == params.read(ROOT / "params.yaml")


def test_a_preset_removes_keys_that_are_no_longer_known(workspace: Path) -> None:
    text = params.PARAMS_FILE.read_text()
    params.PARAMS_FILE.write_text(text.replace("catalog:\n", "catalog:\n  sample_rate: 22050\n"))
    with pytest.raises(ParamsError, match=r"catalog\.sample_rate: Extra inputs are not permitted"):
        params.read()
    (change,) = presets.apply("sample", folder=FOLDER)
    assert (change.key, change.after) == ("catalog.sample_rate", None)
    assert params.PARAMS_FILE.read_text() == text


def test_the_preset_report_is_the_project_reports(workspace: Path) -> None:
    presets.apply("report", folder=FOLDER)
    settings = params.read()
    assert (settings.split.protocol, settings.split.valid, settings.split.test) == ("shuffled", 0.1, 0.1)
    assert (settings.train.batch_size, settings.train.normalise, settings.train.augment) == (
        32,
        "l2",
        "report",
    )
    assert settings.train.models["lenet5"].epochs == 20
    assert settings.train.models["cnn64"].epochs == 100


def test_a_preset_that_does_not_fit_leaves_the_file_untouched(workspace: Path) -> None:
    before = params.PARAMS_FILE.read_bytes()
    folder = workspace / "mine"
    folder.mkdir()
    (folder / "sample.yaml").write_text((FOLDER / "sample.yaml").read_text())
    (folder / "bad.yaml").write_text("split:\n  protokoll: track\n")
    with pytest.raises(ParamsError, match=r"bad\.yaml: split\.protokoll"):
        presets.apply("bad", folder=folder)
    assert params.PARAMS_FILE.read_bytes() == before


def test_the_command_line(workspace: Path) -> None:
    (workspace / "presets").symlink_to(FOLDER)
    command = [sys.executable, "-m", "pipeline.presets"]
    environment = {"PYTHONPATH": str(ROOT)}
    good = subprocess.run([*command, "gtzan"], capture_output=True, env=environment, text=True)
    bad = subprocess.run([*command, "none"], capture_output=True, env=environment, text=True)
    assert good.returncode == 0
    assert "  train.augment: none → specaugment\n" in good.stdout
    assert bad.returncode == 2
    assert bad.stderr == "error: expected a preset, one of gtzan, library, report, sample, received 'none'.\n"
