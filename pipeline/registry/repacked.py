"""A champion of the first releases, packed anew so that any process of this release can load it.

Its version ships its code as ``pipeline``, a name that the workspace's own code has taken. The new version
holds the same graph, card and code; only the code's name is one of its own.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pipeline import tracking
from pipeline.errors import DataError
from pipeline.registry import answers, lease, shipped
from pipeline.registry.versions import CONTENT, PROMOTED_AT, champion_entry
from pipeline.tables.tracks import read_tracks

_IMPORT: Final = re.compile(rf"^(\s*(?:from|import)\s+){answers.FIRST_NAME}\b", re.MULTILINE)
_SOURCE: Final = "repacked_from"  # tag: the version of the first releases
_N_ASKED: Final = 3  # tracks on which both must answer the same


def repack_champion(client: Any, task: str, held: lease.Lease) -> None:
    """Let the champion be a version that ships code of its own name; nothing to do if it does.

    Where the new version would not answer the same to the bit, or its run is gone, the champion stays: it is
    asked in a process of its own, only `mlflow.pyfunc.load_model` cannot load it here.

    Parameters
    ----------
    client
        MLflow's.
    task
        Whose champion.
    held
        The registered model's lease.
    """
    from mlflow.exceptions import MlflowException

    entry = champion_entry(client, task)
    if entry is None or CONTENT in entry.tags:
        return
    if not answers.is_first_release(answers.folder_of(entry.name, entry.version)):
        return
    try:
        number = _earlier(client, entry) or _register(client, entry)
    except (DataError, MlflowException) as error:
        print(f"{entry.name}: version {entry.version} of an earlier release is not packed anew: {error}")
        return
    held.check()
    client.set_registered_model_alias(entry.name, tracking.PROMOTED, number)
    print(f"{entry.name}: version {number} is version {entry.version} of an earlier release, packed anew")


def _earlier(client: Any, entry: Any) -> str | None:
    """Return the version that a run made which ended before it set the alias."""
    for version in client.search_model_versions(f"name = '{entry.name}'"):
        if version.tags.get(_SOURCE) == str(entry.version):
            return str(version.version)
    return None


def _register(client: Any, entry: Any) -> str:
    """Register the champion's files with renamed code, in the run that trained it; return the version."""
    old = answers.folder_of(entry.name, entry.version)
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder) / "repacked"
        rename_code(old, new)
        _check_answers(old, new)
        client.log_artifacts(entry.run_id, str(new), new.name)
    source = f"{client.get_run(entry.run_id).info.artifact_uri}/{new.name}"
    tags = {PROMOTED_AT: datetime.now(UTC).isoformat(), _SOURCE: str(entry.version)}
    made = client.create_model_version(entry.name, source, entry.run_id, tags=entry.tags | tags)
    return str(made.version)


def rename_code(old: Path, new: Path) -> None:
    """Copy a version's files; the code gets a name that follows from its content, and uses it."""
    shutil.copytree(old, new, ignore=shutil.ignore_patterns("__pycache__", "registered_model_meta"))
    shutil.rmtree(new / "code")
    modules = sorted((old / "code" / answers.FIRST_NAME).rglob("*.py"))
    content = hashlib.sha256(b"\0".join(module.read_bytes() for module in modules)).hexdigest()
    name = shipped.PACKAGE_PREFIX + content[:12]
    for module in [*modules, old / shipped.CLASSIFIER.name]:
        place = module.relative_to(old).as_posix().replace(f"code/{answers.FIRST_NAME}/", f"code/{name}/", 1)
        (new / place).parent.mkdir(parents=True, exist_ok=True)
        text = _IMPORT.sub(rf"\g<1>{name}", module.read_text(encoding="utf-8"))
        (new / place).write_text(text, encoding="utf-8")


def _check_answers(old: Path, new: Path) -> None:
    """Raise `DataError` unless both answer some tracks of the library with the same numbers."""
    files = [path for path in map(Path, read_tracks()["path"]) if path.exists()][:_N_ASKED]
    before, after = answers.predict(old, files), answers.predict(new, files)
    if before.empty or before.isna().to_numpy().any() or not before.equals(after):
        raise DataError(f"expected the answers {before.to_numpy()}, received {after.to_numpy()}")
