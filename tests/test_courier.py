"""What a courier does next: what it dispatches, whom it leaves alone, and how a receiver that is back catches up."""

from datetime import timedelta
from itertools import pairwise

import pytest

from tests.support.builders import RULES
from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import (
    ScriptedOutbound,
    accept,
    answer_by_url,
    build_answer,
    build_lost_ledger,
    build_test_services,
    get_callback,
    meanwhile,
    record_delivery,
)
from thumbs.deliver import deliver, dispatch_startable
from thumbs.domain import Delivery, DeliveryStatus, Lane
from thumbs.errors import LedgerUnavailable, QueueUnavailable
from thumbs.ledger import Ledger
from thumbs.process import process
from thumbs.services import Services

HERE, THERE = "https://here.example/hooks", "https://there.example/hooks"


def get(services: Services, delivery: Delivery) -> Delivery:
    return get_callback(services, delivery.job_id)


def get_lane(services: Services, delivery: Delivery) -> Lane:
    lane = services.ledger.lanes.find(delivery.lane_id or "")
    assert lane is not None
    return lane


def record_many(services: Services, count: int, url: str = HERE) -> list[Delivery]:
    return [record_delivery(services, callback_url=url) for _ in range(count)]


def work(services: Services, delivery_id: str) -> None:
    """Deliver, and what is next in line, as one thread of a courier does."""
    next_id: str | None = delivery_id
    while next_id is not None:
        next_id = deliver(services, next_id)


# ── looking for work ────────────────────────────────────────────────────────────────────────────────────


def look(services: Services, dispatcher: RecordingDispatcher) -> set[str]:
    dispatcher.delivered.clear()
    dispatch_startable(services)
    assert {delay_seconds for _, delay_seconds in dispatcher.delivered} <= {0}
    return {delivery_id for delivery_id, _ in dispatcher.delivered}


def test_look_dispatches_one_delivery_of_each_lane(services: Services, dispatcher: RecordingDispatcher) -> None:
    """Its message may be gone; where it is not, one of the two finds nothing to do."""
    [here, _], [there] = record_many(services, 2), record_many(services, 1, THERE)
    assert look(services, dispatcher) == {here.id, there.id}


def test_look_leaves_lanes_alone_that_are_held_back(
    services: Services, dispatcher: RecordingDispatcher, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    outbound.on_post = lambda: build_answer(503, retry_after="600")
    [first, second] = record_many(services, 2)
    deliver(services, first.id)
    assert look(services, dispatcher) == set()
    clock.move(600)
    assert look(services, dispatcher) == {second.id}


@pytest.mark.parametrize(("waiting", "is_dispatched"), [(31, True), (32, False)])
def test_look_adds_nothing_to_a_queue_that_keeps_every_thread_busy(
    services: Services, dispatcher: RecordingDispatcher, waiting: int, is_dispatched: bool
) -> None:
    record_many(services, 1)
    dispatcher.waiting_deliveries = waiting
    assert bool(look(services, dispatcher)) is is_dispatched


def test_look_tells_that_a_store_does_not_answer(
    services: Services, dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    with pytest.raises(LedgerUnavailable):
        dispatch_startable(build_test_services(build_lost_ledger(), dispatcher, clock))
    record_many(services, 1)
    dispatcher.is_down = True
    with pytest.raises(QueueUnavailable):
        dispatch_startable(services)


# ── what is next in line ────────────────────────────────────────────────────────────────────────────────


def test_who_is_done_goes_on_with_what_may_start(services: Services, outbound: ScriptedOutbound) -> None:
    """Without a message: a hundred deliveries of a lane need one."""
    first, *_ = record_many(services, 5) + record_many(services, 2, THERE)
    work(services, first.id)
    assert len(outbound.posted) == 7


def test_who_finds_nothing_that_may_start_is_done(services: Services, outbound: ScriptedOutbound) -> None:
    outbound.on_post = lambda: build_answer(500)
    [delivery] = record_many(services, 1)
    assert deliver(services, delivery.id) is None


def test_who_did_not_get_its_delivery_leaves_the_others_to_who_did(
    services: Services, outbound: ScriptedOutbound
) -> None:
    first, second = record_many(services, 2)
    assert deliver(services, first.id) == second.id
    assert deliver(services, first.id) is None


def test_second_delivery_of_a_new_receiver_waits_for_the_first(services: Services, outbound: ScriptedOutbound) -> None:
    """A message comes for each; one is in flight until the first 2xx."""
    first, second = record_many(services, 2)
    outbound.on_post = meanwhile(lambda: deliver(services, second.id), build_answer)
    deliver(services, first.id)
    assert (get(services, first).status, get(services, second).attempt_count) == (DeliveryStatus.DELIVERED, 0)


def test_courier_keeps_threads_for_receivers_that_answer_well(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock, outbound: ScriptedOutbound
) -> None:
    """Of two threads one hangs: the other one takes what is trusted, and nothing that is new."""
    services = build_test_services(ledger, dispatcher, clock, outbound=outbound, THUMBS_COURIER_THREADS="2")
    deliver(services, record_many(services, 1, THERE)[0].id)
    [hanging], [new] = record_many(services, 1), record_many(services, 1, "https://new.example/")
    [trusted] = record_many(services, 1, THERE)

    def use_the_other_thread() -> None:
        outbound.on_post = build_answer
        for delivery in (new, trusted):
            deliver(services, delivery.id)

    outbound.on_post = meanwhile(use_the_other_thread, build_answer)
    assert deliver(services, hanging.id) == new.id
    assert [post.url for post in outbound.posted[1:]] == [HERE, THERE]


# ── receivers that are down, slow, or back ──────────────────────────────────────────────────────────────


def fail_until_open(services: Services, waiting: list[Delivery]) -> None:
    """Fail one delivery after the other until the breaker is open."""
    for delivery in waiting[: RULES.breaker_failures]:
        deliver(services, delivery.id)


def test_receiver_that_is_down_is_left_alone_but_for_one_probe_at_a_time(
    services: Services, dispatcher: RecordingDispatcher, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    outbound.on_post = lambda: build_answer(500)
    waiting = record_many(services, 10)
    fail_until_open(services, waiting)
    for open_seconds in (60, 120, 240):
        clock.move(open_seconds - 1)
        assert look(services, dispatcher) == set()
        clock.move(1)
        [probe_id] = look(services, dispatcher)
        assert deliver(services, probe_id) is None
    assert len(outbound.posted) == 5 + 3


def test_receiver_that_is_back_is_sent_twenty_a_second_until_it_has_caught_up(
    services: Services, dispatcher: RecordingDispatcher, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    """No herd: one probe, and then what has waited, at its pace, by a courier that waits from one to the next."""
    outbound.on_post = lambda: build_answer(500)
    waiting = record_many(services, 30)
    fail_until_open(services, waiting)
    clock.move(60)
    moments: list[timedelta] = []
    began, outbound.on_post = clock.now(), meanwhile(lambda: moments.append(clock.now() - began), build_answer)
    work(services, look(services, dispatcher).pop())
    assert len(moments) == 30
    assert moments[0] == timedelta(0)
    gaps = {late - early for early, late in pairwise(moments[1:])}
    assert gaps == {timedelta(seconds=0.05)}
    assert not get_lane(services, waiting[0]).is_recovering


def test_receiver_that_is_back_and_fails_again_is_left_alone_again(
    services: Services, dispatcher: RecordingDispatcher, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    outbound.on_post = lambda: build_answer(500)
    waiting = record_many(services, 20)
    fail_until_open(services, waiting)
    clock.move(60)
    answers = iter([200, 200])
    outbound.on_post = lambda: build_answer(next(answers, 500))
    work(services, look(services, dispatcher).pop())
    assert get_lane(services, waiting[0]).open_seconds == 60
    assert len(outbound.posted) == 5 + 2 + 5


def test_retry_after_holds_its_delivery_for_a_day_and_its_lane_for_an_hour(
    services: Services, dispatcher: RecordingDispatcher, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    outbound.on_post = lambda: build_answer(429, retry_after="172800")
    [first, second] = record_many(services, 2)
    deliver(services, first.id)
    assert get(services, first).next_attempt_at == clock.now() + timedelta(days=1)
    clock.move(3599)
    assert look(services, dispatcher) == set()
    clock.move(1)
    assert look(services, dispatcher) == {second.id}


def test_lane_that_hangs_does_not_hold_back_one_that_answers(
    services: Services, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    [slow], [fast] = record_many(services, 1), record_many(services, 1, THERE)
    outbound.on_post = meanwhile(lambda: clock.move(15), lambda: build_answer(500))
    deliver(services, slow.id)
    answer_by_url(outbound, {})
    deliver(services, fast.id)
    assert (get_lane(services, slow).is_slow, get_lane(services, fast).is_trusted) == (True, True)


def test_event_for_a_lane_that_fails_is_left_to_the_look(
    services: Services, dispatcher: RecordingDispatcher, outbound: ScriptedOutbound
) -> None:
    """A thousand messages for a receiver that is down would be in everybody's way."""
    outbound.on_post = lambda: build_answer(500)
    deliver(services, record_many(services, 1)[0].id)
    dispatcher.delivered.clear()
    process(services, accept(services, callback_url=HERE).id)
    assert dispatcher.delivered == []
    assert len(look(services, dispatcher)) == 1


# ── stopping ────────────────────────────────────────────────────────────────────────────────────────────


def test_attempt_that_is_given_back_is_sent_again_by_somebody_else(
    services: Services, dispatcher: RecordingDispatcher, outbound: ScriptedOutbound
) -> None:
    """The process must end before the answer has come; what comes of it then is dropped."""
    [delivery] = record_many(services, 1)
    dispatcher.delivered.clear()
    outbound.on_post = meanwhile(services.held_leases.give_back_all, build_answer)
    deliver(services, delivery.id)
    assert dispatcher.delivered == [(delivery.id, 0)]
    outbound.on_post = build_answer
    deliver(services, delivery.id)
    codes = [attempt.error_code for attempt in services.ledger.deliveries.list_attempts(delivery.id)]
    assert (codes, get(services, delivery).status) == (["abandoned", None], DeliveryStatus.DELIVERED)


def test_attempt_of_a_job_that_is_forgotten_meanwhile_ends_quietly(
    services: Services, outbound: ScriptedOutbound
) -> None:
    [delivery] = record_many(services, 1)
    job = services.ledger.jobs.find(delivery.job_id or "")
    assert job is not None
    outbound.on_post = meanwhile(lambda: services.ledger.jobs.forget(job), build_answer)
    assert deliver(services, delivery.id) is None
