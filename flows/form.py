"""The form of a retrain: what Prefect's page asks for, and what its server refuses before it queues a run."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from pipeline.params import ModelName, Params, Protocol, Task

AS_IN_PARAMS: Final = "params.yaml"


def overrides_schema() -> dict[str, Any]:
    """Return the JSON Schema of overrides: every key of ``params.yaml``, dotted, with its type and range."""
    schema = Params.model_json_schema()
    keys = {f"^{re.escape(key)}$": part for key, part in _keys(schema, schema["$defs"]).items()}
    return {"patternProperties": keys, "additionalProperties": False}


def _keys(node: dict[str, Any], defs: dict[str, Any], above: str = "") -> dict[str, dict[str, Any]]:
    """Return the schema of each section and value below a node by its dotted key."""
    found = {}
    for name, part in _children(node, defs).items():
        found[above + name] = _inlined(part, defs)
        found |= _keys(_resolved(part, defs), defs, f"{above}{name}.")
    return found


def _children(node: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    """Return the parts of a section by name; one that is a mapping has a part for each of its known names."""
    names = _resolved(node.get("propertyNames", {}), defs).get("enum", [])
    properties = dict(node.get("properties", {}))
    for kind in node.get("oneOf", ()):  # a section of several kinds: each one's keys may be named
        properties |= _children(_resolved(kind, defs), defs)
    return properties or dict.fromkeys(names, node.get("additionalProperties"))


def _resolved(node: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    return defs[node["$ref"].rpartition("/")[2]] if "$ref" in node else node


def _inlined(node: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without references, in which a section may have some of its keys only."""
    node = _resolved(node, defs)
    children = _children(node, defs)
    if not children:
        return {key: value for key, value in node.items() if key not in ("title", "description")}
    parts = {name: _inlined(part, defs) for name, part in children.items()}
    return {"type": "object", "properties": parts, "additionalProperties": False}


def _shown(description: str, **more: Any) -> Any:
    """Return a field's description, of which Prefect itself reads only Google's style of docstring."""
    return Field(json_schema_extra={"description": description, **more})


Tasks = Annotated[list[Task], _shown("What to learn. None chosen: as in params.yaml.", examples=[["mood"]])]
Models = Annotated[
    list[ModelName],
    _shown("Which networks to train. None chosen: as in params.yaml.", examples=[["cnn64"]]),
]
ProtocolChoice = Annotated[
    Literal["params.yaml", Protocol],
    _shown(
        "Which tracks are held out; params.yaml: as it says there. A model of the protocol shuffled, which "
        "leaks, is never promoted.",
        examples=["artist"],
    ),
]
Force = Annotated[bool, _shown("Run every stage although nothing has changed.", examples=[False])]
Overrides = Annotated[
    dict[str, Any],
    _shown(
        'Other parameters for this run only, by their dotted key: {"train.models.cnn64.epochs": 10}.',
        examples=[{"train.models.cnn64.epochs": 10}],
        **overrides_schema(),
    ),
]
