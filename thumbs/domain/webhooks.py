"""Events on their way to receivers: endpoints, deliveries, attempts, and their statuses and legal moves."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from thumbs.domain.jobs import Job, Result


class DeliveryStatus(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    SENDING = "sending"
    DELIVERED = "delivered"
    FAILED = "failed"


DELIVERY_MOVES: Mapping[DeliveryStatus, frozenset[DeliveryStatus]] = {
    DeliveryStatus.PENDING: frozenset({DeliveryStatus.SENDING, DeliveryStatus.FAILED}),
    DeliveryStatus.SENDING: frozenset({DeliveryStatus.PENDING, DeliveryStatus.DELIVERED, DeliveryStatus.FAILED}),
    DeliveryStatus.DELIVERED: frozenset({DeliveryStatus.PENDING}),
    DeliveryStatus.FAILED: frozenset({DeliveryStatus.PENDING}),
}
"""The legal moves of a delivery: from pending to failed when its endpoint is disabled or deleted, and back to pending
from anywhere by a redelivery or a recovery."""


CALLBACKS = "callbacks"
"""The id of the endpoint that an account always has: the URLs that come with its jobs and batches."""


class EndpointStatus(StrEnum):
    """Whether an endpoint is sent anything."""

    ENABLED = "enabled"
    DISABLED = "disabled"


class DisabledReason(StrEnum):
    """Why an endpoint is disabled: by its owner, by its own 410, or because nothing arrived for days."""

    MANUAL = "manual"
    GONE = "gone"
    FAILING = "failing"


class Health(StrEnum):
    """How an endpoint's lane does; OPEN is its breaker."""

    OK = "ok"
    DEGRADED = "degraded"
    OPEN = "open"


class EventType(StrEnum):
    """What an event tells."""

    JOB_SUCCEEDED = "job.succeeded"
    JOB_FAILED = "job.failed"
    BATCH_FINISHED = "batch.finished"
    PING = "ping"
    ENDPOINT_FAILING = "endpoint.failing"
    ENDPOINT_DISABLED = "endpoint.disabled"


ANY_EVENT = "*"
EVENT_PATTERNS = (
    ANY_EVENT,
    "job.*",
    "batch.*",
    "endpoint.*",
    *(str(kind) for kind in EventType if kind is not EventType.PING),
)
"""What an endpoint may ask for; a ping comes to every endpoint, asked for or not."""


def is_wanted(kind: str, patterns: Iterable[str]) -> bool:
    """Tell whether one of the patterns asks for events of this type."""
    return any(kind == each or (each.endswith("*") and kind.startswith(each[:-1])) for each in patterns)


class Trigger(StrEnum):
    """What makes an attempt happen: the schedule, a redelivery, a recovery, or a ping."""

    AUTO = "auto"
    MANUAL = "manual"
    RECOVER = "recover"
    PING = "ping"


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
    response_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    response_body: str | None = field(default=None, repr=False)
    response_body_truncated: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one receiver.

    `is_callback` marks the one to the URL that came with the job or batch, `trigger` what its next attempt is due to.
    `scheduled_count` counts the attempts that the schedule made: others do not use it up. `resume_at` is when the
    schedule goes on after an attempt that was asked for in between.
    """

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
    is_callback: bool = True
    lane_id: str | None = None
    trigger: Trigger = Trigger.AUTO
    scheduled_count: int = 0
    resume_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A registered receiver; `secret` and the values of `headers` are the cipher's text and never shown by repr.

    `warned_at` is when the account was told that it is failing.
    """

    id: str
    account_id: str
    url: str
    event_types: tuple[str, ...]
    description: str | None
    headers: Mapping[str, str] = field(repr=False)
    secret: str = field(repr=False)
    status: EndpointStatus
    created_at: datetime
    disabled_reason: DisabledReason | None = None
    warned_at: datetime | None = None
    deleted_at: datetime | None = None

    def wants(self, kind: EventType) -> bool:
        """Tell whether it asked for events of this type."""
        return is_wanted(kind, self.event_types)

    @property
    def is_enabled(self) -> bool:
        """Tell whether it is sent anything."""
        return self.status is EndpointStatus.ENABLED and self.deleted_at is None


@dataclass(frozen=True, slots=True)
class Lane:
    """The deliveries that share a receiver, and how that receiver does.

    `due_at` is the earliest moment at which one of them is due, None when none waits; `blocked_until` holds all of them
    back. `failure_count` and `failing_since` are of the failures in a row, since the last 2xx; `open_seconds` is how
    long the breaker was opened for last, 0 while it is closed.
    """

    id: str
    account_id: str
    host: str
    endpoint_id: str | None
    created_at: datetime
    due_at: datetime | None = None
    blocked_until: datetime | None = None
    started_at: datetime | None = None
    is_proven: bool = False
    is_slow: bool = False
    is_recovering: bool = False
    failure_count: int = 0
    failing_since: datetime | None = None
    failed_delivery_id: str | None = None
    has_failed_several: bool = False
    open_seconds: float = 0.0

    @property
    def is_trusted(self) -> bool:
        """Tell whether its receiver has answered well, and fast, of late."""
        return self.is_proven and not self.is_slow


@dataclass(frozen=True, slots=True)
class InFlight:
    """An attempt under way, with what the rules of lanes look at; `is_own` if the courier that asks makes it."""

    lane_id: str
    account_id: str
    host: str
    is_trusted: bool
    started_at: datetime
    is_own: bool


@dataclass(frozen=True, slots=True)
class Startable:
    """The deliveries that may start now, most urgent first; if there is none, when to ask again, if that is soon."""

    delivery_ids: tuple[str, ...]
    wait_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Announcement:
    """An event with its deliveries, one per receiver: written together."""

    event: Event
    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class Conclusion(Announcement):
    """How a job ended, ready to be written at once: the final job, its event, and a delivery per receiver.

    `result` is what the next job for the same may use of it.
    """

    job: Job
    result: Result | None = None


@dataclass(frozen=True, slots=True)
class LeasedDelivery:
    """A delivery that is ours to send: what, where, and the attempt that is already on record."""

    delivery: Delivery
    attempt: Attempt
    body: bytes = field(repr=False)
    endpoint: Endpoint | None = None


@dataclass(frozen=True, slots=True)
class NextStep:
    """What becomes of a delivery after an attempt."""

    status: DeliveryStatus
    reason: str | None = None
    next_attempt_at: datetime | None = None
    delivered_at: datetime | None = None
    trigger: Trigger = Trigger.AUTO
    resume_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver answered to one attempt: ≤ 4,096 bytes of body, cut where it was longer.

    It may say back what it was sent, secrets included.
    """

    http_status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    is_truncated: bool


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events a list holds: those behind `after_id`; where that is forgotten, those younger than `floor_id`."""

    after_id: str | None = None
    floor_id: str = ""
    kind: EventType | None = None
    is_undelivered: bool = False


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries a list holds; `before_id` is where the page before ended.

    The endpoint CALLBACKS stands for the URLs that came with jobs and batches.
    """

    status: DeliveryStatus | None = None
    endpoint_id: str | None = None
    job_id: str | None = None
    before_id: str | None = None
