"""A TCP proxy on loopback that can be cut, or left hanging: how a test takes a server away that goes on running.

It runs in a thread of its own, speaks TLS towards its clients where it is given a context, and reaches a port of
loopback or a Unix socket.

    with Proxy(valkey_port) as proxy:
        ... connect to proxy.port ...
        proxy.cut()      # connections break, new ones are refused
        proxy.hang()     # connections are accepted, and nothing is ever answered
        proxy.restore()  # as before
"""

import asyncio
import ssl
import threading
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

BLOCK_BYTES: Final = 65536
COMMAND_SECONDS: Final = 10.0
"""How long the proxy's own thread may take to do as it is told."""


class Proxy:
    """Passes bytes on in both directions. Its commands are done when they return, and may be repeated."""

    def __init__(self, upstream: int | Path, *, tls: ssl.SSLContext | None = None) -> None:
        """Take where to pass bytes on to; nothing is listened on before `with`."""
        self._upstream = upstream
        self._tls = tls
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_hanging = False

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(COMMAND_SECONDS)
        self._loop.close()

    def cut(self) -> None:
        """Break every connection off, and refuse new ones."""
        self._run(self._close())

    def hang(self) -> None:
        """Pass nothing on any more; connections stay, and new ones are accepted."""
        self._is_hanging = True

    def restore(self) -> None:
        """Pass bytes on again, over new connections: those that hung have lost what was said meanwhile."""
        self._run(self._close())
        self._is_hanging = False
        self._run(self._listen())

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(COMMAND_SECONDS)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        """Close the listener and every connection; waits until their tasks have ended."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for client in self._clients:
            client.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(writer)
        self._tasks.add(task)
        with suppress(OSError, asyncio.CancelledError):
            await self._join(reader, writer)
        self._tasks.discard(task)
        self._clients.discard(writer)
        writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Join a client with a connection upstream of its own, until either side ends."""
        upstream_reader, upstream_writer = await self._connect()
        pumps = [
            asyncio.ensure_future(self._pump(reader, upstream_writer)),
            asyncio.ensure_future(self._pump(upstream_reader, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            upstream_writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._upstream, Path):
            return await asyncio.open_unix_connection(self._upstream)
        return await asyncio.open_connection("127.0.0.1", self._upstream)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while block := await reader.read(BLOCK_BYTES):
            if self._is_hanging:
                continue
            writer.write(block)
            await writer.drain()
