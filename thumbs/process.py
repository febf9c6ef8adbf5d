"""Run one job: lease, fetch, decode, store, finish.

A run that fails in a way that may pass is queued again; every other end is written with its event and its delivery in
one transaction. If we die on any line, the lease runs out and the sweep takes the job on. A message that comes twice
finds nothing to lease.
"""

import logging
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from thumbs.documents import name_blob
from thumbs.domain import (
    Blob,
    Failure,
    FetchedSource,
    Job,
    JobStatus,
    Lease,
    Outcome,
    Picture,
    Rendering,
    Source,
    Thumbnail,
    Variant,
)
from thumbs.ending import end_job
from thumbs.errors import BusyError, Expired, JobError, SourceEmpty, StorageUnavailable, UnavailableError
from thumbs.retries import add_seconds, decide_next_run
from thumbs.services import Services
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
        outcome = _make_thumbnail(services, run)
    except JobError as error:
        _retry_or_fail(services, run, error)
    except BusyError as error:
        logger.info("the job is handed back", extra={"detail": str(error), "delay_seconds": error.delay_seconds})
        _hand_back(services, run, error.delay_seconds)
    else:
        _finish(services, run, outcome)


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


def _make_thumbnail(services: Services, run: Run) -> Outcome:
    if services.clock.now() >= run.job.expires_at:
        raise Expired
    source = _fetch(services, run)
    rendering = _decode(services, run, source)
    picture, *others = rendering.pictures
    if isinstance(picture, JobError):
        raise picture
    began = services.clock.monotonic()
    try:
        thumbnail = _store(services, run.job, picture)
        variants = {
            name: _make_variant(services, run.job, name, variant, other)
            for (name, variant), other in zip(run.job.variants.items(), others, strict=True)
        }
    finally:
        _note_duration(services, run, "stored", began)
    facts = Source.of(rendering, len(source.body))
    return Outcome(JobStatus.SUCCEEDED, thumbnail=thumbnail, source=facts, variants=variants)


def _fetch(services: Services, run: Run) -> FetchedSource:
    began = services.clock.monotonic()
    try:
        if run.job.source_url is not None:
            return services.outbound.fetch(run.job.source_url)
        upload = services.ledger.uploads.find(run.job.id)
        if upload is None:
            raise SourceEmpty("the upload is gone")
        return FetchedSource(upload, url="")
    finally:
        _note_duration(services, run, "fetched", began)


def _decode(services: Services, run: Run, source: FetchedSource) -> Rendering:
    began = services.clock.monotonic()
    settings = services.settings
    spent_seconds = began - run.started
    wait_seconds = settings.lease_seconds - spent_seconds - settings.decode_timeout_seconds - FINISH_MARGIN_SECONDS
    try:
        specs = [run.job.spec, *(variant.spec for variant in run.job.variants.values())]
        return services.sandbox.render(source.body, specs, wait_seconds=max(0.0, wait_seconds))
    finally:
        _note_duration(services, run, "decoded", began)


def _make_variant(services: Services, job: Job, name: str, variant: Variant, picture: Picture | JobError) -> Variant:
    """Store a variant's thumbnail; that it could not be made is its own failure, and not the job's."""
    if isinstance(picture, JobError):
        logger.info("a variant failed", extra={"variant": name, "error_code": picture.code, "detail": picture.detail})
        return replace(variant, error=Failure.of(picture))
    return replace(variant, thumbnail=_store(services, job, picture, name))


def _store(services: Services, job: Job, picture: Picture, variant: str | None = None) -> Thumbnail:
    thumbnail = Thumbnail.of(picture)
    blob = Blob(
        name=name_blob(job, thumbnail, variant),
        content_type=picture.content_type,
        sha256=picture.sha256,
        body=picture.body,
        expires_at=services.clock.now() + timedelta(days=services.settings.thumbnail_days),
    )
    try:
        services.blobs.put(blob)
    except UnavailableError as error:
        raise StorageUnavailable(str(error)) from error
    return thumbnail


def _retry_or_fail(services: Services, run: Run, error: JobError) -> None:
    delay_seconds = decide_next_run(error, run.job.run_count, chance=services.random.random())
    told = {"error_code": error.code, "detail": error.detail, "run_count": run.job.run_count}
    if delay_seconds is None:
        logger.info("job failed", extra=told)
        _finish(services, run, Outcome(JobStatus.FAILED, error=Failure.of(error)))
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


def _finish(services: Services, run: Run, outcome: Outcome) -> None:
    if end_job(services, run.job, run.lease, outcome, run.timings_ms):
        logger.info("job ended", extra={"status": str(outcome.status), "timings_ms": run.timings_ms})
    else:
        logger.warning("the lease was lost, the result is dropped")


def _note_duration(services: Services, run: Run, step: str, began: float) -> None:
    run.timings_ms[step] = _to_ms(services.clock.monotonic() - began)


def _to_ms(seconds: float) -> int:
    return round(seconds * 1000)
