"""The values that thumbs talks about, their statuses, their legal moves and the retry rules.

Everything here is pure: frozen values and functions of their arguments. It owns no side effect and knows no library.
Time and chance come in as arguments. The words are the glossary's (docs/architecture.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from thumbs.errors import DecoderCrashed, JobError

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
FINAL_DELIVERY_STATUSES = frozenset({DeliveryStatus.DELIVERED, DeliveryStatus.FAILED})

JOB_MOVES: Mapping[JobStatus, frozenset[JobStatus]] = {
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING}),
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

EXTENSIONS: Mapping[str, str] = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "image/avif": "avif",
}
"""The file name extension of each content type that a thumbnail can have."""

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
    started_at: datetime | None = None
    finished_at: datetime | None = None
    thumbnail: Thumbnail | None = None
    source: Source | None = None
    error: Failure | None = None
    timings_ms: Mapping[str, int] = field(default_factory=dict)


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
    job_id: str
    type: EventType
    body: bytes = field(repr=False)
    created_at: datetime


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
    job_id: str
    endpoint_id: str | None
    url: str
    status: DeliveryStatus
    created_at: datetime
    reason: str | None = None
    attempt_count: int = 0
    next_attempt_at: datetime | None = None
    delivered_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """Who owns jobs; secrets are held encrypted and never shown by repr."""

    id: str
    name: str
    callback_secret: str = field(repr=False)
    created_at: datetime


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


# ── what the core needs from outside ────────────────────────────────────────────────────────────────────


class Dispatcher(Protocol):
    """Puts ids on the queue. A message is a hint: it may be lost, doubled or late.

    Raises QueueUnavailable when the queue does not take it.
    """

    def process(self, job_id: str, delay_seconds: float = 0) -> None:
        """Ask for one run of the job, not before the delay has passed."""

    def deliver(self, delivery_id: str, delay_seconds: float = 0) -> None:
        """Ask for one attempt of the delivery, not before the delay has passed."""

    def ping(self) -> None:
        """Raise QueueUnavailable when the queue does not answer."""


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Tell the wall clock's time, aware, in UTC."""

    def monotonic(self) -> float:
        """Tell seconds that never step back, for durations."""

    def sleep(self, seconds: float) -> None:
        """Block for that long."""


# ── retry rules ─────────────────────────────────────────────────────────────────────────────────────────

MAX_RUNS = 3
"""Runs of a job in all, whatever ended the earlier ones (docs/security.md, manners)."""

RUN_DELAYS_SECONDS = (2.0, 10.0)
"""Before the second and the third run of a job whose source failed in a retryable way."""

MAX_SOURCE_RETRY_AFTER_SECONDS = 60.0
"""The longest Retry-After of a source that we wait for."""

MAX_CRASHED_RUNS = 2
"""Runs of a job whose image kills the decoder: tried once more, in case something else killed it."""

JITTER = 0.2
"""Each delay is lengthened by 0 to 20 %, so that what failed together is not tried together."""

MAX_RECEIVER_RETRY_AFTER_SECONDS = 86_400.0
"""The longest Retry-After of a receiver that moves its next attempt (docs/webhooks.md)."""


def decide_next_run(error: JobError, run_count: int, *, chance: float) -> float | None:
    """Decide after how many seconds the job runs again; None when this failure is final.

    `run_count` counts the run that just failed; `chance` is in [0, 1) and spreads the delay.
    """
    limit = MAX_CRASHED_RUNS if isinstance(error, DecoderCrashed) else MAX_RUNS
    if not error.retryable or run_count >= limit:
        return None
    delay_seconds = RUN_DELAYS_SECONDS[min(run_count, len(RUN_DELAYS_SECONDS)) - 1]
    wish_seconds = min(error.retry_after_seconds or 0.0, MAX_SOURCE_RETRY_AFTER_SECONDS)
    return max(delay_seconds * (1 + JITTER * chance), wish_seconds)


def decide_next_attempt(
    schedule_seconds: Sequence[float], attempt_count: int, *, chance: float, retry_after_seconds: float | None = None
) -> float | None:
    """Decide after how many seconds a failed delivery is tried again; None when its attempts are used up.

    `attempt_count` counts the attempt that just failed. A receiver's Retry-After lengthens the schedule, never shortens it.
    """
    if attempt_count > len(schedule_seconds):
        return None
    delay_seconds = schedule_seconds[attempt_count - 1] * (1 + JITTER * chance)
    return max(delay_seconds, min(retry_after_seconds or 0.0, MAX_RECEIVER_RETRY_AFTER_SECONDS))


def build_failure(error: JobError) -> Failure:
    """Build what the caller is told of an error."""
    return Failure(
        code=error.code,
        stage=error.stage,
        message=error.message,
        retryable=error.retryable,
        source_status=error.source_status,
    )


def add_seconds(moment: datetime, seconds: float) -> datetime:
    """Tell the moment that many seconds later."""
    return moment + timedelta(seconds=seconds)
