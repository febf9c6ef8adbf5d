"""The receiver records and verifies what comes, does as it is told, and says what it saw when something is missing."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, RemoteDisconnected

import pytest

from thumbs.signing import build_secret
from thumbs.testing import SAMPLE_SECRET, SampleEvent, WebhookReceiver, sample_event

OTHER_SECRET = build_secret(bytes(range(1, 33)))


def post(receiver: WebhookReceiver, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    """POST anything, and return status, headers and body of the answer."""
    connection = HTTPConnection(receiver.url.split("/")[2], timeout=10)
    try:
        connection.request("POST", "/hooks", body, headers)
        response = connection.getresponse()
        return response.status, dict(response.headers), response.read()
    finally:
        connection.close()


def test_delivery_is_recorded_as_it_came(webhook_receiver: WebhookReceiver) -> None:
    sample = sample_event("job.succeeded", attempt=3)
    before = datetime.now(UTC)
    assert sample.send(webhook_receiver.url + "/orders?page=1") == 200
    [delivery] = webhook_receiver.deliveries
    assert (delivery.id, delivery.type, delivery.event) == (sample.id, "job.succeeded", sample.event)
    assert (delivery.attempt, delivery.delivery_id) == (3, sample.headers["thumbs-delivery"])
    assert (delivery.path, delivery.body) == ("/hooks/orders", sample.body)
    assert dict(sample.headers).items() <= dict(delivery.headers).items()
    assert (delivery.is_verified, delivery.refusal, delivery.answer_status) == (True, None, 200)
    assert before <= delivery.arrived_at <= datetime.now(UTC)


def test_delivery_cannot_be_changed(webhook_receiver: WebhookReceiver) -> None:
    sample_event("ping").send(webhook_receiver.url)
    with pytest.raises(AttributeError):
        webhook_receiver.deliveries[0].id = "evt_other"  # type: ignore[misc]


BAD = {
    "tampered": (lambda: sample_event("ping").tamper(), "No signature"),
    "of another secret": (lambda: sample_event("ping", secret=OTHER_SECRET), "No signature"),
    "too old": (lambda: sample_event("ping", signed_at=datetime.now(UTC) - timedelta(minutes=6)), "s ago; 300 s"),
    "too early": (
        lambda: sample_event("ping", signed_at=datetime.now(UTC) + timedelta(minutes=6)),
        "s from now; 300 s",
    ),
}


@pytest.mark.parametrize(("build", "told"), BAD.values(), ids=BAD)
def test_webhook_that_does_not_verify_is_refused_and_recorded_with_the_reason(
    webhook_receiver: WebhookReceiver, build: Callable[[], SampleEvent], told: str
) -> None:
    assert build().send(webhook_receiver.url) == 401
    [delivery] = webhook_receiver.deliveries
    assert (delivery.is_verified, delivery.answer_status) == (False, 401)
    assert told in (delivery.refusal or "")


@pytest.mark.parametrize("body", [b"", b"hello", b"[1]", b"\xff", b"{"])
def test_what_is_no_webhook_is_refused_and_recorded(webhook_receiver: WebhookReceiver, body: bytes) -> None:
    headers = {"thumbs-attempt": "9" * 5000}
    assert post(webhook_receiver, body, headers)[0] == 401
    [delivery] = webhook_receiver.deliveries
    assert (delivery.id, delivery.type, delivery.event, delivery.attempt) == ("", "", {}, 0)
    assert delivery.refusal == "The header webhook-id is missing."


def test_either_secret_verifies_during_a_rotation(webhook_receiver: WebhookReceiver) -> None:
    webhook_receiver.trust(OTHER_SECRET)
    samples = [sample_event("ping", secret=each) for each in (SAMPLE_SECRET, OTHER_SECRET)]
    assert [sample.send(webhook_receiver.url) for sample in samples] == [200, 200]


def test_secret_that_is_set_is_the_only_one(webhook_receiver: WebhookReceiver) -> None:
    webhook_receiver.secret = OTHER_SECRET
    assert webhook_receiver.secret == OTHER_SECRET
    assert sample_event("ping").send(webhook_receiver.url) == 401
    assert sample_event("ping", secret=OTHER_SECRET).send(webhook_receiver.url) == 200


def test_secret_that_is_none_is_refused_at_once(webhook_receiver: WebhookReceiver) -> None:
    """Else every webhook would be refused, and nobody would know why."""
    with pytest.raises(ValueError, match="whsec_"):
        webhook_receiver.secret = "hunter2"


def test_fail_answers_so_many_times_and_then_well(webhook_receiver: WebhookReceiver) -> None:
    webhook_receiver.fail(times=2)
    webhook_receiver.fail(status=503)
    sample = sample_event("ping")
    assert [sample.send(webhook_receiver.url) for _ in range(4)] == [500, 500, 503, 200]
    assert [each.answer_status for each in webhook_receiver.wait_for(4)] == [500, 500, 503, 200]


def test_refused_webhook_uses_up_no_answer(webhook_receiver: WebhookReceiver) -> None:
    """What was told is for the webhooks that count."""
    webhook_receiver.fail()
    sample = sample_event("ping")
    assert [each.send(webhook_receiver.url) for each in (sample.tamper(), sample)] == [401, 500]


def test_gone_is_for_ever(webhook_receiver: WebhookReceiver) -> None:
    webhook_receiver.gone()
    assert [sample_event("ping").send(webhook_receiver.url) for _ in range(3)] == [410] * 3


def test_answer_is_sent_as_told(webhook_receiver: WebhookReceiver) -> None:
    webhook_receiver.answer(429, headers={"Retry-After": "7"}, body=b"slow down", times=None)
    sample = sample_event("ping")
    for _ in range(2):
        status, headers, body = post(webhook_receiver, sample.body, dict(sample.headers))
        assert (status, headers["Retry-After"], body) == (429, "7", b"slow down")


def test_hang_with_a_time_answers_late(webhook_receiver: WebhookReceiver) -> None:
    webhook_receiver.hang(0.2)
    began = time.monotonic()
    assert sample_event("ping").send(webhook_receiver.url) == 200
    assert time.monotonic() - began >= 0.2


def test_hang_never_answers_and_lets_others_through(webhook_receiver: WebhookReceiver) -> None:
    webhook_receiver.hang()
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(sample_event("job.failed").send, webhook_receiver.url)
        webhook_receiver.wait_for(type="job.failed")
        assert sample_event("ping").send(webhook_receiver.url) == 200
        assert not hanging.done()
        webhook_receiver.reset()
        with pytest.raises(RemoteDisconnected):
            hanging.result()


def test_hanging_webhook_ends_with_the_receiver() -> None:
    """No thread is left behind, and nobody waits for one."""
    before = threading.active_count()
    with ThreadPoolExecutor(1) as pool:
        with WebhookReceiver() as receiver:
            receiver.hang()
            hanging = pool.submit(sample_event("ping").send, receiver.url)
            receiver.wait_for()
            began = time.monotonic()
        assert isinstance(hanging.exception(), RemoteDisconnected)
    assert time.monotonic() - began < 1
    assert threading.active_count() == before


def test_peer_that_gives_up_is_no_error(webhook_receiver: WebhookReceiver, capfd: pytest.CaptureFixture[str]) -> None:
    """That is what senders do with an answer that hangs."""
    webhook_receiver.hang(0.1)
    sample = sample_event("ping")
    connection = HTTPConnection(webhook_receiver.url.split("/")[2])
    connection.request("POST", "/hooks", sample.body, dict(sample.headers))
    connection.close()
    webhook_receiver.wait_for()
    assert sample_event("ping").send(webhook_receiver.url) == 200
    assert capfd.readouterr().err == ""


def test_reset_makes_it_as_new_but_for_its_secrets(webhook_receiver: WebhookReceiver) -> None:
    webhook_receiver.secret = OTHER_SECRET
    webhook_receiver.gone()
    webhook_receiver.fail(times=5)
    sample_event("ping").send(webhook_receiver.url)
    webhook_receiver.reset()
    assert webhook_receiver.deliveries == []
    assert sample_event("ping", secret=OTHER_SECRET).send(webhook_receiver.url) == 200


def test_wait_for_counts_verified_webhooks_of_its_type(webhook_receiver: WebhookReceiver) -> None:
    failed = sample_event("job.failed")
    for sample in (sample_event("ping"), failed.tamper(), failed):
        sample.send(webhook_receiver.url)
    assert [each.id for each in webhook_receiver.wait_for(type="job.failed")] == [failed.id]
    assert len(webhook_receiver.wait_for(2)) == 2


def test_wait_for_is_woken_by_what_comes(webhook_receiver: WebhookReceiver) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(webhook_receiver.wait_for, 2, timeout_seconds=10)
        for _ in range(2):
            assert not waiting.done()
            sample_event("ping").send(webhook_receiver.url)
        assert len(waiting.result(timeout=2)) == 2


def test_wait_for_says_what_came_instead(webhook_receiver: WebhookReceiver) -> None:
    webhook_receiver.fail()
    sample = sample_event("ping", attempt=2)
    for each in (sample, sample.tamper()):
        each.send(webhook_receiver.url)
    with pytest.raises(AssertionError) as caught:
        webhook_receiver.wait_for(2, type="job.failed", timeout_seconds=0.01)
    assert str(caught.value).splitlines() == [
        f"0 of 2 verified webhooks of type job.failed came to {webhook_receiver.url} in 0.01 s; arrived:",
        f"  ping {sample.id}, attempt 2, to /hooks: answered 500",
        f"  ping {sample.id}, attempt 2, to /hooks: refused, because: "
        "No signature in webhook-signature is of this body, made with this secret.",
    ]


def test_wait_for_says_that_nothing_came(webhook_receiver: WebhookReceiver) -> None:
    with pytest.raises(AssertionError, match=r"0 of 1 verified webhook came .*; arrived:\n  nothing"):
        webhook_receiver.wait_for(timeout_seconds=0.01)


def test_many_at_once_are_all_recorded(webhook_receiver: WebhookReceiver) -> None:
    samples = [sample_event("ping") for _ in range(50)]
    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(lambda sample: sample.send(webhook_receiver.url), samples))
    assert statuses == [200] * 50
    assert {each.id for each in webhook_receiver.deliveries} == {sample.id for sample in samples}
