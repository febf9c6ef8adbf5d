"""The pytest plugin: fixtures for the tests of a service that receives our webhooks (docs/testing.md).

pytest finds it by its entry point, wherever thumbs is installed. A test run that uses none of it pays for next to
nothing: what a fixture needs is imported when it is asked for, by `thumbs.testing`.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from thumbs import testing

if TYPE_CHECKING:
    from thumbs.testing import SampleEvent, ThumbsServer, WebhookReceiver

SERVER_FIXTURE: Final = "thumbs_server"
LOG_LINES: Final = 60
"""Of the server's log, shown with a test that failed."""
FAST: Final[Mapping[str, str]] = {
    "THUMBS_WEBHOOK_SCHEDULE_SECONDS": "0.2,0.2,0.2,0.2",
    "THUMBS_WEBHOOK_TIMEOUT_SECONDS": "2",
    "THUMBS_WEBHOOK_BREAKER_SECONDS": "0.2",
    "THUMBS_WEBHOOK_BREAKER_MAX_SECONDS": "1",
    "THUMBS_FETCH_TIMEOUT_SECONDS": "5",
    "THUMBS_SWEEP_SECONDS": "1",
}
"""What makes waiting short: five attempts in about a second, where the service's default takes days."""


@pytest.fixture(scope="session")
def thumbs_settings() -> Mapping[str, str]:
    """The settings of `thumbs_server`, beside those that make waiting short; override it to have others."""
    return {}


@pytest.fixture(scope="session")
def thumbs_server(
    thumbs_settings: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator["ThumbsServer"]:
    """The whole service, running for the whole session in a temporary directory, on a port of its own."""
    data_dir = tmp_path_factory.mktemp("thumbs") / "var"
    with testing.ThumbsServer(data_dir, **{**FAST, **thumbs_settings}) as server:
        yield server


@pytest.fixture
def webhook_secret(request: pytest.FixtureRequest) -> str:
    """The secret of this test's webhooks: the server's, where the test has one; override it to have another."""
    if SERVER_FIXTURE not in request.fixturenames:
        return testing.SAMPLE_SECRET
    server: ThumbsServer = request.getfixturevalue(SERVER_FIXTURE)
    return server.secret


@pytest.fixture
def webhook_receiver(webhook_secret: str) -> Iterator["WebhookReceiver"]:
    """A receiver of webhooks that records, verifies, and fails or hangs as it is told."""
    with testing.WebhookReceiver(webhook_secret) as receiver:
        yield receiver


@pytest.fixture
def webhook_sample(webhook_secret: str) -> "Callable[..., SampleEvent]":
    """Builds signed sample events, as `sample_event` does, with this test's secret."""
    return partial(testing.sample_event, secret=webhook_secret)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of the server's log with a test that failed."""
    report = yield
    server = getattr(item, "funcargs", {}).get(SERVER_FIXTURE)
    if report.failed and server is not None and isinstance(server, testing.ThumbsServer):
        lines = server.read_log().splitlines()[-LOG_LINES:]
        report.sections.append(("log of thumbs_server", "\n".join(lines)))
    return report
