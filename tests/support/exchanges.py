"""What the test servers speak: requests as they arrived, answers, and one exchange in the hands of a behaviour."""

import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs, urlsplit

DRIP_SECONDS: Final = 0.02
"""Between two bytes of a dripped answer: far below any read timeout."""
FOREVER_SECONDS: Final = 3600.0
MAX_HEAD_BYTES: Final = 65536
RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with a time of 0: closing sends a reset."""
REASONS: Final = {200: "OK", 204: "No Content", 302: "Found", 404: "Not Found", 410: "Gone", 503: "Service Unavailable"}


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it arrived; the names of `headers` are lower-case, `received_at` is monotonic seconds."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    received_at: float

    @property
    def path(self) -> str:
        """The target without its query."""
        return urlsplit(self.target).path

    def query(self, name: str, default: str = "") -> str:
        """Tell one value of the query."""
        return parse_qs(urlsplit(self.target).query).get(name, [default])[0]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that behaves well."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Encode it for the wire; its length is told unless the headers say something of their own."""
        headers = {"Content-Length": str(len(self.body)), "Connection": "close", **self.headers}
        if "Transfer-Encoding" in headers:
            del headers["Content-Length"]
        lines = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("utf-8") + self.body


class Exchange:
    """One connection with its request, in the hands of a behaviour."""

    def __init__(self, sock: socket.socket, request: Request, stopping: threading.Event) -> None:
        """Take a connection whose request has been read."""
        self.request = request
        self._sock = sock
        self._stopping = stopping

    def receive(self) -> bytes:
        """Receive what there is, at least one byte; nothing at the end of the stream."""
        return self._sock.recv(MAX_HEAD_BYTES)

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._sock.sendall(data)

    def reply(self, reply: Reply) -> None:
        """Send a whole answer."""
        self.send(reply.encode())

    def drip(self, data: bytes) -> None:
        """Send bytes one by one."""
        for byte in data:
            self.send(bytes([byte]))
            self.wait(DRIP_SECONDS)

    def repeat(self, data: bytes, pause_seconds: float = 0.0) -> None:
        """Send the same bytes until the peer or the server has had enough."""
        while not self._stopping.is_set():
            self.send(data)
            self.wait(pause_seconds)

    def wait(self, seconds: float = FOREVER_SECONDS) -> None:
        """Wait, though not longer than the server lives."""
        if self._stopping.wait(seconds):
            raise ConnectionAbortedError("the server stops")

    def end(self) -> None:
        """End our half of the connection."""
        self._sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Break the connection off with a reset."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._sock.close()


Behaviour = Callable[[Exchange], None]
