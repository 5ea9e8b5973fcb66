"""What a stage's list of code notices, and what it does not: on a copy of the project's own code."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from pipeline import params, source_code
from pipeline.errors import CmgError
from pipeline.source_code import STAGES, Code

ROOT = Path(__file__).parents[1]
# The others ship code, so that they list more of it.
MAKING = tuple(stage for stage in STAGES if stage not in ("register", "promote"))


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("code")
    for package in source_code.PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / source_code.LOCK, folder)
    return folder


@pytest.fixture
def code(copied: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in the copy; what a test edits is put back."""
    monkeypatch.chdir(copied)
    kept = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    yield copied
    for path in copied.rglob("*"):
        if path in kept and path.read_bytes() != kept[path]:
            path.write_bytes(kept[path])


@pytest.fixture(scope="module")
def before(copied: Path) -> dict[str, Code]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(copied)
        return source_code.code_of(*MAKING)


def edit(name: str, old: str, new: str) -> None:
    path = Path(name)
    text = path.read_text()
    assert old in text, f"{name} no longer holds {old!r}: correct the test"
    path.write_text(text.replace(old, new, 1))


def changed(before: dict[str, Code]) -> set[str]:
    after = source_code.code_of(*MAKING)
    return {stage for stage in MAKING if before[stage] != after[stage]}


CHANGES = {
    "the soft targets": (
        ("pipeline/tables/labels.py", ".sum(axis=1, keepdims=True)", ".max(axis=1, keepdims=True)"),
        {"train", "evaluate", "report"},
    ),
    "a constant of another module": (
        ("pipeline/training/batches.py", "_MAX_CLASS_WEIGHT = 5.0", "_MAX_CLASS_WEIGHT = 6.0"),
        {"train", "evaluate"},
    ),
    "a score": (
        ("pipeline/training/scores.py", "def macro_f1(", "def macro_f1(*, x=0, "),
        {"train", "evaluate"},
    ),
    "a protocol's rule": (
        ("pipeline/stages/split.py", "    return part\n", "    return part[::-1]\n"),
        {"split"},
    ),
    "a table's reader": (
        ("pipeline/tables/splits.py", '"slice": "Int64"', '"slice": "Int32"'),
        {"train", "evaluate"},
    ),
    "an import within a function": (
        ("pipeline/quality/suites.py", "import great_expectations as gx\n", "import keras as gx\n"),
        {"catalog", "labels"},
    ),
    "a template that another includes": (
        ("pipeline/templates/style.css.j2", "body", "body, p"),
        {"catalog", "labels", "report"},
    ),
    "a template": (("pipeline/templates/report.html.j2", "</html>", "</html>\n"), {"report"}),
    "what a package does when it is imported": (
        ("pipeline/training/__init__.py", '"""\n', '"""\nprint()\n'),
        {"split", "spectrogram", "train", "evaluate", "report"},
    ),
    "what a module does when it is imported": (
        ("pipeline/inference/audio.py", "\ndef is_possible(", "\nprint()\n\n\ndef is_possible("),
        {"catalog", "split", "spectrogram", "train", "evaluate", "report"},
    ),
    "a class that another library finds by its module's name": (
        ("pipeline/quality/data_docs.py", "class IndexRenderer:\n", "class IndexRenderer:\n    x = 1\n"),
        {"catalog", "labels"},
    ),
    "a library": (("requirements.lock", "keras==", "keras==9."), {"train", "evaluate"}),
    "a message": (("pipeline/errors.py", "Run `dvc repro`", "Call `dvc repro`"), set()),
    "a recorded tag": (("pipeline/tracking.py", '"git_commit"', '"commit"'), set()),
    "the command line": (("pipeline/labelling/inbox.py", "def check(", "def check_it("), set()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_noticed_where_it_matters_and_nowhere_else(
    code: Path, before: dict[str, Code], name: str
) -> None:
    arguments, expected = CHANGES[name]
    edit(*arguments)
    assert changed(before) == expected


def test_the_decoder_concerns_what_decodes_and_no_training(code: Path, before: dict[str, Code]) -> None:
    path = Path("pipeline/inference/audio.py")
    text = path.read_text()
    (first,) = re.findall(r"^def _blocks\(.*?:\n", text, re.MULTILINE | re.DOTALL)
    path.write_text(text.replace(first, f"{first}    len('')\n"))
    assert {"catalog", "spectrogram", "report"} <= changed(before)  # the report plays clips
    assert not changed(before) & {"labels", "split", "train", "evaluate"}


def test_what_listeners_use_concerns_no_stage_but_for_what_a_version_ships(code: Path) -> None:
    """The word "serving" in a stage's text once meant the whole package of that name."""
    found = source_code.code_of(*STAGES)
    modules = {
        stage: {name.split(".")[1] for name in own["code"] if name.startswith("serving.")}
        for stage, own in found.items()
    }
    shipped = {"register": {"classifier"}, "promote": {"classifier"}}
    assert {stage: names for stage, names in modules.items() if names} == shipped


def test_comments_docstrings_and_layout_change_nothing_anywhere(code: Path, before: dict[str, Code]) -> None:
    for path in code.rglob("*.py"):
        text = path.read_text()
        text = re.sub(r'^(\s*)"""', r'\1"""Said otherwise. ', text, count=1, flags=re.MULTILINE)
        text = re.sub(r"^(def \w+\()", r"# a remark\n\n\n\1", text, flags=re.MULTILINE)
        path.write_text(text)
    assert changed(before) == set()


def test_the_lists_do_not_depend_on_the_order_or_number_asked_for(
    code: Path, before: dict[str, Code]
) -> None:
    assert source_code.code_of("train") == {"train": before["train"]}
    assert source_code.code_of(*reversed(MAKING)) == before


def test_a_library_that_is_not_locked_is_named(code: Path) -> None:
    edit("pipeline/stages/split.py", "import argparse\n", "import argparse\nimport polars\n")
    edit("pipeline/stages/split.py", "task, chosen = ", "polars.read_csv('x')\n    task, chosen = ")
    with pytest.raises(CmgError, match=r"requirements\.lock: .*stage split imports, received no polars"):
        source_code.code_of("split")


def test_every_stage_of_the_graph_depends_on_its_list_and_on_no_module() -> None:
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    assert set(stages) == {"code", *STAGES}
    for name in STAGES:
        own = [
            one for one in stages[name]["deps"] if one.startswith(("pipeline", "serving", "artifacts/code"))
        ]
        assert own == [str(source_code.path_of(name))]


def test_exempt_modules_exist_and_say_why() -> None:
    for name, reason in source_code.EXEMPT.items():
        assert (ROOT / f"{name.replace('.', '/')}.py").exists()
        assert reason


def test_parameters_have_no_defaults_that_could_change_an_output() -> None:
    """`pipeline.params` is exempt because all values come from params.yaml."""
    models = [one for one in vars(params).values() if isinstance(one, type) and issubclass(one, BaseModel)]
    fields = [(model, name) for model in models for name in model.model_fields]
    assert len(fields) > 40
    assert [(model, name) for model, name in fields if not model.model_fields[name].is_required()] == []


def test_the_stage_is_light_and_quick(code: Path) -> None:
    run = "import sys, runpy; runpy.run_module('pipeline.stages.code', run_name='__main__')"
    told = f"{run}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert not {"pandas", "numpy", "tensorflow", "pydantic"} & set(done.stdout.split())
    assert sorted(path.stem for path in source_code.FOLDER.iterdir()) == sorted(STAGES)
