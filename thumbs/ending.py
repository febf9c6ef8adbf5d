"""How a job ends, and a batch after its last job: with an event and its deliveries in one transaction, then dispatched.

The worker, the sweep and a caller's DELETE end jobs through here. If we die between the transaction and the dispatch,
the sweep dispatches; if we die before a batch's end is told, the sweep tells it.
"""

from collections.abc import Mapping
from dataclasses import replace

from thumbs.announcements import conclude, conclude_batch
from thumbs.domain import Batch, Job, Lease, Outcome, Result
from thumbs.metrics import JOBS_ENDED, STAGE_SECONDS
from thumbs.services import Services


def end_job(
    services: Services,
    job: Job,
    lease: Lease | None,
    outcome: Outcome,
    timings_ms: Mapping[str, int],
    result: Result | None = None,
) -> bool:
    """End a running job by its lease, or a queued one without; False when it moved on, and nothing was changed.

    `result` is what the next job for the same may use of it.
    """
    conclusion = conclude(
        job,
        outcome,
        services.ledger.endpoints.list_for_account(job.account_id),
        now=services.clock.now(),
        timings_ms=timings_ms,
        new_id=services.new_id,
    )
    conclusion = replace(conclusion, result=result)
    jobs = services.ledger.jobs
    delivery_ids = jobs.finish(lease, conclusion) if lease else jobs.cancel(conclusion)
    if delivery_ids is None:
        return False
    services.dispatch_deliveries(delivery_ids)
    _count(services, conclusion.job)
    if job.batch_id is not None:
        batch = services.ledger.batches.find_done(job.batch_id)
        if batch is not None:
            end_batch(services, batch)
    return True


def _count(services: Services, job: Job) -> None:
    code = job.error.code if job.error else ""
    services.tally.count(JOBS_ENDED, status=str(job.status), code=code, reused=str(job.reused or ""))
    for stage, ms in job.timings_ms.items():
        services.tally.observe(STAGE_SECONDS, ms / 1000, stage=stage)


def end_batch(services: Services, batch: Batch) -> None:
    """Tell the end of a batch whose jobs are all final, once."""
    announcement = conclude_batch(
        batch,
        services.ledger.batches.list_jobs(batch.id),
        services.ledger.endpoints.list_for_account(batch.account_id),
        now=services.clock.now(),
        new_id=services.new_id,
    )
    services.dispatch_deliveries(services.ledger.batches.finish(batch.id, announcement) or [])
