"""A callback whose URL an endpoint has, too: one delivery tells both, and parts when that endpoint leaves."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support.builders import (
    NOW,
    end,
    get_delivery,
    get_lane,
    record_deliveries,
    record_endpoint,
    take,
    take_surely,
)
from thumbs.domain import Delivery, DeliveryStatus, DisabledReason, Endpoint, Trigger
from thumbs.lanes import name_lane
from thumbs.ledger import Ledger

LATER = NOW + timedelta(seconds=60)
ELSEWHERE = "https://new.example/"

Leave = Callable[[Ledger, Endpoint], object]

WAYS_TO_LEAVE: dict[str, Leave] = {
    "disabled": lambda ledger, endpoint: ledger.endpoints.disable(endpoint, DisabledReason.MANUAL, NOW),
    "deleted": lambda ledger, endpoint: ledger.endpoints.delete(endpoint.id, NOW),
    "moved": lambda ledger, endpoint: ledger.endpoints.change(replace(endpoint, url=ELSEWHERE), ["url"], NOW),
}


@pytest.fixture(params=WAYS_TO_LEAVE)
def leave(request: pytest.FixtureRequest) -> Leave:
    """How an endpoint ceases to take anything at its URL."""
    return WAYS_TO_LEAVE[request.param]


@pytest.fixture
def endpoint(ledger: Ledger) -> Endpoint:
    return record_endpoint(ledger)


def record_callbacks(ledger: Ledger, endpoint: Endpoint, count: int = 1, **changes: object) -> list[Delivery]:
    """Record callbacks to the endpoint's URL, that go by it."""
    its = {"endpoint_id": endpoint.id, "is_callback": True, "url": endpoint.url}
    return record_deliveries(ledger, endpoint.account_id, count, **its | changes)


def part(delivery: Delivery) -> Delivery:
    """Tell what a callback is like that has parted and waits to be adopted."""
    return replace(delivery, endpoint_id=None, lane_id=None)


def check_goes_on(ledger: Ledger, delivery: Delivery, endpoint: Endpoint) -> None:
    """Check that it is adopted, and is sent to the URL that came with the job, by the lane of such callbacks."""
    assert get_delivery(ledger, delivery).status is DeliveryStatus.PENDING
    assert ledger.lanes.adopt(LATER, NOW, 10) == 1
    leased = take_surely(ledger, delivery.id, LATER)
    assert (leased.delivery.url, leased.endpoint) == (endpoint.url, None)
    assert leased.delivery.lane_id == name_lane(replace(delivery, endpoint_id=None))


@pytest.mark.parametrize("trigger", [Trigger.AUTO, Trigger.MANUAL])
def test_callbacks_that_wait_part_at_once(ledger: Ledger, endpoint: Endpoint, leave: Leave, trigger: Trigger) -> None:
    waiting = record_callbacks(ledger, endpoint, 3, trigger=trigger)
    assert leave(ledger, endpoint) not in (None, False)
    assert [get_delivery(ledger, each) for each in waiting] == [part(each) for each in waiting]
    assert get_lane(ledger, waiting[0]).due_at is None
    assert ledger.lanes.adopt(NOW, NOW, 10) == 3
    assert {get_delivery(ledger, each).lane_id for each in waiting} == {name_lane(part(waiting[0]))}


def test_callback_goes_on_when_its_endpoint_leaves_while_it_waits(
    ledger: Ledger, endpoint: Endpoint, leave: Leave
) -> None:
    [delivery] = record_callbacks(ledger, endpoint)
    leave(ledger, endpoint)
    check_goes_on(ledger, delivery, endpoint)


def test_callback_goes_on_when_its_endpoint_left_before_it_was_written(
    ledger: Ledger, endpoint: Endpoint, leave: Leave
) -> None:
    """Its job's worker had looked at the endpoints before."""
    leave(ledger, endpoint)
    [delivery] = record_callbacks(ledger, endpoint)
    assert take(ledger, delivery.id) is None
    assert get_delivery(ledger, delivery) == part(delivery)
    assert get_lane(ledger, delivery).due_at is None
    check_goes_on(ledger, delivery, endpoint)


def test_callback_goes_on_when_its_endpoint_leaves_while_it_is_sent(
    ledger: Ledger, endpoint: Endpoint, leave: Leave
) -> None:
    [delivery] = record_callbacks(ledger, endpoint)
    leased = take_surely(ledger, delivery.id)
    leave(ledger, endpoint)
    end(ledger, leased, next_at=LATER)
    assert take(ledger, delivery.id, LATER) is None
    check_goes_on(ledger, delivery, endpoint)


def test_callback_that_is_asked_for_without_its_endpoint_needs_no_adoption(
    ledger: Ledger, endpoint: Endpoint, leave: Leave
) -> None:
    [delivery] = record_callbacks(ledger, endpoint)
    end(ledger, take_surely(ledger, delivery.id))
    leave(ledger, endpoint)
    assert ledger.redeliveries.ask(replace(get_delivery(ledger, delivery), endpoint_id=None), NOW)
    leased = take_surely(ledger, delivery.id)
    assert (leased.delivery.url, leased.endpoint) == (endpoint.url, None)


def test_callback_stays_with_an_endpoint_that_gets_its_url(ledger: Ledger, endpoint: Endpoint) -> None:
    """It was written by who saw the endpoint at that URL, before it went elsewhere and back."""
    [delivery] = record_callbacks(ledger, endpoint, url=ELSEWHERE)
    assert WAYS_TO_LEAVE["moved"](ledger, endpoint)
    assert get_delivery(ledger, delivery) == delivery


def test_callback_that_has_ended_stays_on_record_with_its_endpoint(
    ledger: Ledger, endpoint: Endpoint, leave: Leave
) -> None:
    [delivery] = record_callbacks(ledger, endpoint)
    end(ledger, take_surely(ledger, delivery.id))
    leave(ledger, endpoint)
    assert get_delivery(ledger, delivery).endpoint_id == endpoint.id
