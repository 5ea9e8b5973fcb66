"""Stop with one line where Python is not the project's: a ``.venv/bin/dvc`` calls any ``python``, say.

It imports the standard library only, and every Python since 3.6 can read it.
"""

import sys
from importlib.util import find_spec

_OLDEST = (3, 11)
_NEEDED = ("numpy", "pandas", "psutil", "pydantic", "ruamel")  # what stages import first


def fault(version=sys.version_info[:2], has=find_spec):  # type: ignore[no-untyped-def]
    """Return why this Python cannot run the project; blank if it can."""
    missing = [name for name in _NEEDED if has(name) is None]
    if version >= _OLDEST and not missing:
        return ""
    reason = f"lacks {', '.join(missing)}" if missing else f"is Python {version[0]}.{version[1]}"
    return (
        f"error: expected the project's environment, received {sys.executable}, which {reason}. Run `make "
        "repro`, or `source .venv/bin/activate` before `dvc` and `python`; `make setup` makes it."
    )


if fault():
    sys.stderr.write(fault() + "\n")
    sys.exit(2)
