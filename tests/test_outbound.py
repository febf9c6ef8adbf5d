"""What goes out: to public addresses only, in time, within bounds, with an error of ours for everything else.

The servers are real, on loopback. `source` and `receiver` listen on 127.0.0.2, the only address that is allowed here;
the tripwire listens on 127.0.0.1 and must see nothing.
"""

import gzip
import re
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.support.authority import TestAuthority
from tests.support.exchanges import Exchange, Reply
from tests.support.servers import RawServer, Receiver, SourceServer
from tests.test_addresses import FORBIDDEN_ADDRESSES, FORBIDDEN_URLS
from thumbs.addresses import AddressPolicy, parse_networks
from thumbs.errors import (
    AttemptTimeout,
    ConnectionFailed,
    FetchError,
    InvalidDestination,
    SettingsError,
    SourceEmpty,
    SourceForbidden,
    SourceHttpError,
    SourceTimeout,
    SourceTlsError,
    SourceTooLarge,
    SourceTooManyRedirects,
    SourceUnreachable,
    TlsFailed,
)
from thumbs.outbound import Outbound
from thumbs.outbound.lookup import MAX_LOOKUPS, Lookup, Resolver

HOST = "127.0.0.2"
MAX_SOURCE_BYTES = 100_000
TIMEOUT_SECONDS = 0.5
GRACE_SECONDS = 1.0
"""A busy machine's; the promise is the timeout itself."""

IMAGE = bytes(range(256)) * 100
LITERALS = [address for address in FORBIDDEN_ADDRESSES if "." in address or ":" in address]
Build = Callable[..., Outbound]


@pytest.fixture
def source() -> Iterator[SourceServer]:
    """A source that serves IMAGE at /image."""
    with SourceServer(host=HOST) as server:
        server.serve("/image", IMAGE)
        yield server


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of webhooks."""
    with Receiver(host=HOST) as server:
        yield server


@pytest.fixture
def tripwire() -> Iterator[SourceServer]:
    """A listener that nobody may ever connect to."""
    with SourceServer(host="127.0.0.1") as server:
        server.serve("/image", IMAGE)
        yield server
    assert server.connection_count == 0


@pytest.fixture
def build(authority: TestAuthority) -> Iterator[Build]:
    """Builds an Outbound that is closed at the end; options replace those of the constructor."""
    built: list[Outbound] = []

    def build_one(
        resolver: Resolver | None = None,
        *,
        allow: str = HOST,
        timeout_seconds: float = 10.0,
        max_source_bytes: int = MAX_SOURCE_BYTES,
        ca_bundle: Path | None = authority.bundle,
    ) -> Outbound:
        outbound = Outbound(
            AddressPolicy(parse_networks(allow)),
            user_agent="thumbs/test",
            fetch_timeout_seconds=timeout_seconds,
            max_source_bytes=max_source_bytes,
            webhook_timeout_seconds=timeout_seconds,
            ca_bundle=str(ca_bundle) if ca_bundle else None,
            resolver=resolver,
        )
        built.append(outbound)
        return outbound

    yield build_one
    for outbound in built:
        outbound.close()


@pytest.fixture
def outbound(build: Build) -> Outbound:
    """An Outbound that is in no hurry."""
    return build()


@pytest.fixture
def hurried(build: Build) -> Outbound:
    """An Outbound whose time is up after TIMEOUT_SECONDS."""
    return build(timeout_seconds=TIMEOUT_SECONDS)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    """An authority whose certificates nobody trusts but those who have its bundle."""
    return TestAuthority(tmp_path_factory.mktemp("authority"))


def resolve_to(*addresses: str) -> Resolver:
    """Make a resolver that always gives these addresses."""
    return lambda _host, _port: addresses


def with_port(url: str, port: int) -> str:
    """Put a port behind the host of a URL."""
    return re.sub(r"^(https?://[^/]*)/", rf"\1:{port}/", url)


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


def _refuse_plainly(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    exchange.wait()


def _reset_after_hello(exchange: Exchange) -> None:
    exchange.receive()
    exchange.reset()


# ── fetching ────────────────────────────────────────────────────────────────────────────────────────────


def test_fetch_returns_the_bytes_and_the_url(outbound: Outbound, source: SourceServer) -> None:
    fetched = outbound.fetch(source.url("/image"))
    assert fetched.body == IMAGE
    assert fetched.url == source.url("/image")


def test_fetch_introduces_itself_and_asks_for_plain_images(outbound: Outbound, source: SourceServer) -> None:
    outbound.fetch(source.url("/image?size=large"))
    request = source.requests[0]
    assert (request.method, request.target) == ("GET", "/image?size=large")
    assert request.headers["user-agent"] == "thumbs/test"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["accept"].startswith("image/")
    assert request.headers["host"] == f"{HOST}:{source.port}"


def test_fetch_asks_under_the_original_name(build: Build, source: SourceServer) -> None:
    """The address is pinned below HTTP: the server sees the name that the caller wrote."""
    build(resolve_to(HOST)).fetch(source.url("/image", host="images.example"))
    assert source.requests[0].headers["host"] == f"images.example:{source.port}"


def test_fetch_encodes_what_is_not_ascii(build: Build, source: SourceServer) -> None:
    source.serve("/gr%C3%B6%C3%9Fe", IMAGE)
    assert build(resolve_to(HOST)).fetch(source.url("/größe", host="bücher.example")).body == IMAGE
    assert source.requests[0].headers["host"] == f"xn--bcher-kva.example:{source.port}"


@pytest.mark.parametrize(("path", "body"), [("/chunks", b"one two three"), ("/hint", b"after the hint")])
def test_fetch_understands_the_forms_that_an_answer_can_have(
    path: str, body: bytes, outbound: Outbound, source: SourceServer
) -> None:
    assert outbound.fetch(source.url(path)).body == body


def test_fetch_takes_a_body_without_a_length(outbound: Outbound, source: SourceServer) -> None:
    """The end of the stream ends it, as in HTTP/1.0."""
    url = source.script("/old", lambda exchange: exchange.send(b"HTTP/1.0 200 OK\r\n\r\n" + IMAGE))
    assert outbound.fetch(url).body == IMAGE


def test_fetch_works_over_ipv6(build: Build) -> None:
    with SourceServer(host="::1") as server:
        server.serve("/image", IMAGE)
        assert build(allow="::1").fetch(server.url("/image")).body == IMAGE
        assert server.requests[0].headers["host"] == f"[::1]:{server.port}"


def test_fetch_keeps_to_itself_what_the_environment_says(
    outbound: Outbound, source: SourceServer, tripwire: SourceServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No proxy is used and no .netrc is read, whatever is set."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {HOST} login user password hunter2\n", encoding="ascii")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.delenv("NO_PROXY", raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, tripwire.url())
    outbound.fetch(source.url("/image"))
    assert "authorization" not in source.requests[0].headers


def test_fetch_sends_no_cookie_that_an_earlier_answer_set(outbound: Outbound, source: SourceServer) -> None:
    url = source.serve("/cookie", IMAGE, headers={"Set-Cookie": "session=1"})
    outbound.fetch(url)
    outbound.fetch(url)
    assert all("cookie" not in request.headers for request in source.requests)


@pytest.mark.parametrize("path", ["/short", "/short/reset", "/short/head", "/chunks/cut", "/reset", "/nonsense"])
def test_fetch_is_unreachable_when_the_answer_breaks_off(path: str, outbound: Outbound, source: SourceServer) -> None:
    """Half an image is never taken for a whole one, and another run may help."""
    with pytest.raises(SourceUnreachable) as caught:
        outbound.fetch(source.url(path))
    assert caught.value.retryable


@pytest.mark.parametrize("length", ["abc", "5, 6", "-1", "0x5", "9" * 5000])
def test_fetch_copes_with_lengths_that_are_none(length: str, outbound: Outbound, source: SourceServer) -> None:
    """A length that cannot be read is either ignored or an error of ours; nothing else gets out."""
    url = source.serve("/image", b"hello", headers={"Content-Length": length})
    with suppress(SourceUnreachable, SourceEmpty):
        assert outbound.fetch(url).body == b"hello"


def test_fetch_is_unreachable_when_nobody_listens(outbound: Outbound) -> None:
    with SourceServer(host=HOST) as gone:
        pass
    with pytest.raises(SourceUnreachable):
        outbound.fetch(gone.url())


@pytest.mark.parametrize("path", ["/status/204", "/nothing"])
def test_fetch_is_empty_when_there_is_no_body(path: str, outbound: Outbound, source: SourceServer) -> None:
    source.serve("/nothing", b"")
    with pytest.raises(SourceEmpty):
        outbound.fetch(source.url(path))


@pytest.mark.parametrize(
    ("status", "is_retryable"),
    [
        *((300, False), (304, False), (305, False), (400, False), (404, False), (410, False)),
        *((408, True), (425, True), (429, True), (500, True), (503, True), (599, True)),
    ],
)
def test_fetch_tells_the_status_of_another_answer(
    status: int, is_retryable: bool, outbound: Outbound, source: SourceServer
) -> None:
    with pytest.raises(SourceHttpError) as caught:
        outbound.fetch(source.url(f"/status/{status}"))
    assert caught.value.source_status == status
    assert caught.value.retryable is is_retryable


def test_fetch_tells_how_long_the_source_wants_to_be_left_alone(outbound: Outbound, source: SourceServer) -> None:
    with pytest.raises(SourceHttpError) as caught:
        outbound.fetch(source.url("/status/503?retry_after=7"))
    assert caught.value.retry_after_seconds == 7


def test_fetch_refuses_an_encoded_body(outbound: Outbound, source: SourceServer) -> None:
    """It was not asked for, and 200 kB of it can be 200 MB."""
    url = source.serve("/gzip", gzip.compress(gzip.compress(bytes(10_000_000))), headers={"Content-Encoding": "gzip"})
    with pytest.raises(SourceHttpError) as caught:
        outbound.fetch(url)
    assert caught.value.source_status == 200


# ── sizes ───────────────────────────────────────────────────────────────────────────────────────────────


def test_fetch_takes_exactly_the_limit(outbound: Outbound, source: SourceServer) -> None:
    url = source.serve("/limit", bytes(MAX_SOURCE_BYTES))
    assert len(outbound.fetch(url).body) == MAX_SOURCE_BYTES


def test_fetch_refuses_one_byte_more(outbound: Outbound, source: SourceServer) -> None:
    url = source.serve("/limit", bytes(MAX_SOURCE_BYTES + 1))
    with pytest.raises(SourceTooLarge):
        outbound.fetch(url)


@pytest.mark.parametrize("path", ["/huge", "/huge/announced", "/huge/chunks"])
def test_fetch_of_an_endless_body_stays_small(path: str, build: Build, source: SourceServer) -> None:
    """The body is counted as it comes: it never takes more than 50 MB, at a limit of 20 MiB."""
    outbound = build(max_source_bytes=20 * 1024 * 1024)
    tracemalloc.start()
    with pytest.raises(SourceTooLarge):
        outbound.fetch(source.url(path))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 50_000_000


# ── redirects ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_followed(status: int, outbound: Outbound, source: SourceServer) -> None:
    fetched = outbound.fetch(source.redirect_to(source.url("/image"), status))
    assert fetched.body == IMAGE
    assert fetched.url == source.url("/image")


@pytest.mark.parametrize("location", ["image", "/image", "./image", "?to=/image", "/an image", "/größe", "/image#top"])
def test_redirect_is_relative_to_where_it_came_from(location: str, outbound: Outbound, source: SourceServer) -> None:
    source.serve("/an%20image", IMAGE)
    source.serve("/gr%C3%B6%C3%9Fe", IMAGE)
    assert outbound.fetch(source.redirect_to(location)).body == IMAGE


def test_redirects_are_followed_three_times(outbound: Outbound, source: SourceServer) -> None:
    url = source.url("/image")
    for _ in range(3):
        url = source.redirect_to(url)
    assert outbound.fetch(url).body == IMAGE


def test_redirects_are_not_followed_a_fourth_time(outbound: Outbound, source: SourceServer) -> None:
    with pytest.raises(SourceTooManyRedirects):
        outbound.fetch(source.url("/redirect-loop"))
    assert source.count("/redirect-loop") == 4


@pytest.mark.parametrize("headers", [{}, {"Location": ""}])
def test_redirect_without_a_target_is_an_http_error(
    headers: dict[str, str], outbound: Outbound, source: SourceServer
) -> None:
    url = source.serve("/lost", b"", status=302, headers=headers)
    with pytest.raises(SourceHttpError) as caught:
        outbound.fetch(url)
    assert caught.value.source_status == 302


def test_body_of_a_redirect_is_not_read(hurried: Outbound, source: SourceServer) -> None:
    """Of 500 MB, which take longer than there is."""
    with in_time(), pytest.raises(SourceHttpError) as caught:
        hurried.fetch(source.url("/redirect-huge"))
    assert caught.value.source_status == 410


def test_redirects_share_one_deadline(hurried: Outbound, source: SourceServer) -> None:
    def answer(exchange: Exchange) -> None:
        exchange.wait(TIMEOUT_SECONDS * 0.7)
        exchange.reply(Reply(302, b"", {"Location": "/again"}))

    with in_time(), pytest.raises(SourceTimeout):
        hurried.fetch(source.script("/again", answer))


def test_redirect_from_https_to_http_is_followed(build: Build, source: SourceServer, authority: TestAuthority) -> None:
    with SourceServer(tls=authority.build_context(HOST), host=HOST) as secure:
        url = secure.redirect_to(source.url("/image"))
        assert build().fetch(url).body == IMAGE


# ── addresses ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("url", FORBIDDEN_URLS)
def test_forbidden_url_is_never_connected_to(url: str, build: Build, tripwire: SourceServer) -> None:
    """Whoever asks, and wherever its name would lead."""
    outbound = build(resolve_to("127.0.0.1"))
    for spelling in (url, with_port(url, tripwire.port)):
        with pytest.raises(SourceForbidden):
            outbound.fetch(spelling)
        with pytest.raises(InvalidDestination):
            outbound.post(spelling, b"{}", {})


def test_redirects_to_forbidden_urls_are_not_followed(
    build: Build, source: SourceServer, tripwire: SourceServer
) -> None:
    """Every row that a header can hold; those that are no whole URL lead back to the source, and never to the image."""
    outbound = build(resolve_to("127.0.0.1"))
    for url in filter(str.isprintable, FORBIDDEN_URLS):
        with pytest.raises(FetchError):
            outbound.fetch(source.redirect_to(with_port(url, tripwire.port)))


@pytest.mark.parametrize("address", LITERALS)
def test_name_is_refused_when_it_leads_to_a_forbidden_address(
    address: str, build: Build, tripwire: SourceServer
) -> None:
    with pytest.raises(SourceForbidden) as caught:
        build(resolve_to(address)).fetch(tripwire.url("/image", host="host.example"))
    assert address not in str(caught.value)
    assert address not in caught.value.message


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.0.0.1", "::ffff:127.0.0.1", "nonsense"])
@pytest.mark.parametrize("is_first", [True, False])
def test_name_is_refused_when_one_of_its_addresses_is_forbidden(
    address: str, is_first: bool, build: Build, source: SourceServer
) -> None:
    """Also when the allowed one would have taken us: nothing is connected to."""
    addresses = (address, HOST) if is_first else (HOST, address)
    with pytest.raises(SourceForbidden):
        build(resolve_to(*addresses)).fetch(source.url("/image", host="host.example"))
    assert source.connection_count == 0


def test_name_is_resolved_once_for_each_hop(build: Build, source: SourceServer, tripwire: SourceServer) -> None:
    """DNS rebinding: what was checked is what is connected to, and a second answer is checked anew."""
    answers = [[HOST], ["127.0.0.1"]]
    outbound = build(lambda _host, _port: answers.pop(0))
    with pytest.raises(SourceForbidden):
        outbound.fetch(source.redirect_to("").replace(HOST, "host.example") + "/image")
    assert (answers, source.connection_count) == ([], 1)


def test_next_address_is_tried_when_one_refuses(build: Build, source: SourceServer) -> None:
    outbound = build(resolve_to("127.0.0.3", HOST), allow=f"{HOST}, 127.0.0.3")
    assert outbound.fetch(source.url("/image", host="host.example")).body == IMAGE


def test_next_address_is_tried_when_one_is_silent(build: Build, source: SourceServer) -> None:
    outbound = build(resolve_to("127.0.0.3", HOST), allow=f"{HOST}, 127.0.0.3", timeout_seconds=5)
    with silent_listener("127.0.0.3", source.port):
        assert outbound.fetch(source.url("/image", host="host.example")).body == IMAGE


def test_name_without_addresses_is_forbidden(build: Build, source: SourceServer) -> None:
    with pytest.raises(SourceForbidden):
        build(resolve_to()).fetch(source.url("/image", host="host.example"))


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_NONAME, "unknown"), UnicodeError("label too long")])
def test_name_that_does_not_exist_is_forbidden(error: Exception, build: Build) -> None:
    """The same code as for a private address, so that it tells nothing about what exists within."""
    outbound = build(fail_with(error))
    with pytest.raises(SourceForbidden):
        outbound.fetch("http://host.example/")
    with pytest.raises(InvalidDestination):
        outbound.post("http://host.example/", b"", {})


def test_name_that_cannot_be_resolved_for_now_is_tried_again(build: Build) -> None:
    """DNS that is down for a moment must not end a job; its code is that of any name that does not resolve."""
    with pytest.raises(SourceForbidden) as caught:
        build(fail_with(socket.gaierror(socket.EAI_AGAIN, "later"))).fetch("http://host.example/")
    assert caught.value.retryable


# ── time ────────────────────────────────────────────────────────────────────────────────────────────────

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
        source.wait_for(len(paths))
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


# ── TLS ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_tls_is_made_for_the_original_name(build: Build, authority: TestAuthority) -> None:
    """Certificate and SNI are the name's, though the connection goes to a checked address."""
    names: list[str | None] = []
    context = authority.build_context("images.example")
    context.sni_callback = lambda _sock, name, _context: names.append(name)
    outbound = build(resolve_to(HOST))
    with SourceServer(tls=context, host=HOST) as server:
        server.serve("/image", IMAGE)
        assert outbound.fetch(server.url("/image", host="images.example")).body == IMAGE
    assert names == ["images.example"]


def test_tls_works_for_an_address_that_the_certificate_names(build: Build, authority: TestAuthority) -> None:
    with SourceServer(tls=authority.build_context(HOST), host=HOST) as server:
        server.serve("/image", IMAGE)
        assert build().fetch(server.url("/image")).body == IMAGE


def test_tls_is_refused_when_the_certificate_is_for_another_name(build: Build, authority: TestAuthority) -> None:
    outbound = build(resolve_to(HOST))
    with SourceServer(tls=authority.build_context("other.example"), host=HOST) as server:
        with pytest.raises(SourceTlsError):
            outbound.fetch(server.url("/image", host="images.example"))
        with pytest.raises(TlsFailed):
            outbound.post(server.url("/image", host="images.example"), b"", {})
    assert server.requests == []


def test_tls_is_refused_when_the_certificate_has_expired(build: Build, authority: TestAuthority) -> None:
    context = authority.build_context(HOST, is_expired=True)
    with SourceServer(tls=context, host=HOST) as server, pytest.raises(SourceTlsError, match="expired"):
        build().fetch(server.url())


def test_tls_is_refused_when_the_authority_is_unknown(build: Build, authority: TestAuthority) -> None:
    """Without a bundle of our own, those of certifi are known, and no other."""
    with SourceServer(tls=authority.build_context(HOST), host=HOST) as server, pytest.raises(SourceTlsError):
        build(ca_bundle=None).fetch(server.url())


def test_tls_is_refused_when_the_server_speaks_none(build: Build) -> None:
    with RawServer(_refuse_plainly) as server, pytest.raises(SourceTlsError):
        build(allow="127.0.0.1").fetch(f"https://127.0.0.1:{server.port}/")


def test_tls_handshake_that_breaks_off_may_be_tried_again(build: Build) -> None:
    """A server that restarts does that; a wrong certificate stays wrong."""
    with RawServer(_reset_after_hello) as server, pytest.raises(SourceUnreachable):
        build(allow="127.0.0.1").fetch(f"https://127.0.0.1:{server.port}/")


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_ca_bundle_that_cannot_be_used_is_named(content: str | None, build: Build, tmp_path: Path) -> None:
    path = tmp_path / "bundle.pem"
    if content is not None:
        path.write_text(content, encoding="ascii")
    with pytest.raises(SettingsError, match="THUMBS_CA_BUNDLE"):
        build(ca_bundle=path)


# ── posting ─────────────────────────────────────────────────────────────────────────────────────────────


def test_post_sends_the_bytes_and_headers_as_they_are(outbound: Outbound, receiver: Receiver) -> None:
    body = b'{"a":"\xc3\xbc"}\x00\r\n'
    outbound.post(receiver.url("/hooks?a=1"), body, {"content-type": "application/json", "webhook-id": "evt_1"})
    request = receiver.requests[0]
    assert (request.method, request.target, request.body) == ("POST", "/hooks?a=1", body)
    assert request.headers["webhook-id"] == "evt_1"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["content-length"] == str(len(body))


def test_post_lets_its_caller_choose_the_user_agent_but_not_the_host(outbound: Outbound, receiver: Receiver) -> None:
    headers = {"user-agent": "thumbs-webhooks/1", "host": "inside.example", "accept-encoding": "gzip"}
    outbound.post(receiver.url(), b"{}", headers)
    request = receiver.requests[0]
    assert request.headers["user-agent"] == "thumbs-webhooks/1"
    assert request.headers["host"] == f"{HOST}:{receiver.port}"
    assert request.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("status", [200, 204, 299, 301, 302, 304, 400, 404, 410, 429, 500, 503, 599])
def test_post_answers_with_any_status(status: int, outbound: Outbound, receiver: Receiver) -> None:
    """What a status means is not decided here; no redirect is followed."""
    receiver.answer_with(status, headers={"Location": receiver.url("/elsewhere"), "Retry-After": "5"})
    answer = outbound.post(receiver.url(), b"{}", {})
    assert answer.http_status == status
    assert answer.headers["retry-after"] == "5"
    assert not answer.is_truncated
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(("length", "is_truncated"), [(0, False), (4096, False), (4097, True), (10_000_000, True)])
def test_post_keeps_4096_bytes_of_the_answer(
    length: int, is_truncated: bool, outbound: Outbound, receiver: Receiver
) -> None:
    receiver.answer_with(200, body=bytes(length))
    answer = outbound.post(receiver.url(), b"{}", {})
    assert answer.body == bytes(min(length, 4096))
    assert answer.is_truncated is is_truncated


def test_post_keeps_the_answer_as_it_came(outbound: Outbound, receiver: Receiver) -> None:
    """A body that is encoded is neither refused nor unpacked."""
    receiver.answer_with(200, body=gzip.compress(bytes(1000)), headers={"Content-Encoding": "gzip"})
    assert outbound.post(receiver.url(), b"{}", {}).body == gzip.compress(bytes(1000))


def test_post_keeps_no_more_headers_than_body(outbound: Outbound, receiver: Receiver) -> None:
    receiver.answer_with(200, headers={f"X-{number}": "x" * 1000 for number in range(50)})
    headers = outbound.post(receiver.url(), b"{}", {}).headers
    assert sum(len(name) + len(value) for name, value in headers.items()) <= 4096
    assert "x-1" in headers


def test_post_ends_in_time_when_the_receiver_reads_nothing(build: Build) -> None:
    """Sending blocks once every buffer on the way is full."""
    outbound = build(allow="127.0.0.1", timeout_seconds=TIMEOUT_SECONDS)
    with RawServer(Exchange.wait) as server, in_time(), pytest.raises(AttemptTimeout):
        outbound.post(f"http://127.0.0.1:{server.port}/", bytes(20_000_000), {})


def test_post_is_answered_by_a_receiver_that_reads_no_body(build: Build) -> None:
    """It answers at once and closes, while we still send."""
    with RawServer(lambda exchange: exchange.reply(Reply(413, b"too much"))) as server:
        answer = build(allow="127.0.0.1").post(f"http://127.0.0.1:{server.port}/", b"{}", {})
    assert answer.http_status == 413


@pytest.mark.parametrize("path", ["/reset", "/short/head", "/nonsense"])
def test_post_fails_when_the_connection_breaks(path: str, outbound: Outbound, source: SourceServer) -> None:
    with pytest.raises(ConnectionFailed):
        outbound.post(source.url(path), b"{}", {})


@pytest.mark.parametrize("headers", [{"x-a": "one\r\ntwo: three"}, {"x\na": "1"}, {"x-a": "\u20ac"}])
def test_post_refuses_headers_that_cannot_be_sent(
    headers: dict[str, str], outbound: Outbound, receiver: Receiver
) -> None:
    """Nothing that a header holds can become a header of its own."""
    with pytest.raises(InvalidDestination):
        outbound.post(receiver.url(), b"{}", headers)
    assert receiver.connection_count == 0


# ── resources ───────────────────────────────────────────────────────────────────────────────────────────


def test_two_hundred_fetches_leave_nothing_open(build: Build, source: SourceServer) -> None:
    """Good and bad ones: neither a file descriptor nor a thread is left."""
    outbound = build(resolve_to(HOST), max_source_bytes=50_000, timeout_seconds=0.2)
    paths = ["/image", "/chunks", "/status/500", "/reset", "/short", "/huge", "/redirect?to=/image", "/missing"]
    outbound.fetch(source.url("/image"))
    process = psutil.Process()
    before = process.num_fds()
    for path in (*paths * 25, "/drip/body", "/drip/head"):
        with_errors_ignored(outbound, source.url(path, host="host.example"))
    wait_until(lambda: process.num_fds() <= before)
    wait_until(lambda: "outbound-lookup" not in {thread.name for thread in threading.enumerate()})


def test_calls_from_32_threads_do_not_meet(outbound: Outbound, source: SourceServer) -> None:
    """Each gets its own bytes."""
    for number in range(32):
        source.serve(f"/{number}", f"body {number}".encode() * 1000)
    with ThreadPoolExecutor(32) as pool:
        urls = [source.url(f"/{number % 32}") for number in range(320)]
        bodies = [fetched.body for fetched in pool.map(outbound.fetch, urls)]
    assert bodies == [f"body {number % 32}".encode() * 1000 for number in range(320)]


def with_errors_ignored(outbound: Outbound, url: str) -> None:
    """Fetch, whatever becomes of it, as long as its error is ours."""
    try:
        outbound.fetch(url)
    except FetchError:
        return


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
