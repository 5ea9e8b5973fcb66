"""What a registered model ships: the inference room under a name of its own, and the class that MLflow calls.

Python keeps one module of each name a process: code shipped as ``pipeline`` would give way to the
workspace's, which may have changed since. The name of the shipped package ends in a hash of its sources, so
that two versions share code only where it is the same, to the byte.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from pipeline.syntax import fingerprint

_ROOT: Final = Path(__file__).parents[2]
INFERENCE: Final = _ROOT / "pipeline" / "inference"
CLASSIFIER: Final = _ROOT / "serving" / "classifier.py"
PACKAGE_PREFIX: Final = "cmg_inference_"
REQUIREMENTS: Final = ("mlflow", "numpy", "onnxruntime", "pandas", "scipy", "soundfile", "soxr")
OPTIONAL: Final = ("av",)  # what the project decodes with it, its models must decode too

_WORKSPACE_NAME: Final = "pipeline.inference"


def sources() -> dict[str, str]:
    """Return the text of each module of the inference room by file name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(INFERENCE.glob("*.py"))}


def package_name() -> str:
    """Return the name under which the inference room is shipped: ``cmg_inference_`` and 12 digits."""
    return PACKAGE_PREFIX + _sha256(sources())[:12]


def write(folder: Path) -> tuple[Path, Path]:
    """Write what is shipped.

    Parameters
    ----------
    folder
        Empty.

    Returns
    -------
    package : Path
        The folder that goes into MLflow's ``code_paths``.
    classifier : Path
        The file that MLflow runs when it loads the model; imports ``package`` instead of the workspace.
    """
    name = package_name()
    package, classifier = folder / name, folder / CLASSIFIER.name
    package.mkdir()
    for file, text in sources().items():
        (package / file).write_text(text, encoding="utf-8")
    text = CLASSIFIER.read_text(encoding="utf-8").replace(_WORKSPACE_NAME, name)
    classifier.write_text(text, encoding="utf-8")
    return package, classifier


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Let the package in ``folder`` be imported within the block; forget it after, as ``folder`` goes."""
    package = package_name()
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.split(".")[0] == package]:
            del sys.modules[name]


def requirements() -> list[str]:
    """Return the installed versions of the packages that a model needs, as pip pins them."""
    pinned = [f"{name}=={version(name)}" for name in REQUIREMENTS]
    for name in OPTIONAL:
        with suppress(PackageNotFoundError):
            pinned.append(f"{name}=={version(name)}")
    return pinned


def content_sha256(card: dict[str, Any]) -> str:
    """Return what identifies a version: the hash of all that decides its answers.

    Parameters
    ----------
    card
        As shipped; it names the hash of the weights, from which the ONNX graph follows.

    Returns
    -------
    str
        Of card, pinned requirements and code; comments, docstrings and layout of the code do not count.
    """
    code = {file: fingerprint(ast.parse(text)) for file, text in sources().items()}
    classifier = fingerprint(ast.parse(CLASSIFIER.read_text(encoding="utf-8")))
    return _sha256({"card": card, "requirements": requirements(), "code": code, "classifier": classifier})


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
