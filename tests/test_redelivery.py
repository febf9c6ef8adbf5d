"""What is sent again because somebody asks: pings, redeliveries and recoveries, and what they leave alone."""

from datetime import timedelta

import pytest

from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import (
    ScriptedOutbound,
    accept,
    build_answer,
    deliver_all,
    fail_with,
    get_endpoint,
    list_deliveries,
    meanwhile,
    record_delivery,
    register,
)
from thumbs.accounts import get_default_account
from thumbs.deliver import deliver
from thumbs.domain import CALLBACKS, Account, Delivery, DeliveryStatus, Endpoint, EventType, Trigger
from thumbs.endpoints import (
    change_endpoint,
    delete_endpoint,
    disable_endpoint,
    enable_endpoint,
    ping_endpoint,
    recover,
    redeliver,
    rotate_secret,
)
from thumbs.errors import AttemptTimeout, Conflict, Gone, NotFound
from thumbs.process import process
from thumbs.services import Services

URL = "https://app.example/endpoint"
DAY_SECONDS = 86_400


@pytest.fixture
def account(services: Services) -> Account:
    return get_default_account(services)


@pytest.fixture
def endpoint(services: Services, outbound: ScriptedOutbound) -> Endpoint:
    """An endpoint whose ping went well, and is forgotten here."""
    endpoint, _ = register(services)
    outbound.posted.clear()
    return endpoint


def run_job(services: Services) -> None:
    """Run a job to its end, and make every attempt that is due."""
    process(services, accept(services, callback_url=None).id)
    deliver_all(services)


def get(services: Services, delivery: Delivery) -> Delivery:
    return services.ledger.deliveries.get(delivery.account_id, delivery.id)


def get_only(services: Services, endpoint: Endpoint) -> Delivery:
    [delivery] = list_deliveries(services, endpoint.id)
    return delivery


# ── pings ───────────────────────────────────────────────────────────────────────────────────────────────


def test_ping_works_while_disabled(
    services: Services, account: Account, endpoint: Endpoint, outbound: ScriptedOutbound
) -> None:
    disable_endpoint(services, account, endpoint.id)
    ping = ping_endpoint(services, account, endpoint.id)
    deliver(services, ping.deliveries[0].id)
    [post] = outbound.posted
    assert (post.url, post.headers["webhook-id"]) == (URL, ping.event.id)


def test_ping_is_one_attempt_that_says_nothing_of_the_endpoint(
    services: Services, account: Account, endpoint: Endpoint, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    outbound.on_post = lambda: build_answer(410)
    ping_endpoint(services, account, endpoint.id)
    for _ in range(3):
        deliver_all(services)
        clock.move(DAY_SECONDS)
    first, ping = list_deliveries(services, endpoint.id, EventType.PING)
    attempts = services.ledger.deliveries.list_attempts(ping.id)
    assert [(attempt.trigger, attempt.error_code) for attempt in attempts] == [(Trigger.PING, "gone")]
    assert (first.status, ping.status, ping.next_attempt_at) == ("delivered", "failed", None)
    assert get_endpoint(services, endpoint).is_enabled
    assert services.ledger.lanes.find(endpoint.id) is None


# ── redeliveries ────────────────────────────────────────────────────────────────────────────────────────


def test_redelivery_is_dispatched_at_once(
    services: Services, account: Account, endpoint: Endpoint, dispatcher: RecordingDispatcher
) -> None:
    run_job(services)
    asked = redeliver(services, account, get_only(services, endpoint).id)
    assert dispatcher.delivered[-1] == (asked.id, 0)


def test_redelivery_sends_the_same_bytes_under_the_same_id_with_todays_key(
    services: Services, account: Account, endpoint: Endpoint, outbound: ScriptedOutbound
) -> None:
    run_job(services)
    rotate_secret(services, account, endpoint.id, 0)
    deliver(services, redeliver(services, account, get_only(services, endpoint).id).id)
    first, again = outbound.posted
    assert (first.body, first.headers["webhook-id"]) == (again.body, again.headers["webhook-id"])
    assert first.headers["webhook-signature"] != again.headers["webhook-signature"]


def test_failed_delivery_can_be_sent_again(
    services: Services, account: Account, endpoint: Endpoint, outbound: ScriptedOutbound
) -> None:
    outbound.on_post = lambda: build_answer(410)
    run_job(services)
    outbound.on_post = build_answer
    failed = get_only(services, endpoint)
    deliver(services, redeliver(services, account, failed.id).id)
    assert (failed.status, get(services, failed).status) == ("failed", "delivered")


def test_failed_redelivery_of_what_waits_goes_on_where_its_schedule_stood(
    services: Services, account: Account, endpoint: Endpoint, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    outbound.on_post = lambda: build_answer(500)
    run_job(services)
    waiting = get_only(services, endpoint)
    clock.move(1)
    deliver(services, redeliver(services, account, waiting.id).id)
    after = get(services, waiting)
    assert (after.next_attempt_at, after.status, after.trigger) == (
        waiting.next_attempt_at,
        DeliveryStatus.PENDING,
        Trigger.AUTO,
    )
    assert (after.attempt_count, after.scheduled_count, after.lane_id) == (2, 1, waiting.lane_id)


def test_failed_redelivery_of_what_had_failed_leaves_its_reason(
    services: Services, account: Account, endpoint: Endpoint, outbound: ScriptedOutbound
) -> None:
    run_job(services)
    disable_endpoint(services, account, endpoint.id)
    run_job(services)
    missed = list_deliveries(services, endpoint.id)[-1]
    outbound.on_post = lambda: build_answer(500)
    deliver(services, redeliver(services, account, missed.id).id)
    after = get(services, missed)
    assert (after.status, after.reason, after.next_attempt_at) == (DeliveryStatus.FAILED, "endpoint_disabled", None)


def test_failed_redelivery_of_what_had_arrived_leaves_it_delivered(
    services: Services, account: Account, endpoint: Endpoint, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    run_job(services)
    arrived = get_only(services, endpoint)
    clock.move(60)
    outbound.on_post = fail_with(AttemptTimeout())
    deliver(services, redeliver(services, account, arrived.id).id)
    after = get(services, arrived)
    assert (after.status, after.delivered_at) == (DeliveryStatus.DELIVERED, arrived.delivered_at)
    assert [each.error_code for each in services.ledger.deliveries.list_attempts(arrived.id)] == [None, "timeout"]


def test_redelivery_that_arrives_ends_the_schedule(
    services: Services, account: Account, endpoint: Endpoint, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    outbound.on_post = lambda: build_answer(500)
    run_job(services)
    outbound.on_post = build_answer
    deliver(services, redeliver(services, account, get_only(services, endpoint).id).id)
    clock.move(DAY_SECONDS)
    deliver_all(services)
    assert get_only(services, endpoint).status is DeliveryStatus.DELIVERED
    assert len(outbound.posted) == 2


@pytest.mark.parametrize("status", [200, 410, 500])
def test_redelivery_says_nothing_of_its_endpoint(
    services: Services, account: Account, endpoint: Endpoint, outbound: ScriptedOutbound, status: int
) -> None:
    """Whatever it answers: neither its health nor what the breaker counts changes, and a 410 does not disable it."""
    outbound.on_post = lambda: build_answer(500)
    run_job(services)
    before = services.ledger.lanes.find(endpoint.id)
    outbound.on_post = lambda: build_answer(status)
    deliver(services, redeliver(services, account, get_only(services, endpoint).id).id)
    after = services.ledger.lanes.find(endpoint.id)
    assert before is not None
    assert after is not None
    assert (after.failure_count, after.is_proven, after.blocked_until) == (1, False, before.blocked_until)
    assert get_endpoint(services, endpoint) == endpoint


def test_redelivery_works_while_its_endpoint_is_disabled(
    services: Services, account: Account, endpoint: Endpoint, outbound: ScriptedOutbound
) -> None:
    disable_endpoint(services, account, endpoint.id)
    run_job(services)
    deliver(services, redeliver(services, account, get_only(services, endpoint).id).id)
    assert get_only(services, endpoint).status is DeliveryStatus.DELIVERED


def test_redelivery_to_a_changed_url_goes_to_the_new_one(
    services: Services, account: Account, endpoint: Endpoint, outbound: ScriptedOutbound
) -> None:
    run_job(services)
    change_endpoint(services, account, endpoint.id, {"url": "https://new.example/"})
    deliver(services, redeliver(services, account, get_only(services, endpoint).id).id)
    assert outbound.posted[-1].url == "https://new.example/"


def test_redelivery_of_a_deleted_endpoint_is_refused(services: Services, account: Account, endpoint: Endpoint) -> None:
    run_job(services)
    delete_endpoint(services, account, endpoint.id)
    with pytest.raises(Gone):
        redeliver(services, account, get_only(services, endpoint).id)


@pytest.mark.parametrize("what", ["disabled", "deleted", "moved"])
def test_redelivery_of_a_callback_goes_to_its_url_whatever_became_of_the_endpoint(
    services: Services, account: Account, endpoint: Endpoint, outbound: ScriptedOutbound, what: str
) -> None:
    delivery = record_delivery(services, callback_url=URL)
    deliver(services, delivery.id)
    if what == "moved":
        change_endpoint(services, account, endpoint.id, {"url": "https://new.example/"})
    else:
        {"disabled": disable_endpoint, "deleted": delete_endpoint}[what](services, account, endpoint.id)
    deliver(services, redeliver(services, account, delivery.id).id)
    assert [post.url for post in outbound.posted] == [URL, URL]
    assert get(services, delivery).endpoint_id is None


def test_redelivery_of_what_is_being_sent_is_refused(
    services: Services, account: Account, outbound: ScriptedOutbound
) -> None:
    delivery = record_delivery(services)
    refused: list[Conflict] = []

    def ask() -> None:
        with pytest.raises(Conflict) as caught:
            redeliver(services, account, delivery.id)
        refused.append(caught.value)

    outbound.on_post = meanwhile(ask, build_answer)
    deliver(services, delivery.id)
    assert len(refused) == 1
    assert get(services, delivery).status is DeliveryStatus.DELIVERED


def test_redelivery_of_another_accounts_delivery_is_not_found(
    services: Services, account: Account, endpoint: Endpoint
) -> None:
    with pytest.raises(NotFound):
        redeliver(services, account, "dlv_0")


def test_redelivery_while_the_queue_is_down_is_found_by_the_couriers(
    services: Services, account: Account, endpoint: Endpoint, dispatcher: RecordingDispatcher
) -> None:
    run_job(services)
    dispatcher.is_down = True
    redeliver(services, account, get_only(services, endpoint).id)
    deliver_all(services)
    assert get_only(services, endpoint).attempt_count == 2


# ── recoveries ──────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_missed_is_recovered_after_enabling(
    services: Services, account: Account, endpoint: Endpoint, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    since = clock.now()
    disable_endpoint(services, account, endpoint.id)
    for _ in range(3):
        run_job(services)
    assert enable_endpoint(services, account, endpoint.id).is_enabled
    assert recover(services, account, endpoint.id, since, None) == 3
    for _ in range(3):
        deliver_all(services)
        clock.move(0.1)
    assert [each.status for each in list_deliveries(services, endpoint.id)] == ["delivered"] * 3
    assert len(outbound.posted) == 3


def test_recovery_is_ten_a_second(services: Services, account: Account, endpoint: Endpoint, clock: FrozenClock) -> None:
    disable_endpoint(services, account, endpoint.id)
    for _ in range(3):
        run_job(services)
    enable_endpoint(services, account, endpoint.id)
    recover(services, account, endpoint.id, clock.now() - timedelta(hours=1), None)
    due = [each.next_attempt_at for each in list_deliveries(services, endpoint.id)]
    assert due == [clock.now() + number * timedelta(milliseconds=100) for number in range(3)]


def test_disabled_endpoint_is_not_recovered(
    services: Services, account: Account, endpoint: Endpoint, clock: FrozenClock
) -> None:
    disable_endpoint(services, account, endpoint.id)
    with pytest.raises(Conflict):
        recover(services, account, endpoint.id, clock.now(), None)


@pytest.mark.parametrize("status", [500, 410])
def test_recovery_that_fails_leaves_callbacks_as_they_were(
    services: Services, account: Account, outbound: ScriptedOutbound, clock: FrozenClock, status: int
) -> None:
    """It is one attempt, and says something of the receiver."""
    outbound.on_post = lambda: build_answer(410)
    delivery = record_delivery(services)
    deliver(services, delivery.id)
    outbound.on_post = lambda: build_answer(status)
    assert recover(services, account, CALLBACKS, clock.now(), None) == 1
    deliver_all(services)
    after = get(services, delivery)
    assert (after.status, after.reason, after.attempt_count) == (DeliveryStatus.FAILED, "gone", 2)
    lane = services.ledger.lanes.find(delivery.lane_id or "")
    assert lane is not None
    assert lane.failure_count == 2


def test_recovery_that_fails_goes_on_where_the_schedule_stood(
    services: Services, account: Account, endpoint: Endpoint, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    outbound.on_post = lambda: build_answer(500)
    run_job(services)
    waiting = get_only(services, endpoint)
    recover(services, account, endpoint.id, clock.now(), None)
    deliver_all(services)
    after = get_only(services, endpoint)
    assert (after.next_attempt_at, after.trigger) == (waiting.next_attempt_at, Trigger.AUTO)
    assert (after.attempt_count, after.scheduled_count) == (2, 1)


def test_recovered_and_then_disabled_and_redelivered_ends_where_it_stood(
    services: Services, account: Account, endpoint: Endpoint, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    """What its schedule was before is over with the disabling."""
    outbound.on_post = lambda: build_answer(500)
    run_job(services)
    recover(services, account, endpoint.id, clock.now(), None)
    disable_endpoint(services, account, endpoint.id)
    enable_endpoint(services, account, endpoint.id)
    deliver(services, redeliver(services, account, get_only(services, endpoint).id).id)
    after = get_only(services, endpoint)
    assert (after.status, after.reason, after.resume_at) == (DeliveryStatus.FAILED, "endpoint_disabled", None)
