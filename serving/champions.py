"""The champions as plain files: fetched from the registry once, then read without MLflow or a network.

``python -m serving.champions`` fetches them. Each task has ``<task>.json``, which says what the version is
and measured, and a folder with the version's graph, card and the inference code that it ships.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import CmgError, DataError, run_main

if TYPE_CHECKING:
    from serving.explanation import Explainer

CACHE: Final = "CMG_MODELS"  # the variable that names another folder
TASKS: Final = ("genre", "mood")
FRONT_END: Final = "front_end.onnx"  # of a model whose front end is a network

_PACKAGE: Final = "cmg_inference_*"  # see `pipeline.registry.shipped`
_PARTS: Final = ("model.onnx", "card.json")


@dataclass(frozen=True)
class Champion:
    """A cached version.

    Parameters
    ----------
    task, model, version, run_id
        Which one it is in the registry.
    protocol, dataset, synthetic
        How it was measured and what it was trained on.
    metrics
        On its test tracks when it was registered: ``accuracy``, ``macro_f1``, …
    folder
        Of its files, beside its ``<task>.json``.
    weights_sha256, files
        The weights' digest, and each file's by its path in ``folder``.
    """

    task: str
    model: str
    version: str
    run_id: str
    protocol: str
    dataset: str
    synthetic: bool
    metrics: dict[str, float]
    folder: str
    weights_sha256: str
    files: dict[str, str] = field(repr=False)

    @property
    def name(self) -> str:
        """Return the registered model and version: ``genre-classifier/7``."""
        return f"{self.task}-classifier/{self.version}"

    @property
    def classes(self) -> list[str]:
        """Return the classes' names in the order of its answers."""
        return self._card()["classes"]

    @property
    def embedding(self) -> str:
        """Return the name of the embedding that it gives, if it gives one."""
        card = self._card()
        return f"musicnn/{card['front_end_sha256'][:12]}" if card.get("front_end") == "musicnn" else ""

    def _card(self) -> dict[str, Any]:
        path = cache_folder() / self.folder / "card.json"
        return json.loads(path.read_text(encoding="utf-8"))

    def open(self) -> tuple[ModuleType, Any]:
        """Return the inference package that the version ships, and its network."""
        folder = cache_folder() / self.folder
        package = _shipped(folder)
        return package, package.network.Network(folder / "model.onnx", self._card())

    def explainer(self) -> Explainer:
        """Return the version's network opened such that its decisions can be taken apart.

        Raises
        ------
        UnexplainableError
            It is of a kind whose decisions cannot.
        """
        from serving.explanation import Explainer

        return Explainer(*self.open(), cache_folder() / self.folder / "model.onnx")


def project() -> Path:
    """Return the project's root: the working directory if it is one, else the checkout of this code."""
    here = Path.cwd()
    return here if (here / "params.yaml").is_file() else Path(__file__).resolve().parents[1]


def cache_folder() -> Path:
    """Return where the champions are kept."""
    return Path(os.environ.get(CACHE) or project() / ".cache" / "models")


def cached(task: str) -> Champion | None:
    """Return a task's cached champion; None if there is none.

    Raises
    ------
    DataError
        A file of it is gone or has changed.
    """
    path = cache_folder() / f"{task}.json"
    try:
        champion = Champion(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: expected a champion, received {error}. Run `cmg models pull`.") from None
    for name, expected in champion.files.items():
        if _sha256(cache_folder() / champion.folder / name) != expected:
            where = cache_folder() / champion.folder / name
            raise DataError(
                f"{where}: expected the file as fetched, received another. Run `cmg models pull`."
            )
    return champion


def champions() -> dict[str, Champion]:
    """Return the champions by task, fetched first if none is cached.

    Raises
    ------
    CmgError
        Nothing serves.
    """
    found = {task: champion for task in TASKS if (champion := cached(task))}
    if not found:
        print("fetching the champions from the registry, once", file=sys.stderr)
        pull_apart()
        found = {task: champion for task in TASKS if (champion := cached(task))}
    return found


def are_cached() -> bool:
    """Return whether `champions` would answer at once."""
    try:
        return any(cached(task) for task in TASKS)
    except DataError:
        return False


def pull_apart() -> None:
    """Fetch the versions that serve in a process of its own: MLflow takes seconds to import, and stays.

    Raises
    ------
    CmgError
        As in `pull`.
    """
    command = [sys.executable, "-m", "serving.champions"]
    done = subprocess.run(command, cwd=project(), capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise CmgError(said[-1].removeprefix("error: ") if said else "no champion could be fetched")


def newer(champion: Champion) -> str | None:
    """Return the version that serves by the project's own record, if it is another than the cached one."""
    path = project() / "mlruns" / "champions.json"  # written by the stage `promote`
    try:
        serving = json.loads(path.read_text(encoding="utf-8"))[champion.task]
        other = (serving["version"], serving["weights_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if other == (champion.version, champion.weights_sha256) else str(other[0])


def pull(tasks: Iterable[str] = TASKS) -> dict[str, Champion]:
    """Fetch the versions that serve; what was cached stays until each is whole.

    Raises
    ------
    CmgError
        The registry does not answer, or nothing serves.
    """
    from pipeline import tracking
    from pipeline.registry import answers, versions

    client = tracking.configure().MlflowClient()
    fetched = {}
    with tracking.reachable():
        for task in tasks:
            entry = versions.champion_entry(client, task)
            if entry is None:
                continue
            source = answers.folder_of(versions.model_name(task), str(entry.version))
            summary = versions.version_summary(client, task, str(entry.version))
            fetched[task] = _store(task, source, summary)
    if not fetched:
        raise CmgError(_nothing_serves(client))
    return fetched


def _nothing_serves(client: Any) -> str:
    """Return why no task has a champion, and the next command."""
    from pipeline.registry import versions

    waiting = {task: entry for task in TASKS if (entry := versions.latest_entry(client, task))}
    expected = "expected a champion in the registry, received none"
    if not waiting:
        return f"{expected}. `make repro` trains and promotes one."
    reasons = [
        f"{entry.name} version {entry.version} is not promoted: {entry.tags.get('reason', 'nobody decided')}"
        for entry in waiting.values()
    ]
    return f"{expected}; {'; '.join(reasons)}. To use it all the same: " + ", and ".join(
        f'`python -m pipeline.stages.promote --confirm {task} --reason "my reason"`' for task in waiting
    )


def _store(task: str, source: Path, summary: dict[str, Any]) -> Champion:
    """Copy a version's files into the cache, and only then say that they are there."""
    package = next(source.glob(f"code/{_PACKAGE}"), None)
    if package is None:
        raise DataError(
            f"{task}-classifier/{summary['version']}: expected a version of release 0.2 or later, received "
            "an earlier one. `dvc repro promote` packs it anew."
        )
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".new-") as temporary:
        new = Path(temporary) / "files"
        shutil.copytree(package, new / package.name, ignore=shutil.ignore_patterns("__pycache__"))
        has_own = (source / "artifacts" / FRONT_END).exists()
        for name in (*_PARTS, FRONT_END) if has_own else _PARTS:
            shutil.copyfile(source / "artifacts" / name, new / name)
        files = {
            str(path.relative_to(new)): _sha256(path) for path in sorted(new.rglob("*")) if path.is_file()
        }
        digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
        folder = f"{task}-{summary['version']}-{digest[:12]}"
        if not (cache / folder).exists():
            new.rename(cache / folder)
    own = {key: summary[key] for key in ("model", "version", "run_id", "protocol", "dataset", "synthetic")}
    champion = Champion(
        task=task,
        metrics=summary["metrics"],
        weights_sha256=summary["weights_sha256"],
        folder=folder,
        files=files,
        **own,
    )
    part = cache / f".{task}.json"
    part.write_text(json.dumps(asdict(champion), indent=2), encoding="utf-8")
    part.replace(cache / f"{task}.json")
    for other in cache.glob(f"{task}-*"):
        if other.name != folder:
            shutil.rmtree(other)
    return champion


def _shipped(folder: Path) -> ModuleType:
    """Import the package in a version's folder; its name ends in a hash of its sources."""
    name = next(folder.glob(_PACKAGE)).name
    if name not in sys.modules:
        sys.path.insert(0, str(folder))
        try:
            for module in ("audio", "logmel", "network"):
                importlib.import_module(f"{name}.{module}")
        finally:
            sys.path.remove(str(folder))
    return sys.modules[name]


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""


def main() -> None:
    """Fetch the champions from the registry."""
    for champion in pull().values():
        print(f"{champion.name}: {champion.model}")


if __name__ == "__main__":
    run_main(main)
