"""Fetching a source: what is asked, what is taken, what is too much, and where redirects lead."""

import gzip
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.authority import TestAuthority
from tests.support.exchanges import Exchange, Reply
from tests.support.outbound import HOST, IMAGE, MAX_SOURCE_BYTES, TIMEOUT_SECONDS, Build, in_time, resolve_to
from tests.support.servers import SourceServer
from thumbs.errors import (
    SourceEmpty,
    SourceHttpError,
    SourceTimeout,
    SourceTooLarge,
    SourceTooManyRedirects,
    SourceUnreachable,
)
from thumbs.outbound import Outbound


def test_fetch_returns_the_bytes_and_the_url(outbound: Outbound, source: SourceServer) -> None:
    fetched = outbound.fetch(source.url("/image"))
    assert fetched.body == IMAGE
    assert fetched.caching.url == source.url("/image")


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


# ── sizes ──────────────────────────────────────────────────────────────────────────────────────────────


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


# ── redirects ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_followed(status: int, outbound: Outbound, source: SourceServer) -> None:
    fetched = outbound.fetch(source.redirect_to(source.url("/image"), status))
    assert fetched.body == IMAGE
    assert fetched.caching.url == source.url("/image")


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
