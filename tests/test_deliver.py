"""One delivery attempt: what counts as delivered, when it is tried again, what is sent, and what is on record."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.servers import Receiver
from tests.support.services import (
    ScriptedOutbound,
    build_answer,
    build_outbound,
    build_test_services,
    build_test_settings,
    fail_with,
    get_callback,
    list_deliveries,
    meanwhile,
    record_delivery,
    register,
)
from thumbs.accounts import get_default_account
from thumbs.deliver import deliver, dispatch_startable
from thumbs.domain import Attempt, Delivery, DeliveryStatus, EventType
from thumbs.errors import AttemptError, AttemptTimeout
from thumbs.ledger import Ledger
from thumbs.outbound import Outbound
from thumbs.retries import JITTER
from thumbs.services import Services
from thumbs.sweep import sweep

SCHEDULE_SECONDS = build_test_settings().webhook_schedule_seconds
MAX_ATTEMPTS = len(SCHEDULE_SECONDS) + 1


@pytest.fixture
def real_outbound() -> Iterator[Outbound]:
    with closing(build_outbound(build_test_settings(THUMBS_WEBHOOK_TIMEOUT_SECONDS="2"))) as outbound:
        yield outbound


def attempt_once(services: Services, **changes: object) -> tuple[Delivery, Attempt]:
    """Make the first attempt of a new delivery; returns both as they are then on record."""
    delivery = record_delivery(services, **changes)
    deliver(services, delivery.id)
    return get_state(services, delivery)


def get_state(services: Services, delivery: Delivery) -> tuple[Delivery, Attempt]:
    [(found, attempts)] = services.ledger.deliveries.list_for_job(delivery.job_id or "")
    return found, attempts[-1]


def get_delay_seconds(services: Services, delivery: Delivery) -> float:
    assert delivery.next_attempt_at is not None
    return (delivery.next_attempt_at - services.clock.now()).total_seconds()


# ── what counts ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_delivered(services: Services, outbound: ScriptedOutbound, status: int) -> None:
    outbound.on_post = lambda: build_answer(status, b"not json", is_truncated=True)
    delivery, attempt = attempt_once(services)
    assert (delivery.status, delivery.delivered_at) == (DeliveryStatus.DELIVERED, services.clock.now())
    assert (attempt.http_status, attempt.error_code) == (status, None)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (300, "redirect"),
        (301, "redirect"),
        (307, "redirect"),
        (400, "http_4xx"),
        (401, "http_4xx"),
        (404, "http_4xx"),
        (429, "rate_limited"),
        (500, "http_5xx"),
        (503, "http_5xx"),
        (599, "http_5xx"),
    ],
)
def test_any_other_status_is_tried_again(
    services: Services, outbound: ScriptedOutbound, status: int, code: str
) -> None:
    """401 and 404 happen during deploys: only 410 is an answer for good."""
    outbound.on_post = lambda: build_answer(status)
    delivery, attempt = attempt_once(services)
    assert (delivery.status, delivery.attempt_count) == (DeliveryStatus.PENDING, 1)
    assert (attempt.http_status, attempt.error_code) == (status, code)


def test_410_fails_the_delivery_at_once(
    services: Services, outbound: ScriptedOutbound, dispatcher: RecordingDispatcher
) -> None:
    outbound.on_post = lambda: build_answer(410)
    delivery, attempt = attempt_once(services)
    assert (delivery.status, delivery.reason, attempt.error_code) == (DeliveryStatus.FAILED, "gone", "gone")
    assert dispatcher.delivered == [(delivery.id, 0)]


@pytest.mark.parametrize("error", AttemptError.__subclasses__(), ids=lambda error: error.code)
def test_attempt_without_an_answer_is_recorded_by_its_code_and_tried_again(
    services: Services, outbound: ScriptedOutbound, error: type[AttemptError]
) -> None:
    outbound.on_post = fail_with(error("as the test says"))
    delivery, attempt = attempt_once(services)
    assert delivery.status is DeliveryStatus.PENDING
    assert (attempt.http_status, attempt.error_code, attempt.error_detail) == (None, error.code, "as the test says")


# ── when it is tried again ──────────────────────────────────────────────────────────────────────────────


def test_schedule_is_kept_never_earlier_and_up_to_a_fifth_later(
    services: Services, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    outbound.on_post = lambda: build_answer(500)
    delivery = record_delivery(services)
    for planned_seconds in SCHEDULE_SECONDS:
        deliver(services, delivery.id)
        delay_seconds = get_delay_seconds(services, get_callback(services, delivery.job_id))
        assert planned_seconds <= delay_seconds <= planned_seconds * (1 + JITTER)
        clock.move(delay_seconds)


def test_retry_is_dispatched_when_it_is_due_and_not_before(
    services: Services, outbound: ScriptedOutbound, dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    outbound.on_post = fail_with(AttemptTimeout())
    delivery, _ = attempt_once(services)
    clock.move(get_delay_seconds(services, delivery) - 0.001)
    dispatch_startable(services)
    assert dispatcher.delivered == [(delivery.id, 0)]
    clock.move(0.001)
    dispatch_startable(services)
    assert dispatcher.delivered == [(delivery.id, 0)] * 2


def use_up_attempts(services: Services, clock: FrozenClock, delivery: Delivery) -> None:
    for _ in range(MAX_ATTEMPTS + 1):
        deliver(services, delivery.id)
        clock.move(100_000)


def test_used_up_attempts_fail_the_delivery(services: Services, outbound: ScriptedOutbound, clock: FrozenClock) -> None:
    outbound.on_post = lambda: build_answer(500)
    delivery = record_delivery(services)
    use_up_attempts(services, clock, delivery)
    delivery = get_callback(services, delivery.job_id)
    assert (delivery.status, delivery.reason) == (DeliveryStatus.FAILED, "attempts_exhausted")
    assert len(outbound.posted) == delivery.attempt_count == MAX_ATTEMPTS == 11


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds_lengthens_the_schedule(
    services: Services, outbound: ScriptedOutbound, status: int
) -> None:
    outbound.on_post = lambda: build_answer(status, retry_after="300")
    delivery, _ = attempt_once(services)
    assert get_delay_seconds(services, delivery) == 300


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_as_a_date_lengthens_the_schedule(
    services: Services, outbound: ScriptedOutbound, clock: FrozenClock, status: int
) -> None:
    moment = (clock.now() + timedelta(minutes=10)).replace(microsecond=0)
    outbound.on_post = lambda: build_answer(status, retry_after=format_datetime(moment, usegmt=True))
    delivery, _ = attempt_once(services)
    assert delivery.next_attempt_at == moment


@pytest.mark.parametrize("wish", ["0", "1", "-7", "soon", "Mon, 01 Jan 2001 00:00:00 GMT"])
def test_retry_after_never_shortens_the_schedule(services: Services, outbound: ScriptedOutbound, wish: str) -> None:
    outbound.on_post = lambda: build_answer(503, retry_after=wish)
    delivery, _ = attempt_once(services)
    assert get_delay_seconds(services, delivery) >= SCHEDULE_SECONDS[0]


def test_retry_after_is_heard_for_a_day_at_most(services: Services, outbound: ScriptedOutbound) -> None:
    outbound.on_post = lambda: build_answer(429, retry_after="9" * 400)
    delivery, _ = attempt_once(services)
    assert get_delay_seconds(services, delivery) == 86_400


def test_retry_after_of_another_status_is_not_heard(services: Services, outbound: ScriptedOutbound) -> None:
    outbound.on_post = lambda: build_answer(500, retry_after="300")
    delivery, _ = attempt_once(services)
    assert get_delay_seconds(services, delivery) <= SCHEDULE_SECONDS[0] * (1 + JITTER)


# ── what is sent ────────────────────────────────────────────────────────────────────────────────────────


def test_webhook_verifies_with_the_accounts_secret(
    ledger: Ledger, dispatcher: RecordingDispatcher, real_outbound: Outbound
) -> None:
    """Through a real socket, with the PyPI package as its receivers use it."""
    services = build_test_services(ledger, dispatcher, FrozenClock(datetime.now(UTC)), outbound=real_outbound)
    with Receiver() as receiver:
        delivery, _ = attempt_once(services, callback_url=receiver.url("/hooks"))
        [request] = receiver.wait_for(1)
    secret = services.cipher.decrypt(get_default_account(services).callback_secret)
    assert Webhook(secret).verify(request.body, dict(request.headers)) == json.loads(request.body)
    assert delivery.status is DeliveryStatus.DELIVERED


def test_headers_name_event_delivery_and_attempt(
    services: Services, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    delivery, _ = attempt_once(services)
    headers = dict(outbound.posted[0].headers)
    assert headers.pop("webhook-signature").startswith("v1,")
    assert headers == {
        "content-type": "application/json",
        "user-agent": "thumbs-webhooks/1",
        "webhook-id": delivery.event_id,
        "webhook-timestamp": str(int(clock.now().timestamp())),
        "thumbs-delivery": delivery.id,
        "thumbs-attempt": "1",
    }


def test_each_attempt_sends_the_same_bytes_under_the_same_id_signed_anew(
    services: Services, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    outbound.on_post = lambda: build_answer(500)
    delivery = record_delivery(services)
    deliver(services, delivery.id)
    clock.move(60)
    deliver(services, delivery.id)
    first, second = outbound.posted
    assert (first.url, first.body) == (second.url, second.body)
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]
    assert (first.headers["thumbs-attempt"], second.headers["thumbs-attempt"]) == ("1", "2")


# ── what is on record ───────────────────────────────────────────────────────────────────────────────────


def test_answer_is_recorded_with_its_truncation_and_without_nul(services: Services, outbound: ScriptedOutbound) -> None:
    """PostgreSQL's text cannot hold NUL; bytes that are not UTF-8 are shown as U+FFFD, too."""
    outbound.on_post = lambda: build_answer(500, b"a\0b\xff", is_truncated=True, content_type="text/plain")
    _, attempt = attempt_once(services)
    assert (attempt.response_body, attempt.response_body_truncated) == ("a\ufffdb\ufffd", True)
    assert attempt.response_headers == {"content-type": "text/plain"}


TOKEN = 'Ag/1"2-sésame'
SAID_BACK = {
    "as it was sent": (TOKEN.encode("latin-1"), b"***"),
    "in UTF-8": (TOKEN.encode(), b"***"),
    "in JSON": (json.dumps({"got": TOKEN}).encode(), b'{"got": "***"}'),
    "in JSON of UTF-8": (json.dumps({"got": TOKEN}, ensure_ascii=False).encode(), b'{"got": "***"}'),
    "in JSON of PHP": (json.dumps({"got": TOKEN}).replace("/", "\\/").encode(), b'{"got": "***"}'),
    "more than once": (f"{TOKEN}, {TOKEN}".encode(), b"***, ***"),
    "behind its scheme": (f"Bearer {TOKEN}".encode(), b"Bearer ***"),
    "with a longer one that begins alike": (f"{TOKEN}-and-more".encode(), b"***"),
}


def get_told(services: Services, outbound: ScriptedOutbound, body: bytes, **answer: Any) -> Attempt:
    """Get on record what a receiver says back to a ping, of headers that nobody is to see."""
    outbound.on_post = lambda: build_answer(500, body, **answer)
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Other": f"{TOKEN}-and-more", "X-Team": "shop"}
    endpoint, _ = register(services, headers=headers)
    [ping] = list_deliveries(services, endpoint.id, EventType.PING)
    [attempt] = services.ledger.deliveries.list_attempts(ping.id)
    return attempt


@pytest.mark.parametrize(("body", "told"), SAID_BACK.values(), ids=SAID_BACK.keys())
def test_header_that_is_said_back_is_hidden(
    services: Services, outbound: ScriptedOutbound, body: bytes, told: bytes
) -> None:
    """In the body and in headers, which are read as Latin-1."""
    attempt = get_told(services, outbound, body, x_got=body.decode("latin-1"))
    assert attempt.response_body == attempt.response_headers["x-got"] == told.decode()


@pytest.mark.parametrize("size", [8, len(TOKEN) - 1, len(TOKEN)])
def test_header_that_is_cut_off_with_the_answer_is_hidden(
    services: Services, outbound: ScriptedOutbound, size: int
) -> None:
    attempt = get_told(services, outbound, b"got " + TOKEN.encode("latin-1")[:size], is_truncated=True)
    assert attempt.response_body == "got ***"


def test_short_words_of_headers_are_not_hidden(services: Services, outbound: ScriptedOutbound) -> None:
    """Else half of an answer that speaks of a shop would be."""
    assert get_told(services, outbound, b"Bearer of the shop").response_body == "Bearer of the shop"


def test_duration_of_the_attempt_is_recorded(
    services: Services, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    outbound.on_post = meanwhile(lambda: clock.move(0.25), build_answer)
    started_at = clock.now()
    _, attempt = attempt_once(services)
    assert (attempt.started_at, attempt.duration_ms) == (started_at, 250)


def test_attempt_is_on_record_before_anything_is_sent(services: Services, outbound: ScriptedOutbound) -> None:
    delivery = record_delivery(services)
    seen: list[tuple[Delivery, Attempt]] = []
    outbound.on_post = meanwhile(lambda: seen.append(get_state(services, delivery)), build_answer)
    deliver(services, delivery.id)
    [(sending, attempt)] = seen
    assert (sending.status, attempt.number, attempt.duration_ms) == (DeliveryStatus.SENDING, 1, None)


# ── messages that come twice, early, or after the lease ─────────────────────────────────────────────────


def test_message_that_comes_twice_leads_to_one_attempt(services: Services, outbound: ScriptedOutbound) -> None:
    delivery, _ = attempt_once(services)
    deliver(services, delivery.id)
    assert len(outbound.posted) == 1


def test_message_that_comes_before_the_delivery_is_due_does_nothing(
    services: Services, outbound: ScriptedOutbound
) -> None:
    outbound.on_post = lambda: build_answer(500)
    delivery, _ = attempt_once(services)
    deliver(services, delivery.id)
    assert len(outbound.posted) == 1


def test_result_of_a_lost_lease_is_dropped(services: Services, outbound: ScriptedOutbound, clock: FrozenClock) -> None:
    """The sweep gave the delivery up for lost and queued it again: the late answer changes nothing."""

    def lose_lease() -> None:
        clock.move(services.settings.lease_seconds + 1)
        sweep(services, "courier")

    outbound.on_post = meanwhile(lose_lease, build_answer)
    delivery, attempt = attempt_once(services)
    assert (delivery.status, attempt.error_code, attempt.http_status) == (DeliveryStatus.PENDING, "abandoned", None)


def test_queue_that_is_down_at_a_retry_loses_nothing(
    services: Services, outbound: ScriptedOutbound, dispatcher: RecordingDispatcher
) -> None:
    outbound.on_post = lambda: build_answer(500)
    dispatcher.is_down = True
    delivery, _ = attempt_once(services)
    assert delivery.status is DeliveryStatus.PENDING


def test_secret_is_never_in_what_is_remembered(services: Services, outbound: ScriptedOutbound) -> None:
    account = get_default_account(services)
    secret = services.cipher.decrypt(account.callback_secret)
    delivery, attempt = attempt_once(services)
    assert secret not in repr((account, delivery, attempt, services.settings))
