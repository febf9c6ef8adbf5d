"""The half of the ledger's model that is about jobs and their idempotency keys (tests/support/ledger_model.py)."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.support.builders import NOW, build_job, build_lease
from thumbs.domain import FINAL_JOB_STATUSES, Endpoint, Job, JobStatus, Lease

KEY_LIFETIME = timedelta(hours=24)


@dataclass
class ModelJob:
    """A job's row; `given` is what its workers were given: a token, the job, and the endpoints as they saw them."""

    job: Job
    status: JobStatus
    run_at: datetime
    dispatched_at: datetime
    run_count: int = 0
    token: str | None = None
    until: datetime | None = None
    given: list[tuple[str, Job, tuple[Endpoint, ...]]] = field(default_factory=list)


class JobsModel:
    """One account with its jobs."""

    def __init__(self, account_id: str) -> None:
        self.account_id = account_id
        self.now = NOW
        self.jobs: dict[str, ModelJob] = {}
        self.keys: dict[str, tuple[str, datetime]] = {}

    def has_free(self, key: str | None) -> bool:
        """Tell whether a job may be recorded with this key, or without one."""
        return key is None or key not in self.keys or self.keys[key][1] <= self.now

    def record_job(self, job: Job, key: str | None) -> None:
        """Queue a job."""
        self.jobs[job.id] = ModelJob(job, JobStatus.QUEUED, job.run_at, self.now)
        if key is not None:
            self.keys[key] = (job.id, self.now + KEY_LIFETIME)

    def may_run(self, job_id: str, at: datetime) -> bool:
        """Tell whether a worker may take the job."""
        model = self.jobs.get(job_id)
        return model is not None and model.status is JobStatus.QUEUED and model.run_at <= at

    def run_job(self, lease: Lease, job: Job, seen: tuple[Endpoint, ...]) -> None:
        """Give a job to a worker, who sees the endpoints now: what becomes of them meanwhile, it does not see."""
        model = self.jobs[lease.id]
        model.status, model.run_count = JobStatus.RUNNING, model.run_count + 1
        model.token, model.until = lease.token, lease.until
        model.given.append((lease.token, job, seen))

    def holds(self, lease: Lease) -> bool:
        """Tell whether a worker still has its job."""
        return lease.id in self.jobs and self.jobs[lease.id].token == lease.token

    def recall_run(self, job_id: str, back: int) -> tuple[Lease, Job, tuple[Endpoint, ...]]:
        """Recall what a worker was given; one that was given nothing makes up a token."""
        model = self.jobs.get(job_id)
        if model is None or back >= len(model.given):
            return build_lease(job_id, "never given"), build_job(id=job_id, account_id=self.account_id), ()
        token, job, endpoints = model.given[-1 - back]
        return build_lease(job_id, token), job, endpoints

    def queue_job(self, job_id: str, run_at: datetime, *, is_handed_back: bool) -> None:
        """Queue a job again."""
        model = self.jobs[job_id]
        model.status, model.run_at, model.dispatched_at = JobStatus.QUEUED, run_at, max(run_at, self.now)
        model.token, model.until = None, None
        model.run_count -= is_handed_back

    def end_job(self, job: Job) -> None:
        """End a job; its event is told besides."""
        model = self.jobs[job.id]
        model.status, model.token, model.until = job.status, None, None

    def forget_job(self, job_id: str) -> None:
        """Forget a job, and which keys were used for it."""
        del self.jobs[job_id]
        self.keys = {key: used for key, used in self.keys.items() if used[0] != job_id}

    def list_final_expired(self) -> list[str]:
        """List the final jobs past their retention."""
        jobs = self.jobs.items()
        return [name for name, job in jobs if job.status in FINAL_JOB_STATUSES and job.job.expires_at <= self.now]
