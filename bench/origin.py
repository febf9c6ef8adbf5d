"""The world outside, as one lean process: it serves the source to GETs and takes webhooks as POSTs, on loopback.

`python -m bench.origin FILE DELAY_SECONDS` prints its port, then a line for each webhook: `PATH MONOTONIC_SECONDS
BODY`. The delay is the source's alone: webhooks are answered at once. It is a process of its own so that it and the
load generator do not wait for one another's GIL. CLOCK_MONOTONIC is the same for every process, so arrivals can be
compared with what the load generator noted. Each job's URL has a query of its own, and no answer may be kept.
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import Final

HEAD: Final = (
    "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n"
    "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
)
NO_CONTENT: Final = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"


class _Exchange(asyncio.Protocol):
    """One connection, which carries one request."""

    def __init__(self, picture: bytes, delay_seconds: float) -> None:
        self._picture = picture
        self._delay_seconds = delay_seconds
        self._received = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if end and len(body) >= _read_length(head):
            self._answer(head.split(b" ", 2), body)

    def _answer(self, start: list[bytes], body: bytes) -> None:
        arrived_at = time.monotonic()
        method, path = start[:2]
        if method == b"GET":
            asyncio.get_running_loop().call_later(self._delay_seconds, self._write, self._picture)
        if method == b"POST":
            self._write(NO_CONTENT)
            print(path.decode(), arrived_at, body.decode(), flush=True)

    def _write(self, answer: bytes) -> None:
        assert self._transport is not None
        self._transport.write(answer)
        self._transport.close()


def _read_length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else 0


async def _serve(source: Path, delay_seconds: float) -> None:
    body = source.read_bytes()
    picture = HEAD.format(len(body)).encode() + body
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Exchange(picture, delay_seconds), "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), float(sys.argv[2])))
