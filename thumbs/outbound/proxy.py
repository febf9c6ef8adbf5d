"""Goes out through the operator's egress proxy, where the network lets nothing else out (docs/security.md).

The proxy is asked for a tunnel (CONNECT, RFC 9110 section 9.3.6) to an address that `call` has checked, never to a
name: our rules hold whatever the proxy's are, and TLS is between us and the receiver. `call` is its only caller.
"""

import re
import socket
import time
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self
from urllib.parse import unquote, urlsplit

from thumbs.outbound.lookup import Lookup, resolve_by_system

MAX_HEAD_BYTES = 8192
REFUSALS = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED})


class ProxyRefused(Exception):
    """The proxy does not want to: its own rules forbid the address, or it does not know us."""


@dataclass(frozen=True, slots=True)
class EgressProxy:
    """Where the proxy is, and the header by which it knows us. Its own address is the operator's: any will do."""

    host: str
    port: int
    authorization: str | None
    lookup: Lookup

    @classmethod
    def of_url(cls, url: str) -> Self:
        """Read THUMBS_EGRESS_PROXY_URL: `http://[user:password@]host[:port]`, checked by its parser."""
        parts = urlsplit(url)
        authorization = None
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = f"Basic {b64encode(pair.encode()).decode()}"
        return cls(parts.hostname or "", parts.port or 80, authorization, Lookup(resolve_by_system))

    def resolve(self, timeout_seconds: float) -> Sequence[str]:
        """Resolve the proxy's own name, to addresses of which any will do; raises TimeoutError and OSError."""
        return self.lookup.resolve(self.host, self.port, timeout_seconds)

    def open_tunnel(self, sock: socket.socket, address: str, port: int, until: float) -> None:
        """Have the proxy, to which the socket is connected, connect us with an address by that monotonic time.

        Raises ProxyRefused, TimeoutError, and OSError when the proxy cannot reach the address either.
        """
        authority = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        if self.authorization is not None:
            lines.append(f"Proxy-Authorization: {self.authorization}")
        sock.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
        status = _read_status(sock, until)
        if status in REFUSALS:
            raise ProxyRefused(f"the egress proxy answered {status}")
        if status == HTTPStatus.GATEWAY_TIMEOUT:
            raise TimeoutError("the egress proxy had no connection in time")
        if not 200 <= status < 300:
            raise ConnectionError(None, f"the egress proxy answered {status}")


def _read_status(sock: socket.socket, until: float) -> int:
    """Read the head of the proxy's answer, byte by byte: what follows it is not from the proxy."""
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):
        left_seconds = until - time.monotonic()
        if left_seconds <= 0:
            raise TimeoutError("no answer of the egress proxy in time")
        sock.settimeout(left_seconds)
        byte = sock.recv(1)
        if not byte or len(head) >= MAX_HEAD_BYTES:
            raise ConnectionError(None, "the egress proxy's answer broke off")
        head += byte
    words = head.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not re.fullmatch(rb"[0-9]{3}", words[1]):
        raise ConnectionError(None, "the egress proxy did not speak HTTP")
    return int(words[1])
