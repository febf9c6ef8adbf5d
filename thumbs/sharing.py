"""What jobs that ask for the same share: a run that is under way, thumbnails of an earlier one, a source that fails.

A job owns its blobs, so what is shared is copied, a few kB. If we die between a job's end and that of those that share
it, one of them is taken, and its lease runs out; the others are queued as they were. The sweep dispatches them.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from thumbs.documents import list_thumbnails, name_blob
from thumbs.domain import Blob, Caching, Failure, Job, JobStatus, Outcome, Result, Reuse, SourceFailures, Thumbnail
from thumbs.ending import end_job
from thumbs.errors import JobError, StorageUnavailable, UnavailableError
from thumbs.retries import add_seconds
from thumbs.reuse import depends_on_work, is_lasting, name_source
from thumbs.services import Services

SHARE_SECONDS: Final = 10.0
"""For how long a worker's thread ends other jobs beside its own, at about 5 ms each; the next one leads the rest. It is
half of what a stop may take."""
PAGE_JOBS: Final = 100
SHARED_STAGES: Final = frozenset({"fetch", "decode", "render"})
"""Where a failure is the source's; what else goes wrong is one job's own."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Made:
    """How a job ends, and the bytes of its thumbnails: by the name of the variant, and by None.

    `caching` is what the source's server said of it; `asked_at` is when it was asked.
    """

    outcome: Outcome
    bodies: Mapping[str | None, bytes]
    caching: Caching | None = None
    asked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What an earlier job has made of the same source, its thumbnails' bytes included."""

    result: Result
    made: Made

    def reuse(self, how: Reuse) -> Made:
        """Make it another job's."""
        return replace(self.made, outcome=replace(self.made.outcome, reused=how))


def find_known(services: Services, job: Job) -> Known | None:
    """Find what may be used again; None when there is nothing, or not all of it any more."""
    result = services.ledger.results.find(job.reuse_key) if job.reuse_key else None
    earlier = services.ledger.jobs.find(result.job_id) if result else None
    if result is None or earlier is None:
        return None
    bodies = _load(services, earlier)
    if bodies is None:
        return None
    outcome = Outcome(earlier.status, earlier.thumbnail, earlier.source, variants=earlier.variants)
    return Known(result, Made(outcome, bodies))


def find_failures(services: Services, job: Job) -> SourceFailures | None:
    """Find how the job's source, or this work with it, has failed lately; None when it has not."""
    found = [services.ledger.results.find_failures(key, services.clock.now()) for key in _list_keys(services, job)]
    return max((each for each in found if each), key=lambda each: each.count, default=None)


def note_failure(services: Services, job: Job, error: JobError) -> None:
    """Remember that the job's source has failed, where the next job's would fail as well."""
    keys = _list_keys(services, job)
    if not keys or not is_lasting(error):
        return
    now = services.clock.now()
    until = add_seconds(now, services.settings.failure_cache_seconds)
    key = keys[1] if depends_on_work(error) else keys[0]
    services.ledger.results.record_failure(key, Failure.of(error), until, now)


def note_success(services: Services, job: Job, failures: SourceFailures | None) -> None:
    """Forget the failures that there were: only those in a row count."""
    for key in _list_keys(services, job) if failures else ():
        services.ledger.results.forget_failures(key)


def store_all(services: Services, job: Job, made: Made) -> None:
    """Store the thumbnails under the job's own names; raises StorageUnavailable."""
    for variant, thumbnail in list_thumbnails(made.outcome):
        _store(services, job, variant, thumbnail, made.bodies[variant])


def build_result(job: Job, made: Made, now: datetime) -> Result | None:
    """Build what the next job for the same may use; None where its source must be fetched anew in any case."""
    caching = made.caching
    if job.reuse_key is None or caching is None or not caching.may_keep or made.outcome.status is JobStatus.FAILED:
        return None
    if not (caching.fresh_seconds or caching.etag or caching.last_modified):
        return None
    fresh_until = add_seconds(made.asked_at or now, caching.fresh_seconds)
    return Result(job.reuse_key, job.id, caching.url, caching.etag, caching.last_modified, fresh_until)


def share(services: Services, job: Job, made: Made) -> None:
    """End the queued jobs that ask for the same as this one, which has ended, with what has come of it.

    Those that came after the source was asked do not share what its server wants to be used by nobody else. Who is
    left, is led on.
    """
    error = made.outcome.error
    if job.reuse_key is not None and (error is None or error.stage in SHARED_STAGES):
        _share_until(services, job, made, services.clock.monotonic() + SHARE_SECONDS)
    lead_on(services, job)


def lead_on(services: Services, job: Job) -> None:
    """Dispatch the oldest job that has waited for this one's end, and not shared it: its message is used up."""
    if job.reuse_key is not None:
        for other in services.ledger.jobs.list_sharing(job.reuse_key, 1):
            services.dispatch_job(other.id, max(0.0, (other.run_at - services.clock.now()).total_seconds()))


def _share_until(services: Services, job: Job, made: Made, until: float) -> None:
    """End one after the other; a page of which none could be ended is the last."""
    has_ended = True
    while has_ended:
        has_ended = False
        for other in services.ledger.jobs.list_sharing(job.reuse_key or "", PAGE_JOBS):
            if services.clock.monotonic() >= until:
                return
            if _may_share(job, other, made):
                has_ended |= _end_alike(services, other, made)


def _may_share(job: Job, other: Job, made: Made) -> bool:
    caching = made.caching
    if caching is None or caching.may_keep:
        return True
    is_early = made.asked_at is not None and other.created_at <= made.asked_at
    return is_early and (not caching.is_private or other.account_id == job.account_id)


def _end_alike(services: Services, job: Job, made: Made) -> bool:
    """End a queued job with what another one has made; False when it has moved on, or its thumbnails cannot be kept.

    It is taken first: what is stored under its names is by whoever runs it.
    """
    now = services.clock.now()
    lease = services.new_lease(job.id, now)
    taken = services.ledger.jobs.take(lease, now)
    if taken is None:
        return False
    with services.held_leases.hold(lease, lambda: services.ledger.jobs.requeue(lease, now, now)):
        try:
            store_all(services, taken, made)
        except StorageUnavailable:
            logger.warning("what is shared could not be stored: the job runs by itself", extra={"job_id": job.id})
            services.ledger.jobs.requeue(lease, now, now)
            return False
        outcome = replace(made.outcome, inline=made.bodies.get(None) if job.is_inline else None, reused=Reuse.IN_FLIGHT)
        waited_ms = max(0, round((now - job.created_at) / timedelta(milliseconds=1)))
        if end_job(services, taken, lease, outcome, {"queued": waited_ms}):
            logger.info("job ended with another one's run", extra={"job_id": job.id, "status": str(outcome.status)})
    return True


def _load(services: Services, job: Job) -> dict[str | None, bytes] | None:
    """Load the bytes of all thumbnails of a job; None when one of them is gone, or the store does not answer."""
    bodies = {}
    now = services.clock.now()
    for variant, thumbnail in list_thumbnails(job):
        try:
            blob = services.blobs.find(name_blob(job, thumbnail, variant), now)
        except UnavailableError:
            return None
        if blob is None:
            return None
        bodies[variant] = blob.body
    return bodies or None


def _store(services: Services, job: Job, variant: str | None, thumbnail: Thumbnail, body: bytes) -> None:
    blob = Blob(
        name=name_blob(job, thumbnail, variant),
        content_type=thumbnail.content_type,
        sha256=thumbnail.sha256,
        body=body,
        expires_at=services.clock.now() + timedelta(days=services.settings.thumbnail_days),
    )
    try:
        services.blobs.put(blob)
    except UnavailableError as error:
        raise StorageUnavailable(str(error)) from error


def _list_keys(services: Services, job: Job) -> list[str]:
    """List what failures are remembered by: the source, and the work; nothing where they are not remembered."""
    if job.source_url is None or job.reuse_key is None or not services.settings.failure_cache_seconds:
        return []
    return [name_source(services.get_scope(job.account_id), job.source_url), job.reuse_key]
