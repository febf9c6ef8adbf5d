"""Where a call may go: the tables of forbidden addresses and URLs, through the real module, before a tripwire."""

import re
import socket

import pytest

from tests.support.outbound import HOST, IMAGE, Build, fail_with, resolve_to, silent_listener
from tests.support.servers import SourceServer
from tests.test_addresses import FORBIDDEN_ADDRESSES, FORBIDDEN_URLS
from thumbs.errors import FetchError, InvalidDestination, SourceForbidden

LITERALS = [address for address in FORBIDDEN_ADDRESSES if "." in address or ":" in address]


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


def with_port(url: str, port: int) -> str:
    """Put a port behind the host of a URL."""
    return re.sub(r"^(https?://[^/]*)/", rf"\1:{port}/", url)
