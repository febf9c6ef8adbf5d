"""Every call ends in time, whatever its server does; close() ends what is under way."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.exchanges import Exchange
from tests.support.outbound import HOST, TIMEOUT_SECONDS, Build, in_time, silent_listener
from tests.support.servers import RawServer, SourceServer
from thumbs.errors import AttemptTimeout, SourceTimeout
from thumbs.outbound import Outbound
from thumbs.outbound.lookup import MAX_LOOKUPS, Lookup

SLOW_HEADS = ["/hang", "/slow?seconds=60", "/drip/status", "/drip/head", "/continue", "/hints"]
SLOW_BODIES = ["/hang/body", "/drip/body", "/chunks/extension", "/chunks/trailers"]


@pytest.mark.parametrize("path", SLOW_HEADS + SLOW_BODIES)
def test_fetch_ends_in_time(path: str, hurried: Outbound, source: SourceServer) -> None:
    with in_time(), pytest.raises(SourceTimeout):
        hurried.fetch(source.url(path))


@pytest.mark.parametrize("path", SLOW_HEADS)
def test_post_ends_in_time_when_the_head_does_not_come(path: str, hurried: Outbound, source: SourceServer) -> None:
    with in_time(), pytest.raises(AttemptTimeout):
        hurried.post(source.url(path), b"{}", {})


@pytest.mark.parametrize("path", [*SLOW_BODIES, "/huge", "/short", "/chunks/cut", "/short/reset"])
def test_post_is_answered_however_the_body_ends(path: str, hurried: Outbound, source: SourceServer) -> None:
    """The head came in time, so the receiver has the event."""
    with in_time():
        answer = hurried.post(source.url(path), b"{}", {})
    assert answer.http_status == 200
    assert answer.is_truncated
    assert len(answer.body) <= 4096


def test_fetch_ends_in_time_when_nobody_accepts(hurried: Outbound) -> None:
    with silent_listener(HOST, 0) as port, in_time(), pytest.raises(SourceTimeout):
        hurried.fetch(f"http://{HOST}:{port}/")


@pytest.mark.parametrize("is_dripping", [True, False])
def test_fetch_ends_in_time_when_the_tls_handshake_does_not(is_dripping: bool, build: Build) -> None:
    outbound = build(allow="127.0.0.1", timeout_seconds=TIMEOUT_SECONDS)
    record = b"\x16\x03\x03\x40\x00" + bytes(0x4000)
    behaviour: Callable[[Exchange], None] = (lambda exchange: exchange.drip(record)) if is_dripping else Exchange.wait
    with RawServer(behaviour) as server, in_time(), pytest.raises(SourceTimeout):
        outbound.fetch(f"https://127.0.0.1:{server.port}/")


def test_fetch_ends_in_time_when_the_look_up_hangs(build: Build) -> None:
    release = threading.Event()

    def hang(_host: str, _port: int) -> Sequence[str]:
        release.wait()
        return []

    outbound = build(hang, timeout_seconds=TIMEOUT_SECONDS)
    with in_time(), pytest.raises(SourceTimeout):
        outbound.fetch("http://host.example/")
    with in_time(), pytest.raises(AttemptTimeout):
        outbound.post("http://host.example/", b"", {})
    release.set()


def test_look_ups_that_hang_take_places_only_until_they_end() -> None:
    """A name server that never answers can hold all of them, but not for ever."""
    release = threading.Event()

    def resolve(host: str, _port: int) -> Sequence[str]:
        if host == "hangs.example":
            release.wait()
        return [HOST]

    lookup = Lookup(resolve)
    for _ in range(MAX_LOOKUPS):
        with pytest.raises(TimeoutError):
            lookup.resolve("hangs.example", 80, 0.001)
    with pytest.raises(TimeoutError, match="hang"):
        lookup.resolve("host.example", 80, 0.001)
    release.set()
    assert lookup.resolve("host.example", 80, 5.0) == [HOST]


def test_deadlines_of_many_calls_are_kept_by_one_thread(hurried: Outbound, source: SourceServer) -> None:
    paths = (SLOW_HEADS + SLOW_BODIES) * 3
    with ThreadPoolExecutor(len(paths)) as pool, in_time(2 * TIMEOUT_SECONDS):
        calls = [pool.submit(hurried.fetch, source.url(path)) for path in paths]
        source.wait_for(2)  # On a busy machine, a call may be over before its request is sent.
        watchdogs = [thread for thread in threading.enumerate() if thread.name == "outbound-watchdog"]
        assert [type(call.exception()) for call in calls] == [SourceTimeout] * len(paths)
    assert len(watchdogs) == 1


def test_close_cuts_what_is_under_way(build: Build, source: SourceServer) -> None:
    outbound = build(timeout_seconds=60)
    with ThreadPoolExecutor(1) as pool, in_time():
        call = pool.submit(outbound.fetch, source.url("/hang"))
        source.wait_for(1)
        outbound.close()
        assert isinstance(call.exception(), SourceTimeout)


def test_close_may_be_repeated_and_ends_the_thread(build: Build, source: SourceServer) -> None:
    outbound = build()
    outbound.fetch(source.url("/image"))
    outbound.close()
    outbound.close()
    assert "outbound-watchdog" not in {thread.name for thread in threading.enumerate()}
