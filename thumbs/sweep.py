"""Find what is stuck or old and put it right, in batches: the reason why nothing accepted is lost.

Runs in every worker and courier, at the start and then every THUMBS_SWEEP_SECONDS; a lock in the ledger lets one of
them through. Each step is complete in itself, so a sweep that dies half-way is taken up by the next.
"""

import logging
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from thumbs.domain import Delivery, DeliveryStatus, Failure, JobStatus, NextStep, Outcome, Trigger
from thumbs.ending import end_batch, end_job
from thumbs.errors import WorkerLost
from thumbs.retries import MAX_RUNS, add_seconds, decide_next_attempt, repeat
from thumbs.services import Services
from thumbs.sharing import lead_on

BATCH: Final = 500
"""Rows that one step takes at most: a sweep is short, the next one goes on."""
DISPATCH_GRACE_SECONDS: Final = 30.0
"""How long a dispatched id may wait on the queue before its message counts as lost; one too many is harmless."""
LOCK_NAME: Final = "sweep"

logger = logging.getLogger(__name__)


def sweep(services: Services, process: str) -> None:
    """Tell that this kind of process is alive, and sweep unless another one does.

    Raises LedgerUnavailable; and QueueUnavailable, when all that needs no queue has been done.
    """
    now = services.clock.now()
    services.ledger.upkeep.record_heartbeat(process, now)
    lock = services.new_lease(LOCK_NAME, now)
    if not services.ledger.upkeep.take_lock(lock, now):
        return
    try:
        for step in STEPS:
            step(services, now)
    finally:
        services.ledger.upkeep.release_lock(lock)


def _end_lost_runs(services: Services, now: datetime) -> None:
    """Queue again what a dead worker was running, or fail it when its runs are used up."""
    for job, stale in services.ledger.jobs.list_expired_leases(now, BATCH):
        told = {"job_id": job.id, "run_count": job.run_count}
        if job.run_count >= MAX_RUNS:
            logger.warning("the job's workers were lost too often: it fails", extra=told)
            end_job(services, job, stale, Outcome(JobStatus.FAILED, error=Failure.of(WorkerLost())), {})
            lead_on(services, job)
        elif services.ledger.jobs.requeue(stale, now, now):
            logger.warning("the job's worker was lost: it is queued again", extra=told)
            services.dispatch_job(job.id)


def _end_lost_attempts(services: Services, now: datetime) -> None:
    """Mark what a dead courier was sending as abandoned, and try it again: it may or may not have arrived."""
    for delivery, attempt, stale in services.ledger.deliveries.list_expired_leases(now, BATCH):
        step = _decide_step(services, delivery, now)
        if not services.ledger.deliveries.record(stale, replace(attempt, error_code="abandoned"), step, now):
            continue
        logger.warning("the delivery's courier was lost", extra={"delivery_id": delivery.id, "next": str(step.status)})


def _decide_step(services: Services, delivery: Delivery, now: datetime) -> NextStep:
    """Try again at once: the receiver is not at fault. Attempts that are used up are used up, though."""
    schedule_seconds = services.settings.webhook_schedule_seconds
    is_used_up = decide_next_attempt(schedule_seconds, delivery.scheduled_count, chance=0) is None
    if delivery.trigger is Trigger.AUTO and is_used_up:
        return NextStep(DeliveryStatus.FAILED, reason="attempts_exhausted")
    return repeat(delivery, now)


def _end_batches(services: Services, _now: datetime) -> None:
    """Tell the end of batches whose last job's worker died before it could."""
    for batch in services.ledger.batches.list_done(BATCH):
        end_batch(services, batch)


def _adopt(services: Services, now: datetime) -> None:
    """Take care of callbacks that have parted from an endpoint, and of what a release without lanes and positions has
    written while it ran beside this one.
    """
    services.ledger.events.adopt(BATCH)
    services.ledger.lanes.adopt(now, add_seconds(now, -DISPATCH_GRACE_SECONDS), BATCH)


def _dispatch_jobs(services: Services, now: datetime) -> None:
    """Dispatch queued jobs whose message is gone: those dispatched before the one that is next in line.

    The queue is first in, first out. A message may wait for long behind others and is not lost for that: dispatching by
    age alone would double a long queue every half minute, and counting both would take longer with each job that waits.
    Deliveries need nothing like it: the couriers look for what may start (thumbs.deliver).
    """
    oldest_at = services.dispatcher.find_oldest_job_at() or now
    since = add_seconds(min(oldest_at, now), -DISPATCH_GRACE_SECONDS)
    while ids := services.ledger.jobs.claim_undispatched(now, since, BATCH):
        logger.info("lost messages are dispatched again", extra={"message_count": len(ids)})
        if not all(services.dispatch_job(job_id) for job_id in ids):
            return


def _forget(services: Services, now: datetime) -> None:
    """Delete what is past its retention: final jobs with all that hangs on them, batches, keys, thumbnails, lanes."""
    ledger = services.ledger
    since = now - timedelta(days=services.settings.retention_days)
    counts = {
        "job_count": ledger.upkeep.forget_expired_jobs(now, BATCH),
        "batch_count": ledger.batches.forget_expired(now, BATCH),
        "event_count": ledger.events.forget_expired(since, BATCH),
        "lane_count": ledger.lanes.forget_idle(since, BATCH),
        "secret_count": ledger.endpoints.forget_expired_secrets(now, BATCH),
        "upload_count": ledger.uploads.forget_abandoned(BATCH),
        "source_failure_count": ledger.results.forget_expired_failures(now, BATCH),
        "idempotency_key_count": ledger.idempotency_keys.forget_expired(now, BATCH),
        "thumbnail_count": services.blobs.delete_expired(now, BATCH),
    }
    if any(counts.values()):
        logger.info("what has expired is deleted", extra=counts)


STEPS: Final = (_end_lost_runs, _end_lost_attempts, _end_batches, _adopt, _forget, _dispatch_jobs)
"""In this order: a queue that does not answer ends the sweep, and must not keep the rest from being put right."""
