"""Receivers of webhooks for the benches, all in one thread: some hang, some are down until told, all count."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

STOP_SECONDS: Final = 5.0


@dataclass(slots=True)
class Arrival:
    """A request as it came: `at` is wall-clock seconds."""

    at: float
    target: str
    body: bytes


@dataclass(slots=True)
class Receiver:
    """One receiver on a port of its own; `hold_seconds` is how long it takes to answer, None for ever."""

    hold_seconds: float | None = 0.0
    is_up: bool = True
    content: bytes = b""
    """What a GET is answered with."""
    arrivals: list[Arrival] = field(default_factory=list)
    refused: int = 0
    most_at_once: int = 0
    base: str = ""
    _now: int = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, or never."""
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            body = await reader.readexactly(_read_length(head))
            if head.startswith("GET"):
                writer.write(_answer("200 OK", self.content))
            else:
                writer.write(await self._take(Arrival(time.time(), head.split(" ")[1], body)))
            await writer.drain()
        writer.close()

    async def _take(self, arrival: Arrival) -> bytes:
        if not self.is_up:
            self.refused += 1
            return _answer("503 Service Unavailable")
        self.arrivals.append(arrival)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            await asyncio.sleep(3600 if self.hold_seconds is None else self.hold_seconds)
        finally:
            self._now -= 1
        return _answer("204 No Content")


@contextmanager
def run_receivers(*receivers: Receiver) -> Iterator[None]:
    """Run receivers on free ports of loopback, which are then in their `base`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    for receiver in receivers:
        server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(receiver.handle, "127.0.0.1", 0, backlog=1024), loop
        ).result()
        receiver.base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result(STOP_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(STOP_SECONDS)


async def _cancel_all() -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _read_length(head: str) -> int:
    lines = head.lower().split("\r\n")
    return next((int(line.partition(":")[2]) for line in lines if line.startswith("content-length:")), 0)


def _answer(status: str, body: bytes = b"") -> bytes:
    length = b"" if status.startswith("204") else f"Content-Length: {len(body)}\r\n".encode()
    return f"HTTP/1.1 {status}\r\n".encode() + length + b"Cache-Control: no-store\r\nConnection: close\r\n\r\n" + body
