"""The values that thumbs talks about, their statuses, and their legal moves.

Everything here is pure: frozen values and functions of their arguments. It owns no side effect and knows no library.
Time and chance come in as arguments. The words are the glossary's (docs/architecture.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from thumbs.errors import JobError

# ── statuses and moves ──────────────────────────────────────────────────────────────────────────────────


class JobStatus(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class DeliveryStatus(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    SENDING = "sending"
    DELIVERED = "delivered"
    FAILED = "failed"


class EventType(StrEnum):
    """What an event tells."""

    JOB_SUCCEEDED = "job.succeeded"
    JOB_FAILED = "job.failed"
    BATCH_FINISHED = "batch.finished"


class Trigger(StrEnum):
    """What made an attempt happen."""

    AUTO = "auto"


class Fit(StrEnum):
    """How the picture meets the box."""

    COVER = "cover"
    CONTAIN = "contain"
    FILL = "fill"
    INSIDE = "inside"


class OutputFormat(StrEnum):
    """What the thumbnail is encoded as; AUTO is JPEG, or PNG where the source has transparent pixels."""

    AUTO = "auto"
    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"
    AVIF = "avif"


FINAL_JOB_STATUSES = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED})

JOB_MOVES: Mapping[JobStatus, frozenset[JobStatus]] = {
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.FAILED}),
    JobStatus.RUNNING: frozenset({JobStatus.QUEUED, JobStatus.SUCCEEDED, JobStatus.FAILED}),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset(),
}
"""The legal moves of a job; the ledger's conditional UPDATEs name them."""

DELIVERY_MOVES: Mapping[DeliveryStatus, frozenset[DeliveryStatus]] = {
    DeliveryStatus.PENDING: frozenset({DeliveryStatus.SENDING}),
    DeliveryStatus.SENDING: frozenset({DeliveryStatus.PENDING, DeliveryStatus.DELIVERED, DeliveryStatus.FAILED}),
    DeliveryStatus.DELIVERED: frozenset(),
    DeliveryStatus.FAILED: frozenset(),
}
"""The legal moves of a delivery."""

# ── values ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class ThumbnailSpec:
    """What was asked for: width and height in px, quality 1..100, background as `#rrggbb`."""

    width: int = 100
    height: int = 100
    fit: Fit = Fit.COVER
    format: OutputFormat = OutputFormat.AUTO
    quality: int = 80
    background: str = "#ffffff"


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What a decoder takes: format names as in THUMBS_FORMATS, and pixels (width times height) before decoding."""

    formats: frozenset[str] = frozenset({"jpeg", "png", "gif", "bmp", "webp", "avif"})
    max_pixels: int = 50_000_000
    max_pixels_baseline_jpeg: int = 200_000_000


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished thumbnail as the decoder hands it over: its bytes and the facts about it and its source.

    `thumbhash` is base64 (evanw/thumbhash), `dominant_color` is `#rrggbb`, sizes are in px after orientation.
    """

    body: bytes = field(repr=False)
    content_type: str
    width: int
    height: int
    sha256: str
    thumbhash: str
    dominant_color: str
    source_content_type: str
    source_width: int
    source_height: int


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """The facts of a stored thumbnail."""

    content_type: str
    width: int
    height: int
    bytes: int
    sha256: str
    thumbhash: str
    dominant_color: str


@dataclass(frozen=True, slots=True)
class Source:
    """The facts of the original image; width and height in px, as displayed (after orientation)."""

    content_type: str
    width: int
    height: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed, as its caller sees it."""

    code: str
    stage: str
    message: str
    retryable: bool
    source_status: int | None = None

    @classmethod
    def of(cls, error: JobError) -> "Failure":
        """Build what the caller is told of an error."""
        return cls(error.code, error.stage, error.message, error.retryable, error.source_status)


@dataclass(frozen=True, slots=True)
class NewJob:
    """A request that passed every check, not recorded yet."""

    source_url: str
    callback_url: str | None
    spec: ThumbnailSpec
    metadata: Mapping[str, Any]
    public_url: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Job:
    """One accepted request, as the ledger holds it.

    `blob_name` is the unguessable part of the thumbnail's URL, drawn with the job. `public_url` is the base of the
    URLs that its caller gets. `run_at` is the earliest time of the next run while it is queued.
    """

    id: str
    account_id: str
    status: JobStatus
    source_url: str
    callback_url: str | None
    spec: ThumbnailSpec
    metadata: Mapping[str, Any]
    public_url: str
    request_id: str
    blob_name: str
    run_count: int
    created_at: datetime
    expires_at: datetime
    run_at: datetime
    batch_id: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    thumbnail: Thumbnail | None = None
    source: Source | None = None
    error: Failure | None = None
    timings_ms: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs that were accepted together, all or none; `finished_at` is when their common event was made."""

    id: str
    account_id: str
    callback_url: str | None
    created_at: datetime
    expires_at: datetime
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A caller's key, what it asked for (SHA-256, hexadecimal), and the id of the job or batch that it led to."""

    account_id: str
    key: str
    request_sha256: str
    resource_id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's time-limited right to a row; a move with a stale token changes nothing."""

    id: str
    token: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: a thumbnail or a failure, with the source's facts as far as they are known."""

    status: JobStatus
    thumbnail: Thumbnail | None = None
    source: Source | None = None
    error: Failure | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A fact that receivers are told; `body` is the exact bytes of every delivery of it."""

    id: str
    account_id: str
    job_id: str | None
    type: EventType
    body: bytes = field(repr=False)
    created_at: datetime
    batch_id: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a delivery, as recorded; `error_code` is None for a 2xx and while it is under way."""

    id: str
    delivery_id: str
    number: int
    trigger: Trigger
    started_at: datetime
    duration_ms: int | None = None
    http_status: int | None = None
    error_code: str | None = None
    error_detail: str | None = None
    response_headers: Mapping[str, str] = field(default_factory=dict)
    response_body: str | None = None
    response_body_truncated: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one receiver."""

    id: str
    account_id: str
    event_id: str
    job_id: str | None
    endpoint_id: str | None
    url: str
    status: DeliveryStatus
    created_at: datetime
    reason: str | None = None
    attempt_count: int = 0
    next_attempt_at: datetime | None = None
    delivered_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Announcement:
    """An event with its deliveries, one per receiver: written together."""

    event: Event
    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class Conclusion(Announcement):
    """How a job ended, ready to be written at once: the final job, its event, and a delivery per receiver."""

    job: Job


@dataclass(frozen=True, slots=True)
class Account:
    """Who owns jobs; secrets are held encrypted and never shown by repr."""

    id: str
    name: str
    callback_secret: str = field(repr=False)
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of an API key; the key itself is not."""

    id: str
    account_id: str
    secret_sha256: str
    created_at: datetime
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs a list holds; `before_id` is where the page before ended."""

    status: JobStatus | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    before_id: str | None = None


@dataclass(frozen=True, slots=True)
class LeasedDelivery:
    """A delivery that is ours to send: what, where, and the attempt that is already on record."""

    delivery: Delivery
    attempt: Attempt
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NextStep:
    """What becomes of a delivery after an attempt."""

    status: DeliveryStatus
    reason: str | None = None
    next_attempt_at: datetime | None = None
    delivered_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Blob:
    """A thumbnail's bytes in storage, under a name that cannot be guessed."""

    name: str
    content_type: str
    sha256: str
    body: bytes = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver answered to one attempt: ≤ 4,096 bytes of body, cut where it was longer."""

    http_status: int
    headers: Mapping[str, str]
    body: bytes
    is_truncated: bool


@dataclass(frozen=True, slots=True)
class FetchedSource:
    """A source as it arrived; `url` is the last hop's."""

    body: bytes = field(repr=False)
    url: str
