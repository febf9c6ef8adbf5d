"""Looks up names within a time limit, which getaddrinfo itself does not know.

Each look-up runs in a daemon thread of its own, at most MAX_LOOKUPS at once. One that hangs is left behind when its
time is up: it keeps its place until the system's resolver gives up by itself (glibc: about 5 s x 2 attempts x name
servers), so the places come back and are never lost for ever. With all of them taken, a call waits for a place as long
as it may wait for an answer, and then fails as a timeout, which is retried. `call` is its only caller.
"""

import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

Resolver = Callable[[str, int], Sequence[str]]
"""From host name and port to literal addresses, best first; OSError or UnicodeError when there are none. Blocking."""

MAX_LOOKUPS = 128
"""32 threads that each leave one behind every 5 s, for the 20 s in which a resolver gives up."""


def resolve_by_system(host: str, port: int) -> list[str]:
    """Look a name up as the operating system does (hosts file, DNS), in its order (RFC 6724). Blocking, unbounded."""
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for _, _, _, _, sockaddr in infos]


class Lookup:
    """Runs look-ups in a bounded number of threads. Thread-safe."""

    def __init__(self, resolver: Resolver) -> None:
        """Take the resolver that does the work."""
        self._resolver = resolver
        self._places = threading.BoundedSemaphore(MAX_LOOKUPS)

    def resolve(self, host: str, port: int, timeout_seconds: float) -> Sequence[str]:
        """Resolve a name; raises TimeoutError when that takes longer, and what the resolver raises."""
        until = time.monotonic() + timeout_seconds
        if not self._places.acquire(timeout=timeout_seconds):
            raise TimeoutError("too many look-ups hang")
        answer: Future[Sequence[str]] = Future()
        self._start(answer, host, port)
        return answer.result(max(0.0, until - time.monotonic()))

    def _start(self, answer: Future[Sequence[str]], host: str, port: int) -> None:
        thread = threading.Thread(target=self._run, args=(answer, host, port), name="outbound-lookup", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # The machine has no thread left.
            self._places.release()
            raise OSError("no thread for a look-up") from error

    def _run(self, answer: Future[Sequence[str]], host: str, port: int) -> None:
        try:
            answer.set_result(self._resolver(host, port))
        except (OSError, UnicodeError) as error:
            answer.set_exception(error)
        finally:
            self._places.release()
