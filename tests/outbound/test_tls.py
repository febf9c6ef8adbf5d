"""TLS is made for the original name, verified, and never left out."""

from pathlib import Path

import pytest

from tests.support.authority import TestAuthority
from tests.support.exchanges import Exchange
from tests.support.outbound import HOST, IMAGE, Build, resolve_to
from tests.support.servers import RawServer, SourceServer
from thumbs.errors import SettingsError, SourceTlsError, SourceUnreachable, TlsFailed


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


def _refuse_plainly(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    exchange.wait()


def _reset_after_hello(exchange: Exchange) -> None:
    exchange.receive()
    exchange.reset()
