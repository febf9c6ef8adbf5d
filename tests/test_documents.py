"""The JSON that callers read: moments, names, what became of a job's callback, and what is never shown."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tests.support.builders import (
    NOW,
    THUMBNAIL,
    build_attempt,
    build_delivery,
    build_endpoint,
    build_job,
    fail,
    succeed,
)
from thumbs.documents import (
    EXTENSIONS,
    describe_delivery,
    describe_endpoint,
    describe_job,
    describe_job_with_callback,
    format_moment,
    name_blob,
)
from thumbs.domain import DeliveryStatus, DisabledReason, EndpointStatus, Health, Job, JobStatus, Trigger

RUNNING = build_job(status=JobStatus.RUNNING, run_count=1, started_at=NOW)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 11, 23, 10, 15, 30, 123_999, tzinfo=UTC), "2026-11-23T10:15:30.123Z"),
        (datetime(2026, 11, 23, 10, 15, 30, tzinfo=UTC), "2026-11-23T10:15:30.000Z"),
        (datetime(2026, 11, 23, 12, 15, 30, tzinfo=timezone(timedelta(hours=2))), "2026-11-23T10:15:30.000Z"),
        (None, None),
    ],
)
def test_moment_is_rfc_3339_in_utc_with_milliseconds(moment: datetime | None, text: str | None) -> None:
    assert format_moment(moment) == text


@pytest.mark.parametrize(("content_type", "extension"), EXTENSIONS.items())
def test_blob_is_named_by_the_jobs_secret_name_and_its_type(content_type: str, extension: str) -> None:
    job = build_job(blob_name="8f0c")
    assert name_blob(job, replace(THUMBNAIL, content_type=content_type)) == f"8f0c.{extension}"


def test_url_of_a_thumbnail_is_under_the_base_that_the_job_was_made_with() -> None:
    job = succeed(replace(RUNNING, public_url="https://thumbs.example", blob_name="8f0c")).job
    assert describe_job(job)["thumbnail"]["url"] == "https://thumbs.example/t/8f0c.jpg"


def test_job_that_waits_has_no_results() -> None:
    described = describe_job(build_job())
    names = ("thumbnail", "source", "error", "started_at", "finished_at")
    assert {name: described[name] for name in names} == dict.fromkeys(names)
    assert (described["status"], described["variants"], described["timings_ms"]) == ("queued", {}, {})


def test_failure_of_a_job_is_told_by_its_code() -> None:
    assert describe_job(fail(RUNNING).job)["error"] == {
        "code": "source_http_error",
        "stage": "fetch",
        "message": "The source answered with an HTTP error.",
        "retryable": False,
        "source_status": 404,
    }


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (DeliveryStatus.PENDING, "pending"),
        (DeliveryStatus.SENDING, "pending"),
        (DeliveryStatus.DELIVERED, "delivered"),
        (DeliveryStatus.FAILED, "failed"),
    ],
)
def test_callback_is_told_by_its_delivery(status: DeliveryStatus, told: str) -> None:
    conclusion = succeed(RUNNING)
    delivery = replace(conclusion.deliveries[0], status=status, attempt_count=2, next_attempt_at=None)
    described = describe_job_with_callback(conclusion.job, delivery)
    assert described["callback"] == {"status": told, "attempt_count": 2, "next_attempt_at": None}


@pytest.mark.parametrize(
    ("job", "told"), [(build_job(), "pending"), (build_job(callback_url=None), "none")], ids=["asked for", "not asked"]
)
def test_callback_of_a_job_that_is_not_final_is_pending_or_none(job: Job, told: str) -> None:
    assert describe_job_with_callback(job, None)["callback"]["status"] == told


def test_delivery_is_told_with_its_attempts_in_their_order() -> None:
    attempts = [build_attempt("dlv_1", number=1), build_attempt("dlv_1", number=2, trigger=Trigger.MANUAL)]
    described = describe_delivery(build_delivery(id="dlv_1", attempt_count=2), attempts)
    assert [(each["number"], each["trigger"]) for each in described["attempts"]] == [(1, "auto"), (2, "manual")]
    assert (described["status"], described["endpoint_id"], described["attempt_count"]) == ("pending", None, 2)


def test_endpoint_is_told_with_its_health() -> None:
    described = describe_endpoint(build_endpoint(id="ep_1", event_types=("job.*",)), Health.DEGRADED)
    assert described == {
        "id": "ep_1",
        "url": "https://app.example/hooks",
        "event_types": ["job.*"],
        "description": None,
        "headers": {},
        "status": "enabled",
        "disabled_reason": None,
        "health": "degraded",
        "created_at": format_moment(NOW),
    }


def test_disabled_endpoint_tells_why() -> None:
    endpoint = build_endpoint(status=EndpointStatus.DISABLED, disabled_reason=DisabledReason.GONE)
    described = describe_endpoint(endpoint, Health.OK)
    assert (described["status"], described["disabled_reason"]) == ("disabled", "gone")


def test_endpoint_never_shows_its_secret_nor_the_values_of_its_headers() -> None:
    endpoint = build_endpoint(secret="hunter2", headers={"X-Team": "hunter3"})
    described = describe_endpoint(endpoint, Health.OK)
    assert described["headers"] == {"X-Team": "***"}
    assert "hunter" not in repr((described, endpoint))
