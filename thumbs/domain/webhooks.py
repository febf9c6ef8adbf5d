"""Events on their way to receivers: endpoints, deliveries, attempts, and their statuses and legal moves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from thumbs.domain.jobs import Job


class DeliveryStatus(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    SENDING = "sending"
    DELIVERED = "delivered"
    FAILED = "failed"


DELIVERY_MOVES: Mapping[DeliveryStatus, frozenset[DeliveryStatus]] = {
    DeliveryStatus.PENDING: frozenset({DeliveryStatus.SENDING}),
    DeliveryStatus.SENDING: frozenset({DeliveryStatus.PENDING, DeliveryStatus.DELIVERED, DeliveryStatus.FAILED}),
    DeliveryStatus.DELIVERED: frozenset(),
    DeliveryStatus.FAILED: frozenset(),
}
"""The legal moves of a delivery."""


class EventType(StrEnum):
    """What an event tells."""

    JOB_SUCCEEDED = "job.succeeded"
    JOB_FAILED = "job.failed"
    BATCH_FINISHED = "batch.finished"


class Trigger(StrEnum):
    """What made an attempt happen."""

    AUTO = "auto"


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
class Answer:
    """What a receiver answered to one attempt: ≤ 4,096 bytes of body, cut where it was longer."""

    http_status: int
    headers: Mapping[str, str]
    body: bytes
    is_truncated: bool
