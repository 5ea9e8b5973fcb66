"""Parameters that hold for one retrain only: written into ``params.yaml``, and taken back at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from pipeline import files, params
from pipeline.errors import ParamsError
from pipeline.workspace_lock import CACHE

# While it exists, params.yaml holds a retrain's values and this file the user's own.
_OWN: Final = CACHE / "retrain" / "params.yaml"
_OVERRIDDEN: Final = CACHE / "retrain" / "overridden.yaml"
_OVERLAY: Final = CACHE / "retrain" / "overrides.json"


def nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """Turn ``{"train.batch_size": 8}`` into ``{"train": {"batch_size": 8}}``."""
    out: dict[str, Any] = {}
    for key, value in dotted.items():
        *above, last = key.split(".")
        section = out
        for name in above:
            section = section.setdefault(name, {})
            if not isinstance(section, dict):
                raise ParamsError(
                    f"overrides: expected {key} or a part of it, received both. Give one of them."
                )
        section[last] = value
    return out


@contextmanager
def overridden(overrides: Mapping[str, Any]) -> Iterator[params.Params]:
    """Overlay ``params.yaml`` within the block; yield all parameters.

    A killed retrain leaves its values behind: the next one puts the user's own back first.

    Raises
    ------
    ParamsError
        A key is unknown or a value not allowed; ``params.yaml`` is as it was.
    """
    restore_params()
    if not overrides:
        yield params.read()
        return
    overlay = nested(overrides)
    files.write_text(_OWN, params.PARAMS_FILE.read_text(encoding="utf-8"))
    try:
        files.write_json(_OVERLAY, overlay)  # every JSON is YAML
        params.apply_overlay(_OVERLAY)
        files.write_text(_OVERRIDDEN, params.PARAMS_FILE.read_text(encoding="utf-8"))
        yield params.read()
    finally:
        restore_params()


def restore_params() -> None:
    """Put the user's own ``params.yaml`` back, unless it was edited meanwhile: that edit stays."""
    if not _OWN.exists():
        return
    now = params.PARAMS_FILE.read_text(encoding="utf-8")
    # Without the second file the kill came before params.yaml was changed.
    if not _OVERRIDDEN.exists() or _OVERRIDDEN.read_text(encoding="utf-8") == now:
        files.write_text(params.PARAMS_FILE, _OWN.read_text(encoding="utf-8"))
    _OVERRIDDEN.unlink(missing_ok=True)
    _OWN.unlink()
