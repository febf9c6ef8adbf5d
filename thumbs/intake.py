"""Accept requests: check them against policy, record them, dispatch them. A job is on disk before anybody is told.

If we die after the record and before the dispatch, the sweep dispatches it. A caller who saw no answer sends the same
Idempotency-Key again and gets the same job.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from thumbs.domain import Account, Batch, IdempotencyKey, Job, JobStatus, NewJob, Variant
from thumbs.errors import IdempotencyKeyReused, KeyAlreadyUsed, Overloaded
from thumbs.services import Services

BLOB_NAME_BYTES: Final = 16
"""128 random bits: a thumbnail's URL is its only guard (docs/security.md)."""
KEY_LIFETIME: Final = timedelta(hours=24)
OVERLOADED_RETRY_SECONDS: Final = 30

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The id of what a request led to; `is_replayed` when an earlier request with the same key had made it."""

    id: str
    is_replayed: bool = False


def accept_job(services: Services, account: Account, new: NewJob, *, key: str | None = None) -> Accepted:
    """Record a job and put it on the queue; it is on disk when this returns.

    Raises UrlNotAllowed naming the field, IdempotencyKeyReused, Overloaded, and LedgerUnavailable when nothing was
    recorded. A queue that does not answer is no reason to refuse: the sweep dispatches the job when it is back.
    """
    _check_urls(services, new)
    job = _build_job(services, account, new)
    return _record(services, [job], None, _build_key(account, key, [new], None, job.id, job.created_at))


def accept_batch(
    services: Services, account: Account, news: Sequence[NewJob], callback_url: str | None, *, key: str | None = None
) -> Accepted:
    """Record jobs that belong together, all or none, and put them on the queue. Raises as accept_job does."""
    for number, new in enumerate(news):
        _check_urls(services, new, prefix=f"jobs.{number}.")
    if callback_url is not None:
        services.check_receiver_url("callback_url", callback_url)
    now = services.clock.now()
    expires_at = now + timedelta(days=services.settings.retention_days)
    batch = Batch(services.new_id("bat"), account.id, callback_url, now, expires_at)
    jobs = [_build_job(services, account, new, batch) for new in news]
    return _record(services, jobs, batch, _build_key(account, key, news, callback_url, batch.id, now))


def _record(services: Services, jobs: list[Job], batch: Batch | None, key: IdempotencyKey | None) -> Accepted:
    if key is not None:
        used = services.ledger.idempotency_keys.find(key.account_id, key.key, jobs[0].created_at)
        if used is not None:
            return _replay(used, key)
    _check_room(services, jobs)
    try:
        services.ledger.jobs.record(*jobs, batch=batch, key=key)
    except KeyAlreadyUsed:
        return _record(services, jobs, batch, key)
    for job in jobs:
        logger.info("job accepted", extra={"job_id": job.id})
    for job in jobs:
        if not services.dispatch_job(job.id):
            break  # A Redis that hangs is not waited for a hundred times: the sweep dispatches the rest, too.
    return Accepted(batch.id if batch else jobs[0].id)


def _replay(used: IdempotencyKey, key: IdempotencyKey) -> Accepted:
    if used.request_sha256 != key.request_sha256:
        raise IdempotencyKeyReused(
            "This Idempotency-Key came with another body before: use a new key for a new request."
        )
    return Accepted(used.resource_id, is_replayed=True)


def _check_room(services: Services, jobs: Sequence[Job]) -> None:
    """Refuse when the queue, or the account's part of it, is longer than allowed.

    While the whole queue is shorter than one account's part may be, nobody counts by account.
    """
    limit, own_limit = services.settings.max_queued_jobs, services.settings.max_queued_jobs_per_account
    length = services.queue_gauge.count(limit) + len(jobs)
    if length > limit:
        raise _build_overloaded(f"{limit} jobs are waiting already; try again later.")
    if length > own_limit and services.queue_gauge.count_share(jobs[0].account_id, limit) + len(jobs) > own_limit:
        raise _build_overloaded(f"{own_limit} jobs of this account are waiting already; try again when some have run.")


def _build_overloaded(detail: str) -> Overloaded:
    return Overloaded(detail, retry_after_seconds=OVERLOADED_RETRY_SECONDS)


def _check_urls(services: Services, new: NewJob, *, prefix: str = "") -> None:
    if new.source_url is not None:
        services.check_url(f"{prefix}source_url", new.source_url, frozenset({"http", "https"}))
    if new.callback_url is not None:
        services.check_receiver_url(f"{prefix}callback_url", new.callback_url)


def _build_job(services: Services, account: Account, new: NewJob, batch: Batch | None = None) -> Job:
    now = services.clock.now()
    return Job(
        id=services.new_id("job"),
        account_id=account.id,
        status=JobStatus.QUEUED,
        source_url=new.source_url,
        callback_url=new.callback_url,
        spec=new.spec,
        metadata=new.metadata,
        public_url=new.public_url,
        request_id=new.request_id,
        blob_name=services.random.randbytes(BLOB_NAME_BYTES).hex(),
        run_count=0,
        created_at=now,
        expires_at=now + timedelta(days=services.settings.retention_days),
        run_at=now,
        batch_id=batch.id if batch else None,
        variants={name: Variant(spec) for name, spec in new.variants.items()},
        is_inline=new.is_inline,
    )


def _build_key(
    account: Account, key: str | None, news: Sequence[NewJob], callback_url: str | None, resource_id: str, now: datetime
) -> IdempotencyKey | None:
    """Build the record of a key: what was asked for, whatever the order of its members or the defaults left out."""
    if key is None:
        return None
    jobs = [_list_asked(new) for new in news]
    asked = [resource_id.partition("_")[0], callback_url, jobs]
    request_sha256 = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    return IdempotencyKey(account.id, key, request_sha256, resource_id, now + KEY_LIFETIME)


def _list_asked(new: NewJob) -> list[Any]:
    """List what a request asked for; what is not asked for is left out, so that a key outlives an upgrade."""
    asked: list[Any] = [new.source_url, new.callback_url, asdict(new.spec), dict(new.metadata)]
    variants = {name: asdict(spec) for name, spec in new.variants.items()}
    more = {"variants": variants, "inline": new.is_inline, "source_sha256": _hash(new.source_data)}
    told = {name: value for name, value in more.items() if value}
    return [*asked, told] if told else asked


def _hash(body: bytes | None) -> str | None:
    return hashlib.sha256(body).hexdigest() if body is not None else None
