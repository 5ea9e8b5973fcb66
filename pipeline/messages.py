"""What is printed, logged, stored or sent shows no password: `masked` is the one filter of all of it."""

from __future__ import annotations

import base64
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote, unquote_plus

_MASK: Final = "***"
_SHORTEST: Final = 6  # characters; to hide shorter ones wherever they stand would blank out common words
_NAMES: Final = (
    r"password|passwd|passphrase|secret|token|signature|credentials?|api[_-]?key|access[_-]?key"
    r"|private[_-]?key"
)
# Up to the last @ of a word, since a password may hold slashes and more of them; encoded likewise.
_USER_INFO: Final = re.compile(r"(//|%2F%2F)\S*(@|%40)", re.IGNORECASE)
_SCHEME: Final = re.compile(r"\s*[a-z][\w+.-]*://", re.IGNORECASE)
_QUOTED: Final = r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\""""
_ASSIGN: Final = r"['\"]?\s?(?:=|:|%3D|%3A)\s?"
# An encoded & ends the value only where its sign is encoded, too: else it is one of the password's letters.
_ASSIGNED: Final = re.compile(
    rf"""((?:\b[\w.-]*(?:{_NAMES})|\b(?:pwd|sig)|(?:[?&]|%3F|%26)key){_ASSIGN})"""
    rf"""(?:{_QUOTED})?(?:(?<=%3D)(?:[^\s&%]|%(?!26))*|(?<=%3A)(?:[^\s&%]|%(?!26))*|(?<!%3D)(?<!%3A)[^\s&]*)""",
    re.IGNORECASE,
)
# Without a scheme an address is known by what follows the @: a host with a dot, a port or a path.
_ADDRESS: Final = re.compile(
    r"(?<![\w/@%])(?!mailto:)[\w.+-]+:(?!/)[^\s@]+@(?=localhost\b|[\w-]+(?:\.[\w-]|:\d|/\w))"
)
_AUTHORIZATION: Final = re.compile(
    rf"(authorization{_ASSIGN}['\"]?(?:(?:basic|bearer|digest|token)\s+)?)\S+", re.IGNORECASE
)
_COOKIE: Final = re.compile(r"(\b(?:set-)?cookie['\"]?\s?[:=]\s?)[^\n]+", re.IGNORECASE)
_SECRET_VARIABLE: Final = re.compile(rf"(?:^|_)(?:{_NAMES}|auth_string)$", re.IGNORECASE)


def masked(text: str) -> str:
    """Return a text without passwords.

    These go: user and password of URLs and addresses, parameters such as ``password=``, what the headers
    ``Authorization`` and ``Cookie`` hold, and every secret of the environment wherever it stands.

    Parameters
    ----------
    text
        A message, of any number of lines.

    Examples
    --------
    >>> masked("expected a store at postgresql://ann:hunter2@db:5432/mlflow?sslpassword=x")
    'expected a store at postgresql://***@db:5432/mlflow?sslpassword=***'
    """
    for secret in sorted(set(_known_secrets()), key=len, reverse=True):
        text = text.replace(secret, _MASK)
    text = _ASSIGNED.sub(rf"\1{_MASK}", text)  # first: what follows may eat a parameter's name
    text = _USER_INFO.sub(rf"\1{_MASK}\2", text)
    text = _ADDRESS.sub(f"{_MASK}@", text)
    text = _COOKIE.sub(rf"\1{_MASK}", text)
    return _AUTHORIZATION.sub(rf"\1{_MASK}", text)


def _known_secrets() -> Iterator[str]:
    """Yield the environment's secrets: of variables by their name, of URLs by their form."""
    for name, value in os.environ.items():
        found = [value, value.partition(":")[2]] if _SECRET_VARIABLE.search(name) else []
        found += _passwords(value)
        for secret in found:
            spellings = {
                secret,
                quote(secret, safe=""),
                quote(secret),
                quote_plus(secret),
                unquote(secret),
                unquote_plus(secret),
            }
            spellings.add(base64.b64encode(secret.encode(errors="replace")).decode())
            yield from (spelling for spelling in spellings if len(spelling) >= _SHORTEST)


def _passwords(value: str) -> Iterator[str]:
    """Yield what may be the password of a URL: which @ ends it is not certain, nor has it no spaces."""
    scheme = _SCHEME.match(value)
    rest = value[scheme.end() :] if scheme else ""
    for at in re.finditer("@", rest):
        user, colon, password = rest[: at.start()].partition(":")
        yield password if colon else user


def mask_logs() -> None:
    """Let every log message of this process go through `masked`."""
    make = logging.getLogRecordFactory()
    if getattr(make, "masks", False):
        return

    def record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        made = make(*args, **kwargs)
        try:
            said = made.getMessage()
        except (TypeError, ValueError):  # logging says so itself, as it does without us
            return made
        if masked(said) != said:
            made.msg, made.args = masked(said), ()
        return made

    record.masks = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(record)


def print_masked(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback as Python does, but masked; for `sys.excepthook`."""
    sys.stderr.write(masked("".join(traceback.format_exception(kind, error, trace))))
