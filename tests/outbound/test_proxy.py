"""Going out through the operator's egress proxy: everything does, and our own rules hold all the same."""

import ssl
from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest

from tests.support.authority import TestAuthority
from tests.support.egress import EgressProxyServer
from tests.support.outbound import HOST, IMAGE, TIMEOUT_SECONDS, Build, in_time, resolve_to, silent_listener
from tests.support.servers import Receiver, SourceServer
from thumbs.addresses import AddressPolicy, parse_networks
from thumbs.errors import (
    AttemptTimeout,
    ConnectionFailed,
    InvalidDestination,
    SourceForbidden,
    SourceTimeout,
    SourceUnreachable,
)
from thumbs.outbound.call import Call, Rules
from thumbs.outbound.client import FETCH_FAULTS
from thumbs.outbound.lookup import Lookup
from thumbs.outbound.proxy import EgressProxy
from thumbs.outbound.watchdog import Watchdog

PROXY_HOST = "127.0.0.1"


def test_sources_and_webhooks_go_through_the_proxy(build: Build, source: SourceServer, receiver: Receiver) -> None:
    """The proxy is asked for the address that was checked; the server sees the name."""
    with EgressProxyServer() as proxy:
        outbound = build(resolve_to(HOST), proxy_url=proxy.proxy_url())
        assert outbound.fetch(source.url("/image", host="images.example")).body == IMAGE
        assert outbound.post(receiver.url("/hooks", host="hooks.example"), b"{}", {}).http_status == 200
    assert proxy.list_targets() == [f"{HOST}:{source.port}", f"{HOST}:{receiver.port}"]
    assert source.requests[0].headers["host"] == f"images.example:{source.port}"
    assert b"Proxy-Authorization" not in proxy.heads[0]


def test_tls_goes_through_the_proxy_unread(build: Build, authority: TestAuthority) -> None:
    with SourceServer(tls=authority.build_context("images.example"), host=HOST) as server, EgressProxyServer() as proxy:
        server.serve("/image", IMAGE)
        outbound = build(resolve_to(HOST), proxy_url=proxy.proxy_url())
        assert outbound.fetch(server.url("/image", host="images.example")).body == IMAGE


def test_proxy_knows_us_by_user_and_password(build: Build, source: SourceServer) -> None:
    with EgressProxyServer() as proxy:
        build(proxy_url=proxy.proxy_url("thumbs:p%40ss@")).fetch(source.url("/image"))
    assert b"\r\nProxy-Authorization: Basic dGh1bWJzOnBAc3M=\r\n" in proxy.heads[0]
    assert "proxy-authorization" not in source.requests[0].headers


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1"])
def test_forbidden_address_is_not_asked_for(address: str, build: Build) -> None:
    """Whatever the proxy would allow."""
    with EgressProxyServer() as proxy:
        outbound = build(resolve_to(address), proxy_url=proxy.proxy_url())
        with pytest.raises(SourceForbidden):
            outbound.fetch("http://host.example/")
        with pytest.raises(InvalidDestination):
            outbound.post("http://host.example/", b"{}", {})
    assert proxy.connection_count == 0


def test_each_hop_is_a_tunnel_of_its_own(build: Build, source: SourceServer) -> None:
    with EgressProxyServer() as proxy:
        build(proxy_url=proxy.proxy_url()).fetch(source.redirect_to(source.url("/image")))
    assert proxy.list_targets() == [f"{HOST}:{source.port}"] * 2


def test_next_address_is_tried_when_the_proxy_cannot_reach_one(build: Build, source: SourceServer) -> None:
    """The stand-in breaks off when it finds nobody there."""
    with EgressProxyServer() as proxy:
        outbound = build(resolve_to("127.0.0.3", HOST), allow=f"{HOST}, 127.0.0.3", proxy_url=proxy.proxy_url())
        assert outbound.fetch(source.url("/image", host="host.example")).body == IMAGE


@pytest.mark.parametrize(
    ("answer", "of_fetch", "of_post"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", SourceForbidden, InvalidDestination),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", SourceForbidden, InvalidDestination),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", SourceUnreachable, ConnectionFailed),
        (b"HTTP/1.1 504 Gateway Timeout\r\n\r\n", SourceTimeout, AttemptTimeout),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n", SourceUnreachable, ConnectionFailed),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", SourceUnreachable, ConnectionFailed),
        (b"\r\n\r\n", SourceUnreachable, ConnectionFailed),
        (b"HTTP/1.1 20", SourceUnreachable, ConnectionFailed),
        (b"HTTP/1.1 " + b"2" * 5000 + b" OK\r\n\r\n", SourceUnreachable, ConnectionFailed),
        (b"HTTP/1.1 300 Endless\r\n" + b"X-A: a\r\n" * 2000, SourceUnreachable, ConnectionFailed),
    ],
)
def test_answer_of_the_proxy_is_told_apart(
    answer: bytes, of_fetch: type[Exception], of_post: type[Exception], build: Build
) -> None:
    with EgressProxyServer(answer=answer) as proxy:
        outbound = build(proxy_url=proxy.proxy_url())
        with pytest.raises(of_fetch):
            outbound.fetch(f"http://{HOST}:8000/")
        with pytest.raises(of_post):
            outbound.post(f"http://{HOST}:8000/", b"{}", {})


def test_call_ends_in_time_when_the_proxy_says_nothing(build: Build) -> None:
    with EgressProxyServer(answer=b"") as proxy:
        outbound = build(proxy_url=proxy.proxy_url(), timeout_seconds=TIMEOUT_SECONDS)
        with in_time(), pytest.raises(SourceTimeout):
            outbound.fetch(f"http://{HOST}:8000/")


def test_proxy_that_is_not_there_is_unreachable(build: Build) -> None:
    """It is ours to put right, and another run may find it there."""
    with EgressProxyServer() as gone:
        pass
    with pytest.raises(SourceUnreachable) as caught:
        build(proxy_url=gone.proxy_url()).fetch(f"http://{HOST}:8000/")
    assert caught.value.retryable


# ── a proxy with several addresses ──────────────────────────────────────────────────────────────────────


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    """What ends calls in time."""
    with closing(Watchdog()) as watchdog:
        yield watchdog


def dial(proxy: EgressProxyServer, watchdog: Watchdog, own: Sequence[str], targets: Sequence[str], port: int) -> None:
    """Dial one of the targets through a proxy whose name leads to its own addresses."""
    rules = Rules(
        policy=AddressPolicy(parse_networks(HOST)),
        lookup=Lookup(resolve_to(*targets)),
        watchdog=watchdog,
        get_tls_context=ssl.create_default_context,
        proxy=EgressProxy("proxy.example", proxy.port, None, Lookup(resolve_to(*own))),
    )
    with closing(Call(rules, FETCH_FAULTS, total_seconds=10, lookup_seconds=5)) as call:
        call.dial("host.example", port, is_tls=False).close()


def test_next_address_of_the_proxy_is_tried_when_one_refuses(watchdog: Watchdog, source: SourceServer) -> None:
    """As with `localhost`, which is ::1 at first, and a proxy that listens on 127.0.0.1 alone."""
    with EgressProxyServer() as proxy:
        dial(proxy, watchdog, ["::1", "127.0.0.3", PROXY_HOST], [HOST], source.port)
    assert proxy.list_targets() == [f"{HOST}:{source.port}"]


def test_silent_address_of_the_proxy_does_not_use_up_the_time(watchdog: Watchdog, source: SourceServer) -> None:
    """Also where a try at one of many addresses has little of it."""
    with EgressProxyServer() as proxy, silent_listener("127.0.0.3", proxy.port):
        dial(proxy, watchdog, ["127.0.0.3", PROXY_HOST], [HOST] * 6, source.port)
    assert proxy.list_targets() == [f"{HOST}:{source.port}"]


def test_proxy_of_which_no_address_listens_is_unreachable(watchdog: Watchdog) -> None:
    with EgressProxyServer() as gone:
        pass
    with pytest.raises(SourceUnreachable):
        dial(gone, watchdog, ["::1", PROXY_HOST], [HOST], 8000)
