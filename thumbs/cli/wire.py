"""How `thumbs listen` speaks HTTP: one connection per request, to where its user says; TLS is always verified.

The service itself goes out through `thumbs.outbound`, whose policy for addresses is not for this.
"""

import os
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from socket import SHUT_RDWR, gaierror, socket
from typing import Final
from urllib.parse import urlsplit

from thumbs.errors import SettingsError

CONNECT_SECONDS: Final = 10.0
"""For each address of a host, so that one that is silent is told soon."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL as HTTP needs it."""

    is_tls: bool
    host: str
    port: int | None
    target: str


def split_target(url: str) -> Target:
    """Split an http(s) URL; ValueError for what is none, and for userinfo, which lines would show."""
    expected = "expected a URL such as http://localhost:3000/hooks"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(expected) from None
    is_plain = url.isascii() and url.isprintable() and " " not in url and "@" not in parts.netloc
    if parts.scheme not in ("http", "https") or not host or not is_plain:
        raise ValueError(expected)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme == "https", host, port, target)


def load_authorities() -> ssl.SSLContext:
    """Load the certificate authorities to trust: those of THUMBS_CA_BUNDLE, else the system's. Raises SettingsError."""
    bundle = os.environ.get("THUMBS_CA_BUNDLE") or None
    try:
        return ssl.create_default_context(cafile=bundle)
    except OSError as error:
        raise SettingsError(
            f"THUMBS_CA_BUNDLE={bundle!r} cannot be used: expected a file of certificates in PEM form."
        ) from error


def connect(url: str, timeout_seconds: float, tls: ssl.SSLContext) -> HTTPConnection:
    """Connect; the caller closes it. `timeout_seconds` is for each wait for data from then on. Raises OSError."""
    target = split_target(url)
    connect_seconds = min(timeout_seconds, CONNECT_SECONDS)
    connection = (
        HTTPSConnection(target.host, target.port, timeout=connect_seconds, context=tls)
        if target.is_tls
        else HTTPConnection(target.host, target.port, timeout=connect_seconds)
    )
    try:
        connection.connect()
    except UnicodeError as error:  # A host that IDNA cannot encode, such as one with an empty label.
        raise gaierror("the name cannot be one") from error
    connection.sock.settimeout(timeout_seconds)
    return connection


@contextmanager
def cut_after(seconds: float, sock: socket) -> Iterator[None]:
    """Cut the connection so many seconds from now: a timeout of a socket starts again with every byte that comes."""
    timer = threading.Timer(seconds, _cut, [sock])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def explain(error: OSError | HTTPException) -> str:
    """Tell in a few words why there is no answer."""
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, gaierror):
        return "the name is not found"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    if isinstance(error, ConnectionError):
        return "the connection broke off"
    if isinstance(error, HTTPException):
        return "what it answers is not HTTP"
    return (isinstance(error, ssl.SSLError) and error.reason) or error.strerror or type(error).__name__


def show_text(text: str) -> str:
    """Put foreign text into one line that cannot steer a terminal."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _cut(sock: socket) -> None:
    with suppress(OSError):
        sock.shutdown(SHUT_RDWR)
