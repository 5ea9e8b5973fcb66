"""What a page of another origin, or under a name that leads to loopback, tries with our servers."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Page

EVIL = "evil.example"
FLAGS = (
    f"--host-resolver-rules=MAP {EVIL} 127.0.0.1",  # as DNS answers for a rebound name
    "--disable-features=LocalNetworkAccessChecks",  # new in Chromium; other browsers let such requests pass
)
PULL_STEPS = {"pull_steps": [{"prefect.deployments.steps.run_shell_script": {"script": "touch owned"}}]}
RUN = {"parameters": {}, "state": {"type": "SCHEDULED"}}
TRY = """async ([url, method, body, options]) => {
  try { return (await fetch(url, {method, body: JSON.stringify(body), ...options})).status }
  catch (error) { return "refused by the browser" }
}"""


def raw(url: str, method: str, body: Any = None, headers: Mapping[str, str] | None = None) -> int:
    """Send a request with exactly these headers, ``Host`` included; return the status."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=30)
    named = {"Host": parts.netloc} | dict(headers or {})
    content = b"" if body is None else json.dumps(body).encode()
    connection.putrequest(method, parts.path or "/", skip_host=True, skip_accept_encoding=True)
    for name, value in (named | {"Content-Length": str(len(content))}).items():
        connection.putheader(name, value)
    connection.endheaders(content)
    status = connection.getresponse().status
    connection.close()
    return status


@contextmanager
def page_server() -> Iterator[int]:
    """Serve the attacker's page; yield its port."""

    class Kittens(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<h1>kittens</h1>")

        def log_message(self, *_: Any) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Kittens)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def from_another_origin(opened: Page, port: int, deployment: str) -> None:
    """Ask for a run as a page may without asking back, and change the deployment as one may not.

    Parameters
    ----------
    opened
        A page.
    port
        Where the attacker's page is served.
    deployment
        The deployment's address in Prefect's API.
    """
    for name in (EVIL, "127.0.0.1"):  # the page of another local server is another origin, too
        opened.goto(f"http://{name}:{port}/")
        opened.evaluate(TRY, [f"{deployment}/create_flow_run", "POST", RUN, {"mode": "no-cors"}])
        opened.evaluate(
            TRY, [deployment, "PATCH", PULL_STEPS, {"headers": {"Content-Type": "application/json"}}]
        )


def by_rebinding(opened: Page, deployment: str) -> list[int]:
    """Do the same as a page whose own name leads to the server by now; return the answers' status."""
    there = urlsplit(deployment)._replace(netloc=f"{EVIL}:{urlsplit(deployment).port}").geturl()
    opened.route("**/kittens", lambda route: route.fulfill(body="<h1>kittens</h1>", content_type="text/html"))
    opened.goto(f"http://{urlsplit(there).netloc}/kittens")
    as_json = {"headers": {"Content-Type": "application/json"}}
    return [
        opened.evaluate(TRY, [there, "PATCH", PULL_STEPS, as_json]),
        opened.evaluate(TRY, [f"{there}/create_flow_run", "POST", RUN, as_json]),
    ]
