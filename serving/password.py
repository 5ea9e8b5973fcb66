"""The one password of all servers: made once, kept where Prefect's own commands read it.

``prefect.toml`` names `FILE` as Prefect's profiles, so that ``prefect deployment run …`` and ``python -m
flows.retrain`` find password and address by themselves in the project's folder.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from filelock import FileLock

from pipeline.errors import CmgError, run_main

FILE: Final = Path(".prefect/profiles.toml")
SERVERS: Final = "PREFECT_SERVER_API_AUTH_STRING"  # what the servers ask for, as user:password
CLIENTS: Final = "PREFECT_API_AUTH_STRING"  # what Prefect's clients send
USER: Final = "cmg"
_PROFILE: Final = "make-up"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_BYTES: Final = 24  # of randomness; 32 characters


def obtain(**settings: str) -> str:
    """Return what the servers ask for, as ``user:password``; make it if there is none yet.

    Parameters
    ----------
    **settings
        Prefect's settings to keep beside it for the commands that are typed in this folder.

    Raises
    ------
    CmgError
        The variable holds no ``user:password``, or others may read the file.
    """
    given = os.environ.get(SERVERS)
    if given:  # a team's own, which is not to be written down
        return _checked(given, SERVERS)
    FILE.parent.mkdir(mode=0o700, exist_ok=True)
    with FileLock(FILE.with_suffix(".lock"), mode=0o600):
        kept = _read()
        profile = kept["profiles"].setdefault(_PROFILE, {})
        auth = profile.get(SERVERS) or f"{USER}:{secrets.token_urlsafe(_BYTES)}"
        before = dict(profile)
        profile |= {SERVERS: auth, CLIENTS: auth} | settings
        if profile != before:
            _write(kept)
    return _checked(auth, f"{SERVERS} in {FILE}")


def _checked(auth: str, where: str) -> str:
    """Return the text if browsers and Prefect can send it; it is not shown if they cannot."""
    user, _, password = auth.partition(":")
    if not (user and password and auth.isascii() and auth.isprintable() and " " not in auth):
        raise CmgError(
            f"expected {where} to be user:password in ASCII without spaces, received something else. "
            "Choose another, or leave it to make up."
        )
    return auth


def _read() -> dict[str, Any]:
    """Return the profiles; Prefect's own commands may have added some.

    Raises
    ------
    CmgError
        The file is not the user's own and nobody else's, or no TOML.
    """
    try:
        handle = os.open(FILE, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return {"active": _PROFILE, "profiles": {}}
    except OSError as error:
        raise CmgError(f"{FILE}: expected a file, received: {error.strerror}. Move it away.") from None
    with os.fdopen(handle, "rb") as stream:
        _require_private(os.fstat(handle))
        try:
            kept = tomllib.load(stream)
        except ValueError:  # its message would quote the line
            raise CmgError(f"{FILE}: expected TOML, received something else. Move it away.") from None
    return {"active": _PROFILE, "profiles": {}} | kept


def _require_private(found: os.stat_result) -> None:
    """Refuse a file that others may have read, or written."""
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or mode & _OTHERS:
        raise CmgError(
            f"{FILE}: expected a file of mode 600 and your own, received mode {mode:o} of user "
            f"{found.st_uid}: others may know the password. Remove it, and make up makes a new one."
        )


def _write(kept: Mapping[str, Any]) -> None:
    """Replace the file by one that nobody else can read at any moment."""
    handle, name = tempfile.mkstemp(dir=FILE.parent, prefix=".new-")  # mode 600 from the start
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(_toml(kept))
        temporary.replace(FILE)
    finally:
        temporary.unlink(missing_ok=True)


def _toml(kept: Mapping[str, Any]) -> str:
    """Return Prefect's profiles as TOML; JSON's strings, numbers and booleans are TOML's too."""
    lines = [f"active = {json.dumps(kept['active'])}"]
    for name, profile in kept["profiles"].items():
        lines += ["", f"[profiles.{json.dumps(name)}]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in profile.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the password alone, and for people how to use it."""
    print(obtain())
    print("Prefect's page asks for all of it, every other page for user and password.", file=sys.stderr)


if __name__ == "__main__":
    run_main(main)
