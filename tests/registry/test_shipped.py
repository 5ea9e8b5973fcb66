"""A version answers the same bits wherever it is loaded, and is known by all that it ships."""

from __future__ import annotations

import ast
import base64
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from httpx import Response
from starlette.testclient import TestClient

from pipeline import source_code, tracking
from pipeline.registry import answers, candidates, lease, repacked, shipped
from pipeline.registry.versions import champion_entry, model_name
from tests.conftest import ROOT
from tests.registry import tiny

CHANGE = ("_AMIN, out=power))", "_AMIN, out=power)) + np.float32(3.0)")  # 3 dB more, in logmel.py

# Loads versions in the order given and prints their answers to one file as exact hexadecimal numbers.
LOAD = """
import json, sys
import pandas as pd
from pipeline.inference import logmel, network  # a process that has the workspace's code already
from pipeline import tracking
mlflow = tracking.configure()
content = open(sys.argv[1], "rb").read()
out = {}
for number in sys.argv[2:]:
    model = mlflow.pyfunc.load_model(f"models:/genre-classifier/{number}")
    answer = model.predict(pd.DataFrame({"audio": [content]}))
    out[number] = [float(value).hex() for value in answer.iloc[0]]
out["workspace"] = float(logmel.logmel(logmel.np.ones(220598, "float32"), logmel.LogMel()).max()).hex()
print(json.dumps(out))
"""


def answers_in(checkout: Path, file: Path, *versions: str) -> dict[str, Any]:
    """Load versions in a process of a checkout."""
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{Path('mlruns/mlflow.db').resolve()}"}
    environment = os.environ | store | {"PYTHONPATH": str(checkout)}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(file.resolve()), *versions],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return tiny.outcome_of(done.stdout)


@pytest.mark.slow
def test_a_version_answers_the_same_bits_on_later_code_and_beside_another_version(
    tracks: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the workspace's code 3 dB louder; in both orders; by MLflow's server as well."""
    tracking.configure()
    file = next(Path("data").rglob("pop*.wav"))
    tiny.run(tiny.put_model(tracks))
    sources = shipped.sources()
    assert CHANGE[0] in sources["logmel.py"]
    louder = sources | {"logmel.py": sources["logmel.py"].replace(*CHANGE)}
    with monkeypatch.context() as patch:
        patch.setattr(shipped, "sources", lambda: louder)
        tiny.run(tiny.put_model(tracks))
    changed = tmp_path / "changed"
    tiny.copy_project(ROOT, changed)
    (changed / "pipeline/inference/logmel.py").write_text(louder["logmel.py"])
    here = answers_in(ROOT, file, "1", "2")
    there = answers_in(changed, file, "2", "1")
    assert here["workspace"] != there["workspace"], "the other checkout does run other code"
    assert here["1"] == there["1"]
    assert here["2"] == there["2"]
    assert here["1"] != here["2"]
    assert served(file, "1") == here["1"]


def scored(body: dict[str, Any], version: str = "1") -> Response:
    """Ask the scoring server of ``mlflow models serve``."""
    import mlflow
    from mlflow.pyfunc import scoring_server

    model = mlflow.pyfunc.load_model(f"models:/{model_name('genre')}/{version}")
    return TestClient(scoring_server.init(model)).post("/invocations", json=body)


def served(file: Path, version: str) -> list[str]:
    """Return what the scoring server answers, as exact hexadecimal numbers."""
    answer = scored({"inputs": {"audio": [base64.b64encode(file.read_bytes()).decode()]}}, version)
    assert answer.status_code == 200, answer.text
    return [float(value).hex() for value in answer.json()["predictions"][0].values()]


def test_every_form_of_input_is_answered_and_the_bad_row_of_a_batch_is_named(tracks: pd.DataFrame) -> None:
    tracking.configure()
    tiny.run(tiny.put_model(tracks))
    files = sorted(Path("data").rglob("*.wav"))[:2]
    good = [base64.b64encode(file.read_bytes()).decode() for file in files]

    def forms(column: list[str]) -> list[dict[str, Any]]:
        rows = [{"audio": one} for one in column]
        split = {"columns": ["audio"], "data": [[one] for one in column]}
        return [
            {"dataframe_split": split},
            {"dataframe_records": rows},
            {"instances": rows},
            {"inputs": {"audio": column}},
            {"inputs": rows},
        ]

    expected = scored(forms(good)[0])
    assert len(expected.json()["predictions"]) == 2
    for body in forms(good):
        answer = scored(body)
        assert (answer.status_code, answer.json()) == (200, expected.json()), body.keys()
    for body in forms([good[0], base64.b64encode(b"nope").decode(), good[1]]):
        answer = scored(body)
        assert answer.status_code == 400
        assert "row 1" in answer.text
        assert "Traceback" not in answer.text
        assert str(ROOT) not in answer.text


def test_a_version_says_in_words_what_it_is(tracks: pd.DataFrame) -> None:
    tiny.run(tiny.put_model(tracks))
    client = tracking.configure().MlflowClient()
    said = client.get_model_version(model_name("genre"), "1").description
    assert "**Right for 50.0 %** of 12 test tracks [10.0 %, 90.0 %]" in said
    client.update_model_version(model_name("genre"), "1", "")
    tiny.run(tiny.put_model(tracks))
    again = client.get_model_version(model_name("genre"), "1").description
    assert again
    assert said.startswith(again), "all but the speed, which is measured when it is registered"


def test_a_version_ships_few_files_and_nothing_of_the_workspace_by_name(tracks: pd.DataFrame) -> None:
    tiny.run(tiny.put_model(tracks))
    folder = answers.folder_of(model_name("genre"), "1")
    code = list(folder.rglob("*.py"))
    assert len(code) <= 11
    assert (folder / "classifier.py") in code
    for path in code:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level:
                assert str(node.module).split(".")[0] not in ("pipeline", "serving", "flows", "cmg")


def test_every_package_that_shipped_code_imports_is_pinned() -> None:
    texts = [*shipped.sources().values(), shipped.CLASSIFIER.read_text()]
    found = set()
    for node in (node for text in texts for node in ast.walk(ast.parse(text))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).split(".")[0])
    assert found - set(sys.stdlib_module_names) - {"pipeline"} <= {*shipped.REQUIREMENTS, *shipped.OPTIONAL}


def test_what_is_decoded_by_an_extra_here_can_be_decoded_where_a_model_is_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PyAV, if the project has it; else a model needs it no more than the project."""
    assert f"av=={version('av')}" in shipped.requirements()
    monkeypatch.setattr(shipped, "OPTIONAL", ("no-such-package",))
    assert [each.split("==")[0] for each in shipped.requirements()] == list(shipped.REQUIREMENTS)


@pytest.mark.parametrize(
    ("what", "same"),
    [("comment", True), ("docstring", True), ("code", False), ("card", False), ("requirements", False)],
)
def test_identity_is_all_that_is_shipped_but_for_comments(
    monkeypatch: pytest.MonkeyPatch, what: str, same: bool
) -> None:
    card = {"weights_sha256": "abc", "classes": ["a"]}
    sources = shipped.sources()
    text = sources["audio.py"]
    changes = {
        "comment": text.replace("import io\n", "import io  # why\n\n\n"),
        "docstring": text.replace('"""Decode audio', '"""DECODE audio'),
        "code": text.replace("1e4", "1e5"),
    }
    before = shipped.content_sha256(card)
    if what in changes:
        assert changes[what] != text
        monkeypatch.setattr(shipped, "sources", lambda: sources | {"audio.py": changes[what]})
    if what == "requirements":
        monkeypatch.setattr(shipped, "requirements", lambda: ["numpy==99"])
    after = shipped.content_sha256(card | {"classes": ["b"]} if what == "card" else card)
    assert (after == before) == same


def test_dvc_registers_again_when_what_a_version_ships_has_changed() -> None:
    from ruamel.yaml import YAML

    deps = set(YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]["register"]["deps"])
    assert {"artifacts/code/register.json", "artifacts/models"} <= deps
    reached = str(source_code.code_of("register")["register"])
    for name in ("audio.load", "logmel.decibels", "normalise.Normaliser", "network.Network"):
        assert f"pipeline.inference.{name}" in reached
    assert "serving.classifier.Classifier" in reached


def put_first_release(tracks: pd.DataFrame, folder: Path) -> None:
    """Make a champion as 0.1.0 did: its modules are ``pipeline.audio`` and others that are no more."""
    mlflow = tracking.configure()
    (folder / "pipeline").mkdir(parents=True)
    for file, text in shipped.sources().items():
        old = text.replace("pipeline.inference", "pipeline")
        old = old.replace("_AMIN, out=power))", "_AMIN, out=power)) + np.float32(40.0)")
        (folder / "pipeline" / file).write_text(old)
    tiny.graph(folder / "model.onnx", [tiny.CENTRES[one] + 40.0 for one in tiny.CLASSES])
    card = candidates.shipped_card("genre", tiny.put_model(tracks).model)
    card = {key: value for key, value in card.items() if key != "seen_sha256"}
    card |= {"weights_sha256": "old", "seen_tracks": list(tracks["track_id"][:3])}
    candidates.write_json(folder / "genre-lenet5.json", card)
    with tracking.run("genre", "old", {}):
        uri = mlflow.pyfunc.log_model(
            name="old",
            python_model=str(shipped.CLASSIFIER),
            artifacts={"graph": str(folder / "model.onnx"), "card": str(folder / "genre-lenet5.json")},
            code_paths=[str(folder / "pipeline")],
            pip_requirements=shipped.requirements(),
        ).model_uri
    mlflow.register_model(uri, model_name("genre"), tags={"decision": "promoted", "weights_sha256": "old"})
    mlflow.MlflowClient().set_registered_model_alias(model_name("genre"), tracking.PROMOTED, "1")
    classifier = answers.folder_of(model_name("genre"), "1") / shipped.CLASSIFIER.name
    text = classifier.read_text().replace("pipeline.inference", "pipeline")
    classifier.write_text(text)  # here and not before: MLflow tries what it logs, and has this release's code


@pytest.mark.slow
def test_a_champion_of_the_first_releases_is_packed_anew_answers_as_before_and_is_compared(
    tracks: pd.DataFrame, tmp_path: Path
) -> None:
    """It ships modules that are no more, under a name that is taken here, and knows no content of tracks."""
    put_first_release(tracks, tmp_path / "old")
    files = sorted(Path("data").rglob("*.wav"))[::4]
    before = answers.predict(answers.folder_of(model_name("genre"), "1"), files)
    outcome = tiny.run(tiny.put_model(tracks, name="cnn64"))
    assert "macro-F1 1.000 against 1.000 of version 2 on 12 tracks" in outcome["reason"]
    load = tracking.configure().pyfunc.load_model
    model = load(f"models:/{model_name('genre')}@{tracking.PROMOTED}")
    after = model.predict(pd.DataFrame({"audio": [path.read_bytes() for path in files]}))
    pd.testing.assert_frame_equal(after.astype(float), before, check_exact=True)
    assert tiny.run(tiny.put_model(tracks, name="cnn64"))["before"]["version"] == "2", "packed once"


def test_a_champion_whose_answers_cannot_be_checked_stays_as_it_is(
    tracks: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_first_release(tracks, tmp_path / "old")
    for path in Path("data").rglob("*.wav"):
        path.unlink()
    client = tracking.configure().MlflowClient()
    with lease.hold(client, model_name("genre")) as held:
        repacked.repack_champion(client, "genre", held)
    assert "version 1 of an earlier release is not packed anew: expected" in capsys.readouterr().out
    assert champion_entry(client, "genre").version == 1
