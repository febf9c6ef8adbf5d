"""The ledger against a model of it: whatever the order of moves, both agree, on each database.

Hypothesis makes up sequences of moves, with right and stale tokens, early and late. After each move every row is
compared with the model, and with the row before: only legal moves, one event per final job, attempts without gaps, and
what is refused has changed nothing.
"""

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.builders import (
    NOW,
    build_account,
    build_attempt,
    build_job,
    build_lease,
    fail,
    record_ended_job,
    succeed,
)
from tests.support.engines import Postgres
from tests.support.ledgers import make_sqlite_ledger
from thumbs.domain import (
    DELIVERY_MOVES,
    FINAL_JOB_STATUSES,
    JOB_MOVES,
    DeliveryStatus,
    IdempotencyKey,
    Job,
    JobStatus,
    Lease,
    LeasedDelivery,
    NextStep,
)
from thumbs.errors import KeyAlreadyUsed
from thumbs.ledger import Ledger
from thumbs.ledger.database import build_engine
from thumbs.ledger.tables import attempts, deliveries, events, jobs
from thumbs.retries import MAX_RUNS

LEASE = timedelta(seconds=45)
GRACE = timedelta(seconds=30)
KEY_LIFETIME = timedelta(hours=24)
LIMIT = 100
RACES = 30
EXAMPLES = 30
STEPS = 50
MAX_JOBS = 5
"""In one example: few, so that each moves often."""
TABLES = (jobs, events, deliveries, attempts)

TIMES_SECONDS = st.sampled_from([1, 5, 20, 45, 60, 60, 60, 90_000, 700_000])
"""A moment, less and more than a lease, more than a key's life, more than a job's."""
DELAYS_SECONDS = st.sampled_from([0, 5, 50])
TOKENS_BACK = st.sampled_from([0, 0, 0, 1, 2])
"""Which of a row's tokens a move comes with: the newest, or one that is stale."""
KEYS = st.sampled_from([None, None, "one", "two"])
CHOICES = st.tuples(st.integers(0, 99), st.sampled_from([True, True, True, False]))
"""Which row a move is about: one by its place, mostly among those that are apt to make the move."""

Choice = tuple[int, bool]
Row = dict[str, Any]
Snapshot = dict[str, dict[str, Row]]
OpenLedger = Callable[[], tuple[Ledger, str]]


@dataclass
class ModelDelivery:
    """What the ledger should hold of a delivery."""

    status: DeliveryStatus
    next_attempt_at: datetime | None
    dispatched_at: datetime
    error_codes: list[str | None] = field(default_factory=list)
    reason: str | None = None
    token: str | None = None
    until: datetime | None = None
    given: list[tuple[str, LeasedDelivery]] = field(default_factory=list)


@dataclass
class ModelJob:
    """What the ledger should hold of a job; `given` is what its workers were given, with their tokens."""

    job: Job
    status: JobStatus
    run_at: datetime
    dispatched_at: datetime
    run_count: int = 0
    token: str | None = None
    until: datetime | None = None
    delivery_id: str | None = None
    given: list[tuple[str, Job]] = field(default_factory=list)


class LedgerMachine(RuleBasedStateMachine):
    """Moves the ledger and the model alike."""

    def __init__(self, open_ledger: OpenLedger) -> None:
        super().__init__()
        self.ledger, url = open_ledger()
        self.engine = build_engine(url)
        self.connection = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self.now = NOW
        self.job_ids: list[str] = []
        self.delivery_ids: list[str] = []
        self.jobs: dict[str, ModelJob] = {}
        self.deliveries: dict[str, ModelDelivery] = {}
        self.keys: dict[str, tuple[str, datetime]] = {}
        self.tokens = (f"token{number}" for number in itertools.count())
        self.account = build_account()
        self.ledger.accounts.record(self.account)
        self.rows = self.read()

    def teardown(self) -> None:
        """Close what was opened."""
        self.connection.close()
        self.engine.dispose()
        self.ledger.close()

    # ── jobs ──

    @initialize(stage=st.integers(0, 6))
    def begin(self, stage: int) -> None:
        """Begin with a job somewhere on its way, up to a second attempt, so that short sequences reach the far end."""
        newest, second = (0, True), NextStep(DeliveryStatus.PENDING, next_attempt_at=self.now)
        way: tuple[Callable[[], object], ...] = (
            lambda: self._lease_job(self.job_ids[0], self.now),
            lambda: self._finish(*self._recall_run(self.job_ids[0], 0), is_success=True),
            lambda: self._lease_delivery(self.delivery_ids[0]),
            lambda: self._end_attempt(self.delivery_ids[0], 0, second),
            lambda: self._lease_delivery(self._choose_delivery(newest, DeliveryStatus.PENDING)),
        )
        self._record_job("https://app.example/hooks", "one", 0)
        for step in way[:stage]:
            step()

    @precondition(lambda self: len(self.job_ids) < MAX_JOBS)
    @rule(
        callback_url=st.sampled_from(["https://app.example/hooks", "https://app.example/hooks", None]),
        key=KEYS,
        delay_seconds=DELAYS_SECONDS,
    )
    def record(self, callback_url: str | None, key: str | None, delay_seconds: int) -> None:
        """A key that is in use refuses the job; one that has expired or whose job is forgotten does not."""
        self._record_job(callback_url, key, delay_seconds)

    def _record_job(self, callback_url: str | None, key: str | None, delay_seconds: int) -> None:
        job = build_job(
            account_id=self.account.id,
            callback_url=callback_url,
            created_at=self.now,
            run_at=self.now + timedelta(seconds=delay_seconds),
            expires_at=self.now + timedelta(days=7),
        )
        used = self.keys.get(key or "")
        is_free = used is None or used[1] <= self.now
        if self.call(lambda: self._record(job, key), is_free):
            self.jobs[job.id] = ModelJob(job, JobStatus.QUEUED, job.run_at, self.now)
            if key is not None:
                self.keys[key] = (job.id, self.now + KEY_LIFETIME)
        self.job_ids.append(job.id)

    def _record(self, job: Job, key: str | None) -> bool:
        claim = key and IdempotencyKey(self.account.id, key, "ab" * 32, job.id, self.now + KEY_LIFETIME)
        try:
            self.ledger.jobs.record(job, key=claim or None)
        except KeyAlreadyUsed:
            return False
        return True

    @rule(choice=CHOICES)
    def lease_job(self, choice: Choice) -> None:
        """A job is taken if it is queued and due."""
        job_id = self._choose_job(choice, JobStatus.QUEUED)
        self._lease_job(job_id, self.now)

    def _lease_job(self, job_id: str, at: datetime) -> bool:
        model = self.jobs.get(job_id)
        token = next(self.tokens)
        can = model is not None and model.status is JobStatus.QUEUED and model.run_at <= at
        leased = self.call(lambda: self.ledger.jobs.lease(build_lease(job_id, token, self.now + LEASE), at), can)
        if leased is None or model is None:
            return False
        model.status, model.run_count = JobStatus.RUNNING, model.run_count + 1
        model.token, model.until = token, self.now + LEASE
        model.given.append((token, leased))
        return True

    @precondition(lambda self: any(each.given for each in self.jobs.values()))
    @rule(choice=CHOICES, back=TOKENS_BACK, delay_seconds=DELAYS_SECONDS, is_handed_back=st.booleans())
    def requeue_job(self, choice: Choice, back: int, delay_seconds: int, is_handed_back: bool) -> None:
        """A run is given up by whoever holds it; one that is handed back does not count."""
        job_id = self._choose_job(choice, JobStatus.RUNNING)
        lease, _ = self._recall_run(job_id, back)
        run_at = self.now + timedelta(seconds=delay_seconds)
        move = self.ledger.jobs.hand_back if is_handed_back else self.ledger.jobs.requeue
        if self.call(lambda: move(lease, run_at, self.now), self._holds(lease)):
            self._queue(self.jobs[job_id], run_at)
            self.jobs[job_id].run_count -= is_handed_back

    @precondition(lambda self: any(each.given for each in self.jobs.values()))
    @rule(choice=CHOICES, back=TOKENS_BACK, is_success=st.booleans())
    def finish_job(self, choice: Choice, back: int, is_success: bool) -> None:
        """A job ends by whoever holds it, and once."""
        job_id = self._choose_job(choice, JobStatus.RUNNING)
        lease, job = self._recall_run(job_id, back)
        self._finish(lease, job, is_success=is_success)

    @rule(choice=CHOICES)
    def delete_job(self, choice: Choice) -> None:
        """A queued job is taken however far its run is off, and ended; a final one is forgotten with all of it."""
        model = self.jobs.get(self._choose_job(choice, JobStatus.SUCCEEDED))
        if model is None:
            return
        if model.status in FINAL_JOB_STATUSES:
            self.ledger.jobs.forget(model.job)
            self._forget(model.job.id)
        elif self._lease_job(model.job.id, max(self.now, model.run_at)):
            self._finish(*self._recall_run(model.job.id, 0), is_success=False)

    @rule(seconds=TIMES_SECONDS, is_swept=st.booleans())
    def wait(self, seconds: int, is_swept: bool) -> None:
        """Time passes, and what it has left behind is found."""
        self.now += timedelta(seconds=seconds)
        if is_swept:
            self.sweep_runs()
            self.sweep_attempts()
            self.forget_expired_jobs()
            self.claim_undispatched_jobs()
            self.claim_due_deliveries()

    def sweep_runs(self) -> None:
        """Exactly the runs whose lease is over are found, and are queued again or fail."""
        expired = {name for name, job in self.jobs.items() if job.until is not None and job.until < self.now}
        found = self.ledger.jobs.list_expired_leases(self.now, LIMIT)
        assert {job.id for job, _ in found} == expired
        for job, stale in found:
            if job.run_count >= MAX_RUNS:
                self._finish(stale, job, is_success=False)
            else:
                assert self.call(lambda stale=stale: self.ledger.jobs.requeue(stale, self.now, self.now), True)
                self._queue(self.jobs[job.id], self.now)

    def claim_undispatched_jobs(self) -> None:
        """Exactly the due jobs that were dispatched longer ago than the grace are claimed, once."""
        since = self.now - GRACE
        due = [job for job in self.jobs.values() if job.status is JobStatus.QUEUED and job.run_at <= self.now]
        assert self.ledger.jobs.count_due(self.now) == len(due)
        late = [model for model in due if model.dispatched_at < since]
        assert set(self.ledger.jobs.claim_undispatched(self.now, since, LIMIT)) == {model.job.id for model in late}
        for model in late:
            model.dispatched_at = self.now

    def forget_expired_jobs(self) -> None:
        """Exactly the final jobs past their retention are forgotten."""
        expired = [
            name
            for name, model in self.jobs.items()
            if model.status in FINAL_JOB_STATUSES and model.job.expires_at <= self.now
        ]
        assert self.ledger.upkeep.forget_expired_jobs(self.now, LIMIT) == len(expired)
        for name in expired:
            self._forget(name)

    # ── deliveries ──

    @precondition(lambda self: bool(self.delivery_ids))
    @rule(choice=CHOICES)
    def lease_delivery(self, choice: Choice) -> None:
        """A delivery is taken if it is pending and due, and its attempt is on record at once."""
        self._lease_delivery(self._choose_delivery(choice, DeliveryStatus.PENDING))

    def _lease_delivery(self, delivery_id: str) -> None:
        model, token = self.deliveries.get(delivery_id), next(self.tokens)
        due_at = model and model.status is DeliveryStatus.PENDING and model.next_attempt_at
        can = bool(due_at and due_at <= self.now)
        lease = build_lease(delivery_id, token, self.now + LEASE)
        attempt = build_attempt(delivery_id)
        leased = self.call(lambda: self.ledger.deliveries.lease(lease, attempt, self.now), can)
        if leased is not None and model is not None:
            model.status, model.next_attempt_at = DeliveryStatus.SENDING, None
            model.token, model.until = token, lease.until
            model.error_codes.append(None)
            model.given.append((token, leased))

    @precondition(lambda self: any(each.given for each in self.deliveries.values()))
    @rule(
        choice=CHOICES,
        back=TOKENS_BACK,
        status=st.sampled_from([DeliveryStatus.DELIVERED, DeliveryStatus.PENDING, DeliveryStatus.FAILED]),
        delay_seconds=DELAYS_SECONDS,
    )
    def record_attempt(self, choice: Choice, back: int, status: DeliveryStatus, delay_seconds: int) -> None:
        """An attempt's result counts if its lease is still held."""
        delivery_id = self._choose_delivery(choice, DeliveryStatus.SENDING)
        step = NextStep(status, delivered_at=self.now if status is DeliveryStatus.DELIVERED else None)
        if status is DeliveryStatus.PENDING:
            step = replace(step, next_attempt_at=self.now + timedelta(seconds=delay_seconds))
        if status is DeliveryStatus.FAILED:
            step = replace(step, reason="gone")
        self._end_attempt(delivery_id, back, step)

    def _end_attempt(self, delivery_id: str, back: int, step: NextStep) -> None:
        lease, leased = self._recall_attempt(delivery_id, back)
        if leased is not None:
            self._record_attempt(lease, leased, "http_5xx", step)

    @precondition(lambda self: any(each.given for each in self.deliveries.values()))
    @rule(choice=CHOICES, back=TOKENS_BACK)
    def release_delivery(self, choice: Choice, back: int) -> None:
        """A delivery that is given back is due at once."""
        delivery_id = self._choose_delivery(choice, DeliveryStatus.SENDING)
        lease, leased = self._recall_attempt(delivery_id, back)
        if leased is None:
            return
        can = self._sends(lease)
        if self.call(lambda: self.ledger.deliveries.release(lease, leased.attempt, self.now), can):
            self._note_step(delivery_id, "abandoned", NextStep(DeliveryStatus.PENDING, next_attempt_at=self.now))

    def sweep_attempts(self) -> None:
        """Exactly the attempts whose lease is over are found, each the last one of its delivery."""
        expired = {name for name, each in self.deliveries.items() if each.until is not None and each.until < self.now}
        found = self.ledger.deliveries.list_expired_leases(self.now, LIMIT)
        assert {delivery.id for delivery, _, _ in found} == expired
        for delivery, attempt, stale in found:
            assert attempt.number == delivery.attempt_count
            step = NextStep(DeliveryStatus.PENDING, next_attempt_at=self.now)
            self._record_attempt(stale, LeasedDelivery(delivery, attempt, b""), "abandoned", step)

    def claim_due_deliveries(self) -> None:
        """Exactly the due deliveries that were dispatched longer ago than the grace are claimed, once."""
        since = self.now - GRACE
        due = {name: each for name, each in self.deliveries.items() if (each.next_attempt_at or self.now) <= self.now}
        due = {name: each for name, each in due.items() if each.status is DeliveryStatus.PENDING}
        assert self.ledger.deliveries.count_due(self.now) == len(due)
        late = {name: each for name, each in due.items() if each.dispatched_at < since}
        assert set(self.ledger.deliveries.claim_due(self.now, since, LIMIT)) == set(late)
        for each in late.values():
            each.dispatched_at = self.now

    # ── what always holds ──

    @invariant()
    def ledger_is_as_the_model_says(self) -> None:
        """Every row is compared, after every move."""
        self.rows = self.read()
        self._compare_jobs()
        self._compare_deliveries()
        self._compare_attempts()
        told = sorted((row["job_id"], row["type"]) for row in self.rows["events"].values())
        ended = [(name, each.status) for name, each in self.jobs.items() if each.status in FINAL_JOB_STATUSES]
        assert told == sorted((name, f"job.{status}") for name, status in ended)

    def _compare_jobs(self) -> None:
        names = ("status", "run_count", "run_at", "dispatched_at", "lease_token", "lease_until")
        found = {job_id: tuple(row[name] for name in names) for job_id, row in self.rows["jobs"].items()}
        assert found == {
            name: (each.status, each.run_count, each.run_at, each.dispatched_at, each.token, each.until)
            for name, each in self.jobs.items()
        }

    def _compare_deliveries(self) -> None:
        names = ("status", "reason", "next_attempt_at", "dispatched_at", "lease_token", "lease_until")
        found = {row_id: tuple(row[name] for name in names) for row_id, row in self.rows["deliveries"].items()}
        assert found == {
            name: (each.status, each.reason, each.next_attempt_at, each.dispatched_at, each.token, each.until)
            for name, each in self.deliveries.items()
        }

    def _compare_attempts(self) -> None:
        """Attempts are numbered from 1 without gaps, and the delivery counts them."""
        found: dict[str, list[tuple[int, str | None]]] = {name: [] for name in self.deliveries}
        for row in sorted(self.rows["attempts"].values(), key=lambda row: row["number"]):
            found[row["delivery_id"]].append((row["number"], row["error_code"]))
        for name, each in self.deliveries.items():
            assert found[name] == list(enumerate(each.error_codes, start=1))
            assert self.rows["deliveries"][name]["attempt_count"] == len(each.error_codes)

    # ── how a move is made ──

    def call(self, move: Callable[..., Any], can: bool) -> Any:
        """Make one move that can be made or not; every row moves legally, and none when it is refused."""
        result, before = move(), self.rows
        self.rows = self.read()
        assert bool(result) == can
        assert can or before == self.rows
        _check_moves(before["jobs"], self.rows["jobs"], JOB_MOVES)
        _check_moves(before["deliveries"], self.rows["deliveries"], DELIVERY_MOVES)
        return result

    def read(self) -> Snapshot:
        """Read every row."""
        return {
            table.name: {row.id: dict(row._mapping) for row in self.connection.execute(sa.select(table))}
            for table in TABLES
        }

    def _choose_job(self, choice: Choice, status: JobStatus) -> str:
        """Choose among all jobs that there ever were, forgotten and refused ones too, or among the apt ones."""
        apt = [name for name, each in self.jobs.items() if each.status is status]
        return _choose(choice, self.job_ids, apt)

    def _choose_delivery(self, choice: Choice, status: DeliveryStatus) -> str:
        apt = [name for name, each in self.deliveries.items() if each.status is status]
        return _choose(choice, self.delivery_ids, apt)

    def _finish(self, lease: Lease, job: Job, *, is_success: bool) -> None:
        conclusion = (succeed if is_success else fail)(job, self.now)
        if not self.call(lambda: self.ledger.jobs.finish(lease, conclusion), self._holds(lease)):
            return
        model = self.jobs[job.id]
        model.status, model.token, model.until = conclusion.job.status, None, None
        for delivery in conclusion.deliveries:
            model.delivery_id = delivery.id
            self.delivery_ids.append(delivery.id)
            self.deliveries[delivery.id] = ModelDelivery(delivery.status, delivery.next_attempt_at, self.now)

    def _record_attempt(self, lease: Lease, leased: LeasedDelivery, error_code: str, step: NextStep) -> None:
        attempt = replace(leased.attempt, error_code=error_code)
        can = self._sends(lease)
        if self.call(lambda: self.ledger.deliveries.record(lease, attempt, step, self.now), can):
            self._note_step(lease.id, error_code, step)

    def _note_step(self, delivery_id: str, error_code: str, step: NextStep) -> None:
        model = self.deliveries[delivery_id]
        model.status, model.reason, model.next_attempt_at = step.status, step.reason, step.next_attempt_at
        model.dispatched_at, model.token, model.until = step.next_attempt_at or self.now, None, None
        model.error_codes[-1] = error_code

    def _queue(self, model: ModelJob, run_at: datetime) -> None:
        model.status, model.run_at, model.dispatched_at = JobStatus.QUEUED, run_at, max(run_at, self.now)
        model.token, model.until = None, None

    def _forget(self, job_id: str) -> None:
        model = self.jobs.pop(job_id)
        self.deliveries.pop(model.delivery_id or "", None)
        self.keys = {key: used for key, used in self.keys.items() if used[0] != job_id}

    def _recall_run(self, job_id: str, back: int) -> tuple[Lease, Job]:
        """Recall what a worker was given; one that was given nothing makes up a token."""
        model = self.jobs.get(job_id)
        if model is None or back >= len(model.given):
            return build_lease(job_id, "never given"), build_job(id=job_id, account_id=self.account.id)
        token, job = model.given[-1 - back]
        return build_lease(job_id, token), job

    def _recall_attempt(self, delivery_id: str, back: int) -> tuple[Lease, LeasedDelivery | None]:
        model = self.deliveries.get(delivery_id)
        if model is None or back >= len(model.given):
            return build_lease(delivery_id, "never given"), None
        token, leased = model.given[-1 - back]
        return build_lease(delivery_id, token), leased

    def _holds(self, lease: Lease) -> bool:
        return lease.id in self.jobs and self.jobs[lease.id].token == lease.token

    def _sends(self, lease: Lease) -> bool:
        return lease.id in self.deliveries and self.deliveries[lease.id].token == lease.token


def _choose(choice: Choice, every: list[str], apt: list[str]) -> str:
    place, is_apt = choice
    names = apt if is_apt and apt else every
    return names[place % len(names)]


def _check_moves(before: dict[str, Row], after: dict[str, Row], legal: Any) -> None:
    for name in before.keys() & after.keys():
        old, new = before[name]["status"], after[name]["status"]
        assert new == old or new in legal[old], f"{name} moved from {old} to {new}"


@pytest.fixture(params=["sqlite", "postgresql"])
def open_ledger(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenLedger]:
    """Opens an empty ledger on each database, as often as it is called; gives its URL too."""
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")

        def open_postgres() -> tuple[Ledger, str]:
            url = postgres.clear_database()
            return Ledger(url), url

        yield open_postgres
        return

    def open_sqlite() -> tuple[Ledger, str]:
        folder: Path = tmp_path_factory.mktemp("ledger")
        return make_sqlite_ledger(folder), f"sqlite:///{folder}/ledger.db"

    yield open_sqlite


@pytest.mark.timeout(400)  # When it fails, hypothesis looks for the shortest way there for up to 300 s.
def test_ledger_moves_as_the_model_does(open_ledger: OpenLedger) -> None:
    class Machine(LedgerMachine):
        def __init__(self) -> None:
            super().__init__(open_ledger)

    limits = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, derandomize=True, deadline=None, database=None)
    run_state_machine_as_test(Machine, settings=limits)


def test_job_is_forgotten_while_a_courier_takes_its_delivery(open_ledger: OpenLedger) -> None:
    """Either comes first: the courier finds nothing to take, or its attempt is forgotten too."""
    ledger, _ = open_ledger()
    with closing(ledger), ThreadPoolExecutor(2) as pool:
        for _ in range(RACES):
            conclusion = record_ended_job(ledger)
            race(pool, partial(take, ledger, conclusion.deliveries[0].id), partial(ledger.jobs.forget, conclusion.job))
            assert ledger.jobs.find(conclusion.job.id) is None
            assert ledger.deliveries.list_for_job(conclusion.job.id) == []


def take(ledger: Ledger, delivery_id: str) -> None:
    """Take a delivery, as a courier."""
    ledger.deliveries.lease(build_lease(delivery_id), build_attempt(delivery_id), NOW)


def race(pool: ThreadPoolExecutor, *moves: Callable[[], object]) -> None:
    """Make moves at the same time."""
    barrier = threading.Barrier(len(moves), timeout=10)

    def start(move: Callable[[], object]) -> None:
        barrier.wait()
        move()

    list(pool.map(start, moves))
