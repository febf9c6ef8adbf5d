"""The moves of deliveries and attempts."""

from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy.engine import Engine

from tests.support.builders import (
    NOW,
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
from thumbs.domain import CALLBACKS, DeliveryFilter, DeliveryStatus, NextStep, Trigger
from thumbs.errors import NotFound
from thumbs.ledger import Ledger
from thumbs.ledger.tables import deliveries

LATER = NOW + timedelta(seconds=60)
RACES = 10
DELIVERED = NextStep(DeliveryStatus.DELIVERED, delivered_at=NOW)

# ── attempts ────────────────────────────────────────────────────────────────────────────────────────────


def test_lease_puts_the_attempt_on_record_before_anything_is_sent(ledger: Ledger) -> None:
    delivery = record_ended_job(ledger).deliveries[0]
    leased = take_surely(ledger, delivery.id)
    [(sending, attempts)] = ledger.deliveries.list_for_job(delivery.job_id or "")
    assert (sending.status, sending.attempt_count, sending.scheduled_count) == (DeliveryStatus.SENDING, 1, 1)
    assert attempts == [leased.attempt]
    assert leased.attempt.number == 1


def test_lease_gives_what_is_sent_and_to_whom(ledger: Ledger) -> None:
    endpoint = record_endpoint(ledger, headers={"X-Team": "encrypted"})
    announcement = build_announcement(endpoint.account_id, build_delivery(endpoint_id=endpoint.id), body=b'{"a":1}')
    ledger.events.record(announcement)
    leased = take_surely(ledger, announcement.deliveries[0].id)
    assert (leased.body, leased.endpoint) == (b'{"a":1}', endpoint)


def test_delivery_that_is_being_sent_cannot_be_leased(ledger: Ledger) -> None:
    delivery = record_ended_job(ledger).deliveries[0]
    take_surely(ledger, delivery.id)
    assert take(ledger, delivery.id, LATER) is None


def test_failed_attempt_is_recorded_and_the_next_one_counts_on(ledger: Ledger) -> None:
    delivery = record_ended_job(ledger).deliveries[0]
    leased = take_surely(ledger, delivery.id)
    failed = replace(leased.attempt, duration_ms=12, http_status=500, error_code="http_5xx", response_body="oh")
    step = NextStep(DeliveryStatus.PENDING, next_attempt_at=LATER)
    assert ledger.deliveries.record(build_lease(delivery.id), failed, step, NOW)
    assert take(ledger, delivery.id, NOW) is None
    again = take_surely(ledger, delivery.id, LATER)
    assert again.attempt.number == 2
    assert ledger.deliveries.list_attempts(delivery.id) == [failed, again.attempt]


def test_record_with_a_stale_lease_changes_nothing(ledger: Ledger) -> None:
    delivery = record_ended_job(ledger).deliveries[0]
    leased = take_surely(ledger, delivery.id)
    lane = get_lane(ledger, delivery)
    assert not ledger.deliveries.record(build_lease(delivery.id, "stale"), leased.attempt, DELIVERED, NOW)
    assert get_delivery(ledger, delivery).status is DeliveryStatus.SENDING
    assert get_lane(ledger, delivery) == lane


@pytest.mark.parametrize("trigger", Trigger)
def test_released_delivery_is_due_at_once_for_the_same_reason(ledger: Ledger, trigger: Trigger) -> None:
    endpoint = record_endpoint(ledger)
    [delivery] = record_deliveries(ledger, endpoint.account_id, endpoint_id=endpoint.id, trigger=trigger)
    leased = take_surely(ledger, delivery.id)
    assert ledger.deliveries.release(build_lease(delivery.id), leased, LATER)
    found = get_delivery(ledger, delivery)
    assert (found.status, found.next_attempt_at, found.trigger) == (DeliveryStatus.PENDING, LATER, trigger)
    assert (found.lane_id, get_lane(ledger, found).due_at) == (delivery.lane_id, LATER)
    assert take_surely(ledger, delivery.id, LATER).attempt.number == 2


def test_expired_lease_is_listed_with_its_open_attempt(ledger: Ledger) -> None:
    delivery = record_ended_job(ledger).deliveries[0]
    leased = take_surely(ledger, delivery.id)
    assert ledger.deliveries.list_expired_leases(NOW, 10) == []
    [(found, attempt, stale)] = ledger.deliveries.list_expired_leases(LATER, 10)
    assert (found, attempt, stale.token) == (leased.delivery, leased.attempt, "token")


def test_attempt_of_a_release_without_lanes_ends_and_its_delivery_is_given_one(ledger: Ledger, engine: Engine) -> None:
    """The sweep ends what a courier of the release before has left behind."""
    delivery = record_ended_job(ledger).deliveries[0]
    leased = take_surely(ledger, delivery.id)
    with engine.begin() as connection:
        connection.execute(deliveries.update().values(lane_id=None))
    step = NextStep(DeliveryStatus.PENDING, next_attempt_at=LATER)
    assert ledger.deliveries.record(build_lease(delivery.id), leased.attempt, step, NOW)
    assert get_delivery(ledger, delivery).lane_id == delivery.lane_id
    assert take(ledger, delivery.id, LATER) is not None


# ── jobs that are forgotten meanwhile ───────────────────────────────────────────────────────────────────


def test_result_of_a_delivery_that_was_forgotten_is_dropped(ledger: Ledger) -> None:
    conclusion = record_ended_job(ledger)
    leased = take_surely(ledger, conclusion.deliveries[0].id)
    ledger.jobs.forget(conclusion.job)
    assert ledger.deliveries.record(build_lease(leased.delivery.id), leased.attempt, DELIVERED, NOW) is None
    assert not ledger.deliveries.release(build_lease(leased.delivery.id), leased, NOW)


def test_job_is_forgotten_while_a_courier_takes_its_delivery(ledger: Ledger) -> None:
    """Either comes first: the courier finds nothing to take, or its attempt is forgotten too."""
    for _ in range(RACES * 3):
        conclusion = record_ended_job(ledger)
        race(
            partial(take, ledger, conclusion.deliveries[0].id),
            partial(ledger.jobs.forget, conclusion.job),
        )
        assert ledger.jobs.find(conclusion.job.id) is None
        assert ledger.deliveries.list_for_job(conclusion.job.id) == []


def test_job_is_forgotten_while_a_courier_ends_its_attempt(ledger: Ledger) -> None:
    for _ in range(RACES):
        conclusion = record_ended_job(ledger)
        leased = take_surely(ledger, conclusion.deliveries[0].id)
        record = partial(ledger.deliveries.record, build_lease(leased.delivery.id), leased.attempt, DELIVERED, NOW)
        race(record, partial(ledger.jobs.forget, conclusion.job))
        assert ledger.deliveries.list_for_job(conclusion.job.id) == []


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────


def test_delivery_of_another_account_is_not_found(ledger: Ledger) -> None:
    delivery = record_ended_job(ledger).deliveries[0]
    assert ledger.deliveries.get(delivery.account_id, delivery.id) == delivery
    with pytest.raises(NotFound):
        ledger.deliveries.get("acct_other", delivery.id)


def test_callbacks_are_found_by_their_jobs(ledger: Ledger) -> None:
    first, second = record_ended_job(ledger), record_ended_job(ledger, callback_url=None)
    found = ledger.deliveries.list_callbacks([first.job.id, second.job.id])
    assert found == {first.job.id: first.deliveries[0]}


def test_callback_of_a_job_is_told_from_its_deliveries_to_endpoints(ledger: Ledger) -> None:
    account_id = record_account(ledger).id
    both = [build_delivery(job_id="job_1", is_callback=is_callback) for is_callback in (False, True)]
    announcement = build_announcement(account_id, *both)
    ledger.events.record(announcement)
    callback = announcement.deliveries[1]
    assert ledger.deliveries.find_callback("job_1") == callback
    assert ledger.deliveries.list_callbacks(["job_1"]) == {"job_1": callback}
    assert len(ledger.deliveries.list_for_job("job_1")) == 2


def test_deliveries_are_listed_newest_first_with_their_attempts(ledger: Ledger) -> None:
    account_id = record_account(ledger).id
    ids = [f"dlv_{number}" for number in range(4)]
    for delivery_id in ids:
        record_deliveries(ledger, account_id, id=delivery_id)
    leased = take_surely(ledger, "dlv_3")
    record_deliveries(ledger, record_account(ledger).id)
    page = ledger.deliveries.list_for_account(account_id, DeliveryFilter(), 2)
    assert [(delivery.id, attempts) for delivery, attempts in page] == [("dlv_3", [leased.attempt]), ("dlv_2", [])]
    rest = ledger.deliveries.list_for_account(account_id, DeliveryFilter(before_id="dlv_2"), 9)
    assert [delivery.id for delivery, _ in rest] == ["dlv_1", "dlv_0"]


def test_deliveries_are_filtered_by_endpoint_status_and_job(ledger: Ledger) -> None:
    endpoint = record_endpoint(ledger)
    [to_endpoint] = record_deliveries(ledger, endpoint.account_id, endpoint_id=endpoint.id)
    [to_callback] = record_deliveries(ledger, endpoint.account_id, job_id="job_1")
    end(ledger, take_surely(ledger, to_callback.id))

    def list_ids(**where: object) -> list[str]:
        found = ledger.deliveries.list_for_account(endpoint.account_id, DeliveryFilter(**where), 9)  # type: ignore[arg-type]
        return [delivery.id for delivery, _ in found]

    assert list_ids(endpoint_id=endpoint.id) == list_ids(status=DeliveryStatus.PENDING) == [to_endpoint.id]
    assert list_ids(endpoint_id=CALLBACKS) == list_ids(status=DeliveryStatus.DELIVERED) == [to_callback.id]
    assert list_ids(job_id="job_1") == [to_callback.id]
