"""Rules of the whole suite: no proxy is heard, and on CI nothing is skipped."""

import os
import signal
from collections.abc import Generator, Iterator

import pytest

from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.engines import Postgres, run_postgres, run_valkey
from tests.support.ledgers import make_sqlite_ledger
from tests.support.services import ScriptedOutbound, ScriptedSandbox, build_test_services
from thumbs.ledger import Ledger
from thumbs.services import Services


def pytest_configure() -> None:
    """Hear Ctrl-C: a shell that starts us in the background has it ignored, by us and by all that we start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where CI=true: there, everything that a test needs is there."""
    report = yield
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, but CI has everything: {report.longrepr}"
    return report


@pytest.fixture
def clock() -> FrozenClock:
    """A clock that stands still until it is moved."""
    return FrozenClock()


@pytest.fixture
def dispatcher() -> RecordingDispatcher:
    """A queue that only remembers what was put on it."""
    return RecordingDispatcher()


@pytest.fixture
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """A migrated ledger in a temporary SQLite file."""
    ledger = make_sqlite_ledger(tmp_path_factory.mktemp("ledger"))
    yield ledger
    ledger.close()


@pytest.fixture
def outbound() -> ScriptedOutbound:
    """A network that answers as it is told."""
    return ScriptedOutbound()


@pytest.fixture
def sandbox() -> ScriptedSandbox:
    """A decoder that renders as it is told."""
    return ScriptedSandbox()


@pytest.fixture
def services(
    ledger: Ledger,
    dispatcher: RecordingDispatcher,
    clock: FrozenClock,
    outbound: ScriptedOutbound,
    sandbox: ScriptedSandbox,
) -> Services:
    """Services of which only the ledger is real."""
    return build_test_services(ledger, dispatcher, clock, outbound=outbound, sandbox=sandbox)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A running PostgreSQL server."""
    with run_postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """The URL of a running Valkey server."""
    with run_valkey() as url:
        yield url
