"""Accept requests: check them against policy, record them, dispatch them. A job is on disk before anybody is told.

If we die after the record and before the dispatch, the sweep dispatches it. A caller who saw no answer sends the same
Idempotency-Key again and gets the same job.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from thumbs.announcements import MAX_EVENT_BYTES, measure_event
from thumbs.domain import Account, Batch, IdempotencyKey, Job, JobStatus, NewJob, Variant
from thumbs.errors import EventTooLong, IdempotencyKeyReused, KeyAlreadyUsed, Overloaded, UploadTooLarge
from thumbs.reuse import name_work
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

    Raises UrlNotAllowed, UploadTooLarge and EventTooLong naming the field, IdempotencyKeyReused, Overloaded, and
    LedgerUnavailable when nothing was recorded. A queue that does not answer is no reason to refuse: the sweep
    dispatches the job when it is back.
    """
    job = _build_job(services, account, new)
    _check(services, new, job)
    built_key = _build_key(account, key, [new], None, job.id, job.created_at)
    return _record(services, _Entry([job], _list_uploads([job], [new]), key=built_key))


def accept_batch(
    services: Services, account: Account, news: Sequence[NewJob], callback_url: str | None, *, key: str | None = None
) -> Accepted:
    """Record jobs that belong together, all or none, and put them on the queue. Raises as accept_job does."""
    now = services.clock.now()
    expires_at = now + timedelta(days=services.settings.retention_days)
    batch = Batch(services.new_id("bat"), account.id, callback_url, now, expires_at)
    jobs = [_build_job(services, account, new, batch) for new in news]
    for number, (new, job) in enumerate(zip(news, jobs, strict=True)):
        _check(services, new, job, prefix=f"jobs.{number}.")
    if callback_url is not None:
        services.check_receiver_url("callback_url", callback_url)
    built_key = _build_key(account, key, news, callback_url, batch.id, now)
    return _record(services, _Entry(jobs, _list_uploads(jobs, news), batch, built_key))


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is to be recorded, all or nothing; `uploads` are the sources that came along, by their jobs' ids."""

    jobs: Sequence[Job]
    uploads: Mapping[str, bytes] = field(repr=False)
    batch: Batch | None = None
    key: IdempotencyKey | None = None

    @property
    def resource_id(self) -> str:
        """The id of what the caller gets."""
        return self.batch.id if self.batch else self.jobs[0].id


def _record(services: Services, entry: _Entry) -> Accepted:
    key = entry.key
    if key is not None:
        used = services.ledger.idempotency_keys.find(key.account_id, key.key, entry.jobs[0].created_at)
        if used is not None:
            return _replay(used, key)
    _check_room(services, entry)
    try:
        services.ledger.jobs.record(*entry.jobs, batch=entry.batch, key=key, uploads=entry.uploads)
    except KeyAlreadyUsed:
        return _record(services, entry)
    for job in entry.jobs:
        logger.info("job accepted", extra={"job_id": job.id})
    for job in entry.jobs:
        if not services.dispatch_job(job.id):
            break  # A Redis that hangs is not waited for a hundred times: the sweep dispatches the rest, too.
    return Accepted(entry.resource_id)


def _replay(used: IdempotencyKey, key: IdempotencyKey) -> Accepted:
    if used.request_sha256 != key.request_sha256:
        raise IdempotencyKeyReused(
            "This Idempotency-Key came with another body before: use a new key for a new request."
        )
    return Accepted(used.resource_id, is_replayed=True)


def _check_room(services: Services, entry: _Entry) -> None:
    """Refuse when the queue, the account's part of it, or what came along with its jobs is larger than allowed.

    While the whole queue is shorter than one account's part may be, nobody counts by account.
    """
    jobs = entry.jobs
    limit, own_limit = services.settings.max_queued_jobs, services.settings.max_queued_jobs_per_account
    length = services.queue_gauge.count(limit) + len(jobs)
    if length > limit:
        raise _build_overloaded(f"{limit} jobs are waiting already; try again later.")
    if length > own_limit and services.queue_gauge.count_share(jobs[0].account_id, limit) + len(jobs) > own_limit:
        raise _build_overloaded(f"{own_limit} jobs of this account are waiting already; try again when some have run.")
    if entry.uploads:
        _check_upload_room(services, sum(map(len, entry.uploads.values())))


def _check_upload_room(services: Services, size_bytes: int) -> None:
    limit = services.settings.max_queued_upload_bytes
    if services.ledger.uploads.count_bytes() + size_bytes > limit:
        raise _build_overloaded(f"Of uploaded sources, {limit} bytes may wait; try again later, or send a URL.")


def _build_overloaded(detail: str) -> Overloaded:
    return Overloaded(detail, retry_after_seconds=OVERLOADED_RETRY_SECONDS)


def _check(services: Services, new: NewJob, job: Job, *, prefix: str = "") -> None:
    """Check what a request asks for against policy; what is refused is named."""
    if new.source_url is not None:
        services.check_url(f"{prefix}source_url", new.source_url, frozenset({"http", "https"}))
    if new.callback_url is not None:
        services.check_receiver_url(f"{prefix}callback_url", new.callback_url)
    max_bytes = services.settings.max_upload_bytes
    if new.source_data is not None and len(new.source_data) > max_bytes:
        raise UploadTooLarge(f"A source that comes along may have {max_bytes} bytes.", field=f"{prefix}source_data")
    size_bytes = measure_event(job) if new.variants else 0  # Without variants, the fields' own limits are enough.
    if size_bytes > MAX_EVENT_BYTES:
        raise EventTooLong(
            f"With so many of them the job's event could have {size_bytes} bytes, and {MAX_EVENT_BYTES} are the most: "
            "ask for fewer, or send shorter URLs or less metadata.",
            field=f"{prefix}variants",
        )


def _list_uploads(jobs: Sequence[Job], news: Sequence[NewJob]) -> dict[str, bytes]:
    pairs = zip(jobs, news, strict=True)
    return {job.id: new.source_data for job, new in pairs if new.source_data is not None}


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
        reuse_key=_name_work(services, account, new),
    )


def _name_work(services: Services, account: Account, new: NewJob) -> str | None:
    if services.settings.reuse == "off":
        return None
    source = new.source_url or f"sha256:{_hash(new.source_data)}"
    return name_work(services.get_scope(account.id), source, new.spec, new.variants)


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
