"""How `thumbs listen` forwards: what a receiver gets, what its answers are called, and how long it may take."""

import json
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from standardwebhooks import Webhook, WebhookVerificationError
from ulid import ULID

from tests.support.authority import TestAuthority
from tests.support.exchanges import Exchange
from tests.support.servers import Receiver
from tests.support.stack import find_free_port
from thumbs.cli.forward import Answer, forward, is_verified, sign
from thumbs.cli.forward import Receiver as Target
from thumbs.cli.stream import Event
from thumbs.cli.wire import show_text

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
OTHER_SECRET = "whsec_HxwdGxoZGBcWFRQTEhEQDw4NDAsKCQgHBgUEAwIBAAA="


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        yield server


@pytest.fixture
def event() -> Event:
    moment = datetime.now(UTC)
    event_id = f"evt_{ULID()}"
    document = {"id": event_id, "type": "job.succeeded", "timestamp": moment.isoformat(), "data": {"name": "Größe"}}
    return Event(event_id, "job.succeeded", moment, document)


def post(event: Event, url: str, timeout_seconds: float = 5.0) -> Answer:
    target = Target(url, ssl.create_default_context(), timeout_seconds)
    return forward(event, sign(event, SECRET), target)


# ── what it gets ────────────────────────────────────────────────────────────────────────────────────────


def test_receiver_gets_what_it_can_verify(receiver: Receiver, event: Event) -> None:
    answer = post(event, receiver.url("/hooks?tenant=1"))
    [request] = receiver.requests
    assert (answer.status, answer.reason, answer.error, answer.is_good) == (200, "OK", None, True)
    assert (request.method, request.target) == ("POST", "/hooks?tenant=1")
    assert request.body == json.dumps(event.document, separators=(",", ":")).encode("ascii")
    assert Webhook(SECRET).verify(request.body, dict(request.headers)) == event.document
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER_SECRET).verify(request.body, dict(request.headers))


def test_verified_is_what_the_secret_signed(event: Event) -> None:
    headers = sign(event, SECRET)
    assert is_verified(event, headers, SECRET)
    assert not is_verified(event, headers, OTHER_SECRET)
    assert not is_verified(event, headers | {"webhook-id": f"evt_{ULID()}"}, SECRET)


# ── what its answers are called ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("status", "is_good"), [(204, True), (302, False), (410, False), (500, False)])
def test_only_2xx_is_good(receiver: Receiver, event: Event, status: int, is_good: bool) -> None:
    receiver.answer_with(status, headers={"Location": receiver.url("/elsewhere")}, body=b"" if status == 204 else b"so")
    answer = post(event, receiver.url())
    assert (answer.status, answer.is_good, answer.body) == (status, is_good, "" if status == 204 else "so")
    assert len(receiver.requests) == 1


def send_half(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    exchange.wait()


def test_body_that_hangs_changes_nothing(receiver: Receiver, event: Event) -> None:
    receiver.behave(send_half)
    assert post(event, receiver.url(), timeout_seconds=0.5).status == 200


def test_long_body_is_cut(receiver: Receiver, event: Event) -> None:
    receiver.answer_with(500, body=b"x" * 100_000)
    assert len(post(event, receiver.url()).body) == 4096


def test_refused(event: Event) -> None:
    assert post(event, f"http://127.0.0.1:{find_free_port()}/").error == "refused"


@pytest.mark.parametrize("host", ["no-such-host.invalid", "two..dots", "a" * 70])
def test_name_that_is_not_found(event: Event, host: str) -> None:
    assert post(event, f"http://{host}/").error == "the name is not found"


def test_connection_that_breaks_off(receiver: Receiver, event: Event) -> None:
    receiver.reset()
    assert post(event, receiver.url()).error == "the connection broke off"


def test_what_is_not_http(receiver: Receiver, event: Event) -> None:
    receiver.behave(lambda exchange: exchange.send(b"SSH-2.0-nonsense\r\n\r\n"))
    assert post(event, receiver.url()).error == "what it answers is not HTTP"


@pytest.mark.parametrize("misbehave", [Receiver.hang, Receiver.drip])
def test_time_is_limited_in_all(receiver: Receiver, event: Event, misbehave: Callable[[Receiver], None]) -> None:
    """A server that drips one byte at a time must not hold the others up for ever."""
    misbehave(receiver)
    answer = post(event, receiver.url(), timeout_seconds=0.4)
    assert answer.error == "no answer in 0.4 s"
    assert 400 <= answer.duration_ms < 2000


def test_certificate_is_verified(tmp_path: Path, event: Event) -> None:
    authority = TestAuthority(tmp_path)
    with Receiver(tls=authority.build_context("localhost")) as server:
        assert (post(event, server.url()).error or "").startswith("certificate: ")
        target = Target(server.url(host="localhost"), ssl.create_default_context(cafile=authority.bundle))
        assert forward(event, sign(event, SECRET), target).status == 200


def test_foreign_text_is_one_line_that_cannot_steer_a_terminal() -> None:
    assert show_text("oh\r\n\x1b[31m no\x9b2J  \u202egnp") == "oh [31m no 2J gnp"
