"""How many requests an account may send: exactly as many, over all routes and processes, and told on every answer."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.support.dispatcher import RecordingDispatcher
from tests.support.proxies import Proxy
from tests.support.races import race
from tests.support.services import build_test_services
from tests.support.stack import wait_until
from tests.web.test_auth import bearer, create_key
from thumbs.accounts import create_account
from thumbs.counters import FILE_NAME, REDIS_TIMEOUT_SECONDS
from thumbs.ledger import Ledger
from thumbs.services import Services
from thumbs.web import create_app
from thumbs.web.context import get_services

BODY = {"source_url": "https://img.example/cat.jpg"}
Build = Callable[..., Flask]


@pytest.fixture
def build(ledger: Ledger, dispatcher: RecordingDispatcher, clock: Any, tmp_path: Path) -> Build:
    """Builds an app as each process of `web` has one; without keys, all is of one account."""

    def build(**variables: str) -> Flask:
        given = {"THUMBS_DATA_DIR": str(tmp_path), "THUMBS_RATE_LIMIT": "3/minute"} | variables
        return create_app(build_test_services(ledger, dispatcher, clock, **given))

    return build


def list_statuses(client: FlaskClient, count: int, path: str = "/v1/jobs", **options: Any) -> list[int]:
    """Send so many requests; returns what they were answered."""
    return [client.get(path, **options).status_code for _ in range(count)]


def get_app_services(app: Flask) -> Services:
    with app.app_context():
        return get_services()


def test_one_too_many_is_refused_with_when_to_go_on(build: Build) -> None:
    client = build().test_client()
    assert list_statuses(client, 3) == [200] * 3
    answer = client.get("/v1/jobs")
    problem = answer.get_json()
    assert (answer.status_code, answer.content_type) == (429, "application/problem+json")
    assert problem["code"] == "rate_limited"
    assert "3 requests in one minute" in problem["detail"]
    assert 1 <= int(answer.headers["Retry-After"]) <= 61
    assert answer.headers["X-RateLimit-Remaining"] == "0"


def test_refused_request_does_nothing(build: Build, dispatcher: RecordingDispatcher) -> None:
    client = build(THUMBS_RATE_LIMIT="1/hour").test_client()
    statuses = [client.post("/v1/jobs", json=BODY).status_code for _ in range(3)]
    assert statuses == [202, 429, 429]
    assert len(dispatcher.processed) == 1


def test_requests_go_on_when_the_window_is_over(build: Build) -> None:
    """After the seconds of Retry-After at the latest."""
    client = build(THUMBS_RATE_LIMIT="1/second").test_client()
    assert wait_until(lambda: client.get("/v1/jobs").status_code == 429, 10)
    assert client.get("/v1/jobs").headers.get("Retry-After") in ("1", "2", None)
    assert wait_until(lambda: client.get("/v1/jobs").status_code == 200, 10)


def test_what_is_left_is_told_on_every_answer(build: Build) -> None:
    """Also of an error; the window's end is a second since 1970."""
    client = build().test_client()
    answers = [client.get("/v1/jobs"), client.get("/v1/jobs/unknown"), client.post("/v1/jobs", json={})]
    assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["2", "1", "0"]
    assert {answer.headers["X-RateLimit-Limit"] for answer in answers} == {"3"}
    assert time.time() < int(answers[0].headers["X-RateLimit-Reset"]) <= time.time() + 61


def test_all_routes_count_together(build: Build) -> None:
    client = build().test_client()
    assert [client.get(path).status_code for path in ("/v1/jobs", "/v1/events", "/v1/endpoints")] == [200] * 3
    assert client.get("/generateThumbnail?url=https://img.example/").status_code == 429
    assert client.post("/v1/batches", json={}).status_code == 429


def test_routes_without_an_account_are_not_limited(build: Build) -> None:
    client = build(THUMBS_RATE_LIMIT="1/day").test_client()
    list_statuses(client, 2)
    for path, status in (("/healthz", 200), ("/", 200), ("/t/none.jpg", 404), ("/nothing", 404)):
        answer = client.get(path)
        assert (answer.status_code, "X-RateLimit-Limit" in answer.headers) == (status, False)


def test_each_account_has_its_own_limit_whatever_its_keys(build: Build) -> None:
    app = build(THUMBS_AUTH="required")
    services, client = get_app_services(app), app.test_client()
    first, second = create_account(services, "first"), create_account(services, "second")
    assert first is not None
    assert second is not None
    keys = [bearer(create_key(services, account)[1]) for account in (first, first, second)]
    statuses = [client.get("/v1/jobs", headers=keys[number]).status_code for number in (0, 1, 0, 1, 2)]
    assert statuses == [200, 200, 200, 429, 200]


def test_who_has_no_key_is_told_so_and_counts_for_nobody(build: Build) -> None:
    app = build(THUMBS_AUTH="required")
    services, client = get_app_services(app), app.test_client()
    account = create_account(services, "acme")
    assert account is not None
    _, key = create_key(services, account)
    wrong = bearer(key[:-2] + ("AA" if not key.endswith("AA") else "BB"))
    assert list_statuses(client, 5, headers=wrong) == [401] * 5
    assert list_statuses(client, 3, headers=bearer(key)) == [200] * 3


def test_limit_is_exact_over_processes(build: Build) -> None:
    """Each process has an app of its own; they share the file."""
    apps = [build(THUMBS_RATE_LIMIT="20/hour") for _ in range(2)]
    statuses = race(*[partial(list_statuses, apps[number % 2].test_client(), 4) for number in range(16)])
    flat = [status for each in statuses for status in each]
    assert (flat.count(200), flat.count(429)) == (20, 44)


def test_several_limits_hold_all_at_once(build: Build) -> None:
    client = build(THUMBS_RATE_LIMIT="100/second;2/day").test_client()
    assert list_statuses(client, 2) == [200, 200]
    answer = client.get("/v1/jobs")
    assert (answer.status_code, "2 requests in one day" in answer.get_json()["detail"]) == (429, True)
    assert int(answer.headers["Retry-After"]) > 80_000


def test_file_that_cannot_be_used_fails_no_request_and_the_limit_holds_in_each_process(
    build: Build, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE_NAME).mkdir()
    client = build().test_client()
    assert list_statuses(client, 4) == [200, 200, 200, 429]
    assert any("falling back to in-memory" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("outage", [Proxy.cut, Proxy.hang])
def test_redis_that_is_away_fails_no_request(build: Build, valkey_url: str, outage: Callable[[Proxy], None]) -> None:
    """It holds up one request for a moment, then those that look whether it is back."""
    with Proxy(int(valkey_url.rpartition(":")[2].partition("/")[0])) as proxy:
        redis_url = f"redis://127.0.0.1:{proxy.port}/0"
        client = build(REDIS_URL=redis_url, THUMBS_RATE_LIMIT="1000/hour").test_client()
        assert list_statuses(client, 2) == [200, 200]
        outage(proxy)
        began = time.monotonic()
        assert list_statuses(client, 100) == [200] * 100
        assert time.monotonic() - began < 20 * REDIS_TIMEOUT_SECONDS


def test_redis_that_hangs_fails_none_of_many_at_once(build: Build, valkey_url: str) -> None:
    with Proxy(int(valkey_url.rpartition(":")[2].partition("/")[0])) as proxy:
        app = build(REDIS_URL=f"redis://127.0.0.1:{proxy.port}/0", THUMBS_RATE_LIMIT="1000/hour")
        proxy.hang()
        assert race(*[partial(list_statuses, app.test_client(), 1)] * 16) == [[200]] * 16


def test_limit_is_shared_through_redis(build: Build, valkey_url: str) -> None:
    apps = [build(REDIS_URL=valkey_url) for _ in range(2)]
    statuses = [apps[number % 2].test_client().get("/v1/jobs").status_code for number in range(4)]
    assert statuses == [200, 200, 200, 429]
