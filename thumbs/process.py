"""Run one job: lease, fetch, decode, store, finish.

A run that fails in a way that may pass is queued again; every other end is written with its event and its delivery in
one transaction. If we die on any line, the lease runs out and the sweep takes the job on. A message that comes twice
finds nothing to lease.
"""

import logging
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from thumbs.domain import (
    Failure,
    FetchedSource,
    Job,
    JobStatus,
    Lease,
    Outcome,
    Picture,
    Rendering,
    Reuse,
    Source,
    Thumbnail,
    ThumbnailSpec,
    Variant,
)
from thumbs.ending import end_job
from thumbs.errors import BusyError, Expired, JobError, SourceEmpty
from thumbs.retries import add_seconds, decide_next_run
from thumbs.reuse import UPLOADED
from thumbs.scans import ScanWatch, end_scans
from thumbs.services import Services
from thumbs.sharing import (
    Known,
    Made,
    build_result,
    find_failures,
    find_known,
    note_failure,
    note_success,
    share,
    store_all,
)
from thumbs.telemetry import log_context

FINISH_MARGIN_SECONDS: Final = 5.0
"""What is kept of a lease for storing and finishing; what is left beside the decode may be waited for a decoder."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Run:
    """One try of a job: what we hold, and how long its steps took."""

    job: Job
    lease: Lease
    started: float
    timings_ms: dict[str, int] = field(default_factory=dict)


def process(services: Services, job_id: str) -> None:
    """Run the job if it is still queued and due. Blocking; idempotent; raises LedgerUnavailable only."""
    run = _lease(services, job_id)
    if run is None:
        return
    ids = {"job_id": job_id, "request_id": run.job.request_id}
    with log_context(**ids), services.held_leases.hold(run.lease, lambda: _hand_back(services, run, 0)):
        _run(services, run)


def _run(services: Services, run: Run) -> None:
    try:
        made = _make(services, run)
    except JobError as error:
        _retry_or_fail(services, run, error)
    except BusyError as error:
        logger.info("the job is handed back", extra={"detail": str(error), "delay_seconds": error.delay_seconds})
        _hand_back(services, run, error.delay_seconds)
    else:
        _finish(services, run, made)


def _lease(services: Services, job_id: str) -> Run | None:
    now = services.clock.now()
    lease = services.new_lease(job_id, now)
    job = services.ledger.jobs.lease(lease, now)
    if job is None:
        logger.debug("the job moved on: nothing to do", extra={"job_id": job_id})
        return None
    run = Run(job, lease, services.clock.monotonic())
    run.timings_ms["queued"] = max(0, _to_ms((now - job.created_at) / timedelta(seconds=1)))
    return run


def _make(services: Services, run: Run) -> Made:
    """Make the thumbnails and store them: again, or from what an earlier job for the same has left."""
    if services.clock.now() >= run.job.expires_at:
        raise Expired
    known = find_known(services, run.job)
    if known is not None and services.clock.now() < known.result.fresh_until:
        return _store(services, run, known.reuse(Reuse.FRESH))
    failures = find_failures(services, run.job)
    if failures is not None and failures.count >= services.settings.failure_cache_failures:
        return Made(Outcome(JobStatus.FAILED, error=failures.last, reused=Reuse.FRESH), {})
    made = _store(services, run, _fetch_and_decode(services, run, known))
    note_success(services, run.job, failures)
    return made


def _store(services: Services, run: Run, made: Made) -> Made:
    began = services.clock.monotonic()
    try:
        store_all(services, run.job, made)
    finally:
        _note_duration(services, run, "stored", began)
    return made


def _fetch_and_decode(services: Services, run: Run, known: Known | None) -> Made:
    """Fetch the source and make its thumbnails, unless it is as it was when they were made."""
    asked_at = services.clock.now()
    source = _fetch(services, run, known)
    if source.is_unchanged and known is not None:
        return replace(known.reuse(Reuse.REVALIDATED), caching=source.caching, asked_at=asked_at)
    rendering = _decode(services, run, source)
    return replace(_take(run.job, rendering, source.size_bytes), caching=source.caching, asked_at=asked_at)


def _fetch(services: Services, run: Run, known: Known | None) -> FetchedSource:
    began = services.clock.monotonic()
    try:
        if run.job.source_url is not None:
            watch = ScanWatch([(spec.width, spec.height) for spec in _list_specs(run.job)])
            return services.outbound.fetch(run.job.source_url, known.result if known else None, watch.is_enough)
        upload = services.ledger.uploads.find(run.job.id)
        if upload is None:
            raise SourceEmpty("the upload is gone")
        return FetchedSource(upload, UPLOADED, len(upload))
    finally:
        _note_duration(services, run, "fetched", began)


def _decode(services: Services, run: Run, source: FetchedSource) -> Rendering:
    began = services.clock.monotonic()
    settings = services.settings
    spent_seconds = began - run.started
    wait_seconds = settings.lease_seconds - spent_seconds - settings.decode_timeout_seconds - FINISH_MARGIN_SECONDS
    try:
        body = source.body if source.is_whole else end_scans(source.body)
        return services.sandbox.render(body, _list_specs(run.job), wait_seconds=max(0.0, wait_seconds))
    finally:
        _note_duration(services, run, "decoded", began)


def _list_specs(job: Job) -> list[ThumbnailSpec]:
    return [job.spec, *(variant.spec for variant in job.variants.values())]


def _take(job: Job, rendering: Rendering, size_bytes: int) -> Made:
    """Take what the decoder has made: without the main picture there is no success, a variant fails alone."""
    picture, *others = rendering.pictures
    if isinstance(picture, JobError):
        raise picture
    pairs = list(zip(job.variants.items(), others, strict=True))
    outcome = Outcome(
        JobStatus.SUCCEEDED,
        thumbnail=Thumbnail.of(picture),
        source=Source.of(rendering, size_bytes),
        variants={name: _take_variant(name, variant, other) for (name, variant), other in pairs},
    )
    bodies: dict[str | None, bytes] = {None: picture.body}
    bodies |= {name: other.body for (name, _), other in pairs if isinstance(other, Picture)}
    return Made(outcome, bodies)


def _take_variant(name: str, variant: Variant, picture: Picture | JobError) -> Variant:
    if isinstance(picture, Picture):
        return replace(variant, thumbnail=Thumbnail.of(picture))
    logger.info("a variant failed", extra={"variant": name, "error_code": picture.code, "detail": picture.detail})
    return replace(variant, error=Failure.of(picture))


def _retry_or_fail(services: Services, run: Run, error: JobError) -> None:
    delay_seconds = decide_next_run(error, run.job.run_count, chance=services.random.random())
    told = {"error_code": error.code, "detail": error.detail, "run_count": run.job.run_count}
    if delay_seconds is None:
        logger.info("job failed", extra=told)
        note_failure(services, run.job, error)
        _finish(services, run, Made(Outcome(JobStatus.FAILED, error=Failure.of(error)), {}))
        return
    logger.info("run failed, the job is queued again", extra=told | {"delay_seconds": round(delay_seconds, 1)})
    now = services.clock.now()
    if services.ledger.jobs.requeue(run.lease, add_seconds(now, delay_seconds), now):
        services.dispatch_job(run.job.id, delay_seconds)


def _hand_back(services: Services, run: Run, delay_seconds: float) -> None:
    """Give the job back as if it had not run: what kept it from running is ours, not its source's."""
    now = services.clock.now()
    if services.ledger.jobs.hand_back(run.lease, add_seconds(now, delay_seconds), now):
        services.dispatch_job(run.job.id, delay_seconds)


def _finish(services: Services, run: Run, made: Made) -> None:
    """End the job, and those that ask for the same."""
    outcome = replace(made.outcome, inline=made.bodies.get(None) if run.job.is_inline else None)
    result = build_result(run.job, made, services.clock.now())
    if not end_job(services, run.job, run.lease, outcome, run.timings_ms, result):
        logger.warning("the lease was lost, the result is dropped")
        return
    told = {"status": str(outcome.status), "timings_ms": run.timings_ms, "reused": outcome.reused}
    logger.info("job ended", extra=told)
    share(services, run.job, made)


def _note_duration(services: Services, run: Run, step: str, began: float) -> None:
    run.timings_ms[step] = _to_ms(services.clock.monotonic() - began)


def _to_ms(seconds: float) -> int:
    return round(seconds * 1000)
