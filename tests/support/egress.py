"""An egress proxy on loopback: takes CONNECT, and joins its client with the address that was asked for."""

import socket
import threading
from contextlib import suppress

from tests.support.exchanges import Exchange
from tests.support.servers import RawServer

BLOCK_BYTES = 65536


class EgressProxyServer(RawServer):
    """A proxy that may also refuse, say nothing, or want a password."""

    def __init__(self, *, answer: bytes = b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n") -> None:
        """Take the head of every answer; only one that begins with a 200 opens a tunnel."""
        super().__init__(self._tunnel)
        self.heads: list[bytes] = []
        self._answer = answer

    def proxy_url(self, credentials: str = "") -> str:
        """Tell the setting's value."""
        return f"http://{credentials}127.0.0.1:{self.port}"

    def list_targets(self) -> list[str]:
        """List what was asked for, the authority of each CONNECT."""
        return [head.split()[1].decode() for head in self.heads]

    def _tunnel(self, exchange: Exchange) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            block = exchange.receive()
            if not block:
                return
            head += block
        self.heads.append(head)
        if not self._answer:
            exchange.wait()
        if b" 200 " in self._answer:
            _join(exchange, head, self._answer)
        else:
            exchange.send(self._answer)


def _join(exchange: Exchange, head: bytes, answer: bytes) -> None:
    """Join the client with whom it asked for; breaks off where nobody is there."""
    host, _, port = head.split()[1].decode().rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=10) as upstream:
        exchange.send(answer)
        thread = threading.Thread(target=_pump_back, args=(upstream, exchange), daemon=True)
        thread.start()
        with suppress(OSError):
            while block := exchange.receive():
                upstream.sendall(block)
        with suppress(OSError):
            upstream.shutdown(socket.SHUT_RDWR)
        thread.join()


def _pump_back(upstream: socket.socket, exchange: Exchange) -> None:
    with suppress(OSError):
        while block := upstream.recv(BLOCK_BYTES):
            exchange.send(block)
    with suppress(OSError):
        exchange.end()
