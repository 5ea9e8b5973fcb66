"""Pages from the templates beside this module, ``*.html.j2``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def render(
    name: str, values: Mapping[str, Any], filters: Mapping[str, Callable[..., str]] | None = None
) -> str:
    """Return the page.

    Parameters
    ----------
    name
        The template's file name.
    values
        What the template may name; anything else is an error. All text is escaped.
    filters
        What it may apply with ``|``, beside Jinja's own.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= dict(filters or {})
    return environment.get_template(name).render(values)
