"""Values for tests: valid ones, of which each test names only what it is about."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from ulid import ULID

from tests.support.clock import FrozenClock
from thumbs.documents import conclude
from thumbs.domain import (
    Account,
    Attempt,
    Conclusion,
    Failure,
    Job,
    JobStatus,
    Lease,
    NewJob,
    Outcome,
    Source,
    Thumbnail,
    ThumbnailSpec,
    Trigger,
)
from thumbs.errors import SourceHttpError
from thumbs.ledger import Ledger

NOW = FrozenClock().now()
THUMBNAIL = Thumbnail("image/jpeg", 100, 100, 2713, "ab" * 32, "3OcRJYB4d3h/iIeHeEh3eIhw+j2w", "#7a5c43")
SOURCE = Source("image/jpeg", 4032, 3024, 3_145_728)


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


def succeed(job: Job, now: datetime = NOW) -> Conclusion:
    """Conclude a job with a thumbnail."""
    return _conclude(job, Outcome(JobStatus.SUCCEEDED, thumbnail=THUMBNAIL, source=SOURCE), now)


def fail(job: Job, now: datetime = NOW) -> Conclusion:
    """Conclude a job with an error."""
    failure = Failure.of(SourceHttpError(source_status=404))
    return _conclude(job, Outcome(JobStatus.FAILED, error=failure), now)


def record_job(ledger: Ledger, **changes: Any) -> Job:
    """Record a queued job, and its account."""
    account = build_account(f"account of {ULID()}")
    ledger.accounts.record(account)
    job = build_job(account_id=account.id, **changes)
    ledger.jobs.record(job)
    return job


def record_ended_job(ledger: Ledger, **changes: Any) -> Conclusion:
    """Record a job, run it, and end it with a thumbnail."""
    job = record_job(ledger, **changes)
    lease = build_lease(job.id)
    running = ledger.jobs.lease(lease, NOW)
    assert running is not None
    conclusion = succeed(running)
    assert ledger.jobs.finish(lease, conclusion)
    return conclusion


def parse_event(body: bytes) -> dict[str, Any]:
    """Parse an event's body."""
    event: dict[str, Any] = json.loads(body)
    return event


def _conclude(job: Job, outcome: Outcome, now: datetime) -> Conclusion:
    return conclude(
        job, outcome, now=now, timings_ms={"queued": 3}, event_id=f"evt_{ULID()}", delivery_id=f"dlv_{ULID()}"
    )
