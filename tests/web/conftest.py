"""The app over real services, without authentication; tests that are about it make an app of their own."""

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.ledgers import make_sqlite_ledger
from tests.support.services import ScriptedOutbound, build_test_services
from thumbs.ledger import Ledger
from thumbs.services import Services
from thumbs.web import create_app
from thumbs.web.context import SERVICES, WAITING_ROOM
from thumbs.web.waiting import WaitingRoom


class ActingClock(FrozenClock):
    """Stands still; whoever sleeps lets `on_sleep` happen."""

    def __init__(self) -> None:
        super().__init__()
        self.on_sleep: Callable[[], object] = lambda: None

    def sleep(self, seconds: float) -> None:
        """Let it happen, and pass the time at once."""
        self.on_sleep()
        super().sleep(seconds)


@pytest.fixture
def clock() -> ActingClock:
    """A clock that stands still until it is moved."""
    return ActingClock()


@pytest.fixture
def outbound() -> ScriptedOutbound:
    """A network that answers as it is told."""
    return ScriptedOutbound()


@pytest.fixture
def services(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: ActingClock, outbound: ScriptedOutbound
) -> Services:
    """The services under the app."""
    return build_test_services(ledger, dispatcher, clock, outbound=outbound)


@pytest.fixture(scope="session")
def app(shared_client: FlaskClient) -> Flask:
    """The one app of the tests that do not need another: building it takes 30 ms."""
    return shared_client.application


@pytest.fixture
def client(app: Flask, services: Services) -> Iterator[FlaskClient]:
    """A caller of that app, which has this test's services meanwhile."""
    before = app.extensions[SERVICES], app.extensions[WAITING_ROOM]
    app.extensions[SERVICES] = services
    app.extensions[WAITING_ROOM] = WaitingRoom(services, is_stopping=lambda: False)
    yield app.test_client()
    app.extensions[SERVICES], app.extensions[WAITING_ROOM] = before


@pytest.fixture(scope="session")
def shared_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    """A caller of one app for all tests whose requests are refused, and leave it as it was."""
    with closing(make_sqlite_ledger(tmp_path_factory.mktemp("ledger"))) as ledger:
        yield create_app(build_test_services(ledger, RecordingDispatcher(), FrozenClock())).test_client()
