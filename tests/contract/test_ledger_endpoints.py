"""Endpoints: each move once, also when many make it at once, and their open deliveries move with them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from tests.support.builders import (
    NOW,
    RULES,
    build_announcement,
    build_delivery,
    build_endpoint,
    build_lease,
    end,
    get_delivery,
    get_lane,
    record_account,
    record_deliveries,
    record_endpoint,
    take,
    take_surely,
)
from tests.support.races import race
from thumbs.domain import Delivery, DeliveryStatus, DisabledReason, Endpoint, EndpointStatus, Trigger
from thumbs.errors import Conflict, NotFound
from thumbs.ledger import Ledger

LATER = NOW + timedelta(seconds=60)
THREADS = 8
LIMIT = 3


@pytest.fixture
def endpoint(ledger: Ledger) -> Endpoint:
    return record_endpoint(ledger)


def record_delivery(ledger: Ledger, endpoint: Endpoint, **changes: Any) -> Delivery:
    [delivery] = record_deliveries(ledger, endpoint.account_id, endpoint_id=endpoint.id, **changes)
    return delivery


def disable(ledger: Ledger, endpoint: Endpoint, reason: DisabledReason = DisabledReason.MANUAL) -> None:
    assert ledger.endpoints.disable(endpoint, reason, NOW) is not None


def find(ledger: Ledger, endpoint: Endpoint) -> Endpoint:
    return ledger.endpoints.get(endpoint.account_id, endpoint.id, is_deleted_too=True)


def state(ledger: Ledger, delivery: Delivery) -> tuple[DeliveryStatus, str | None]:
    found = get_delivery(ledger, delivery)
    return found.status, found.reason


FAILED_DISABLED = (DeliveryStatus.FAILED, "endpoint_disabled")
FAILED_DELETED = (DeliveryStatus.FAILED, "endpoint_deleted")

# ── recording and reading ───────────────────────────────────────────────────────────────────────────────


def test_endpoint_comes_back_as_it_was(ledger: Ledger) -> None:
    endpoint = record_endpoint(ledger, event_types=("job.*", "batch.finished"), description="ours", headers={"A": "x"})
    assert find(ledger, endpoint) == ledger.endpoints.find(endpoint.id) == endpoint


def test_endpoint_of_another_account_is_not_found(ledger: Ledger, endpoint: Endpoint) -> None:
    with pytest.raises(NotFound):
        ledger.endpoints.get("acct_other", endpoint.id)


def test_endpoints_are_listed_newest_first_without_deleted_ones(ledger: Ledger) -> None:
    account_id = record_account(ledger).id
    first, second, third = (record_endpoint(ledger, account_id=account_id, id=f"ep_{n}") for n in range(3))
    ledger.endpoints.delete(second.id, NOW)
    record_endpoint(ledger)
    assert ledger.endpoints.list_for_account(account_id) == [third, first]


def try_to_record(ledger: Ledger, account_id: str) -> bool:
    endpoint = build_endpoint(account_id=account_id)
    try:
        ledger.endpoints.record(
            endpoint, build_announcement(account_id, build_delivery(endpoint_id=endpoint.id)), LIMIT
        )
    except Conflict:
        return False
    return True


def test_account_never_has_more_endpoints_than_it_may(ledger: Ledger) -> None:
    account_id = record_account(ledger).id
    moves = [partial(try_to_record, ledger, account_id)] * THREADS
    assert sum(race(*moves)) == LIMIT
    assert len(ledger.endpoints.list_for_account(account_id)) == LIMIT


def test_endpoint_that_is_one_too_many_leaves_nothing_behind(ledger: Ledger) -> None:
    account_id = record_account(ledger).id
    for _ in range(LIMIT):
        assert try_to_record(ledger, account_id)
    before = ledger.lanes.find_startable(NOW, RULES, ())
    assert not try_to_record(ledger, account_id)
    assert ledger.lanes.find_startable(NOW, RULES, ()) == before


def test_deleted_endpoint_makes_room(ledger: Ledger) -> None:
    account_id = record_account(ledger).id
    for _ in range(LIMIT):
        try_to_record(ledger, account_id)
    ledger.endpoints.delete(ledger.endpoints.list_for_account(account_id)[0].id, NOW)
    assert try_to_record(ledger, account_id)


# ── changing ────────────────────────────────────────────────────────────────────────────────────────────


def test_change_writes_what_is_named_and_nothing_else(ledger: Ledger, endpoint: Endpoint) -> None:
    """Two changes at once do not undo each other: each has read the endpoint before the other wrote."""
    first, second = replace(endpoint, description="ours"), replace(endpoint, event_types=("job.*",))
    assert ledger.endpoints.change(first, ["description"], NOW)
    assert ledger.endpoints.change(second, ["event_types"], NOW)
    assert find(ledger, endpoint) == replace(endpoint, description="ours", event_types=("job.*",))


def test_change_of_nothing_is_fine(ledger: Ledger, endpoint: Endpoint) -> None:
    assert ledger.endpoints.change(endpoint, [], NOW)
    assert find(ledger, endpoint) == endpoint


def test_open_deliveries_go_to_the_new_url(ledger: Ledger, endpoint: Endpoint) -> None:
    delivery = record_delivery(ledger, endpoint)
    ledger.endpoints.change(replace(endpoint, url="https://new.example:8443/hooks"), ["url"], NOW)
    assert take_surely(ledger, delivery.id).delivery.url == "https://new.example:8443/hooks"
    assert get_lane(ledger, delivery).host == "new.example:8443"


def test_new_url_has_nothing_held_against_it(ledger: Ledger, endpoint: Endpoint) -> None:
    delivery = record_delivery(ledger, endpoint)
    end(ledger, take_surely(ledger, delivery.id), next_at=LATER, pause_seconds=3600)
    ledger.endpoints.change(replace(endpoint, url="https://new.example/"), ["url"], NOW)
    lane = get_lane(ledger, delivery)
    assert (lane.failure_count, lane.blocked_until, lane.due_at) == (0, None, LATER)


def test_any_other_change_leaves_the_lane_alone(ledger: Ledger, endpoint: Endpoint) -> None:
    delivery = record_delivery(ledger, endpoint)
    lane = end(ledger, take_surely(ledger, delivery.id), next_at=LATER)
    ledger.endpoints.change(replace(endpoint, description="ours"), ["description", "url"], NOW)
    assert get_lane(ledger, delivery) == lane


def test_deleted_endpoint_is_not_changed(ledger: Ledger, endpoint: Endpoint) -> None:
    ledger.endpoints.delete(endpoint.id, NOW)
    assert not ledger.endpoints.change(replace(endpoint, url="https://new.example/"), ["url"], NOW)


# ── disabling and enabling ──────────────────────────────────────────────────────────────────────────────


def test_disabling_fails_what_is_open(ledger: Ledger, endpoint: Endpoint) -> None:
    due, later = record_delivery(ledger, endpoint), record_delivery(ledger, endpoint, next_attempt_at=LATER)
    disable(ledger, endpoint, DisabledReason.GONE)
    assert (find(ledger, endpoint).status, find(ledger, endpoint).disabled_reason) == ("disabled", "gone")
    assert state(ledger, due) == state(ledger, later) == FAILED_DISABLED
    assert get_lane(ledger, due).due_at is None


def test_disabling_leaves_others_and_what_is_over_alone(ledger: Ledger, endpoint: Endpoint) -> None:
    delivered, elsewhere = record_delivery(ledger, endpoint), record_delivery(ledger, record_endpoint(ledger))
    end(ledger, take_surely(ledger, delivered.id))
    disable(ledger, endpoint)
    assert state(ledger, delivered) == (DeliveryStatus.DELIVERED, None)
    assert state(ledger, elsewhere) == (DeliveryStatus.PENDING, None)


@pytest.mark.parametrize("trigger", [Trigger.PING, Trigger.MANUAL])
def test_what_somebody_asked_for_goes_to_a_disabled_endpoint_too(
    ledger: Ledger, endpoint: Endpoint, trigger: Trigger
) -> None:
    delivery = record_delivery(ledger, endpoint, trigger=trigger)
    disable(ledger, endpoint)
    assert take(ledger, delivery.id) is not None


def test_endpoint_is_disabled_once(ledger: Ledger, endpoint: Endpoint) -> None:
    """Its account's others are told once, however many attempts fail at the same time."""
    other = record_endpoint(ledger, account_id=endpoint.account_id)
    announcements = [
        build_announcement(endpoint.account_id, build_delivery(endpoint_id=other.id)) for _ in range(THREADS)
    ]
    moves = [partial(ledger.endpoints.disable, endpoint, DisabledReason.GONE, NOW, each) for each in announcements]
    told = [delivery_ids for delivery_ids in race(*moves) if delivery_ids is not None]
    assert told in [[[each.deliveries[0].id]] for each in announcements]


def test_endpoint_that_moved_on_is_not_disabled_for_what_its_old_url_did(ledger: Ledger, endpoint: Endpoint) -> None:
    """Its owner has just read that it answers 410, and changed the URL."""
    ledger.endpoints.change(replace(endpoint, url="https://new.example/"), ["url"], NOW)
    assert ledger.endpoints.disable(endpoint, DisabledReason.GONE, NOW) is None
    assert ledger.endpoints.disable(endpoint, DisabledReason.MANUAL, NOW) == []


def test_enabling_has_nothing_held_against_it(ledger: Ledger, endpoint: Endpoint) -> None:
    delivery = record_delivery(ledger, endpoint)
    end(ledger, take_surely(ledger, delivery.id), next_at=LATER, pause_seconds=3600)
    ledger.endpoints.warn(endpoint.id, NOW, NOW, build_announcement(endpoint.account_id))
    disable(ledger, endpoint)
    assert ledger.endpoints.enable(endpoint, NOW)
    assert find(ledger, endpoint) == endpoint
    assert (get_lane(ledger, delivery).failure_count, get_lane(ledger, delivery).blocked_until) == (0, None)


def test_enabling_an_enabled_one_changes_nothing(ledger: Ledger, endpoint: Endpoint) -> None:
    delivery = record_delivery(ledger, endpoint)
    lane = end(ledger, take_surely(ledger, delivery.id), next_at=LATER)
    assert not ledger.endpoints.enable(endpoint, NOW)
    assert get_lane(ledger, delivery) == lane


def test_delivery_that_slipped_through_is_refused_when_it_would_start(ledger: Ledger, endpoint: Endpoint) -> None:
    """It was written by somebody who had read the endpoint before it was disabled."""
    disable(ledger, endpoint)
    delivery = record_delivery(ledger, endpoint)
    assert take(ledger, delivery.id) is None
    assert state(ledger, delivery) == FAILED_DISABLED
    assert get_lane(ledger, delivery).due_at is None


@pytest.mark.parametrize("is_deleted", [False, True])
def test_delivery_that_is_being_sent_meanwhile_does_not_wait_for_ever(
    ledger: Ledger, endpoint: Endpoint, is_deleted: bool
) -> None:
    leased = take_surely(ledger, record_delivery(ledger, endpoint).id)
    if is_deleted:
        ledger.endpoints.delete(endpoint.id, NOW)
    else:
        disable(ledger, endpoint)
    end(ledger, leased, next_at=LATER)
    assert state(ledger, leased.delivery) == (FAILED_DELETED if is_deleted else FAILED_DISABLED)


def end_and_disable_at_once(ledger: Ledger, endpoint: Endpoint, deliveries: Sequence[Delivery]) -> None:
    leased = [take_surely(ledger, delivery.id) for delivery in deliveries]
    race(
        lambda: disable(ledger, endpoint),
        *(partial(end, ledger, each, NOW, next_at=LATER) for each in leased),
    )


def test_delivery_that_ends_while_its_endpoint_is_disabled_is_failed_either_way(ledger: Ledger) -> None:
    for _ in range(10):
        endpoint = record_endpoint(ledger)
        delivery = record_delivery(ledger, endpoint)
        end_and_disable_at_once(ledger, endpoint, [delivery])
        assert state(ledger, delivery) == FAILED_DISABLED


def test_asked_for_attempts_that_end_while_the_endpoint_is_disabled_do_not_wait_for_each_other(ledger: Ledger) -> None:
    """Both lock the two lanes of the endpoint; in another order each they would wait for ever."""
    for _ in range(10):
        endpoint = record_endpoint(ledger)
        asked = record_delivery(ledger, endpoint, trigger=Trigger.MANUAL)
        record_delivery(ledger, endpoint)
        end_and_disable_at_once(ledger, endpoint, [asked])
        assert state(ledger, asked) == FAILED_DISABLED


# ── deleting ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("trigger", Trigger)
def test_deleting_fails_all_that_is_open_and_keeps_it_on_record(
    ledger: Ledger, endpoint: Endpoint, trigger: Trigger
) -> None:
    delivery = record_delivery(ledger, endpoint, trigger=trigger)
    assert ledger.endpoints.delete(endpoint.id, NOW)
    assert state(ledger, delivery) == FAILED_DELETED
    assert not ledger.endpoints.delete(endpoint.id, NOW)
    with pytest.raises(NotFound):
        ledger.endpoints.get(endpoint.account_id, endpoint.id)


@pytest.mark.parametrize("trigger", Trigger)
def test_deleted_endpoint_is_sent_nothing_not_even_what_somebody_asked_for(
    ledger: Ledger, endpoint: Endpoint, trigger: Trigger
) -> None:
    """It was asked for by somebody who had read the endpoint before it was deleted."""
    ledger.endpoints.delete(endpoint.id, NOW)
    delivery = record_delivery(ledger, endpoint, trigger=trigger)
    assert take(ledger, delivery.id) is None
    assert state(ledger, delivery) == FAILED_DELETED


def test_deleted_endpoint_is_neither_enabled_nor_disabled(ledger: Ledger, endpoint: Endpoint) -> None:
    ledger.endpoints.delete(endpoint.id, NOW)
    assert ledger.endpoints.disable(endpoint, DisabledReason.MANUAL, NOW) is None
    assert not ledger.endpoints.enable(replace(endpoint, status=EndpointStatus.DISABLED), NOW)


# ── warning ─────────────────────────────────────────────────────────────────────────────────────────────


def warn(ledger: Ledger, endpoint: Endpoint, seconds: int, failing_since: int = 0) -> bool:
    now, since = (NOW + timedelta(seconds=each) for each in (seconds, failing_since))
    announcement = build_announcement(endpoint.account_id)
    return ledger.endpoints.warn(endpoint.id, since, now, announcement) is not None


def test_account_is_warned_once_of_an_endpoint_that_fails(ledger: Ledger, endpoint: Endpoint) -> None:
    assert [warn(ledger, endpoint, 10), warn(ledger, endpoint, 20)] == [True, False]
    assert find(ledger, endpoint).warned_at == NOW + timedelta(seconds=10)


def test_account_is_warned_again_when_it_fails_again(ledger: Ledger, endpoint: Endpoint) -> None:
    """It did well in between, and nobody has touched it."""
    assert warn(ledger, endpoint, 10)
    assert warn(ledger, endpoint, 1000, failing_since=500)


def test_account_is_not_warned_of_a_disabled_endpoint(ledger: Ledger, endpoint: Endpoint) -> None:
    disable(ledger, endpoint)
    assert not warn(ledger, endpoint, 10)


def test_events_that_failed_are_counted_once_each(ledger: Ledger, endpoint: Endpoint) -> None:
    for delivery in (record_delivery(ledger, endpoint), record_delivery(ledger, endpoint)):
        end(ledger, take_surely(ledger, delivery.id), next_at=NOW)
        end(ledger, take_surely(ledger, delivery.id), next_at=LATER)
    assert ledger.endpoints.count_failed_events(endpoint.id, NOW) == 2
    assert ledger.endpoints.count_failed_events(endpoint.id, LATER) == 0


@pytest.mark.parametrize("trigger", [Trigger.PING, Trigger.MANUAL])
def test_what_somebody_asked_for_does_not_count_as_a_failed_event(
    ledger: Ledger, endpoint: Endpoint, trigger: Trigger
) -> None:
    end(ledger, take_surely(ledger, record_delivery(ledger, endpoint, trigger=trigger).id), next_at=LATER)
    assert ledger.endpoints.count_failed_events(endpoint.id, NOW) == 0


def test_attempts_that_went_well_or_broke_off_do_not_count_as_failed_events(ledger: Ledger, endpoint: Endpoint) -> None:
    end(ledger, take_surely(ledger, record_delivery(ledger, endpoint).id))
    leased = take_surely(ledger, record_delivery(ledger, endpoint).id)
    assert ledger.deliveries.release(build_lease(leased.delivery.id), leased, NOW)
    assert ledger.endpoints.count_failed_events(endpoint.id, NOW) == 0
