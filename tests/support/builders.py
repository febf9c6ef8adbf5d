"""Values for tests: valid ones, of which each test names only what it is about."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from ulid import ULID

from tests.support.clock import FrozenClock
from thumbs.announcements import conclude
from thumbs.domain import (
    Account,
    Announcement,
    Attempt,
    Conclusion,
    Delivery,
    DeliveryStatus,
    Endpoint,
    EndpointStatus,
    Event,
    EventType,
    Failure,
    InFlight,
    Job,
    JobStatus,
    Lane,
    Lease,
    LeasedDelivery,
    NewJob,
    NextStep,
    Outcome,
    Source,
    Thumbnail,
    ThumbnailSpec,
    Trigger,
)
from thumbs.errors import SourceHttpError
from thumbs.lanes import Ending, LaneRules, name_lane
from thumbs.ledger import Ledger
from thumbs.settings import read_settings

NOW = FrozenClock().now()
RULES = LaneRules.of(read_settings({}))
THUMBNAIL = Thumbnail("image/jpeg", 100, 100, 2713, "ab" * 32, "3OcRJYB4d3h/iIeHeEh3eIhw+j2w", "#7a5c43")
SOURCE = Source("image/jpeg", 4032, 3024, 3_145_728)


def new_id(prefix: str) -> str:
    """Draw an id."""
    return f"{prefix}_{ULID()}"


def build_account(name: str = "acme") -> Account:
    """Build an account whose secret was encrypted by nobody."""
    return Account(f"acct_{ULID()}", name, "not encrypted", NOW)


def build_new_job(**changes: Any) -> NewJob:
    """Build a request."""
    new = NewJob(
        "https://img.example/cat.jpg", "https://app.example/hooks", ThumbnailSpec(), {}, "http://thumbs.test", "r1"
    )
    return replace(new, **changes)


def build_job(**changes: Any) -> Job:
    """Build a queued job."""
    job_id = f"job_{ULID()}"
    job = Job(
        id=job_id,
        account_id="acct_0",
        status=JobStatus.QUEUED,
        source_url="https://img.example/cat.jpg",
        callback_url="https://app.example/hooks",
        spec=ThumbnailSpec(),
        metadata={"order": "4711"},
        public_url="https://thumbs.example",
        request_id="request-1",
        blob_name=ULID().hex,
        run_count=0,
        created_at=NOW,
        expires_at=NOW + timedelta(days=7),
        run_at=NOW,
    )
    return replace(job, **changes)


def build_lease(row_id: str, token: str = "token", until: datetime = NOW + timedelta(seconds=45)) -> Lease:
    """Build a lease."""
    return Lease(row_id, token, until)


def build_attempt(delivery_id: str, **changes: Any) -> Attempt:
    """Build an attempt that is under way."""
    return replace(Attempt(f"att_{ULID()}", delivery_id, 0, Trigger.AUTO, NOW), **changes)


def build_endpoint(**changes: Any) -> Endpoint:
    """Build an endpoint that asked for everything, its secret encrypted by nobody."""
    endpoint = Endpoint(
        id=new_id("ep"),
        account_id="acct_0",
        url="https://app.example/hooks",
        event_types=("*",),
        description=None,
        headers={},
        secret="not encrypted",
        status=EndpointStatus.ENABLED,
        created_at=NOW,
    )
    return replace(endpoint, **changes)


def build_delivery(**changes: Any) -> Delivery:
    """Build a delivery that is due, in its lane: to a callback, or else to the endpoint that is named."""
    delivery = Delivery(
        id=new_id("dlv"),
        account_id="acct_0",
        event_id="evt_0",
        job_id=None,
        endpoint_id=None,
        url="https://app.example/hooks",
        status=DeliveryStatus.PENDING,
        created_at=NOW,
        next_attempt_at=NOW,
    )
    delivery = replace(delivery, **{"is_callback": changes.get("endpoint_id") is None} | changes)
    return replace(delivery, lane_id=name_lane(delivery))


def build_lane(**changes: Any) -> Lane:
    """Build a lane that is due and of which nothing is known."""
    return replace(Lane("lane_0", "acct_0", "app.example:443", None, NOW, due_at=NOW), **changes)


def build_in_flight(**changes: Any) -> InFlight:
    """Build an attempt of another lane, account and host that is under way since now."""
    return replace(InFlight("lane_1", "acct_1", "other.example:443", True, NOW, is_own=True), **changes)


def build_ending(delivery_id: str = "dlv_0", **changes: Any) -> Ending:
    """Build the end of an attempt that succeeded at once."""
    return replace(Ending(delivery_id, is_success=True, duration_seconds=0.1), **changes)


def build_announcement(account_id: str, *deliveries: Delivery, **changes: Any) -> Announcement:
    """Build an event of the account with these deliveries, which become its."""
    event = Event(new_id("evt"), account_id, None, EventType.JOB_SUCCEEDED, b"{}", NOW)
    event = replace(event, **changes)
    owned = (replace(each, account_id=account_id, event_id=event.id) for each in deliveries)
    return Announcement(event, tuple(replace(each, lane_id=name_lane(each)) for each in owned))


def succeed(job: Job, now: datetime = NOW, endpoints: Sequence[Endpoint] = ()) -> Conclusion:
    """Conclude a job with a thumbnail."""
    outcome = Outcome(JobStatus.SUCCEEDED, thumbnail=THUMBNAIL, source=SOURCE)
    return conclude(job, outcome, endpoints, now=now, timings_ms={"queued": 3}, new_id=new_id)


def fail(job: Job, now: datetime = NOW, endpoints: Sequence[Endpoint] = ()) -> Conclusion:
    """Conclude a job with an error."""
    outcome = Outcome(JobStatus.FAILED, error=Failure.of(SourceHttpError(source_status=404)))
    return conclude(job, outcome, endpoints, now=now, timings_ms={"queued": 3}, new_id=new_id)


def record_account(ledger: Ledger) -> Account:
    """Record an account of its own."""
    account = build_account(f"account of {ULID()}")
    assert ledger.accounts.record(account)
    return account


def record_job(ledger: Ledger, **changes: Any) -> Job:
    """Record a queued job, and its account unless it has one."""
    job = build_job(**{"account_id": changes.get("account_id") or record_account(ledger).id} | changes)
    ledger.jobs.record(job)
    return job


def record_ended_job(ledger: Ledger, **changes: Any) -> Conclusion:
    """Record a job, run it, and end it with a thumbnail."""
    job = record_job(ledger, **changes)
    lease = build_lease(job.id)
    running = ledger.jobs.lease(lease, NOW)
    assert running is not None
    conclusion = succeed(running)
    assert ledger.jobs.finish(lease, conclusion) is not None
    return conclusion


def record_endpoint(ledger: Ledger, **changes: Any) -> Endpoint:
    """Record an endpoint, and its account unless it has one; it is not pinged."""
    account_id = changes.get("account_id") or record_account(ledger).id
    endpoint = build_endpoint(**{"account_id": account_id} | changes)
    ledger.endpoints.record(endpoint, build_announcement(endpoint.account_id), 1000)
    return endpoint


def record_deliveries(ledger: Ledger, account_id: str, count: int = 1, **changes: Any) -> list[Delivery]:
    """Record as many deliveries of the account, each of an event of its own."""
    announcements = [build_announcement(account_id, build_delivery(**changes)) for _ in range(count)]
    for announcement in announcements:
        ledger.events.record(announcement)
    return [announcement.deliveries[0] for announcement in announcements]


def take(
    ledger: Ledger, delivery_id: str, now: datetime = NOW, token: str = "token", rules: LaneRules = RULES
) -> LeasedDelivery | None:
    """Take a delivery for one attempt, as a courier."""
    lease = build_lease(delivery_id, token, now + timedelta(seconds=45))
    return ledger.deliveries.lease(lease, build_attempt(delivery_id, started_at=now), now, rules)


def take_surely(ledger: Ledger, delivery_id: str, now: datetime = NOW, token: str = "token") -> LeasedDelivery:
    """Take a delivery that can be taken."""
    leased = take(ledger, delivery_id, now, token)
    assert leased is not None
    return leased


def end(
    ledger: Ledger,
    leased: LeasedDelivery,
    now: datetime = NOW,
    *,
    next_at: datetime | None = None,
    **changes: Any,
) -> Lane:
    """End an attempt, and tell its lane: with a 2xx, or with a failure when there is a next one."""
    step = NextStep(DeliveryStatus.DELIVERED, delivered_at=now)
    if next_at is not None:
        step = NextStep(DeliveryStatus.PENDING, next_attempt_at=next_at)
    attempt = replace(leased.attempt, error_code="http_5xx" if next_at else None)
    ending = build_ending(leased.delivery.id, is_success=next_at is None, **changes)
    lease = build_lease(leased.delivery.id)
    lane = ledger.deliveries.record(lease, attempt, step, now, rules=RULES, ending=ending)
    assert lane is not None
    return lane


def get_lane(ledger: Ledger, delivery: Delivery) -> Lane:
    """Get the lane that a delivery was recorded in."""
    lane = ledger.lanes.find(delivery.lane_id or "")
    assert lane is not None
    return lane


def get_delivery(ledger: Ledger, delivery: Delivery) -> Delivery:
    """Get a delivery as the ledger has it now."""
    return ledger.deliveries.get(delivery.account_id, delivery.id)


def parse_event(body: bytes) -> dict[str, Any]:
    """Parse an event's body."""
    event: dict[str, Any] = json.loads(body)
    return event
