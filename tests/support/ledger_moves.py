"""The moves of jobs, for the ledger beside its model: each as its rule says when it can be made."""

from datetime import timedelta
from functools import partial

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.support.builders import build_job, build_lease, fail, succeed
from tests.support.ledger_machine import Choice, LedgerMachine
from tests.support.ledger_model_jobs import KEY_LIFETIME
from thumbs.domain import FINAL_JOB_STATUSES, IdempotencyKey, Job, JobStatus
from thumbs.errors import KeyAlreadyUsed
from thumbs.retries import MAX_RUNS

LEASE = timedelta(seconds=45)
GRACE = timedelta(seconds=30)
RETENTION = timedelta(days=7)
LIMIT = 100
MAX_JOBS = 5
"""In one example: few, so that each moves often."""
HOOKS = "https://app.example/hooks"

DELAYS_SECONDS = st.sampled_from([0, 5, 50])
TOKENS_BACK = st.sampled_from([0, 0, 0, 1, 2])
"""Which of a row's tokens a move comes with: the newest, or one that is stale."""
KEYS = st.sampled_from([None, None, "one", "two"])
CHOICES = st.tuples(st.integers(0, 99), st.sampled_from([True, True, True, False]))
"""Which row a move is about: one by its place, mostly among those that are apt to make the move."""


class JobMoves(LedgerMachine):
    """Makes the moves of jobs."""

    @precondition(lambda self: len(self.job_ids) < MAX_JOBS)
    @rule(callback_url=st.sampled_from([HOOKS, HOOKS, None]), key=KEYS, delay_seconds=DELAYS_SECONDS)
    def record(self, callback_url: str | None, key: str | None, delay_seconds: int) -> None:
        """A key that is in use refuses the job; one that has expired or whose job is forgotten does not."""
        self._record_job(callback_url, key, delay_seconds)

    def _record_job(self, callback_url: str | None, key: str | None, delay_seconds: int) -> None:
        now = self.model.now
        run_at, expires_at = now + timedelta(seconds=delay_seconds), now + RETENTION
        job = build_job(
            account_id=self.model.account_id,
            callback_url=callback_url,
            created_at=now,
            run_at=run_at,
            expires_at=expires_at,
        )
        if self.call(lambda: self._try_to_record(job, key), self.model.has_free(key)):
            self.model.record_job(job, key)
        self.job_ids.append(job.id)

    def _try_to_record(self, job: Job, key: str | None) -> bool:
        expires_at = self.model.now + KEY_LIFETIME
        claim = key and IdempotencyKey(self.model.account_id, key, "ab" * 32, job.id, expires_at)
        try:
            self.ledger.jobs.record(job, key=claim or None)
        except KeyAlreadyUsed:
            return False
        return True

    @rule(choice=CHOICES)
    def lease_job(self, choice: Choice) -> None:
        """A job is taken if it is queued and due."""
        self._lease_job(self._choose_job(choice, JobStatus.QUEUED), 0)

    def _lease_job(self, job_id: str, early_seconds: float) -> bool:
        at = self.model.now + timedelta(seconds=early_seconds)
        lease = build_lease(job_id, next(self.tokens), self.model.now + LEASE)
        job = self.call(lambda: self.ledger.jobs.lease(lease, at), self.model.may_run(job_id, at))
        if job is not None:
            self.model.run_job(lease, job, self.model.list_endpoints())
        return job is not None

    @precondition(lambda self: any(each.given for each in self.model.jobs.values()))
    @rule(choice=CHOICES, back=TOKENS_BACK, delay_seconds=DELAYS_SECONDS, is_handed_back=st.booleans())
    def requeue_job(self, choice: Choice, back: int, delay_seconds: int, is_handed_back: bool) -> None:
        """A run is given up by whoever holds it; one that is handed back does not count."""
        job_id = self._choose_job(choice, JobStatus.RUNNING)
        lease, _, _ = self.model.recall_run(job_id, back)
        run_at = self.model.now + timedelta(seconds=delay_seconds)
        move = self.ledger.jobs.hand_back if is_handed_back else self.ledger.jobs.requeue
        if self.call(lambda: move(lease, run_at, self.model.now), self.model.holds(lease)):
            self.model.queue_job(job_id, run_at, is_handed_back=is_handed_back)

    @precondition(lambda self: any(each.given for each in self.model.jobs.values()))
    @rule(choice=CHOICES, back=TOKENS_BACK, is_success=st.booleans())
    def finish_job(self, choice: Choice, back: int, is_success: bool) -> None:
        """A job ends by whoever holds it, and once; its worker tells the endpoints that it saw when it began."""
        self._finish(self._choose_job(choice, JobStatus.RUNNING), back, is_success=is_success)

    def _finish(self, job_id: str, back: int, *, is_success: bool) -> None:
        lease, job, seen = self.model.recall_run(job_id, back)
        conclusion = (succeed if is_success else fail)(job, self.model.now, seen)
        finish = partial(self.ledger.jobs.finish, lease, conclusion)
        if self.call(lambda: finish() is not None, self.model.holds(lease)):
            self.model.end_job(conclusion.job)
            self._announce(conclusion)

    @rule(choice=CHOICES)
    def delete_job(self, choice: Choice) -> None:
        """A queued job is taken however far its run is off, and ended; a final one is forgotten with all of it."""
        model = self.model.jobs.get(self._choose_job(choice, JobStatus.SUCCEEDED))
        if model is None:
            return
        if model.status in FINAL_JOB_STATUSES:
            self.ledger.jobs.forget(model.job)
            self.model.forget_job(model.job.id)
        elif self._lease_job(model.job.id, max(0, (model.run_at - self.model.now).total_seconds())):
            self._finish(model.job.id, 0, is_success=False)

    def sweep_runs(self) -> None:
        """Exactly the runs whose lease is over are found, and are queued again or fail."""
        now = self.model.now
        expired = {name for name, job in self.model.jobs.items() if job.until is not None and job.until < now}
        found = self.ledger.jobs.list_expired_leases(now, LIMIT)
        assert {job.id for job, _ in found} == expired
        for job, stale in found:
            if job.run_count >= MAX_RUNS:
                self._finish(job.id, 0, is_success=False)
            else:
                assert self.call(partial(self.ledger.jobs.requeue, stale, now, now), True)
                self.model.queue_job(job.id, now, is_handed_back=False)

    def claim_undispatched_jobs(self) -> None:
        """Exactly the due jobs that were dispatched longer ago than the grace are claimed, once."""
        now, since = self.model.now, self.model.now - GRACE
        queued = [job for job in self.model.jobs.values() if job.status is JobStatus.QUEUED]
        assert self.ledger.jobs.count_queued(LIMIT) == len(queued)
        due = [job for job in queued if job.run_at <= now]
        late = [model for model in due if model.dispatched_at < since]
        assert set(self.ledger.jobs.claim_undispatched(now, since, LIMIT)) == {model.job.id for model in late}
        for model in late:
            model.dispatched_at = now
