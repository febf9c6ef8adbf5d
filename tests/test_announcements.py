"""Events and who hears of them: the frozen bytes, one delivery per receiver, and what a disabled endpoint misses."""

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.support.builders import (
    NOW,
    SOURCE,
    THUMBNAIL,
    build_endpoint,
    build_job,
    fail,
    new_id,
    parse_event,
    succeed,
)
from thumbs.announcements import (
    MAX_EVENT_BYTES,
    MAX_INLINE_BYTES,
    announce_endpoint,
    announce_ping,
    conclude,
    conclude_batch,
    measure_event,
)
from thumbs.documents import describe_batch, describe_endpoint, describe_job, format_moment
from thumbs.domain import (
    EVENT_PATTERNS,
    Batch,
    Conclusion,
    Delivery,
    DeliveryStatus,
    Endpoint,
    EndpointStatus,
    EventType,
    Health,
    JobStatus,
    Outcome,
    ThumbnailSpec,
    Trigger,
    Variant,
)
from thumbs.lanes import name_lane

RUNNING = build_job(status=JobStatus.RUNNING, run_count=1, started_at=NOW)
HOOKS = RUNNING.callback_url
ELSEWHERE = "https://other.example/hooks"


def tell(*endpoints: Endpoint, **changes: Any) -> Sequence[Delivery]:
    """End a job with a thumbnail; returns its deliveries."""
    outcome = Outcome(JobStatus.SUCCEEDED)
    return conclude(replace(RUNNING, **changes), outcome, endpoints, now=NOW, timings_ms={}, new_id=new_id).deliveries


def put_in_line(size_bytes: int, **changes: Any) -> str | None:
    """End a job whose event is to hold an image of that size; returns what it holds."""
    outcome = Outcome(JobStatus.SUCCEEDED, thumbnail=THUMBNAIL, inline=bytes(size_bytes))
    conclusion = conclude(replace(RUNNING, **changes), outcome, now=NOW, timings_ms={}, new_id=new_id)
    assert len(conclusion.event.body) <= MAX_EVENT_BYTES
    data_url: str | None = parse_event(conclusion.event.body)["data"]["job"]["thumbnail"].get("data_url")
    return data_url


# ── images in their events, and how long those are ──────────────────────────────────────────────────────


def test_event_holds_an_image_of_up_to_6_kib() -> None:
    data_url = put_in_line(MAX_INLINE_BYTES)
    assert data_url == f"data:image/jpeg;base64,{b64encode(bytes(MAX_INLINE_BYTES)).decode()}"
    assert put_in_line(MAX_INLINE_BYTES + 1) is None


def test_event_that_would_be_too_long_holds_no_image() -> None:
    """Every field at its longest; `é` takes two bytes of a URL, and six in ASCII."""
    url = "https://img.example/" + "é" * 1_000
    assert put_in_line(MAX_INLINE_BYTES, source_url=url, callback_url=url, metadata={"x": "y" * 4_000}) is None


def test_job_itself_holds_no_image() -> None:
    outcome = Outcome(JobStatus.SUCCEEDED, thumbnail=THUMBNAIL, inline=b"image")
    conclusion = conclude(RUNNING, outcome, now=NOW, timings_ms={}, new_id=new_id)
    assert "data_url" not in describe_job(conclusion.job)["thumbnail"]


def test_event_is_no_longer_than_it_was_measured() -> None:
    job = replace(RUNNING, variants={f"v{number}": Variant(ThumbnailSpec()) for number in range(8)})
    made = {name: replace(each, thumbnail=THUMBNAIL) for name, each in job.variants.items()}
    outcome = Outcome(JobStatus.SUCCEEDED, THUMBNAIL, SOURCE, variants=made)
    conclusion = conclude(job, outcome, now=NOW, timings_ms={"queued": 3}, new_id=new_id)
    assert 0 <= measure_event(job) - len(conclusion.event.body) < 500


# ── the end of a job ────────────────────────────────────────────────────────────────────────────────────


def test_conclusion_of_a_success_holds_the_facts() -> None:
    conclusion = succeed(RUNNING)
    job = conclusion.job
    assert (job.status, job.thumbnail, job.source, job.error) == (JobStatus.SUCCEEDED, THUMBNAIL, SOURCE, None)
    assert (job.finished_at, job.timings_ms) == (NOW, {"queued": 3})
    assert conclusion.event.type is EventType.JOB_SUCCEEDED


def test_conclusion_of_a_failure_holds_the_error() -> None:
    conclusion = fail(RUNNING)
    assert (conclusion.job.status, conclusion.event.type) == (JobStatus.FAILED, EventType.JOB_FAILED)
    assert conclusion.job.error is not None
    assert conclusion.job.error.code == "source_http_error"


def test_conclusion_has_a_delivery_that_is_due_now() -> None:
    conclusion = succeed(RUNNING)
    [delivery] = conclusion.deliveries
    assert (delivery.url, delivery.status, delivery.next_attempt_at) == (HOOKS, DeliveryStatus.PENDING, NOW)
    assert (delivery.event_id, delivery.job_id) == (conclusion.event.id, RUNNING.id)
    assert (delivery.is_callback, delivery.trigger) == (True, Trigger.AUTO)


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


def conclude_alike() -> Conclusion:
    numbers = iter(range(9))
    outcome = Outcome(JobStatus.SUCCEEDED)
    return conclude(RUNNING, outcome, now=NOW, timings_ms={}, new_id=lambda prefix: f"{prefix}_{next(numbers)}")


def test_same_conclusion_gives_the_same_bytes() -> None:
    assert conclude_alike() == conclude_alike()


# ── who hears of it ─────────────────────────────────────────────────────────────────────────────────────


def test_callback_and_each_endpoint_get_a_delivery_of_their_own() -> None:
    first, second = build_endpoint(url=ELSEWHERE), build_endpoint(url=f"{ELSEWHERE}/2")
    told = [(each.url, each.endpoint_id, each.is_callback) for each in tell(first, second)]
    assert told[0] == (HOOKS, None, True)
    assert sorted(told[1:]) == sorted([(first.url, first.id, False), (second.url, second.id, False)])


def test_endpoint_hears_of_a_job_without_a_callback() -> None:
    endpoint = build_endpoint()
    [delivery] = tell(endpoint, callback_url=None)
    assert (delivery.endpoint_id, delivery.status, delivery.is_callback) == (endpoint.id, DeliveryStatus.PENDING, False)


@pytest.mark.parametrize(
    ("event_types", "is_told"),
    [
        (("*",), True),
        (("job.*",), True),
        (("job.succeeded",), True),
        (("job.failed", "job.succeeded"), True),
        (("job.failed",), False),
        (("batch.*",), False),
        (("endpoint.*", "batch.finished"), False),
        ((), False),
    ],
)
def test_endpoint_hears_of_what_it_asked_for(event_types: tuple[str, ...], is_told: bool) -> None:
    assert len(tell(build_endpoint(event_types=event_types), callback_url=None)) == is_told


@pytest.mark.parametrize("pattern", EVENT_PATTERNS)
def test_every_pattern_asks_for_something(pattern: str) -> None:
    assert any(build_endpoint(event_types=(pattern,)).wants(kind) for kind in EventType)


def test_equal_url_gets_it_once_as_callback_and_endpoint() -> None:
    """It is then signed with both keys, so either receiver of that URL verifies it."""
    endpoint = build_endpoint(url=HOOKS)
    [delivery] = tell(endpoint)
    assert (delivery.url, delivery.endpoint_id, delivery.is_callback) == (HOOKS, endpoint.id, True)


def test_two_endpoints_with_an_equal_url_get_it_once_and_an_enabled_one_does() -> None:
    disabled, enabled = build_endpoint(status=EndpointStatus.DISABLED), build_endpoint()
    for endpoints in ((disabled, enabled), (enabled, disabled)):
        [delivery] = tell(*endpoints, callback_url=None)
        assert (delivery.endpoint_id, delivery.status) == (enabled.id, DeliveryStatus.PENDING)


def test_disabled_endpoint_misses_it_on_record() -> None:
    """Disabled is not lost: its owner recovers what is on record as failed."""
    [delivery] = tell(build_endpoint(status=EndpointStatus.DISABLED), callback_url=None)
    assert (delivery.status, delivery.reason) == (DeliveryStatus.FAILED, "endpoint_disabled")
    assert delivery.next_attempt_at is None


def test_callback_to_the_url_of_a_disabled_endpoint_is_sent_as_a_callback_alone() -> None:
    [delivery] = tell(build_endpoint(url=HOOKS, status=EndpointStatus.DISABLED))
    assert (delivery.endpoint_id, delivery.status, delivery.is_callback) == (None, DeliveryStatus.PENDING, True)


def test_endpoint_at_the_callbacks_url_that_did_not_ask_leaves_the_callback_alone() -> None:
    [delivery] = tell(build_endpoint(url=HOOKS, event_types=("batch.*",)))
    assert (delivery.endpoint_id, delivery.is_callback) == (None, True)


def test_each_delivery_is_in_the_lane_of_its_receiver() -> None:
    for delivery in tell(build_endpoint(url=ELSEWHERE)):
        assert delivery.lane_id == name_lane(delivery)


# ── batches, pings, and what an account is told of its endpoints ────────────────────────────────────────


def test_batch_is_told_with_its_jobs() -> None:
    batch = Batch("bat_1", RUNNING.account_id, HOOKS, NOW, NOW)
    announcement = conclude_batch(batch, [("job_1", JobStatus.FAILED)], now=NOW, new_id=new_id)
    event, [delivery] = announcement.event, announcement.deliveries
    described = describe_batch(replace(batch, finished_at=NOW), [("job_1", JobStatus.FAILED)])
    assert parse_event(event.body)["data"] == {"batch": described}
    assert (event.type, event.batch_id, event.job_id) == (EventType.BATCH_FINISHED, "bat_1", None)
    assert (delivery.url, delivery.job_id, delivery.is_callback) == (HOOKS, None, True)


@pytest.mark.parametrize("status", EndpointStatus)
def test_ping_goes_to_its_endpoint_whatever_it_asked_for(status: EndpointStatus) -> None:
    endpoint = build_endpoint(event_types=("batch.*",), status=status)
    announcement = announce_ping(endpoint, now=NOW, new_id=new_id)
    [delivery] = announcement.deliveries
    assert parse_event(announcement.event.body)["data"] == {"endpoint_id": endpoint.id}
    assert (delivery.endpoint_id, delivery.status) == (endpoint.id, DeliveryStatus.PENDING)
    assert (delivery.trigger, delivery.is_callback) == (Trigger.PING, False)


def test_account_is_told_of_an_endpoint_through_its_others() -> None:
    endpoint, other, deaf = build_endpoint(), build_endpoint(url=ELSEWHERE), build_endpoint(event_types=("job.*",))
    announcement = announce_endpoint(
        EventType.ENDPOINT_FAILING, endpoint, Health.OPEN, NOW, [endpoint, other, deaf], now=NOW, new_id=new_id
    )
    assert [each.endpoint_id for each in announcement.deliveries] == [other.id]
    assert parse_event(announcement.event.body)["data"] == {
        "endpoint": describe_endpoint(endpoint, Health.OPEN),
        "failing_since": format_moment(NOW),
    }


def test_event_of_an_endpoint_holds_no_secret() -> None:
    endpoint = build_endpoint(secret="hunter2", headers={"X-Team": "hunter3"})
    body = announce_endpoint(
        EventType.ENDPOINT_DISABLED, endpoint, Health.OK, None, [], now=NOW, new_id=new_id
    ).event.body
    assert b"hunter" not in body
