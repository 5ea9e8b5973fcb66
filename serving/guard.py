"""What stands before every server: who may call it, by which name, and from which page.

A browser lets any page send requests to loopback, and a name of the page's own choice may lead there (DNS
rebinding). So a request must name a host that is ours, must not come from a page of another origin, and must
know the password.
"""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Iterable
from typing import Final
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS: Final = "CMG_ALLOWED_HOSTS"  # names beside loopback's by which the servers are called, with commas
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_FOREIGN: Final = frozenset({"cross-site", "same-site"})  # the latter: another port of this host
_PORTS: Final = {"http": 80, "https": 443}
_POLICY_VIOLATION: Final = 1008  # why a WebSocket is closed


def allowed_hosts() -> frozenset[str]:
    """Return the names that ``CMG_ALLOWED_HOSTS`` adds to loopback's, in lower case."""
    names = (name.strip().lower() for name in os.environ.get(HOSTS, "").split(","))
    return frozenset(name for name in names if name)


class Guard:
    """ASGI middleware that refuses foreign hosts, foreign pages and whoever lacks the password.

    Parameters
    ----------
    app
        The application behind it.
    auth
        ``user:password``, asked for as HTTP Basic authentication, or the password alone as a bearer token;
        None if the application asks by itself.
    hosts
        Names (of a port: ``name:port``) by which it may be called beside loopback's.
    """

    def __init__(self, app: ASGIApp, *, auth: str | None, hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._expected = None if auth is None else base64.b64encode(auth.encode())
        self._token = (auth or "").partition(":")[2].encode()
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 401 or 403."""
        refused = None if scope["type"] == "lifespan" else self._refusal(scope)
        if refused is None:
            await self._app(scope, receive, _unframed(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        else:
            await refused(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return why a request may not pass; None if it may."""
        headers = Headers(scope=scope)
        # Host and origin before the password: a browser sends the password along for whatever page asks.
        called, pages = headers.getlist("host"), headers.getlist("origin")
        if len(called) != 1 or not self._is_ours(_authority(f"//{called[0]}")):
            return PlainTextResponse(f"This host is not one of {HOSTS}.\n", 403)
        if pages and not self._is_own_page(pages, called[0], scope.get("server")):
            return PlainTextResponse("Pages of other origins may not call this server.\n", 403)
        if not pages and _is_embedded(headers):
            return PlainTextResponse(
                "Pages of other origins may link to this server, not load from it.\n", 403
            )
        if self._expected is not None and not self._knows_password(headers):
            asking = {"WWW-Authenticate": 'Basic realm="Composite Mood Genre", charset="UTF-8"'}
            return PlainTextResponse("make password prints user and password.\n", 401, headers=asking)
        return None

    def _is_ours(self, url: SplitResult | None) -> bool:
        """Return whether a host is loopback's, at any port (SSH forwards another), or an allowed one."""
        if url is None:
            return False
        return url.hostname in LOOPBACK or not self._hosts.isdisjoint({url.hostname, url.netloc.lower()})

    def _is_own_page(self, origins: list[str], called: str, server: tuple[str, int | None] | None) -> bool:
        """Return whether the page that asks is one of this very server; other servers of loopback are not."""
        page = _authority(origins[0])
        if len(origins) != 1 or page is None or page.scheme not in _PORTS:
            return False
        if page.netloc.lower() == called.lower():
            return True
        if page.hostname in LOOPBACK:
            return server is not None and (page.port or _PORTS[page.scheme]) == server[1]
        return self._is_ours(page)

    def _knows_password(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # In constant time: how long a comparison takes would tell how much of the password is right.
        known = {"basic": self._expected, "bearer": self._token}.get(scheme.lower())
        return bool(known) and hmac.compare_digest(given.strip().encode(), known or b"")


def _is_embedded(headers: Headers) -> bool:
    """Return whether a page of another site or port loads this as its picture, sound or script.

    Browsers send no origin with those, but the password: the page would learn what is there by how long it
    takes, and could keep the server busy.
    """
    is_foreign = headers.get("sec-fetch-site", "") in _FOREIGN
    return is_foreign and headers.get("sec-fetch-dest", "") != "document"  # a link, opened by a person


def _authority(url: str) -> SplitResult | None:
    """Return a URL's parts if it is a scheme, a host and perhaps a port, and nothing else."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises if it is none
    except ValueError:
        return None
    is_bare = not (parts.path or parts.query or parts.fragment or "@" in parts.netloc)
    return parts if parts.hostname and is_bare else None


def _unframed(send: Send) -> Send:
    """Keep other origins from showing the page in a frame, where they could lead the user's clicks."""

    async def send_with_header(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).setdefault("X-Frame-Options", "SAMEORIGIN")
        await send(message)

    return send_with_header
