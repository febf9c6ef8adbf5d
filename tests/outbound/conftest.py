"""A real Outbound, and real servers on loopback for it: a source, a receiver, a tripwire."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.authority import TestAuthority
from tests.support.outbound import HOST, IMAGE, MAX_SOURCE_BYTES, TIMEOUT_SECONDS, Build
from tests.support.servers import Receiver, SourceServer
from thumbs.addresses import AddressPolicy, parse_networks
from thumbs.outbound import Outbound
from thumbs.outbound.lookup import Resolver


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
        max_per_host: int = 32,
        is_shared_cache: bool = False,
        ca_bundle: Path | None = authority.bundle,
        proxy_url: str | None = None,
    ) -> Outbound:
        outbound = Outbound(
            AddressPolicy(parse_networks(allow)),
            user_agent="thumbs/test",
            fetch_timeout_seconds=timeout_seconds,
            max_source_bytes=max_source_bytes,
            webhook_timeout_seconds=timeout_seconds,
            max_per_host=max_per_host,
            is_shared_cache=is_shared_cache,
            ca_bundle=str(ca_bundle) if ca_bundle else None,
            proxy_url=proxy_url,
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


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    """An authority whose certificates nobody trusts but those who have its bundle."""
    return TestAuthority(tmp_path_factory.mktemp("authority"))
