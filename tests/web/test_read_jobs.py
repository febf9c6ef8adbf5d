"""GET /v1/jobs…: one job, its deliveries, and lists that go on where they ended."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from ulid import ULID

from tests.support.builders import NOW, build_job, record_job
from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import ScriptedOutbound, accept, build_answer, fail_with, get_callback, record_delivery
from tests.web.conftest import ActingClock
from thumbs.accounts import get_default_account
from thumbs.deliver import deliver
from thumbs.documents import format_moment
from thumbs.errors import SourceHttpError
from thumbs.process import process
from thumbs.retries import add_seconds
from thumbs.services import Services


def record_jobs(services: Services, count: int) -> list[str]:
    """Record jobs a minute apart; returns their ids, newest first."""
    account = get_default_account(services)
    ids = []
    for number in range(count):
        created_at = add_seconds(NOW, 60 * number)
        job_id = f"job_{ULID.from_datetime(created_at)}"
        services.ledger.jobs.record(build_job(id=job_id, account_id=account.id, created_at=created_at))
        ids.append(job_id)
    return ids[::-1]


def list_ids(client: FlaskClient, query: str = "") -> list[str]:
    return [job["id"] for job in client.get(f"/v1/jobs{query}").get_json()["items"]]


# ── one job ─────────────────────────────────────────────────────────────────────────────────────────────


def test_job_that_waits_tells_when_to_come_back(client: FlaskClient, services: Services) -> None:
    answer = client.get(f"/v1/jobs/{accept(services).id}")
    assert (answer.status_code, answer.get_json()["status"]) == (200, "queued")
    assert answer.headers["Retry-After"] == "1"


def test_final_job_tells_its_thumbnail_and_its_callback(client: FlaskClient, services: Services) -> None:
    job_id = record_delivery(services).job_id
    answer = client.get(f"/v1/jobs/{job_id}")
    job = answer.get_json()
    assert (job["status"], job["thumbnail"]["width"], job["callback"]["status"]) == ("succeeded", 100, "pending")
    assert "Retry-After" not in answer.headers


def test_failed_job_tells_its_error(client: FlaskClient, services: Services, outbound: ScriptedOutbound) -> None:
    outbound.on_fetch = fail_with(SourceHttpError("as 10.0.0.1 said", source_status=404))
    job_id = record_delivery(services).job_id
    assert client.get(f"/v1/jobs/{job_id}").get_json()["error"] == {
        "code": "source_http_error",
        "stage": "fetch",
        "message": "The source answered with an HTTP error.",
        "retryable": False,
        "source_status": 404,
    }


@pytest.mark.parametrize(
    "path", ["/v1/jobs/job_unknown", "/v1/jobs/%00", "/v1/jobs/%ED%A0%80", "/v1/jobs/x/deliveries"]
)
def test_unknown_job_is_404(shared_client: FlaskClient, path: str) -> None:
    answer = shared_client.get(path)
    assert (answer.status_code, answer.get_json()["code"]) == (404, "not_found")


def test_another_accounts_job_is_404(client: FlaskClient, services: Services) -> None:
    job = record_job(services.ledger)
    assert client.get(f"/v1/jobs/{job.id}").status_code == 404
    assert client.get(f"/v1/jobs/{job.id}/deliveries").status_code == 404
    assert list_ids(client) == []


def test_unchanged_job_is_304_and_a_changed_one_is_not(client: FlaskClient, services: Services) -> None:
    job = accept(services)
    headers = {"If-None-Match": client.get(f"/v1/jobs/{job.id}").headers["ETag"]}
    unchanged = client.get(f"/v1/jobs/{job.id}", headers=headers)
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    process(services, job.id)
    assert client.get(f"/v1/jobs/{job.id}", headers=headers).status_code == 200


def test_wait_is_answered_when_the_job_ends(client: FlaskClient, services: Services, clock: ActingClock) -> None:
    job = accept(services)
    clock.on_sleep = lambda: process(services, job.id)
    answer = client.get(f"/v1/jobs/{job.id}", headers={"Prefer": "wait=10"})
    assert (answer.get_json()["status"], answer.headers["Preference-Applied"]) == ("succeeded", "wait=10")


# ── its deliveries ──────────────────────────────────────────────────────────────────────────────────────


def test_deliveries_are_told_with_every_attempt(
    client: FlaskClient, services: Services, outbound: ScriptedOutbound
) -> None:
    outbound.on_post = lambda: build_answer(500, b"no", content_type="text/plain")
    delivery = record_delivery(services)
    deliver(services, delivery.id)
    [told] = client.get(f"/v1/jobs/{delivery.job_id}/deliveries").get_json()["items"]
    [attempt] = told["attempts"]
    assert (told["id"], told["status"], told["attempt_count"]) == (delivery.id, "pending", 1)
    assert (attempt["http_status"], attempt["error_code"], attempt["response_body"]) == (500, "http_5xx", "no")
    assert told["next_attempt_at"] == format_moment(get_callback(services, str(delivery.job_id)).next_attempt_at)


def test_job_that_is_not_final_has_no_deliveries(client: FlaskClient, services: Services) -> None:
    answer = client.get(f"/v1/jobs/{accept(services).id}/deliveries")
    assert answer.get_json() == {"items": [], "next_cursor": None}


# ── lists ───────────────────────────────────────────────────────────────────────────────────────────────


def test_list_is_newest_first_and_20_long(client: FlaskClient, services: Services) -> None:
    ids = record_jobs(services, 21)
    page = client.get("/v1/jobs").get_json()
    assert [job["id"] for job in page["items"]] == ids[:20]
    assert page["next_cursor"] == ids[19]


def test_cursor_goes_on_where_the_page_ended(client: FlaskClient, services: Services) -> None:
    ids = record_jobs(services, 5)
    seen: list[str] = []
    query: str | None = "?limit=2"
    while query is not None:
        page: dict[str, Any] = client.get(f"/v1/jobs{query}").get_json()
        seen += [job["id"] for job in page["items"]]
        query = f"?limit=2&cursor={page['next_cursor']}" if page["next_cursor"] else None
    assert seen == ids


def test_last_page_has_no_cursor_also_when_it_is_full(client: FlaskClient, services: Services) -> None:
    record_jobs(services, 2)
    assert client.get("/v1/jobs?limit=2").get_json()["next_cursor"] is None


def test_list_tells_what_became_of_each_callback(client: FlaskClient, services: Services) -> None:
    delivery = record_delivery(services)
    deliver(services, delivery.id)
    [job] = client.get("/v1/jobs").get_json()["items"]
    assert job == client.get(f"/v1/jobs/{delivery.job_id}").get_json()
    assert job["callback"]["status"] == "delivered"


def test_list_can_be_filtered_by_status(client: FlaskClient, services: Services) -> None:
    done, waiting = record_delivery(services).job_id, accept(services).id
    assert list_ids(client, "?status=succeeded") == [done]
    assert list_ids(client, "?status=queued") == [waiting]
    assert list_ids(client, "?status=failed") == []


def test_list_can_be_filtered_by_time(client: FlaskClient, services: Services) -> None:
    ids = record_jobs(services, 3)
    moment = (format_moment(add_seconds(NOW, 60)) or "").replace("Z", "%2B00:00")
    assert list_ids(client, f"?created_after={moment}") == ids[:1]
    assert list_ids(client, f"?created_before={moment}") == ids[2:]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00%2B23:59", "9999-12-31T23:59:59-23:59"])
def test_moments_at_the_ends_of_time_are_understood(shared_client: FlaskClient, moment: str) -> None:
    assert shared_client.get(f"/v1/jobs?created_after={moment}").status_code == 200


@pytest.mark.parametrize(
    ("field", "text"),
    [
        *[("limit", bad) for bad in ("0", "101", "-1", "ten", "1.5", "9" * 5_000)],
        *[("status", bad) for bad in ("done", "QUEUED")],
        *[("created_after", bad) for bad in ("yesterday", "2026-11-23T10:15:30", "2026-99-01T00:00:00Z")],
        ("created_before", "1764000000"),
        ("stauts", "queued"),
        *[("cursor", bad) for bad in ("x", "job_1", "%00", "job_01K5Z8M3V7Q2X9T4B6N8R0WYCD%0A")],
    ],
    ids=lambda value: value[:24],
)
def test_bad_query_is_refused_by_its_name(shared_client: FlaskClient, field: str, text: str) -> None:
    answer = shared_client.get(f"/v1/jobs?{field}={text}")
    assert answer.status_code == 422
    assert list(answer.get_json()["errors"]["query"]) == [field]


def test_list_puts_nothing_on_the_queue(client: FlaskClient, dispatcher: RecordingDispatcher) -> None:
    client.get("/v1/jobs")
    assert dispatcher.processed == []
