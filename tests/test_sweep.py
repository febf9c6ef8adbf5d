"""What is stuck or old is put right, by one at a time, and left alone while it is in good hands."""

from datetime import timedelta

import pytest

from tests.support.builders import record_deliveries
from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import (
    ScriptedOutbound,
    UnavailableBlobs,
    accept,
    build_lost_ledger,
    build_test_services,
    deliver_all,
    fail_with,
    get_callback,
    get_job,
    list_deliveries,
    record_delivery,
    register,
)
from tests.support.sweeps import start_attempt, start_run, sweep_after, sweep_after_lease
from thumbs.accounts import get_default_account
from thumbs.deliver import dispatch_startable
from thumbs.domain import CALLBACKS, Attempt, Delivery, DeliveryStatus, EventType, Job, JobStatus, Trigger
from thumbs.endpoints import disable_endpoint, rotate_secret
from thumbs.errors import LedgerUnavailable, QueueUnavailable, SourceUnreachable, UnavailableError
from thumbs.ledger import Ledger
from thumbs.process import process
from thumbs.retries import MAX_RUNS
from thumbs.services import Services
from thumbs.sweep import DISPATCH_GRACE_SECONDS, LOCK_NAME, sweep


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
    dispatch_startable(services)
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


@pytest.mark.parametrize("trigger", [Trigger.PING, Trigger.MANUAL, Trigger.RECOVER])
def test_lost_attempt_that_was_asked_for_is_repeated_as_what_it_was(
    services: Services, clock: FrozenClock, trigger: Trigger
) -> None:
    """It may not have been sent at all; and it goes back to where it stood when the attempt after it fails, too."""
    account_id = get_default_account(services).id
    [delivery] = record_deliveries(services.ledger, account_id, trigger=trigger, resume_at=clock.now())
    for _ in range(2):
        start_attempt(services, delivery)
        sweep_after_lease(services, clock)
    found = services.ledger.deliveries.get(account_id, delivery.id)
    assert (found.status, found.trigger, found.next_attempt_at) == (DeliveryStatus.PENDING, trigger, clock.now())
    assert (found.resume_at, found.scheduled_count) == (delivery.resume_at, 0)


def test_lost_attempt_says_nothing_of_its_receiver(services: Services, clock: FrozenClock) -> None:
    delivery = record_delivery(services)
    start_attempt(services, delivery)
    sweep_after_lease(services, clock)
    lane = services.ledger.lanes.find(delivery.lane_id or "")
    assert lane is not None
    assert (lane.failure_count, lane.is_slow, lane.due_at) == (0, False, clock.now())


def test_lost_attempt_to_an_endpoint_that_is_disabled_meanwhile_is_over(services: Services, clock: FrozenClock) -> None:
    endpoint, _ = register(services)
    process(services, accept(services, callback_url=None).id)
    [delivery] = list_deliveries(services, endpoint.id)
    start_attempt(services, delivery)
    disable_endpoint(services, get_default_account(services), endpoint.id)
    sweep_after_lease(services, clock)
    [found] = list_deliveries(services, endpoint.id)
    assert (found.status, found.reason) == (DeliveryStatus.FAILED, "endpoint_disabled")


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
    """A queue that is long, and not broken, is not made longer: what was dispatched after its head still waits."""
    accept(services)
    dispatcher.oldest_job_at = clock.now()
    sweep_after(services, clock, DISPATCH_GRACE_SECONDS * 10)
    assert len(dispatcher.processed) == 1


def test_jobs_dispatched_before_the_message_that_is_next_in_line_are_dispatched_again(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher
) -> None:
    """First in, first out: their messages are gone."""
    lost = accept(services)
    clock.move(DISPATCH_GRACE_SECONDS + 1)
    dispatcher.oldest_job_at = clock.now()
    accept(services)
    sweep_after(services, clock, 1)
    assert [job_id for job_id, _ in dispatcher.processed][2:] == [lost.id]


def test_job_that_waits_for_its_next_run_is_not_dispatched_early(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher, outbound: ScriptedOutbound
) -> None:
    outbound.on_fetch = fail_with(SourceUnreachable(retry_after_seconds=60))
    process(services, accept(services).id)
    sweep_after(services, clock, DISPATCH_GRACE_SECONDS + 1)
    assert [delay_seconds for _, delay_seconds in dispatcher.processed] == [0, 60]


def test_queue_that_is_down_in_a_sweep_loses_nothing(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher
) -> None:
    """What is stuck is put right all the same, and the sweep after the grace dispatches."""
    job, lost = accept(services), accept(services)
    start_run(services, lost)
    dispatcher.is_down = True
    with pytest.raises(QueueUnavailable):
        sweep_after_lease(services, clock)
    assert get_job(services, lost.id).status is JobStatus.QUEUED
    dispatcher.is_down = False
    sweep_after(services, clock, DISPATCH_GRACE_SECONDS + 1)
    assert {job_id for job_id, _ in dispatcher.processed[-2:]} == {job.id, lost.id}


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


def test_events_of_no_job_are_forgotten_after_the_retention_of_jobs(services: Services, clock: FrozenClock) -> None:
    """Pings, and what an account was told of its endpoints."""
    endpoint, _ = register(services)
    retention_seconds = services.settings.retention_days * 86_400
    sweep_after(services, clock, retention_seconds)
    assert len(list_deliveries(services, endpoint.id, EventType.PING)) == 1
    sweep_after(services, clock, 1)
    assert list_deliveries(services, endpoint.id, EventType.PING) == []


def test_lanes_are_forgotten_when_nothing_of_them_is_left(services: Services, clock: FrozenClock) -> None:
    delivery = record_delivery(services)
    deliver_all(services)
    sweep_after(services, clock, services.settings.retention_days * 86_400 + 1)
    assert services.ledger.deliveries.list_for_job(delivery.job_id or "") == []
    assert services.ledger.lanes.find(delivery.lane_id or "") is None


def test_secrets_that_sign_no_more_are_forgotten(services: Services, clock: FrozenClock) -> None:
    account = get_default_account(services)
    rotate_secret(services, account, CALLBACKS, 60)
    sweep_after(services, clock, 60)
    assert services.ledger.endpoints.forget_expired_secrets(clock.now(), 10) == 0
