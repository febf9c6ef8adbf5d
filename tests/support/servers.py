"""Real HTTP(S) servers on loopback for tests: sources that behave well or badly, and receivers of webhooks.

Each is a context manager on a port of its own, with one thread per connection and one request per connection. Waiting
behaviours end at once when the server stops. `TestAuthority` makes certificates for the variants over TLS.

    with SourceServer() as source, Receiver() as receiver:
        source.serve("/cat.jpg", body, content_type="image/jpeg")
        receiver.answer_with(503, headers={"Retry-After": "2"}, count=1)
        ... source.url("/cat.jpg"), source.url("/drip/body"), receiver.url() ...
        first, second = receiver.wait_for(2, timeout_seconds=5)
"""

import ipaddress
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self
from urllib.parse import parse_qs, quote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DRIP_SECONDS: Final = 0.02
"""Between two bytes of a dripped answer: far below any read timeout."""
FOREVER_SECONDS: Final = 3600.0
STOP_SECONDS: Final = 5.0
MAX_HEAD_BYTES: Final = 65536
HUGE_BYTES: Final = 500 * 1024 * 1024
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

    def reset(self) -> None:
        """Break the connection off with a reset."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._sock.close()


Behaviour = Callable[[Exchange], None]


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
        behaviour = self._behaviours.get(path) or BEHAVIOURS.get(path) or BEHAVIOURS.get(prefix, _answer_not_found)
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
        self.behave(_drip_head, count=count)

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


class TestAuthority:
    """A certificate authority that lives as long as a test; `bundle` is its own certificate, as a PEM file."""

    __test__ = False

    def __init__(self, directory: Path) -> None:
        """Make the authority; its files go to the directory."""
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "thumbs test authority")])
        self._certificate = self._build_own_certificate()
        self.bundle = directory / "authority.pem"
        self.bundle.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def build_context(self, *names: str, is_expired: bool = False) -> ssl.SSLContext:
        """Build what a server needs to speak TLS under these names or addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._build_certificate(key.public_key(), names, is_expired=is_expired)
        path = self._directory / f"{certificate.serial_number:x}.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + _encode_key(key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _build_own_certificate(self) -> x509.Certificate:
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        builder = self._start(self._key.public_key(), self._name, timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        return builder.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())

    def _build_certificate(
        self, key: ec.EllipticCurvePublicKey, names: tuple[str, ...], *, is_expired: bool
    ) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "thumbs test server")])
        builder = self._start(key, subject, timedelta(hours=-1) if is_expired else timedelta(days=1))
        authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(authority_id, critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(map(_encode_san, names)), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _start(self, key: ec.EllipticCurvePublicKey, subject: x509.Name, life: timedelta) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(self._name, subject, key, x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + life)
        return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _encode_san(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _encode_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


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


# ── behaviours ──────────────────────────────────────────────────────────────────────────────────────────


def _answer_not_found(exchange: Exchange) -> None:
    exchange.reply(Reply(404, b"nothing here"))


def _answer_status(exchange: Exchange) -> None:
    """`/status/503?retry_after=2` answers 503 with `Retry-After: 2`."""
    wish = exchange.request.query("retry_after")
    status = int(exchange.request.path.rpartition("/")[2])
    exchange.reply(Reply(status, b"" if status == 204 else b"as told", {"Retry-After": wish} if wish else {}))


def _redirect(exchange: Exchange) -> None:
    """`/redirect?to=URL&status=307` redirects there."""
    request = exchange.request
    exchange.reply(Reply(int(request.query("status", "302")), b"moved", {"Location": request.query("to")}))


def _redirect_loop(exchange: Exchange) -> None:
    exchange.reply(Reply(302, b"moved", {"Location": exchange.request.path}))


def _redirect_with_huge_body(exchange: Exchange) -> None:
    exchange.send(f"HTTP/1.1 302 Found\r\nLocation: /status/410\r\nContent-Length: {HUGE_BYTES}\r\n\r\n".encode())
    exchange.repeat(bytes(65536))


def _answer_slowly(exchange: Exchange) -> None:
    """`/slow?seconds=2` answers after that time."""
    exchange.wait(float(exchange.request.query("seconds", "1")))
    exchange.reply(Reply(200, b"late"))


def _drip_status(exchange: Exchange) -> None:
    exchange.drip(b"HTTP/1.1 200 " + b"O" * 10_000)


def _drip_head(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        exchange.drip(b"X-Filler: 1\r\n")


def _drip_body(exchange: Exchange) -> None:
    """No length is told, so that a cut looks like the end."""
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nConnection: close\r\n\r\n")
    while True:
        exchange.drip(b"0123456789")


def _hang_in_body(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    exchange.wait()


def _continue_for_ever(exchange: Exchange) -> None:
    exchange.repeat(b"HTTP/1.1 100 Continue\r\n\r\n", DRIP_SECONDS)


def _hint_for_ever(exchange: Exchange) -> None:
    exchange.repeat(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", DRIP_SECONDS)


def _hint_once(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n")
    exchange.reply(Reply(200, b"after the hint"))


def _send_huge(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nConnection: close\r\n\r\n")
    exchange.repeat(bytes(65536))


def _announce_huge(exchange: Exchange) -> None:
    exchange.send(f"HTTP/1.1 200 OK\r\nContent-Length: {HUGE_BYTES}\r\n\r\n".encode())
    exchange.repeat(bytes(65536))


def _send_huge_chunks(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    exchange.repeat(b"10000\r\n" + bytes(65536) + b"\r\n")


def _extend_chunk_for_ever(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;")
    exchange.repeat(b"x", DRIP_SECONDS)


def _send_trailers_for_ever(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n")
    exchange.repeat(b"X-Trailer: 1\r\n", DRIP_SECONDS)


def _send_chunks(exchange: Exchange) -> None:
    body = b"".join(b"%x;name=value\r\n%b\r\n" % (len(part), part) for part in (b"one ", b"two ", b"three"))
    exchange.reply(Reply(200, body + b"0\r\nX-Trailer: 1\r\n\r\n", {"Transfer-Encoding": "chunked"}))


def _cut_chunks(exchange: Exchange) -> None:
    exchange.reply(Reply(200, b"5\r\nhello\r\n5\r\nhe", {"Transfer-Encoding": "chunked"}))


def _cut_head(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: image/jp")


def _cut_body(exchange: Exchange) -> None:
    exchange.reply(Reply(200, b"short", {"Content-Length": "1000"}))


def _reset_in_body(exchange: Exchange) -> None:
    exchange.reply(Reply(200, b"short", {"Content-Length": "1000"}))
    exchange.reset()


def _send_nonsense(exchange: Exchange) -> None:
    exchange.send(b"\x00\xffSSH-2.0-not-http\r\n\r\n")


BEHAVIOURS: Final[Mapping[str, Behaviour]] = {
    "/status": _answer_status,
    "/redirect": _redirect,
    "/redirect-loop": _redirect_loop,
    "/redirect-huge": _redirect_with_huge_body,
    "/slow": _answer_slowly,
    "/drip/status": _drip_status,
    "/drip/head": _drip_head,
    "/drip/body": _drip_body,
    "/hang": Exchange.wait,
    "/hang/body": _hang_in_body,
    "/continue": _continue_for_ever,
    "/hints": _hint_for_ever,
    "/hint": _hint_once,
    "/huge": _send_huge,
    "/huge/announced": _announce_huge,
    "/huge/chunks": _send_huge_chunks,
    "/chunks": _send_chunks,
    "/chunks/extension": _extend_chunk_for_ever,
    "/chunks/trailers": _send_trailers_for_ever,
    "/chunks/cut": _cut_chunks,
    "/short": _cut_body,
    "/short/head": _cut_head,
    "/short/reset": _reset_in_body,
    "/reset": Exchange.reset,
    "/nonsense": _send_nonsense,
}
"""What a SourceServer does on these paths; the first part of a path is enough where nothing longer fits."""
