"""Real HTTP(S) servers on loopback for tests: sources that behave well or badly, and receivers of webhooks.

Each is a context manager on a port of its own, with one thread per connection and one request per connection. Waiting
behaviours end at once when the server stops. What a server says is in `exchanges` and `behaviours`; `authority` makes
certificates for the variants over TLS.

    with SourceServer() as source, Receiver() as receiver:
        source.serve("/cat.jpg", body, content_type="image/jpeg")
        receiver.answer_with(503, headers={"Retry-After": "2"}, count=1)
        ... source.url("/cat.jpg"), source.url("/drip/body"), receiver.url() ...
        first, second = receiver.wait_for(2, timeout_seconds=5)
"""

import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, Self
from urllib.parse import quote

from tests.support.behaviours import BEHAVIOURS, answer_not_found, drip_head
from tests.support.exchanges import MAX_HEAD_BYTES, Behaviour, Exchange, Reply, Request

STOP_SECONDS: Final = 5.0


class Server:
    """A listener on a loopback port; subclasses say in `handle` what a request is answered."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        """Listen; requests are taken from `with` on."""
        self.host = host
        self._tls = tls
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._requests: list[Request] = []
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.connection_count = 0

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        # Shutting a listener wakes its accept() on Linux, closing it does not.
        _shut(self._listener)
        self._listener.close()
        with self._changed:
            for sock in self._connections:
                _shut(sock)
            threads = list(self._threads)
        for thread in threads:
            thread.join(STOP_SECONDS)

    @property
    def requests(self) -> list[Request]:
        """Every request so far, in the order of arrival."""
        with self._changed:
            return list(self._requests)

    def url(self, path: str = "/", *, host: str | None = None) -> str:
        """Tell the URL of a path; another host name may be put in."""
        name = host or (f"[{self.host}]" if ":" in self.host else self.host)
        return f"{'https' if self._tls else 'http'}://{name}:{self.port}{path}"

    def count(self, path: str) -> int:
        """Count the requests for a path."""
        return sum(request.path == path for request in self.requests)

    def wait_for(self, count: int, timeout_seconds: float = 5.0) -> list[Request]:
        """Wait until that many requests have come, and return them all; AssertionError when they do not come."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._requests) >= count, timeout_seconds):
                raise AssertionError(f"{len(self._requests)} of {count} requests came within {timeout_seconds} s")
            return list(self._requests)

    def handle(self, exchange: Exchange) -> None:
        """Answer a request."""
        raise NotImplementedError

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                self.connection_count += 1
                self._connections.add(sock)
            self._spawn(self._serve, sock)

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name=f"test-server-{self.port}", daemon=True)
        with self._changed:
            self._threads = [old for old in self._threads if old.is_alive()]
            self._threads.append(thread)
            thread.start()

    def _serve(self, raw: socket.socket) -> None:
        sock = raw
        # A peer that breaks off is what many tests are about, and so is one that never shakes hands.
        with suppress(OSError):
            if self._tls is not None:
                sock = self._tls.wrap_socket(raw, server_side=True)
                self._track(raw, sock)
            request = self._read(sock)
            if request is not None:
                self._record(request)
                self.handle(Exchange(sock, request, self._stopping))
        with self._changed:
            self._connections.discard(sock)
            self._connections.discard(raw)
        _finish(sock)
        raw.close()

    def _read(self, sock: socket.socket) -> Request | None:
        return _read_request(sock)

    def _track(self, raw: socket.socket, sock: socket.socket) -> None:
        with self._changed:
            self._connections.discard(raw)
            self._connections.add(sock)
            if self._stopping.is_set():
                _shut(sock)

    def _record(self, request: Request) -> None:
        with self._changed:
            self._requests.append(request)
            self._changed.notify_all()


class SourceServer(Server):
    """Serves registered bytes by path, and misbehaves on the paths of BEHAVIOURS."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        """Listen; every path answers 404 at first, except those of BEHAVIOURS."""
        super().__init__(tls=tls, host=host)
        self._behaviours: dict[str, Behaviour] = {}

    def serve(
        self,
        path: str,
        body: bytes,
        *,
        content_type: str = "image/jpeg",
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Serve bytes at a path, and return its URL."""
        reply = Reply(status, body, {"Content-Type": content_type, **(headers or {})})
        return self.script(path, lambda exchange: exchange.reply(reply))

    def script(self, path: str, behaviour: Behaviour) -> str:
        """Let a function answer at a path, and return its URL."""
        self._behaviours[path] = behaviour
        return self.url(path)

    def redirect_to(self, url: str, status: int = 302) -> str:
        """Return a URL that redirects to another one."""
        return self.url(f"/redirect?status={status}&to={quote(url, safe='')}")

    def handle(self, exchange: Exchange) -> None:
        """Answer as registered, or as BEHAVIOURS say, or 404."""
        path = exchange.request.path
        prefix = "/" + path.split("/")[1]
        behaviour = self._behaviours.get(path) or BEHAVIOURS.get(path) or BEHAVIOURS.get(prefix, answer_not_found)
        behaviour(exchange)


class Receiver(Server):
    """Records every webhook and answers 200, or as it is told."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        """Listen; every request is answered 200 at first."""
        super().__init__(tls=tls, host=host)
        self._default: Behaviour = lambda exchange: exchange.reply(Reply())
        self._next: deque[Behaviour] = deque()

    def answer_with(
        self, status: int, *, headers: Mapping[str, str] | None = None, body: bytes = b"", count: int | None = None
    ) -> None:
        """Answer the next `count` requests so, or all from now on; several calls queue up."""
        reply = Reply(status, body, headers or {})
        self.behave(lambda exchange: exchange.reply(reply), count=count)

    def answer_by(self, decide: Callable[[Request], Reply]) -> None:
        """Let a function decide on each answer from now on."""
        self.behave(lambda exchange: exchange.reply(decide(exchange.request)))

    def hang(self, *, count: int | None = None) -> None:
        """Never answer the next `count` requests, or all from now on."""
        self.behave(Exchange.wait, count=count)

    def drip(self, *, count: int | None = None) -> None:
        """Answer the next `count` requests, or all from now on, with a head that comes byte by byte for ever."""
        self.behave(drip_head, count=count)

    def reset(self, *, count: int | None = None) -> None:
        """Break the next `count` connections, or all from now on, after their request."""
        self.behave(Exchange.reset, count=count)

    def behave(self, behaviour: Behaviour, *, count: int | None = None) -> None:
        """Let a function answer the next `count` requests, or all from now on."""
        with self._changed:
            if count is None:
                self._default = behaviour
                self._next.clear()
            else:
                self._next.extend([behaviour] * count)

    def handle(self, exchange: Exchange) -> None:
        """Answer as told."""
        with self._changed:
            behaviour = self._next.popleft() if self._next else self._default
        behaviour(exchange)


class RawServer(Server):
    """Does one thing to every connection, before anything is read: for what is not HTTP."""

    def __init__(self, behaviour: Behaviour) -> None:
        """Listen; `behaviour` gets an exchange with an empty request."""
        super().__init__()
        self._behaviour = behaviour

    def handle(self, exchange: Exchange) -> None:
        """Do it."""
        self._behaviour(exchange)

    def _read(self, sock: socket.socket) -> Request:
        return Request("", "", {}, b"", time.monotonic())


def _read_request(sock: socket.socket) -> Request | None:
    """Read one request; None when the peer closed before it was whole."""
    data = b""
    while b"\r\n\r\n" not in data and len(data) < MAX_HEAD_BYTES:
        block = sock.recv(MAX_HEAD_BYTES)
        if not block:
            return None
        data += block
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _version = first.split(" ")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        block = sock.recv(MAX_HEAD_BYTES)
        if not block:
            return None
        body += block
    return Request(method, target, headers, body, time.monotonic())


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _finish(sock: socket.socket) -> None:
    with suppress(OSError, ValueError):
        sock.shutdown(socket.SHUT_WR)
    sock.close()
