"""What source code means, without its comments, docstrings and layout."""

from __future__ import annotations

import ast
import hashlib
from typing import Any


def fingerprint(*nodes: ast.AST) -> str:
    r"""Return the SHA-256 of syntax trees; comments, docstrings, layout and positions do not count.

    Examples
    --------
    >>> plain, explained = "def one(): return 1", 'def one():  # why\n    "Return 1."\n    return (1)'
    >>> fingerprint(ast.parse(plain)) == fingerprint(ast.parse(explained))
    True
    """
    return hashlib.sha256(repr([_shape(node) for node in nodes]).encode()).hexdigest()


def is_docstring(node: Any) -> bool:
    """Return whether a statement is nothing but a string."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _shape(value: Any) -> Any:
    """Return a syntax tree as nested lists, without docstrings, positions and what is not said.

    Not `ast.dump` or `ast.unparse`: their text differs between versions of Python, which would re-run
    everything on another.
    """
    if isinstance(value, list):
        return [_shape(item) for item in value if not is_docstring(item)]
    if not isinstance(value, ast.AST):
        return value
    fields = [
        (name, _shape(child)) for name, child in ast.iter_fields(value) if child is not None and child != []
    ]
    return [type(value).__name__, *fields]
