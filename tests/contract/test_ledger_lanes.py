"""Lanes: which deliveries may start, the limits also when many couriers ask at once, and what puts a lane right."""

from collections.abc import Sequence
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
from thumbs.domain import Delivery, Endpoint, LeasedDelivery, Startable, Trigger
from thumbs.lanes import LaneRules
from thumbs.ledger import Ledger
from thumbs.ledger.lanes import CANDIDATES, SOON
from thumbs.ledger.tables import deliveries, lanes

LATER = NOW + timedelta(seconds=60)
BEFORE = NOW - timedelta(seconds=60)
THREADS = 10


def look(ledger: Ledger, now: datetime = NOW, rules: LaneRules = RULES) -> Startable:
    return ledger.lanes.find_startable(now, rules, ())


def record_receivers(ledger: Ledger, count: int, account_id: str | None = None, **changes: Any) -> list[Delivery]:
    """Record deliveries to as many receivers, each on a host of its own, of one event."""
    receivers = [build_delivery(url=f"https://r{number}.example/hooks", **changes) for number in range(count)]
    announcement = build_announcement(account_id or record_account(ledger).id, *receivers)
    ledger.events.record(announcement)
    return list(announcement.deliveries)


def write_lanes(engine: Engine, found: Sequence[Delivery], **values: Any) -> None:
    """Make the lanes of deliveries into what they would be some time later."""
    with engine.begin() as connection:
        names = [delivery.lane_id for delivery in found]
        connection.execute(lanes.update().where(lanes.c.id.in_(names)).values(**values))


def take_at_once(ledger: Ledger, found: Sequence[Delivery]) -> list[LeasedDelivery]:
    """Take deliveries at the same time, as so many couriers; returns those that could be taken."""
    moves = [partial(take, ledger, delivery.id, NOW, f"token{number}") for number, delivery in enumerate(found)]
    return [leased for leased in race(*moves) if leased is not None]


@pytest.fixture
def endpoint(ledger: Ledger) -> Endpoint:
    return record_endpoint(ledger)


# ── which may start ─────────────────────────────────────────────────────────────────────────────────────


def test_delivery_makes_its_lane_due_when_it_is_written(ledger: Ledger) -> None:
    [delivery] = record_ended_job(ledger).deliveries
    lane = get_lane(ledger, delivery)
    assert (lane.account_id, lane.host, lane.due_at) == (delivery.account_id, "app.example:443", NOW)
    assert look(ledger).delivery_ids == (delivery.id,)


def test_lane_is_due_with_the_earliest_of_its_deliveries(ledger: Ledger, endpoint: Endpoint) -> None:
    found = [
        record_deliveries(ledger, endpoint.account_id, endpoint_id=endpoint.id, next_attempt_at=NOW + wait)[0]
        for wait in (timedelta(seconds=30), timedelta(seconds=10), timedelta(seconds=20))
    ]
    assert get_lane(ledger, found[0]).due_at == found[1].next_attempt_at
    assert look(ledger, LATER).delivery_ids == (found[1].id,)


def test_delivery_that_is_not_due_does_not_start(ledger: Ledger) -> None:
    [delivery] = record_receivers(ledger, 1, next_attempt_at=LATER)
    assert look(ledger) == Startable((), None)
    assert take(ledger, delivery.id) is None
    assert look(ledger, LATER).delivery_ids == (delivery.id,)


def test_start_makes_the_lane_due_with_the_next_of_its_deliveries(ledger: Ledger, endpoint: Endpoint) -> None:
    [first] = record_deliveries(ledger, endpoint.account_id, endpoint_id=endpoint.id)
    [second] = record_deliveries(ledger, endpoint.account_id, endpoint_id=endpoint.id, next_attempt_at=LATER)
    end(ledger, take_surely(ledger, first.id))
    assert get_lane(ledger, first).due_at == LATER
    end(ledger, take_surely(ledger, second.id, LATER), LATER)
    assert get_lane(ledger, first).due_at is None


def test_failed_attempt_makes_the_lane_due_with_the_next_one(ledger: Ledger) -> None:
    [delivery] = record_receivers(ledger, 1)
    lane = end(ledger, take_surely(ledger, delivery.id), next_at=LATER)
    assert (lane.due_at, lane.failure_count) == (LATER, 1)
    assert get_lane(ledger, delivery) == lane


def test_lane_that_is_held_back_starts_nothing(ledger: Ledger) -> None:
    [delivery] = record_receivers(ledger, 1)
    end(ledger, take_surely(ledger, delivery.id), next_at=NOW, pause_seconds=60)
    assert look(ledger) == Startable((), None)
    assert take(ledger, delivery.id) is None
    assert take(ledger, delivery.id, LATER) is not None


def test_receiver_that_is_back_says_when_to_ask_again(ledger: Ledger, engine: Engine) -> None:
    """A courier that waits these 50 ms sends 20 a second; one that does not comes by twice a second."""
    found = record_receivers(ledger, 2)
    write_lanes(engine, found[:1], blocked_until=NOW + timedelta(seconds=0.05))
    write_lanes(engine, found[1:], blocked_until=NOW + SOON + timedelta(seconds=0.001))
    assert look(ledger) == Startable((), 0.05)
    assert set(look(ledger, LATER).delivery_ids) == {delivery.id for delivery in found}


def test_lane_without_a_slot_is_not_worth_waiting_for(ledger: Ledger, endpoint: Endpoint, engine: Engine) -> None:
    found = record_deliveries(ledger, endpoint.account_id, 2, endpoint_id=endpoint.id)
    take_surely(ledger, found[0].id)
    write_lanes(engine, found, blocked_until=NOW + timedelta(seconds=0.05))
    assert look(ledger) == Startable((), None)


# ── in which order ──────────────────────────────────────────────────────────────────────────────────────


def test_trusted_lanes_come_first_and_then_new_ones_and_then_those_that_fail(ledger: Ledger) -> None:
    [failing], [good], [new] = (record_receivers(ledger, 1) for _ in range(3))
    end(ledger, take_surely(ledger, failing.id), next_at=NOW)
    end(ledger, take_surely(ledger, good.id))
    [again] = record_receivers(ledger, 1, good.account_id)
    assert look(ledger).delivery_ids == (again.id, new.id, failing.id)


def test_lanes_of_a_full_account_do_not_hide_the_others(ledger: Ledger) -> None:
    """However many of them are due: one look takes in so many candidates and no more."""
    [other] = record_receivers(ledger, 1, created_at=BEFORE)
    hidden = record_receivers(ledger, CANDIDATES + 2)
    take_surely(ledger, hidden[0].id)
    assert look(ledger, rules=replace(RULES, max_per_account=1)).delivery_ids == (other.id,)


def test_new_lanes_of_an_account_with_many_that_hang_do_not_hide_the_others(ledger: Ledger) -> None:
    [other] = record_receivers(ledger, 1, created_at=BEFORE)
    for hanging in record_receivers(ledger, CANDIDATES + 2)[:2]:
        take_surely(ledger, hanging.id)
    assert look(ledger).delivery_ids == (other.id,)


def test_lanes_of_a_full_host_do_not_hide_the_others(ledger: Ledger, engine: Engine) -> None:
    [other] = record_receivers(ledger, 1, created_at=BEFORE)
    hidden = record_receivers(ledger, CANDIDATES + 2)
    take_surely(ledger, hidden[0].id)
    write_lanes(engine, hidden, host="everybody.example:443")
    assert look(ledger, rules=replace(RULES, max_per_host=1)).delivery_ids == (other.id,)


def test_lane_that_has_waited_longest_is_found_though_more_are_due_than_one_look_takes_in(
    ledger: Ledger, engine: Engine
) -> None:
    """Also an old one, among many that were made since and always have something to send."""
    [oldest] = record_receivers(ledger, 1, created_at=BEFORE)
    busy = record_receivers(ledger, CANDIDATES)
    write_lanes(engine, [oldest], is_proven=True, started_at=BEFORE)
    write_lanes(engine, busy, is_proven=True, started_at=NOW)
    assert look(ledger).delivery_ids[0] == oldest.id


# ── many couriers at once ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("is_proven", "limit"), [(False, 1), (True, 4)])
def test_lane_keeps_its_limit_when_many_take_its_deliveries_at_once(
    ledger: Ledger, endpoint: Endpoint, engine: Engine, is_proven: bool, limit: int
) -> None:
    found = record_deliveries(ledger, endpoint.account_id, THREADS, endpoint_id=endpoint.id)
    write_lanes(engine, found, is_proven=is_proven)
    assert len(take_at_once(ledger, found)) == limit


@pytest.mark.parametrize(("is_proven", "limit"), [(False, 2), (True, 8)])
def test_account_keeps_its_limit_when_many_take_its_deliveries_at_once(
    ledger: Ledger, engine: Engine, is_proven: bool, limit: int
) -> None:
    found = record_receivers(ledger, THREADS)
    write_lanes(engine, found, is_proven=is_proven)
    assert len(take_at_once(ledger, found)) == limit


def test_host_keeps_its_limit_when_many_accounts_take_deliveries_to_it_at_once(ledger: Ledger, engine: Engine) -> None:
    found = [record_receivers(ledger, 1)[0] for _ in range(THREADS)]
    write_lanes(engine, found, is_proven=True)
    assert len(take_at_once(ledger, found)) == 8


def test_ended_attempt_frees_its_slot(ledger: Ledger, endpoint: Endpoint) -> None:
    first, second = record_deliveries(ledger, endpoint.account_id, 2, endpoint_id=endpoint.id)
    leased = take_surely(ledger, first.id)
    assert take(ledger, second.id) is None
    end(ledger, leased)
    assert look(ledger).delivery_ids == (second.id,)
    assert take(ledger, second.id) is not None


def test_attempt_of_a_courier_that_was_killed_frees_its_slot_before_its_lease_runs_out(
    ledger: Ledger, endpoint: Endpoint
) -> None:
    """It can take no longer than it may: else a receiver's webhooks would stand still for the lease and the sweep."""
    first, second = record_deliveries(ledger, endpoint.account_id, 2, endpoint_id=endpoint.id)
    take_surely(ledger, first.id)
    assert look(ledger, NOW + timedelta(seconds=RULES.timeout_seconds)).delivery_ids == ()
    assert look(ledger, NOW + RULES.longest).delivery_ids == (second.id,)


def test_attempts_of_this_courier_are_told_by_their_tokens(ledger: Ledger, engine: Engine) -> None:
    """It keeps threads free for trusted lanes; what others' threads do is their matter."""
    rules = replace(RULES, threads=2)
    [hanging], [new] = record_receivers(ledger, 1), record_receivers(ledger, 1)
    take_surely(ledger, hanging.id, token="ours")
    assert ledger.lanes.find_startable(NOW, rules, ["ours"]).delivery_ids == ()
    assert ledger.lanes.find_startable(NOW, rules, ["another's"]).delivery_ids == (new.id,)


# ── what puts a lane right ──────────────────────────────────────────────────────────────────────────────


def test_lane_whose_delivery_was_forgotten_is_put_right_by_the_next_look(ledger: Ledger) -> None:
    conclusion = record_ended_job(ledger)
    ledger.jobs.forget(conclusion.job)
    assert look(ledger).delivery_ids == ()
    assert get_lane(ledger, conclusion.deliveries[0]).due_at is None


def test_delivery_without_a_lane_is_adopted_as_soon_as_it_is_due(ledger: Ledger, engine: Engine) -> None:
    """As a release that knows no lanes writes it."""
    [delivery] = record_receivers(ledger, 1)
    with engine.begin() as connection:
        connection.execute(deliveries.update().values(lane_id=None))
        connection.execute(lanes.delete())
    assert ledger.lanes.adopt(BEFORE, BEFORE, 10) == 0
    assert ledger.lanes.adopt(NOW, BEFORE, 10) == 1
    assert get_delivery(ledger, delivery) == delivery
    assert look(ledger).delivery_ids == (delivery.id,)


@pytest.mark.parametrize("due_at", [None, LATER + timedelta(hours=1)])
def test_delivery_that_its_lane_does_not_know_of_is_adopted(ledger: Ledger, engine: Engine, due_at: datetime) -> None:
    """A release that knows no lanes has moved it."""
    [delivery] = record_receivers(ledger, 1)
    write_lanes(engine, [delivery], due_at=due_at)
    assert look(ledger, LATER).delivery_ids == ()
    assert ledger.lanes.adopt(LATER, NOW, 10) == 1
    assert look(ledger, LATER).delivery_ids == (delivery.id,)


def test_delivery_that_its_lane_knows_of_is_not_adopted_however_late_it_is(ledger: Ledger) -> None:
    record_receivers(ledger, 1)
    assert ledger.lanes.adopt(LATER, NOW, 10) == 0


def test_adoption_goes_on_where_it_stopped(ledger: Ledger, engine: Engine) -> None:
    record_receivers(ledger, 5)
    with engine.begin() as connection:
        connection.execute(deliveries.update().values(lane_id=None))
    assert [ledger.lanes.adopt(LATER, NOW, 3) for _ in range(3)] == [3, 2, 0]


@pytest.mark.parametrize("is_used", [True, False], ids=["used", "never used"])
def test_lane_without_deliveries_is_forgotten_after_a_while(ledger: Ledger, is_used: bool) -> None:
    conclusion = record_ended_job(ledger)
    [delivery] = conclusion.deliveries
    if is_used:
        end(ledger, take_surely(ledger, delivery.id))
    ledger.jobs.forget(conclusion.job)
    look(ledger)
    assert ledger.lanes.forget_idle(NOW, 10) == 0
    assert ledger.lanes.forget_idle(LATER, 10) == 1
    assert ledger.lanes.find(delivery.lane_id or "") is None


def test_lane_with_deliveries_on_record_is_not_forgotten(ledger: Ledger) -> None:
    """What is known of its receiver may be of use when they are asked for again."""
    [delivery] = record_receivers(ledger, 1)
    end(ledger, take_surely(ledger, delivery.id))
    assert ledger.lanes.forget_idle(LATER, 10) == 0


def test_lanes_of_endpoints_are_listed_by_their_ids(ledger: Ledger, endpoint: Endpoint) -> None:
    record_deliveries(ledger, endpoint.account_id, endpoint_id=endpoint.id)
    record_deliveries(ledger, endpoint.account_id, endpoint_id=endpoint.id, trigger=Trigger.PING)
    found = ledger.lanes.list_for_endpoints([endpoint.id, "ep_none"])
    assert {name: lane.id for name, lane in found.items()} == {endpoint.id: endpoint.id}
