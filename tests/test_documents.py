"""The JSON that callers read: moments, names, the event's frozen bytes, and what became of a job's callback."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tests.support.builders import NOW, SOURCE, THUMBNAIL, build_job, fail, parse_event, succeed
from thumbs.documents import (
    EXTENSIONS,
    conclude,
    describe_delivery,
    describe_job,
    describe_job_with_callback,
    format_moment,
    name_blob,
)
from thumbs.domain import DeliveryStatus, EventType, Job, JobStatus, Outcome

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


def test_conclusion_of_a_success_holds_the_facts() -> None:
    conclusion = succeed(RUNNING)
    job = conclusion.job
    assert (job.status, job.thumbnail, job.source, job.error) == (JobStatus.SUCCEEDED, THUMBNAIL, SOURCE, None)
    assert (job.finished_at, job.timings_ms) == (NOW, {"queued": 3})
    assert conclusion.event.type is EventType.JOB_SUCCEEDED


def test_conclusion_of_a_failure_holds_the_error() -> None:
    conclusion = fail(RUNNING)
    assert describe_job(conclusion.job)["error"] == {
        "code": "source_http_error",
        "stage": "fetch",
        "message": "The source answered with an HTTP error.",
        "retryable": False,
        "source_status": 404,
    }
    assert conclusion.event.type is EventType.JOB_FAILED


def test_conclusion_has_a_delivery_that_is_due_now() -> None:
    conclusion = succeed(RUNNING)
    [delivery] = conclusion.deliveries
    assert (delivery.url, delivery.status, delivery.next_attempt_at) == (
        RUNNING.callback_url,
        DeliveryStatus.PENDING,
        NOW,
    )
    assert (delivery.event_id, delivery.job_id) == (conclusion.event.id, RUNNING.id)


def test_conclusion_without_callback_has_no_delivery() -> None:
    assert succeed(replace(RUNNING, callback_url=None)).deliveries == ()


def test_event_tells_the_job_as_it_ended_without_its_callback() -> None:
    """A receiver reads the same document as GET /v1/jobs/{id}; what became of its own webhook it knows."""
    conclusion = succeed(RUNNING)
    event = parse_event(conclusion.event.body)
    assert event == {
        "id": conclusion.event.id,
        "type": "job.succeeded",
        "timestamp": format_moment(NOW),
        "data": {"job": describe_job(conclusion.job)},
    }
    assert "callback" not in event["data"]["job"]


def test_event_is_compact_ascii() -> None:
    body = succeed(replace(RUNNING, metadata={"name": "Zoë \ud83d 🐈"})).event.body
    assert body.isascii()
    assert body == json.dumps(parse_event(body), separators=(",", ":")).encode()


def test_same_conclusion_gives_the_same_bytes() -> None:
    first, second = (
        conclude(RUNNING, Outcome(JobStatus.SUCCEEDED), now=NOW, timings_ms={}, event_id="evt_1", delivery_id="dlv_1")
        for _ in range(2)
    )
    assert first == second


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


def test_delivery_is_told_with_its_attempts_in_order() -> None:
    conclusion = succeed(RUNNING)
    described = describe_delivery(conclusion.deliveries[0], [])
    assert (described["status"], described["attempts"], described["endpoint_id"]) == ("pending", [], None)
