"""The page and the HTTP interface for listeners, behind the guard of all servers: ``cmg serve``.

``python -m serving.server`` is what ``make up`` starts: until there is a champion it says that there is none.
"""

from __future__ import annotations

import math
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from pipeline.errors import CmgError, run_main
from serving import champions, password
from serving.api import create_app
from serving.guard import LOOPBACK, Guard, allowed_hosts
from serving.limits import UploadLimits
from serving.track_index import Library, library_file

if TYPE_CHECKING:
    import uvicorn

TOKEN: Final = "CMG_TOKEN"  # in the environment, since everybody on the machine can read arguments
PORT: Final = "LISTEN_PORT"
DEFAULT_PORT: Final = 8700

_LEAST: Final = 16  # characters of a token
_WAIT_SECONDS: Final = 10  # after which a browser asks again whether there is a champion
_LOOK_SECONDS: Final = 120  # between looks into the registry, which import MLflow: 5 s of CPU


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
        Nothing serves, the index cannot be opened, the address cannot be listened at, or others could reach
        the server without a token of the user's own choice.
    """
    auth = _auth(host)
    champions.champions()  # what is wrong with them is said in one line, before the server starts
    file = library or library_file()
    Library(file).close()  # likewise
    _require_free(host, port)
    import uvicorn

    limits = UploadLimits(megabytes=megabytes, workers=workers)
    app = Guard(create_app(file, limits), auth=auth, hosts=allowed_hosts())
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


class _Waiting:
    """ASGI application that says that no champion serves yet, until there is one."""

    reason = "Looking for a champion."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        is_health = scope["path"] == "/healthz"
        again = {"Retry-After": f"{_WAIT_SECONDS}", "Refresh": f"{_WAIT_SECONDS}"}
        said = PlainTextResponse("ok" if is_health else f"{self.reason}\n", 200 if is_health else 503, again)
        await said(scope, receive, send)


def _wait(host: str, port: int) -> bool:
    """Answer every request with the reason for waiting; return whether there is a champion at last."""
    import uvicorn

    waiting = _Waiting()
    app = Guard(waiting, auth=_auth(host), hosts=allowed_hosts())
    server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_level="warning", lifespan="off"))
    found = threading.Event()
    threading.Thread(target=_look, args=(waiting, found, server), daemon=True).start()
    server.run()
    return found.is_set()


def _look(waiting: _Waiting, found: threading.Event, server: uvicorn.Server) -> None:
    """Look for a champion until there is one: soon after a promotion here, now and then for one elsewhere."""
    signs = (champions.project() / "mlruns" / "champions.json", champions.cache_folder())
    looked, seen = -math.inf, [0, 0]
    while True:
        now = [path.stat().st_mtime_ns if path.exists() else 0 for path in signs]
        if now != seen or time.monotonic() > looked + _LOOK_SECONDS:
            seen, looked = now, time.monotonic()
            try:
                champions.champions()
                break
            except CmgError as error:
                waiting.reason = f"{error} This page waits for one."
                print(waiting.reason, file=sys.stderr, flush=True)
        time.sleep(1)
    found.set()
    server.should_exit = True


def main() -> None:
    """Serve on loopback; say that there is no champion until there is one."""
    host, text = "127.0.0.1", os.environ.get(PORT, f"{DEFAULT_PORT}")
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise CmgError(f"expected {PORT} to be a port from 1 to 65535, received {text!r}.")
    port = int(text)
    if champions.are_cached() or _wait(host, port):
        run(host, port)


if __name__ == "__main__":
    run_main(main)
