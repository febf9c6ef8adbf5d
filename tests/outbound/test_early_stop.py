"""A source of which enough has come is not read to its end, where its length is known and much of it is missing."""

from collections.abc import Callable

import pytest

from tests.support.exchanges import Exchange
from tests.support.servers import SourceServer
from thumbs.errors import SourceTooLarge
from thumbs.outbound import Outbound
from thumbs.outbound.client import BLOCK_BYTES

SIZE_BYTES = 80_000
"""Within the limit of these tests' sources, and more than a block."""


def has(count: int) -> Callable[[bytearray], bool]:
    return lambda body: len(body) >= count


def serve_start(source: SourceServer, start: bytes, size_bytes: int | None) -> str:
    """Serve the start of a source of that size, and then nothing more."""

    def answer(exchange: Exchange) -> None:
        length = "" if size_bytes is None else f"Content-Length: {size_bytes}\r\n"
        exchange.send(f"HTTP/1.1 200 OK\r\n{length}\r\n".encode() + start)
        exchange.wait(0.3)

    return source.script("/start", answer)


def test_source_of_which_enough_has_come_is_not_read_on(outbound: Outbound, source: SourceServer) -> None:
    """What is missing here never comes."""
    url = serve_start(source, b"x" * 1_000, SIZE_BYTES)
    fetched = outbound.fetch(url, is_enough=has(1_000))
    assert (fetched.body, fetched.size_bytes, fetched.is_whole) == (b"x" * 1_000, SIZE_BYTES, False)


def test_rest_of_less_than_a_block_is_read(outbound: Outbound, source: SourceServer) -> None:
    """So that a small source is looked at as a whole."""
    url = source.serve("/small", b"x" * BLOCK_BYTES)
    fetched = outbound.fetch(url, is_enough=has(1))
    assert (len(fetched.body), fetched.is_whole) == (BLOCK_BYTES, True)


def test_source_of_unknown_length_is_read_to_its_end(outbound: Outbound, source: SourceServer) -> None:
    fetched = outbound.fetch(serve_start(source, b"x" * SIZE_BYTES, None), is_enough=has(1))
    assert (len(fetched.body), fetched.size_bytes) == (SIZE_BYTES, SIZE_BYTES)


def test_source_that_announces_too_much_is_refused_all_the_same(outbound: Outbound, source: SourceServer) -> None:
    with pytest.raises(SourceTooLarge):
        outbound.fetch(serve_start(source, b"x" * 1_000, 10**9), is_enough=has(1))
