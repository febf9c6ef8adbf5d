"""What is stuck or old is put right; and for each line of "if it dies here", that the sweep ends in a right state."""

from datetime import timedelta

import pytest

from tests.support.builders import build_attempt
from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import (
    ScriptedOutbound,
    ScriptedSandbox,
    UnavailableBlobs,
    accept,
    build_answer,
    build_lost_ledger,
    build_test_services,
    fail_with,
    get_callback,
    get_job,
    record_delivery,
)
from thumbs.deliver import deliver
from thumbs.domain import Attempt, Blob, Delivery, DeliveryStatus, Job, JobStatus
from thumbs.errors import LedgerUnavailable, QueueUnavailable, SourceUnreachable, UnavailableError
from thumbs.ledger import Ledger
from thumbs.process import process
from thumbs.retries import MAX_RUNS
from thumbs.services import Services
from thumbs.sweep import DISPATCH_GRACE_SECONDS, LOCK_NAME, sweep


class MachineDied(BaseException):
    """Stands for a process that ends in the middle of a line: nothing in the code can catch it by name."""


class DyingBlobs(UnavailableBlobs):
    """Puts a blob, and then the machine dies."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def put(self, blob: Blob) -> None:
        """Put it and die."""
        self._ledger.blobs.put(blob)
        raise MachineDied


@pytest.fixture
def outbound() -> ScriptedOutbound:
    return ScriptedOutbound()


@pytest.fixture
def sandbox() -> ScriptedSandbox:
    return ScriptedSandbox()


@pytest.fixture
def services(
    ledger: Ledger,
    dispatcher: RecordingDispatcher,
    clock: FrozenClock,
    outbound: ScriptedOutbound,
    sandbox: ScriptedSandbox,
) -> Services:
    return build_test_services(ledger, dispatcher, clock, outbound=outbound, sandbox=sandbox)


def sweep_after(services: Services, clock: FrozenClock, seconds: float) -> None:
    clock.move(seconds)
    sweep(services, "worker")


def sweep_after_lease(services: Services, clock: FrozenClock) -> None:
    sweep_after(services, clock, services.settings.lease_seconds + 1)


def start_run(services: Services, job: Job) -> None:
    """Lease a job, as a worker that dies right after it."""
    assert services.ledger.jobs.lease(services.new_lease(job.id, services.clock.now()), services.clock.now())


def start_attempt(services: Services, delivery: Delivery) -> None:
    """Lease a delivery, as a courier that dies right after it."""
    now = services.clock.now()
    assert services.ledger.deliveries.lease(services.new_lease(delivery.id, now), build_attempt(delivery.id), now)


def get_attempts(services: Services, delivery: Delivery) -> list[Attempt]:
    [(_, attempts)] = services.ledger.deliveries.list_for_job(delivery.job_id or "")
    return attempts


# ── who sweeps ──────────────────────────────────────────────────────────────────────────────────────────


def test_one_sweeper_at_a_time(services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher) -> None:
    accept(services)
    clock.move(DISPATCH_GRACE_SECONDS + 1)
    lock = services.new_lease(LOCK_NAME, clock.now())
    assert services.ledger.upkeep.take_lock(lock, clock.now())
    sweep(services, "worker")
    assert len(dispatcher.processed) == 1
    services.ledger.upkeep.release_lock(lock)
    sweep(services, "worker")
    assert len(dispatcher.processed) == 2


def test_sweeper_that_died_does_not_lock_the_others_out(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher
) -> None:
    services.ledger.upkeep.take_lock(services.new_lease(LOCK_NAME, clock.now()), clock.now())
    job = accept(services)
    sweep_after_lease(services, clock)
    assert dispatcher.processed == [(job.id, 0)] * 2


def test_sweep_that_fails_lets_go_of_the_lock(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    services = build_test_services(ledger, dispatcher, clock, blobs=UnavailableBlobs())
    with pytest.raises(UnavailableError):
        sweep(services, "worker")
    assert ledger.upkeep.take_lock(services.new_lease(LOCK_NAME, clock.now()), clock.now())


def test_every_process_is_seen_also_when_it_does_not_sweep(services: Services, clock: FrozenClock) -> None:
    services.ledger.upkeep.take_lock(services.new_lease(LOCK_NAME, clock.now()), clock.now())
    sweep(services, "worker")
    clock.move(5)
    sweep(services, "courier")
    assert services.ledger.upkeep.list_heartbeats() == {
        "worker": clock.now() - timedelta(seconds=5),
        "courier": clock.now(),
    }


def test_ledger_that_does_not_answer_is_told(dispatcher: RecordingDispatcher, clock: FrozenClock) -> None:
    with pytest.raises(LedgerUnavailable):
        sweep(build_test_services(build_lost_ledger(), dispatcher, clock), "worker")


# ── runs ────────────────────────────────────────────────────────────────────────────────────────────────


def test_lost_run_is_queued_again_and_dispatched(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher
) -> None:
    job = accept(services)
    start_run(services, job)
    sweep_after_lease(services, clock)
    assert (get_job(services, job.id).status, get_job(services, job.id).run_count) == (JobStatus.QUEUED, 1)
    assert dispatcher.processed == [(job.id, 0)] * 2


def test_run_whose_lease_is_held_is_left_alone(services: Services, clock: FrozenClock) -> None:
    job = accept(services)
    start_run(services, job)
    sweep_after(services, clock, services.settings.lease_seconds - 1)
    assert get_job(services, job.id).status is JobStatus.RUNNING


def lose_every_worker(services: Services, clock: FrozenClock, job: Job) -> Job:
    for _ in range(MAX_RUNS):
        start_run(services, job)
        sweep_after_lease(services, clock)
    return get_job(services, job.id)


def test_job_whose_workers_die_each_time_fails_with_event_and_delivery(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher
) -> None:
    """An image that kills its worker must not kill workers for ever."""
    job = lose_every_worker(services, clock, accept(services))
    assert job.error is not None
    assert (job.status, job.error.code, job.run_count) == (JobStatus.FAILED, "worker_lost", MAX_RUNS)
    assert dispatcher.delivered == [(get_callback(services, job.id).id, 0)]


def test_lost_job_without_callback_fails_and_dispatches_nothing(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher
) -> None:
    job = lose_every_worker(services, clock, accept(services, callback_url=None))
    assert (job.status, dispatcher.delivered) == (JobStatus.FAILED, [])


# ── attempts ────────────────────────────────────────────────────────────────────────────────────────────


def test_lost_attempt_is_abandoned_and_the_delivery_is_tried_again_at_once(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher
) -> None:
    """It may or may not have arrived; the receiver is not at fault."""
    delivery = record_delivery(services)
    start_attempt(services, delivery)
    sweep_after_lease(services, clock)
    delivery = get_callback(services, delivery.job_id)
    assert (delivery.status, delivery.next_attempt_at) == (DeliveryStatus.PENDING, clock.now())
    assert [attempt.error_code for attempt in get_attempts(services, delivery)] == ["abandoned"]
    assert dispatcher.delivered == [(delivery.id, 0)] * 2


def test_attempt_whose_lease_is_held_is_left_alone(services: Services, clock: FrozenClock) -> None:
    delivery = record_delivery(services)
    start_attempt(services, delivery)
    sweep_after(services, clock, services.settings.lease_seconds - 1)
    assert get_callback(services, delivery.job_id).status is DeliveryStatus.SENDING


def test_lost_attempts_are_used_up_like_any_others(services: Services, clock: FrozenClock) -> None:
    delivery = record_delivery(services)
    for _ in range(len(services.settings.webhook_schedule_seconds) + 1):
        start_attempt(services, delivery)
        sweep_after_lease(services, clock)
    delivery = get_callback(services, delivery.job_id)
    assert (delivery.status, delivery.reason) == (DeliveryStatus.FAILED, "attempts_exhausted")


# ── messages that are gone ──────────────────────────────────────────────────────────────────────────────


def test_queued_job_is_dispatched_again_after_the_grace_and_not_before(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher
) -> None:
    job = accept(services)
    sweep_after(services, clock, DISPATCH_GRACE_SECONDS)
    assert len(dispatcher.processed) == 1
    sweep_after(services, clock, 1)
    assert dispatcher.processed == [(job.id, 0)] * 2


def test_dispatched_job_has_a_grace_again(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher
) -> None:
    """A long queue is not made longer with every sweep."""
    accept(services)
    for _ in range(3):
        sweep_after(services, clock, DISPATCH_GRACE_SECONDS * 0.6)
    assert len(dispatcher.processed) == 2


def test_jobs_whose_messages_still_wait_are_not_dispatched_again(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher
) -> None:
    """A queue that is long, and not broken, is not made longer: only as many as there are messages missing."""
    for _ in range(2):
        accept(services)
    dispatcher.waiting_jobs = 1
    sweep_after(services, clock, DISPATCH_GRACE_SECONDS + 1)
    assert len(dispatcher.processed) == 3
    dispatcher.waiting_jobs = 2
    sweep_after(services, clock, DISPATCH_GRACE_SECONDS + 1)
    assert len(dispatcher.processed) == 3


def test_deliveries_whose_messages_still_wait_are_not_dispatched_again(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher
) -> None:
    record_delivery(services)
    dispatcher.waiting_deliveries = 1
    sweep_after(services, clock, DISPATCH_GRACE_SECONDS + 1)
    assert len(dispatcher.delivered) == 1


def test_job_that_waits_for_its_next_run_is_not_dispatched_early(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher, outbound: ScriptedOutbound
) -> None:
    outbound.on_fetch = fail_with(SourceUnreachable(retry_after_seconds=60))
    process(services, accept(services).id)
    sweep_after(services, clock, DISPATCH_GRACE_SECONDS + 1)
    assert [delay_seconds for _, delay_seconds in dispatcher.processed] == [0, 60]


def test_due_delivery_is_dispatched_again_after_the_grace_and_not_before(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher
) -> None:
    delivery = record_delivery(services)
    sweep_after(services, clock, DISPATCH_GRACE_SECONDS)
    assert len(dispatcher.delivered) == 1
    sweep_after(services, clock, 1)
    assert dispatcher.delivered == [(delivery.id, 0)] * 2


def test_delivery_that_waits_for_its_schedule_is_not_dispatched_early(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher, outbound: ScriptedOutbound
) -> None:
    outbound.on_post = lambda: build_answer(503, retry_after="3600")
    delivery = record_delivery(services)
    deliver(services, delivery.id)
    sweep_after(services, clock, 3500)
    assert [delay_seconds for _, delay_seconds in dispatcher.delivered] == [0, 3600]


def test_queue_that_is_down_in_a_sweep_loses_nothing(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher
) -> None:
    """What is stuck is put right all the same, and the sweep after the grace dispatches."""
    delivery, job, lost = record_delivery(services), accept(services), accept(services)
    start_run(services, lost)
    dispatcher.is_down = True
    with pytest.raises(QueueUnavailable):
        sweep_after_lease(services, clock)
    assert get_job(services, lost.id).status is JobStatus.QUEUED
    dispatcher.is_down = False
    sweep_after(services, clock, DISPATCH_GRACE_SECONDS + 1)
    assert {job_id for job_id, _ in dispatcher.processed[-2:]} == {job.id, lost.id}
    assert dispatcher.delivered[-1] == (delivery.id, 0)


# ── forgetting ──────────────────────────────────────────────────────────────────────────────────────────


def test_final_job_is_forgotten_after_its_retention_and_not_before(services: Services, clock: FrozenClock) -> None:
    job = get_job(services, record_delivery(services).job_id)
    retention_seconds = services.settings.retention_days * 86_400
    sweep_after(services, clock, retention_seconds - 1)
    assert services.ledger.jobs.find(job.id) == job
    sweep_after(services, clock, 1)
    assert services.ledger.jobs.find(job.id) is None
    assert services.ledger.deliveries.list_for_job(job.id) == []


def test_thumbnail_is_forgotten_after_its_own_retention(services: Services, clock: FrozenClock) -> None:
    made_at = clock.now()
    job = get_job(services, record_delivery(services).job_id)
    sweep_after(services, clock, services.settings.thumbnail_days * 86_400 - 1)
    assert services.blobs.find(f"{job.blob_name}.jpg", made_at)
    sweep_after(services, clock, 1)
    assert services.blobs.find(f"{job.blob_name}.jpg", made_at) is None


def test_job_that_expired_on_the_queue_ends_loudly_before_it_is_forgotten(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher
) -> None:
    """Retention deletes final jobs only: an old queued one is dispatched, fails as expired, and tells its caller."""
    job = accept(services)
    sweep_after(services, clock, services.settings.retention_days * 86_400)
    assert dispatcher.processed[-1] == (job.id, 0.0)
    process(services, job.id)
    error = get_job(services, job.id).error
    assert error is not None
    assert error.code == "expired"
    assert dispatcher.delivered == [(get_callback(services, job.id).id, 0)]


# ── if it dies here (docs/architecture.md, the table) ───────────────────────────────────────────────────


def finish_after_death(services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher, job: Job) -> Job:
    """Let time pass, sweep, and do what is then on the queue; returns the job as it ended."""
    dispatcher.processed.clear()
    sweep_after_lease(services, clock)
    assert dispatcher.processed == [(job.id, 0)]
    process(services, job.id)
    return get_job(services, job.id)


def test_died_after_accepting_before_dispatching(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher
) -> None:
    dispatcher.is_down = True
    job = accept(services)
    dispatcher.is_down = False
    assert finish_after_death(services, clock, dispatcher, job).status is JobStatus.SUCCEEDED


def test_died_with_the_message_taken_before_leasing(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher
) -> None:
    """Huey takes a message off the queue before it runs it."""
    job = accept(services)
    assert finish_after_death(services, clock, dispatcher, job).run_count == 1


def test_died_after_leasing(services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher) -> None:
    job = accept(services)
    start_run(services, job)
    ended = finish_after_death(services, clock, dispatcher, job)
    assert (ended.status, ended.run_count) == (JobStatus.SUCCEEDED, 2)


def test_died_while_fetching(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher, outbound: ScriptedOutbound
) -> None:
    job = accept(services)
    fetch, outbound.on_fetch = outbound.on_fetch, fail_with(MachineDied())
    with pytest.raises(MachineDied):
        process(services, job.id)
    outbound.on_fetch = fetch
    assert finish_after_death(services, clock, dispatcher, job).status is JobStatus.SUCCEEDED


def test_died_while_decoding(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher, sandbox: ScriptedSandbox
) -> None:
    job = accept(services)
    render, sandbox.on_render = sandbox.on_render, fail_with(MachineDied())
    with pytest.raises(MachineDied):
        process(services, job.id)
    sandbox.on_render = render
    assert finish_after_death(services, clock, dispatcher, job).status is JobStatus.SUCCEEDED


def test_died_after_storing_before_finishing(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher
) -> None:
    """The next run puts its own blob again, under the same name."""
    job = accept(services)
    done = build_test_services(services.ledger, dispatcher, clock, blobs=DyingBlobs(services.ledger))
    with pytest.raises(MachineDied):
        process(done, job.id)
    assert services.blobs.find(f"{job.blob_name}.jpg", clock.now())
    assert finish_after_death(services, clock, dispatcher, job).status is JobStatus.SUCCEEDED


def test_died_after_finishing_before_dispatching_the_delivery(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher
) -> None:
    job = accept(services)
    dispatcher.is_down = True
    process(services, job.id)
    dispatcher.is_down = False
    sweep_after(services, clock, DISPATCH_GRACE_SECONDS + 1)
    assert dispatcher.delivered == [(get_callback(services, job.id).id, 0)]


def test_died_while_delivering(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher, outbound: ScriptedOutbound
) -> None:
    """At least once: it is sent again, under the same webhook-id."""
    delivery = record_delivery(services)
    outbound.on_post = fail_with(MachineDied())
    with pytest.raises(MachineDied):
        deliver(services, delivery.id)
    outbound.on_post = build_answer
    sweep_after_lease(services, clock)
    deliver(services, dispatcher.delivered[-1][0])
    assert get_callback(services, delivery.job_id).status is DeliveryStatus.DELIVERED
    assert len({post.headers["webhook-id"] for post in outbound.posted}) == 1


def test_sweep_that_died_halfway_is_taken_up_by_the_next(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher
) -> None:
    """Requeued, and the sweeper died before it dispatched: the job is queued, so it is dispatched later."""
    job = accept(services)
    start_run(services, job)
    dispatcher.is_down = True
    with pytest.raises(QueueUnavailable):
        sweep_after_lease(services, clock)
    dispatcher.is_down = False
    assert finish_after_death(services, clock, dispatcher, job).status is JobStatus.SUCCEEDED
