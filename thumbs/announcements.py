"""Builds events with their deliveries: one per receiver that is to hear of it, the body frozen as bytes.

Pure; the worker, the sweep and a caller's DELETE end a job through the same function. Who hears of an event: the URL
that came with the job or batch, and each endpoint of the account that asked for its type; an equal URL gets it once.
"""

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from thumbs.documents import describe_batch, describe_endpoint, describe_job, format_moment
from thumbs.domain import (
    Announcement,
    Batch,
    Conclusion,
    Delivery,
    DeliveryStatus,
    Endpoint,
    Event,
    EventType,
    Health,
    Job,
    JobStatus,
    Outcome,
    Reuse,
    Source,
    Thumbnail,
    Trigger,
)
from thumbs.lanes import name_lane

NewId = Callable[[str], str]
"""Draws an id with that prefix."""

MAX_EVENT_BYTES: Final = 20 * 1024
MAX_INLINE_BYTES: Final = 6 * 1024
"""Of a thumbnail that its event holds; in base64 that is 8 KiB, which leaves room for the rest (docs/webhooks.md)."""

LONGEST_THUMBNAIL: Final = Thumbnail("image/jpeg", 1024, 1024, 9_999_999, "0" * 64, "0" * 36, "#000000")
LONGEST_SOURCE: Final = Source("image/jpeg", 30_000, 30_000, 999_999_999)
LONGEST_TIMINGS_MS: Final = dict.fromkeys(("queued", "fetched", "decoded", "stored"), 999_999_999)


def conclude(
    job: Job,
    outcome: Outcome,
    endpoints: Sequence[Endpoint] = (),
    *,
    now: datetime,
    timings_ms: Mapping[str, int],
    new_id: NewId,
) -> Conclusion:
    """Build the end of a job: the final job, its event, and its deliveries."""
    ended = replace(
        job,
        status=outcome.status,
        finished_at=now,
        thumbnail=outcome.thumbnail,
        source=outcome.source,
        error=outcome.error,
        timings_ms=timings_ms,
        variants=outcome.variants or job.variants,
        reused=outcome.reused,
    )
    kind = EventType.JOB_SUCCEEDED if ended.status is JobStatus.SUCCEEDED else EventType.JOB_FAILED
    event = _build_event(job.account_id, kind, {"job": describe_job(ended)}, now, new_id, job_id=job.id)
    event = _put_in_line(event, ended, outcome.inline)
    return Conclusion(event, _build_deliveries(event, job.callback_url, endpoints, new_id), ended)


def measure_event(job: Job) -> int:
    """Measure in bytes how long the event of a job can be, without what is put in line."""
    ended = replace(
        job,
        status=JobStatus.SUCCEEDED,
        started_at=job.created_at,
        finished_at=job.created_at,
        thumbnail=LONGEST_THUMBNAIL,
        source=LONGEST_SOURCE,
        timings_ms=LONGEST_TIMINGS_MS,
        variants={name: replace(each, thumbnail=LONGEST_THUMBNAIL) for name, each in job.variants.items()},
        reused=Reuse.REVALIDATED,
    )
    data = {"job": describe_job(ended)}
    return len(_build_event(job.account_id, EventType.JOB_SUCCEEDED, data, job.created_at, lambda _: job.id).body)


def conclude_batch(
    batch: Batch,
    jobs: Sequence[tuple[str, JobStatus]],
    endpoints: Sequence[Endpoint] = (),
    *,
    now: datetime,
    new_id: NewId,
) -> Announcement:
    """Build the end of a batch whose jobs are all final: its event, and its deliveries."""
    data = {"batch": describe_batch(replace(batch, finished_at=now), jobs)}
    event = _build_event(batch.account_id, EventType.BATCH_FINISHED, data, now, new_id, batch_id=batch.id)
    return Announcement(event, _build_deliveries(event, batch.callback_url, endpoints, new_id))


def announce_ping(endpoint: Endpoint, *, now: datetime, new_id: NewId) -> Announcement:
    """Build a ping: to this endpoint alone, whatever it asked for, and though it is disabled."""
    event = _build_event(endpoint.account_id, EventType.PING, {"endpoint_id": endpoint.id}, now, new_id)
    return Announcement(event, (_build_delivery(event, endpoint.url, endpoint, new_id, Trigger.PING),))


def announce_endpoint(
    kind: EventType,
    endpoint: Endpoint,
    health: Health,
    failing_since: datetime | None,
    endpoints: Sequence[Endpoint],
    *,
    now: datetime,
    new_id: NewId,
) -> Announcement:
    """Build what an account is told of an endpoint that fails or is disabled, through its other endpoints."""
    others = [each for each in endpoints if each.id != endpoint.id]
    data = {"endpoint": describe_endpoint(endpoint, health), "failing_since": format_moment(failing_since)}
    event = _build_event(endpoint.account_id, kind, data, now, new_id)
    return Announcement(event, _build_deliveries(event, None, others, new_id))


def _put_in_line(event: Event, job: Job, image: bytes | None) -> Event:
    """Put the image into its event, where it was asked for and there is room."""
    if image is None or len(image) > MAX_INLINE_BYTES or job.thumbnail is None:
        return event
    document = json.loads(event.body)
    url = f"data:{job.thumbnail.content_type};base64,{b64encode(image).decode('ascii')}"
    document["data"]["job"]["thumbnail"]["data_url"] = url
    body = _pack(document)
    return replace(event, body=body) if len(body) <= MAX_EVENT_BYTES else event


def _build_event(
    account_id: str, kind: EventType, data: Mapping[str, Any], now: datetime, new_id: NewId, **of: str
) -> Event:
    """Build an event; its body is compact ASCII JSON: the bytes of every delivery of it."""
    event_id = new_id("evt")
    document = {"id": event_id, "type": str(kind), "timestamp": format_moment(now), "data": data}
    return Event(event_id, account_id, of.get("job_id"), kind, _pack(document), now, of.get("batch_id"))


def _pack(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def _build_deliveries(
    event: Event, callback_url: str | None, endpoints: Iterable[Endpoint], new_id: NewId
) -> tuple[Delivery, ...]:
    """Build a delivery for each receiver; one that is disabled is told later, when its owner recovers."""
    wanting = sorted((each for each in endpoints if each.wants(event.type)), key=lambda each: not each.is_enabled)
    by_url = {each.url: each for each in reversed(wanting)}
    deliveries = []
    if callback_url is not None:
        twin = by_url.pop(callback_url, None)
        receiver = twin if twin is not None and twin.is_enabled else None
        deliveries.append(_build_delivery(event, callback_url, receiver, new_id, is_callback=True))
    deliveries += [_build_delivery(event, url, endpoint, new_id) for url, endpoint in by_url.items()]
    return tuple(deliveries)


def _build_delivery(
    event: Event,
    url: str,
    endpoint: Endpoint | None,
    new_id: NewId,
    trigger: Trigger = Trigger.AUTO,
    *,
    is_callback: bool = False,
) -> Delivery:
    is_open = endpoint is None or endpoint.is_enabled or trigger is Trigger.PING
    delivery = Delivery(
        id=new_id("dlv"),
        account_id=event.account_id,
        event_id=event.id,
        job_id=event.job_id,
        endpoint_id=endpoint.id if endpoint else None,
        url=url,
        status=DeliveryStatus.PENDING if is_open else DeliveryStatus.FAILED,
        reason=None if is_open else "endpoint_disabled",
        created_at=event.created_at,
        next_attempt_at=event.created_at if is_open else None,
        is_callback=is_callback,
        trigger=trigger,
    )
    return replace(delivery, lane_id=name_lane(delivery))
