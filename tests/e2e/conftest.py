"""One running service for all tests that do not stop it, with a source and a receiver per test."""

from collections.abc import Iterator

import pytest

from tests.support.exchanges import Exchange, Reply
from tests.support.servers import Receiver, SourceServer
from tests.support.stack import Stack

FAST = {
    "THUMBS_WEBHOOK_SCHEDULE_SECONDS": "0.2,0.2",
    "THUMBS_WEBHOOK_TIMEOUT_SECONDS": "2",
    "THUMBS_FETCH_TIMEOUT_SECONDS": "2",
    "THUMBS_MAX_SOURCE_BYTES": "1000000",
    "THUMBS_SWEEP_SECONDS": "1",
}
"""What makes waiting short."""


@pytest.fixture(scope="session", params=["embedded", "production"])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole service, running: on SQLite, and on PostgreSQL with Redis."""
    settings = dict(FAST)
    if request.param == "production":
        settings |= {
            "DATABASE_URL": request.getfixturevalue("postgres").create_database(is_migrated=False),
            "REDIS_URL": request.getfixturevalue("valkey_url"),
            "THUMBS_SECRET_KEY": "a secret key that is long enough for tests",
        }
    with Stack(tmp_path_factory.mktemp("stack") / "var", **settings) as stack:
        yield stack


@pytest.fixture
def source() -> Iterator[SourceServer]:
    """A server of images."""
    with SourceServer() as server:
        yield server


@pytest.fixture
def webhook_secret(stack: Stack) -> str:
    """What `webhook_receiver` verifies with: the running service's callback secret."""
    return stack.secret


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of webhooks that can misbehave in the bytes; `webhook_receiver` is for the others."""
    with Receiver() as server:
        yield server


def serve_late(source: SourceServer, path: str, body: bytes, seconds: float) -> str:
    """Serve bytes at a path, after that time, and return its URL."""

    def answer(exchange: Exchange) -> None:
        exchange.wait(seconds)
        exchange.reply(Reply(200, body, {"Content-Type": "image/png"}))

    return source.script(path, answer)
