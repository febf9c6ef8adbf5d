"""What the tests of `outbound` share: where their servers listen, resolvers, and the limits of their patience.

The servers are real, on loopback. `source` and `receiver` (tests/outbound/conftest.py) listen on HOST, the only address
that is allowed there; the tripwire listens on 127.0.0.1 and must see nothing.
"""

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from thumbs.outbound import Outbound
from thumbs.outbound.lookup import Resolver

HOST = "127.0.0.2"
MAX_SOURCE_BYTES = 100_000
TIMEOUT_SECONDS = 0.5
GRACE_SECONDS = 1.0
"""A busy machine's; the promise is the timeout itself."""

IMAGE = bytes(range(256)) * 100
Build = Callable[..., Outbound]


def resolve_to(*addresses: str) -> Resolver:
    """Make a resolver that always gives these addresses."""
    return lambda _host, _port: addresses


def fail_with(error: Exception) -> Resolver:
    """Make a resolver that always fails."""

    def resolve(_host: str, _port: int) -> Sequence[str]:
        raise error

    return resolve


@contextmanager
def in_time(seconds: float = TIMEOUT_SECONDS) -> Iterator[None]:
    """Assert that the block takes no longer."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds + GRACE_SECONDS


def wait_until(is_so: Callable[[], bool], timeout_seconds: float = 5.0) -> None:
    """Wait for a condition."""
    until = time.monotonic() + timeout_seconds
    while not is_so():
        assert time.monotonic() < until, "it did not become so"
        time.sleep(0.01)


@contextmanager
def silent_listener(host: str, port: int) -> Iterator[int]:
    """Listen with a queue that is full, so that Linux drops every further SYN; gives the port."""
    with socket.create_server((host, port), backlog=0) as listener:
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        yield address[1]
        for filler in fillers:
            filler.close()
