"""Deliveries that are asked for again: one at once, or all of a time, and where their schedule goes on afterwards."""

from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy.engine import Engine

from tests.support.builders import (
    NOW,
    RULES,
    build_announcement,
    build_delivery,
    build_lease,
    end,
    get_delivery,
    get_lane,
    record_account,
    record_deliveries,
    record_ended_job,
    record_endpoint,
    take,
    take_surely,
)
from tests.support.races import race
from thumbs.domain import CALLBACKS, Delivery, DeliveryStatus, Endpoint, EventType, LeasedDelivery, NextStep, Trigger
from thumbs.ledger import Ledger
from thumbs.ledger.tables import deliveries, lanes

LATER = NOW + timedelta(seconds=60)
MUCH_LATER = NOW + timedelta(hours=5)
GAP = timedelta(milliseconds=100)
RACES = 10


@pytest.fixture
def endpoint(ledger: Ledger) -> Endpoint:
    return record_endpoint(ledger)


def record(ledger: Ledger, endpoint: Endpoint, **changes: Any) -> Delivery:
    [delivery] = record_deliveries(ledger, endpoint.account_id, endpoint_id=endpoint.id, **changes)
    return delivery


def record_failed(ledger: Ledger, endpoint: Endpoint, count: int = 1, **changes: Any) -> list[Delivery]:
    failed = {"status": DeliveryStatus.FAILED, "reason": "gone", "next_attempt_at": None}
    return record_deliveries(ledger, endpoint.account_id, count, **{"endpoint_id": endpoint.id} | failed | changes)


def ask(ledger: Ledger, delivery: Delivery, now: datetime = LATER) -> Delivery:
    asked = ledger.redeliveries.ask(get_delivery(ledger, delivery), now)
    assert asked is not None
    assert asked == get_delivery(ledger, delivery)
    return asked


def end_later(ledger: Ledger, leased: LeasedDelivery) -> Delivery:
    end(ledger, leased, LATER)
    return leased.delivery


def recover(ledger: Ledger, endpoint: Endpoint, endpoint_id: str = "", until: datetime = LATER) -> int:
    return ledger.redeliveries.recover(endpoint.account_id, endpoint_id or endpoint.id, NOW, until, LATER, GAP)


# ── one ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_delivery_that_waits_for_its_schedule_is_due_at_once_and_resumes_afterwards(
    ledger: Ledger, endpoint: Endpoint
) -> None:
    delivery = record(ledger, endpoint, next_attempt_at=MUCH_LATER)
    asked = ask(ledger, delivery)
    assert (asked.status, asked.trigger, asked.next_attempt_at) == (DeliveryStatus.PENDING, Trigger.MANUAL, LATER)
    assert asked.resume_at == MUCH_LATER
    assert ask(ledger, delivery, LATER + GAP).resume_at == MUCH_LATER


@pytest.mark.parametrize("reason", ["attempts_exhausted", "gone", "endpoint_disabled"])
def test_failed_delivery_is_due_at_once_and_nothing_resumes(ledger: Ledger, endpoint: Endpoint, reason: str) -> None:
    asked = ask(ledger, record_failed(ledger, endpoint, reason=reason)[0])
    assert (asked.status, asked.next_attempt_at, asked.resume_at) == (DeliveryStatus.PENDING, LATER, None)
    assert take(ledger, asked.id, LATER) is not None


def test_delivered_delivery_is_due_at_once_and_stays_delivered_at(ledger: Ledger, endpoint: Endpoint) -> None:
    delivery = record(ledger, endpoint)
    end(ledger, take_surely(ledger, delivery.id))
    asked = ask(ledger, delivery)
    assert (asked.status, asked.delivered_at, asked.resume_at) == (DeliveryStatus.PENDING, NOW, None)


def test_delivery_that_is_being_sent_is_not_asked_for(ledger: Ledger, endpoint: Endpoint) -> None:
    delivery = record(ledger, endpoint)
    sending = take_surely(ledger, delivery.id).delivery
    assert ledger.redeliveries.ask(delivery, LATER) is None
    assert get_delivery(ledger, delivery) == sending


def test_delivery_that_was_forgotten_is_not_asked_for(ledger: Ledger) -> None:
    conclusion = record_ended_job(ledger)
    ledger.jobs.forget(conclusion.job)
    assert ledger.redeliveries.ask(conclusion.deliveries[0], LATER) is None


def test_asked_for_attempt_counts_on_and_does_not_use_up_the_schedule(ledger: Ledger, endpoint: Endpoint) -> None:
    delivery = record(ledger, endpoint)
    end(ledger, take_surely(ledger, delivery.id), next_at=MUCH_LATER)
    ask(ledger, delivery)
    leased = take_surely(ledger, delivery.id, LATER)
    assert (leased.attempt.number, leased.attempt.trigger) == (2, Trigger.MANUAL)
    assert (leased.delivery.attempt_count, leased.delivery.scheduled_count) == (2, 1)


def test_both_lanes_know_what_is_due(ledger: Ledger, endpoint: Endpoint) -> None:
    delivery = record(ledger, endpoint, next_attempt_at=MUCH_LATER)
    asked = ask(ledger, delivery)
    assert (get_lane(ledger, delivery).due_at, get_lane(ledger, asked).due_at) == (None, LATER)
    leased = take_surely(ledger, delivery.id, LATER)
    step = NextStep(DeliveryStatus.PENDING, next_attempt_at=MUCH_LATER)
    assert ledger.deliveries.record(build_lease(delivery.id), leased.attempt, step, LATER)
    assert (get_lane(ledger, delivery).due_at, get_lane(ledger, asked).due_at) == (MUCH_LATER, None)
    assert get_delivery(ledger, delivery).lane_id == delivery.lane_id


def test_no_breaker_holds_back_what_somebody_asked_for(ledger: Ledger, endpoint: Endpoint) -> None:
    delivery = record(ledger, endpoint)
    end(ledger, take_surely(ledger, delivery.id), next_at=LATER, pause_seconds=3600)
    ask(ledger, delivery)
    assert ledger.lanes.find_startable(LATER, RULES, ()).delivery_ids == (delivery.id,)
    assert take(ledger, delivery.id, LATER) is not None


def test_message_that_was_sent_for_the_schedule_does_not_take_what_is_asked_for_at_the_same_time(
    ledger: Ledger, endpoint: Endpoint
) -> None:
    """By then it is in the lane beside, where one is under way already."""
    [sent] = record_failed(ledger, endpoint)
    leased = take_surely(ledger, ask(ledger, sent).id, LATER)
    for _ in range(RACES * 2):
        delivery = record(ledger, endpoint)
        race(partial(take, ledger, delivery.id, LATER), partial(ledger.redeliveries.ask, delivery, LATER))
        found = get_delivery(ledger, delivery)
        assert (found.status, found.trigger) != (DeliveryStatus.SENDING, Trigger.MANUAL)
        if found.status is DeliveryStatus.SENDING:
            end_later(ledger, replace(leased, delivery=found))


def test_lane_goes_with_its_deliveries_to_another_host(ledger: Ledger, endpoint: Endpoint) -> None:
    """An old delivery made the lane, and the endpoint has another URL by now."""
    [delivery] = record_failed(ledger, endpoint)
    ledger.endpoints.change(replace(endpoint, url="https://new.example/"), ["url"], NOW)
    asked = ask(ledger, delivery)
    take_surely(ledger, delivery.id, LATER)
    assert get_lane(ledger, asked).host == "new.example:443"


def test_schedule_goes_on_in_a_lane_that_was_forgotten_meanwhile(
    ledger: Ledger, endpoint: Endpoint, engine: Engine
) -> None:
    delivery = record(ledger, endpoint, next_attempt_at=MUCH_LATER)
    ask(ledger, delivery)
    with engine.begin() as connection:
        connection.execute(lanes.delete().where(lanes.c.id == endpoint.id))
    end(ledger, take_surely(ledger, delivery.id, LATER), LATER, next_at=MUCH_LATER)
    assert get_lane(ledger, delivery).due_at == MUCH_LATER
    assert ledger.lanes.find_startable(MUCH_LATER, RULES, ()).delivery_ids == (delivery.id,)


def test_delivery_without_a_lane_can_be_asked_for(ledger: Ledger, endpoint: Endpoint, engine: Engine) -> None:
    """As a release that knows no lanes has left it."""
    [delivery] = record_failed(ledger, endpoint)
    with engine.begin() as connection:
        connection.execute(deliveries.update().values(lane_id=None))
    ask(ledger, delivery)
    assert take(ledger, delivery.id, LATER) is not None


def test_those_who_ask_and_those_whose_attempts_end_do_not_wait_for_each_other(
    ledger: Ledger, endpoint: Endpoint
) -> None:
    """Both lock the two lanes of the endpoint; in another order each they would wait for ever."""
    for _ in range(RACES):
        sent, waiting = record_failed(ledger, endpoint, 2)
        leased = take_surely(ledger, ask(ledger, sent).id, LATER)
        race(partial(ask, ledger, waiting), partial(end_later, ledger, leased))
        end(ledger, take_surely(ledger, waiting.id, LATER))


# ── all of a time ───────────────────────────────────────────────────────────────────────────────────────


def test_what_never_arrived_is_due_one_after_the_other(ledger: Ledger, endpoint: Endpoint) -> None:
    """A receiver that was down for a day is not sent that day at once."""
    found = record_failed(ledger, endpoint, 3)
    assert recover(ledger, endpoint) == 3
    recovered = [get_delivery(ledger, delivery) for delivery in sorted(found, key=lambda each: each.id)]
    assert [each.next_attempt_at for each in recovered] == [LATER, LATER + GAP, LATER + 2 * GAP]
    assert {(each.status, each.trigger, each.resume_at) for each in recovered} == {("pending", "recover", None)}
    assert get_lane(ledger, found[0]).due_at == LATER


def test_what_waits_for_its_schedule_is_recovered_and_resumes_afterwards(ledger: Ledger, endpoint: Endpoint) -> None:
    delivery = record(ledger, endpoint, next_attempt_at=MUCH_LATER)
    assert recover(ledger, endpoint) == 1
    found = get_delivery(ledger, delivery)
    assert (found.next_attempt_at, found.resume_at, found.trigger) == (LATER, MUCH_LATER, Trigger.RECOVER)


def test_recovery_takes_up_nothing_twice(ledger: Ledger, endpoint: Endpoint) -> None:
    record_failed(ledger, endpoint, 2)
    assert [recover(ledger, endpoint), recover(ledger, endpoint)] == [2, 0]


def test_what_has_arrived_is_sent_or_is_due_is_left_alone(ledger: Ledger, endpoint: Endpoint) -> None:
    delivered, sending, due, asked = (record(ledger, endpoint) for _ in range(4))
    end(ledger, take_surely(ledger, delivered.id))
    take_surely(ledger, sending.id)
    ask(ledger, asked)
    before = [get_delivery(ledger, each) for each in (delivered, sending, due, asked)]
    assert recover(ledger, endpoint) == 0
    assert [get_delivery(ledger, each) for each in before] == before


def test_what_has_arrived_once_is_not_recovered_though_a_redelivery_of_it_failed(
    ledger: Ledger, endpoint: Endpoint
) -> None:
    record_failed(ledger, endpoint, delivered_at=NOW)
    assert recover(ledger, endpoint) == 0


def test_pings_are_not_recovered(ledger: Ledger, endpoint: Endpoint) -> None:
    """They would say nothing any more."""
    failed = build_delivery(endpoint_id=endpoint.id, status=DeliveryStatus.FAILED, next_attempt_at=None)
    ledger.events.record(build_announcement(endpoint.account_id, failed, type=EventType.PING))
    assert recover(ledger, endpoint) == 0


def test_recovery_keeps_to_its_time_with_both_ends(ledger: Ledger, endpoint: Endpoint) -> None:
    microsecond = timedelta(microseconds=1)
    for moment in (NOW - microsecond, NOW, LATER, LATER + microsecond):
        record_failed(ledger, endpoint, created_at=moment)
    assert recover(ledger, endpoint) == 2


def test_recovery_keeps_to_its_endpoint_and_its_account(ledger: Ledger, endpoint: Endpoint) -> None:
    for other in (record_endpoint(ledger, account_id=endpoint.account_id), record_endpoint(ledger)):
        record_failed(ledger, other)
    record_failed(ledger, endpoint, endpoint_id=None)
    assert recover(ledger, endpoint) == 0


def test_callbacks_are_recovered_by_their_own_name(ledger: Ledger, endpoint: Endpoint) -> None:
    """All those that are to no registered endpoint, whatever their receivers: each in its lane."""
    record_failed(ledger, endpoint)
    urls = ["https://a.example/hooks", "https://b.example/hooks", "https://a.example/hooks?job=2"]
    found = [record_failed(ledger, endpoint, endpoint_id=None, url=url)[0] for url in urls]
    record_failed(ledger, record_endpoint(ledger), endpoint_id=None)
    assert recover(ledger, endpoint, CALLBACKS) == 3
    assert {get_delivery(ledger, each).trigger for each in found} == {Trigger.RECOVER}
    assert get_lane(ledger, found[1]).due_at == get_delivery(ledger, found[1]).next_attempt_at


@pytest.mark.parametrize("is_known", [True, False], ids=["lane forgotten", "never had one"])
def test_delivery_whose_lane_is_gone_is_recovered(
    ledger: Ledger, endpoint: Endpoint, engine: Engine, is_known: bool
) -> None:
    [delivery] = record_failed(ledger, endpoint, endpoint_id=None)
    with engine.begin() as connection:
        connection.execute(lanes.delete())
        connection.execute(deliveries.update().values(lane_id=delivery.lane_id if is_known else None))
    assert recover(ledger, endpoint, CALLBACKS) == 1
    assert ledger.lanes.find_startable(LATER, RULES, ()).delivery_ids == (delivery.id,)


def test_recovery_that_is_asked_for_by_many_at_once_happens_once(ledger: Ledger, endpoint: Endpoint) -> None:
    record_failed(ledger, endpoint, 20)
    assert sum(race(*[partial(recover, ledger, endpoint)] * 4)) == 20


def test_recovery_of_many_is_quick(ledger: Ledger, endpoint: Endpoint, engine: Engine) -> None:
    """Moments are drawn by the database, not one by one: a day of events is thousands."""
    [first] = record_failed(ledger, endpoint)
    rows = [{"id": f"dlv_{number:05}", "lane_id": endpoint.id} for number in range(1000)]
    with engine.begin() as connection:
        row = connection.execute(deliveries.select()).one()._mapping
        connection.execute(deliveries.insert(), [dict(row) | each for each in rows])
    assert recover(ledger, endpoint) == 1001
    assert get_delivery(ledger, replace(first, id="dlv_00100")).next_attempt_at == LATER + 100 * GAP


def test_nothing_to_recover_is_fine(ledger: Ledger) -> None:
    account = record_account(ledger)
    assert ledger.redeliveries.recover(account.id, CALLBACKS, NOW, LATER, LATER, GAP) == 0
