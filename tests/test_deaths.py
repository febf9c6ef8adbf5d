"""For each line of "what happens if the process dies here" (docs/architecture.md): the sweep ends in a right state."""

from dataclasses import replace

import pytest

from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import (
    ScriptedOutbound,
    ScriptedSandbox,
    UnavailableBlobs,
    accept,
    build_answer,
    build_test_services,
    fail_with,
    get_callback,
    get_job,
    record_delivery,
)
from tests.support.sweeps import start_run, sweep_after_lease
from thumbs.deliver import deliver, dispatch_startable
from thumbs.domain import Blob, DeliveryStatus, Job, JobStatus, Reuse
from thumbs.errors import QueueUnavailable
from thumbs.ledger import Ledger
from thumbs.process import process
from thumbs.services import Services


class MachineDied(BaseException):
    """Stands for a process that ends in the middle of a line: nothing in the code can catch it by name."""


class DyingBlobs(UnavailableBlobs):
    """Puts so many blobs, and then the machine dies."""

    def __init__(self, ledger: Ledger, count: int = 1) -> None:
        self._ledger = ledger
        self._left_count = count

    def put(self, blob: Blob) -> None:
        """Put it, and die when it is the last."""
        self._ledger.blobs.put(blob)
        self._left_count -= 1
        if not self._left_count:
            raise MachineDied


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
    dispatch_startable(services)
    assert dispatcher.delivered == [(get_callback(services, job.id).id, 0)]


def test_died_after_finishing_before_ending_those_that_share_it(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher
) -> None:
    """One was just taken, the others are queued as they were, and their messages are gone."""
    first, second, third = accept(services), accept(services), accept(services)
    with pytest.raises(MachineDied):
        process(replace(services, blobs=DyingBlobs(services.ledger, 2)), first.id)
    assert get_job(services, first.id).status is JobStatus.SUCCEEDED
    statuses = [get_job(services, job.id).status for job in (second, third)]
    assert statuses == [JobStatus.RUNNING, JobStatus.QUEUED]
    dispatcher.processed.clear()
    sweep_after_lease(services, clock)
    for job_id, _ in dispatcher.processed:
        process(services, job_id)
    assert [get_job(services, job.id).reused for job in (second, third)] == [None, Reuse.IN_FLIGHT]


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
    dispatch_startable(services)
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
