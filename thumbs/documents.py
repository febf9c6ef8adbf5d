"""The JSON that callers read: jobs, events, deliveries. One shape for answers and for webhooks alike.

Pure functions from values to plain dicts. `web/schemas` describes the same shapes for OpenAPI; a contract test holds
the two together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from thumbs.domain import (
    Attempt,
    Batch,
    Delivery,
    DeliveryStatus,
    Endpoint,
    Health,
    Job,
    JobStatus,
    Outcome,
    Thumbnail,
    Variant,
)

EXTENSIONS: Final[Mapping[str, str]] = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "image/avif": "avif",
}
"""The file name extension of each content type that a thumbnail can have."""

HIDDEN: Final = "***"
"""Stands for the value of a header."""

CALLBACK_STATUS: Final[Mapping[DeliveryStatus, str]] = {
    DeliveryStatus.PENDING: "pending",
    DeliveryStatus.SENDING: "pending",
    DeliveryStatus.DELIVERED: "delivered",
    DeliveryStatus.FAILED: "failed",
}
"""A delivery's status, as the job's caller sees it."""


def describe_batch(batch: Batch, jobs: Sequence[tuple[str, JobStatus]]) -> dict[str, Any]:
    """Describe a batch with the status of each of its jobs."""
    return {
        "id": batch.id,
        "status": "running" if batch.finished_at is None else "finished",
        "callback_url": batch.callback_url,
        "jobs": [{"id": job_id, "status": str(status)} for job_id, status in jobs],
        "created_at": format_moment(batch.created_at),
        "finished_at": format_moment(batch.finished_at),
    }


def describe_job(job: Job) -> dict[str, Any]:
    """Describe a job, all but its callback: what an event's `data.job` holds."""
    return {
        "id": job.id,
        "status": str(job.status),
        "source_url": job.source_url,
        "callback_url": job.callback_url,
        "spec": asdict(job.spec),
        "inline": job.is_inline,
        "metadata": dict(job.metadata),
        "thumbnail": job.thumbnail and _describe_thumbnail(job, job.thumbnail),
        "variants": {name: _describe_variant(job, name, variant) for name, variant in job.variants.items()},
        "source": job.source and asdict(job.source),
        "error": job.error and asdict(job.error),
        "reused": job.reused and str(job.reused),
        "run_count": job.run_count,
        "timings_ms": dict(job.timings_ms),
        "created_at": format_moment(job.created_at),
        "started_at": format_moment(job.started_at),
        "finished_at": format_moment(job.finished_at),
        "expires_at": format_moment(job.expires_at),
    }


def describe_job_with_callback(job: Job, callback: Delivery | None) -> dict[str, Any]:
    """Describe a job as its caller reads it, with what became of its callback."""
    return describe_job(job) | {"callback": _describe_callback(job, callback)}


def describe_delivery(delivery: Delivery, attempts: list[Attempt]) -> dict[str, Any]:
    """Describe a delivery with its attempts."""
    return {
        "id": delivery.id,
        "event_id": delivery.event_id,
        "job_id": delivery.job_id,
        "endpoint_id": delivery.endpoint_id,
        "url": delivery.url,
        "status": str(delivery.status),
        "reason": delivery.reason if delivery.status is DeliveryStatus.FAILED else None,
        "attempt_count": delivery.attempt_count,
        "next_attempt_at": format_moment(delivery.next_attempt_at),
        "delivered_at": format_moment(delivery.delivered_at),
        "attempts": [_describe_attempt(attempt) for attempt in attempts],
    }


def describe_endpoint(endpoint: Endpoint, health: Health) -> dict[str, Any]:
    """Describe an endpoint; the values of its headers are never shown, and its secret only when it is new."""
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "event_types": list(endpoint.event_types),
        "description": endpoint.description,
        "headers": dict.fromkeys(endpoint.headers, HIDDEN),
        "status": str(endpoint.status),
        "disabled_reason": endpoint.disabled_reason and str(endpoint.disabled_reason),
        "health": str(health),
        "created_at": format_moment(endpoint.created_at),
    }


def name_blob(job: Job, thumbnail: Thumbnail, variant: str | None = None) -> str:
    """Name a thumbnail: the unguessable name drawn with the job, the variant's, and the extension of its type."""
    suffix = f"-{variant}" if variant else ""
    return f"{job.blob_name}{suffix}.{EXTENSIONS[thumbnail.content_type]}"


def list_thumbnails(made: Job | Outcome) -> list[tuple[str | None, Thumbnail]]:
    """List the thumbnails that were made, each with the name of its variant; None is that of the main one."""
    main = [(None, made.thumbnail)] if made.thumbnail else []
    return [*main, *((name, each.thumbnail) for name, each in made.variants.items() if each.thumbnail)]


def list_blobs(job: Job) -> list[str]:
    """List the names of all thumbnails of a job."""
    return [name_blob(job, thumbnail, variant) for variant, thumbnail in list_thumbnails(job)]


def format_moment(moment: datetime | None) -> str | None:
    """Format a moment as RFC 3339 in UTC with milliseconds; None stays None."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _describe_thumbnail(job: Job, thumbnail: Thumbnail, variant: str | None = None) -> dict[str, Any]:
    return {"url": f"{job.public_url}/t/{name_blob(job, thumbnail, variant)}"} | asdict(thumbnail)


def _describe_variant(job: Job, name: str, variant: Variant) -> dict[str, Any]:
    return {
        "spec": asdict(variant.spec),
        "thumbnail": variant.thumbnail and _describe_thumbnail(job, variant.thumbnail, name),
        "error": variant.error and asdict(variant.error),
    }


def _describe_callback(job: Job, callback: Delivery | None) -> dict[str, Any]:
    if callback is not None:
        return {
            "status": CALLBACK_STATUS[callback.status],
            "attempt_count": callback.attempt_count,
            "next_attempt_at": format_moment(callback.next_attempt_at),
        }
    status = "none" if job.callback_url is None else "pending"
    return {"status": status, "attempt_count": 0, "next_attempt_at": None}


def _describe_attempt(attempt: Attempt) -> dict[str, Any]:
    names = ("id", "number", "duration_ms", "http_status", "error_code", "error_detail")
    described: dict[str, Any] = {name: getattr(attempt, name) for name in names}
    return described | {
        "trigger": str(attempt.trigger),
        "started_at": format_moment(attempt.started_at),
        "response_headers": dict(attempt.response_headers),
        "response_body": attempt.response_body,
        "response_body_truncated": attempt.response_body_truncated,
    }
