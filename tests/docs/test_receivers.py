"""docs/receivers.md: its receivers take real deliveries and refuse others, and its vector and numbers are right."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from tests.docs.pages import list_blocks, read_page
from tests.docs.receivers import PAGE, RunningReceiver, install_library, run_javascript, run_python
from tests.support.stack import wait_until
from thumbs.settings import read_settings
from thumbs.testing import SAMPLE_SECRET, ThumbsServer, sample_event

LANGUAGES = ("python", "javascript", "go", "ruby", "php")
MAX_LINES = 15


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the JavaScript library is installed."""
    folder = tmp_path_factory.mktemp("javascript")
    install_library(folder)
    return folder


@pytest.fixture(params=["python", "javascript"])
def receiver(request: pytest.FixtureRequest, tmp_path: Path, thumbs_server: ThumbsServer) -> Iterator[RunningReceiver]:
    """A receiver of the page, running, with the server's secret."""
    if request.param == "python":
        with run_python(tmp_path, thumbs_server.secret) as running:
            yield running
    else:
        with run_javascript(request.getfixturevalue("library"), thumbs_server.secret) as running:
            yield running


def test_real_delivery_is_taken(receiver: RunningReceiver, thumbs_server: ThumbsServer) -> None:
    job = thumbs_server.submit(source_url=thumbs_server.sample_url, callback_url=receiver.url)
    thumbs_server.wait_for_callback(job["id"], "delivered")
    [delivery] = thumbs_server.list_deliveries(job["id"])
    assert [attempt["http_status"] for attempt in delivery["attempts"]] == [204]
    assert f"job.succeeded {delivery['event_id']}\n" in receiver.read()


def test_everything_else_is_refused(receiver: RunningReceiver, thumbs_server: ThumbsServer) -> None:
    """Changed, of somebody else, recorded long ago, or malformed: 401, and nothing is done."""
    good = sample_event("job.succeeded", secret=thumbs_server.secret)
    old = datetime.now(UTC) - timedelta(minutes=6)
    bad = [good.tamper(), sample_event("ping"), sample_event("ping", secret=thumbs_server.secret, signed_at=old)]
    bad += [replace(good, headers={**good.headers, "webhook-signature": text}) for text in ("v1", "v1,é", "nonsense")]
    bad += [replace(good, headers={}), replace(good, headers={**good.headers, "webhook-timestamp": "now"})]
    assert [sample.send(receiver.url) for sample in bad] == [401] * len(bad)
    assert not [sample.id for sample in bad if sample.id in receiver.read()]
    assert good.send(receiver.url) == 204
    wait_until(lambda: good.id in receiver.read(), 5)


@pytest.mark.parametrize("language", LANGUAGES)
def test_receiver_is_short(language: str) -> None:
    [source] = list_blocks(PAGE, language)
    assert len(source.splitlines()) <= MAX_LINES


def test_vector_is_the_published_one_and_verifies() -> None:
    """Webhook.sign of the independent library stands in for its verify: the timestamp is long past."""
    [vector] = [block for block in list_blocks(PAGE, "") if block.startswith("secret ")]
    assert vector in list_blocks("webhooks.md", "")
    told = dict(line.split(maxsplit=1) for line in vector.splitlines())
    moment = datetime.fromtimestamp(int(told["timestamp"]), UTC)
    assert Webhook(told["secret"]).sign(told["id"], moment, told["body"]) == told["signature"]
    assert told["secret"] == SAMPLE_SECRET


def test_schedule_is_the_one_of_the_settings() -> None:
    """The page tells it in words."""
    units = {"s": 1, "min": 60, "h": 3600}
    rows = [row for row in read_page(PAGE).splitlines() if row.startswith(("| seconds, minutes", "| hours"))]
    times = [re.findall(r"\b(\d+) (s|min|h)\b", re.sub(r"each plus.*|: 11.*", "", row)) for row in rows]
    told = [int(number) * units[unit] for row in times for number, unit in row]
    schedule = read_settings({}).webhook_schedule_seconds
    assert told == list(schedule)
    assert f"{len(schedule) + 1} attempts" in read_page(PAGE)
    assert [round(sum(schedule) * factor / 3600) for factor in (1, 1.2)] == [52, 62]


def test_other_numbers_are_those_of_the_settings() -> None:
    settings, page = read_settings({}), read_page(PAGE)
    told = [
        f"has {settings.webhook_timeout_seconds:g} seconds in all",
        f"answers slower than {settings.webhook_slow_seconds:g} s",
        f"after {settings.webhook_breaker_failures} failures in a row",
        f"one probe after {settings.webhook_breaker_seconds:g} s",
        f"… {settings.webhook_breaker_max_seconds / 60:g} min",
        f"at most {settings.webhook_max_per_lane} at a time and {settings.webhook_max_per_second} a second",
        f"at most {settings.webhook_recover_per_second} a\n  second",
        f"kept for {settings.retention_days} days",
    ]
    assert [each for each in told if each not in page] == []
    days = [seconds / 86_400 for seconds in (settings.webhook_failing_seconds, settings.webhook_disable_seconds)]
    assert (days, "| a day |" in page, "| five days |" in page) == ([1, 5], True, True)


def test_every_page_that_is_linked_is_there() -> None:
    folder = Path(__file__).parents[2] / "docs"
    linked = {name for page in ("receivers.md", "testing.md") for name in re.findall(r"\]\((\w+\.md)", read_page(page))}
    assert [name for name in linked if not (folder / name).exists()] == []
