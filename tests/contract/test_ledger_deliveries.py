"""The moves of deliveries and attempts."""

from dataclasses import replace
from datetime import timedelta

from tests.support.builders import NOW, build_attempt, build_lease, record_ended_job
from thumbs.domain import Delivery, DeliveryStatus, LeasedDelivery, NextStep
from thumbs.ledger import Ledger

LATER = NOW + timedelta(seconds=60)


def lease(ledger: Ledger, delivery: Delivery, token: str = "token") -> LeasedDelivery:
    leased = ledger.deliveries.lease(build_lease(delivery.id, token), build_attempt(delivery.id), NOW)
    assert leased is not None
    return leased


def test_lease_puts_the_attempt_on_record_before_anything_is_sent(ledger: Ledger) -> None:
    delivery = record_ended_job(ledger).deliveries[0]
    leased = lease(ledger, delivery)
    [(sending, attempts)] = ledger.deliveries.list_for_job(delivery.job_id or "")
    assert (sending.status, sending.attempt_count) == (DeliveryStatus.SENDING, 1)
    assert attempts == [leased.attempt]
    assert leased.attempt.number == 1


def test_delivery_that_is_being_sent_cannot_be_leased(ledger: Ledger) -> None:
    delivery = record_ended_job(ledger).deliveries[0]
    lease(ledger, delivery)
    assert ledger.deliveries.lease(build_lease(delivery.id, "two"), build_attempt(delivery.id), LATER) is None


def test_failed_attempt_is_recorded_and_the_next_one_counts_on(ledger: Ledger) -> None:
    delivery = record_ended_job(ledger).deliveries[0]
    leased = lease(ledger, delivery)
    failed = replace(leased.attempt, duration_ms=12, http_status=500, error_code="http_5xx", response_body="oh")
    step = NextStep(DeliveryStatus.PENDING, next_attempt_at=LATER)
    assert ledger.deliveries.record(build_lease(delivery.id), failed, step, NOW)
    assert ledger.deliveries.lease(build_lease(delivery.id), build_attempt(delivery.id), NOW) is None
    again = ledger.deliveries.lease(build_lease(delivery.id), build_attempt(delivery.id), LATER)
    assert again is not None
    assert again.attempt.number == 2
    [(_, attempts)] = ledger.deliveries.list_for_job(delivery.job_id or "")
    assert attempts == [failed, again.attempt]


def test_record_with_a_stale_lease_changes_nothing(ledger: Ledger) -> None:
    delivery = record_ended_job(ledger).deliveries[0]
    leased = lease(ledger, delivery)
    step = NextStep(DeliveryStatus.DELIVERED, delivered_at=NOW)
    assert not ledger.deliveries.record(build_lease(delivery.id, "stale"), leased.attempt, step, NOW)
    [(sending, _)] = ledger.deliveries.list_for_job(delivery.job_id or "")
    assert sending.status is DeliveryStatus.SENDING


def test_expired_lease_is_listed_with_its_open_attempt(ledger: Ledger) -> None:
    delivery = record_ended_job(ledger).deliveries[0]
    leased = lease(ledger, delivery)
    assert ledger.deliveries.list_expired_leases(NOW, 10) == []
    [(found, attempt, stale)] = ledger.deliveries.list_expired_leases(LATER, 10)
    assert (found, attempt, stale.token) == (leased.delivery, leased.attempt, "token")


def test_due_deliveries_are_claimed_once(ledger: Ledger) -> None:
    delivery = record_ended_job(ledger).deliveries[0]
    assert ledger.deliveries.claim_due(LATER, NOW, 10) == []
    assert ledger.deliveries.claim_due(LATER, LATER, 10) == [delivery.id]
    assert ledger.deliveries.claim_due(LATER, LATER, 10) == []


def test_callbacks_are_found_by_their_jobs(ledger: Ledger) -> None:
    first, second = record_ended_job(ledger), record_ended_job(ledger, callback_url=None)
    found = ledger.deliveries.list_callbacks([first.job.id, second.job.id])
    assert found == {first.job.id: first.deliveries[0]}
