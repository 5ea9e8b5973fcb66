"""The versions of a task's registered model: which serves, which have served, what each says of itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from pipeline.tracking import PROMOTED

CONTENT: Final = "content_sha256"  # tag: what identifies a version; the first releases had none
PROMOTED_AT: Final = "promoted_at"  # tag: when a version became champion; stays when another follows
_PROMOTED: Final = "promoted"
_MOST: Final = 20  # promoted versions looked at, latest first


def model_name(task: str) -> str:
    """Return the registered model's name."""
    return f"{task}-classifier"


def champion_entry(client: Any, task: str) -> Any:
    """Return the registry's entry of the version that serves; None if none does."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(model_name(task), PROMOTED)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def latest_entry(client: Any, task: str) -> Any:
    """Return the entry of the newest version, whether it serves or not; None if there is none."""
    found = client.search_model_versions(f"name = '{model_name(task)}'")
    return max(found, key=lambda entry: int(entry.version), default=None)


def promoted_entries(client: Any, task: str) -> list[Any]:
    """Return the entries of the versions that serve or have served, latest first."""
    found = [
        entry
        for entry in client.search_model_versions(f"name = '{model_name(task)}'")
        if PROMOTED_AT in entry.tags or entry.tags.get("decision") == _PROMOTED
    ]
    return sorted(found, key=_promoted_at, reverse=True)[:_MOST]


def _promoted_at(entry: Any) -> tuple[str, int]:
    """Return when a version was promoted; the first releases did not note it, so it is their registration."""
    registered = datetime.fromtimestamp(entry.creation_timestamp / 1000, UTC).isoformat()
    return entry.tags.get(PROMOTED_AT, registered), int(entry.version)


def version_summary(client: Any, task: str, version: str) -> dict[str, Any]:
    """Return a version's number, model, protocol, data set, weights and test metrics at track level."""
    found = client.get_model_version(model_name(task), version)
    shown = {
        name.removeprefix("test.track."): float(value)
        for name, value in found.tags.items()
        if name.startswith("test.track.")
    }
    return {
        "version": str(found.version),
        "model": found.tags.get("model", ""),
        "protocol": found.tags.get("protocol", ""),
        "dataset": found.tags.get("dataset", ""),
        "synthetic": found.tags.get("synthetic", "") == "true",
        "weights_sha256": found.tags.get("weights_sha256", ""),
        "run_id": found.run_id,
        "metrics": shown,
    }
