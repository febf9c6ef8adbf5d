"""A caller's DELETE: a job that has not begun is cancelled, a final one is forgotten with its thumbnails."""

import logging

from thumbs.documents import list_blobs
from thumbs.domain import Account, Failure, Job, JobStatus, Outcome
from thumbs.ending import end_job
from thumbs.errors import Cancelled, Conflict
from thumbs.services import Services
from thumbs.sharing import lead_on

logger = logging.getLogger(__name__)


def delete_job(services: Services, account: Account, job_id: str) -> None:
    """Cancel or forget a job. Raises NotFound, and Conflict for a job that is running."""
    job = services.ledger.jobs.get(account.id, job_id)
    if job.status is JobStatus.QUEUED and _cancel(services, job):
        logger.info("job cancelled", extra={"job_id": job.id})
        lead_on(services, job)
        return
    job = services.ledger.jobs.get(account.id, job_id)
    if job.status in (JobStatus.QUEUED, JobStatus.RUNNING):
        raise Conflict(f"The job {job_id} is at work: delete it when it is final.")
    for name in list_blobs(job):
        services.blobs.delete(name)
    services.ledger.jobs.forget(job)
    logger.info("job forgotten", extra={"job_id": job.id})


def _cancel(services: Services, job: Job) -> bool:
    """End the job before a worker takes it; False when one was faster."""
    return end_job(services, job, None, Outcome(JobStatus.FAILED, error=Failure.of(Cancelled())), job.timings_ms)
