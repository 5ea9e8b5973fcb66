"""The page and the HTTP interface for listeners, behind the guard of all servers: ``cmg serve``.

``python -m serving.server`` is what ``make up`` starts: it waits until there is a champion.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path
from typing import Final

from pipeline.errors import CmgError, run_main
from serving import champions, password
from serving.api import create_app
from serving.guard import LOOPBACK, Guard, allowed_hosts
from serving.service import Limits
from serving.track_index import library_file

TOKEN: Final = "CMG_TOKEN"  # in the environment, since everybody on the machine can read arguments
PORT: Final = "LISTEN_PORT"

_LEAST: Final = 16  # characters of a token
_WAIT_SECONDS: Final = 10


def run(host: str, port: int, *, library: Path | None = None, workers: int = 2, megabytes: int = 100) -> None:
    """Serve until stopped.

    Parameters
    ----------
    host, port
        Where to listen.
    library
        The index; None for the one that the commands use.
    workers
        Files answered at a time.
    megabytes
        Largest upload.

    Raises
    ------
    CmgError
        Nothing serves, the address cannot be listened at, or others could reach the server without a token
        of the user's own choice.
    """
    auth = _auth(host)
    champions.champions()  # what is wrong with them is said in one line, before the server starts
    _require_free(host, port)
    import uvicorn

    limits = Limits(megabytes=megabytes, workers=workers)
    app = Guard(create_app(library or library_file(), limits), auth=auth, hosts=allowed_hosts())
    shown = f"[{host}]" if ":" in host else host
    said = f"{TOKEN} is the password" if os.environ.get(TOKEN) else "`make password` prints the password"
    print(f"http://{shown}:{port}/  user {auth.partition(':')[0]}; {said}. Ctrl-C stops it.", flush=True)
    uvicorn.run(app, host=host, port=port, log_level="warning", timeout_keep_alive=20)


def _require_free(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        raise CmgError(
            f"expected to listen at {host}, port {port}, received: {error.strerror or error}. "
            "Stop what uses it, or choose another --port."
        ) from None


def _auth(host: str) -> str:
    token = os.environ.get(TOKEN, "")
    if token:
        if len(token) < _LEAST or not (token.isascii() and token.isprintable()) or {" ", ":"} & set(token):
            raise CmgError(
                f"expected {TOKEN} to be {_LEAST} or more letters, digits and marks without blank or colon, "
                "received something else."
            )
        return f"{password.USER}:{token}"
    if host not in LOOPBACK:
        raise CmgError(
            f"expected {TOKEN} to be set where others can reach the server, received --host {host} alone. "
            "Choose a long secret, and name the server's own address in CMG_ALLOWED_HOSTS."
        )
    return password.obtain()


def main() -> None:
    """Serve on loopback as soon as there is a champion."""
    while True:
        try:
            champions.champions()
            break
        except CmgError as error:
            print(f"{error} Waiting for one.", file=sys.stderr, flush=True)
            time.sleep(_WAIT_SECONDS)
    run("127.0.0.1", int(os.environ.get(PORT, "8700")))


if __name__ == "__main__":
    run_main(main)
