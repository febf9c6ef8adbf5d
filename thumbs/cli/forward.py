"""Forwards one event to a receiver, as the first attempt of a delivery would bring it: the same bytes and headers.

`thumbs listen` calls it. What a receiver answers is judged as a delivery's attempt is, but there is only this one try;
the delivery's id is made up, as there is no delivery.
"""

import ssl
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Final

from ulid import ULID

from thumbs import signing
from thumbs.cli.stream import Event
from thumbs.cli.wire import connect, cut_after, explain, show_text, split_target

TIMEOUT_SECONDS: Final = 15.0
"""For one event in all, as a delivery's attempt has."""
MAX_ANSWER_BYTES: Final = 4096
"""Of a receiver's body: as much as the ledger keeps of one."""

CONSTANT_HEADERS: Final = {
    "content-type": "application/json",
    "user-agent": "thumbs-webhooks/1",
    "accept": "*/*",
    "connection": "close",
    "thumbs-attempt": "1",
}
"""Of every delivery's first attempt. Not taken from `thumbs.deliver`, whose import takes a second; a test compares."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where events are forwarded to."""

    url: str
    tls: ssl.SSLContext = field(repr=False)
    timeout_seconds: float = TIMEOUT_SECONDS


@dataclass(frozen=True, slots=True)
class Answer:
    """What the receiver answered; where it did not, `status` is None and `error` says why."""

    status: int | None
    reason: str
    error: str | None
    duration_ms: int
    body: str

    @property
    def is_good(self) -> bool:
        """Tell whether a delivery would be delivered by it."""
        return self.status is not None and 200 <= self.status < 300


def sign(event: Event, secret: str) -> dict[str, str]:
    """Build the headers of a delivery's first attempt that starts now."""
    timestamp = int(time.time())
    return CONSTANT_HEADERS | {
        "webhook-id": event.id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signing.sign([signing.parse_secret(secret)], event.id, timestamp, event.body),
        "thumbs-delivery": f"dlv_{ULID()}",
    }


def is_verified(event: Event, headers: dict[str, str], secret: str) -> bool:
    """Tell whether a receiver in Python would take the event with these headers."""
    try:
        signing.verify([secret], headers, event.body, now=datetime.now(UTC))
    except signing.SignatureInvalid:
        return False
    return True


def forward(event: Event, headers: dict[str, str], receiver: Receiver) -> Answer:
    """Post an event, once; whatever goes wrong on the way is an answer, too. Blocking, within a hard deadline."""
    began = time.monotonic()
    try:
        status, reason, body = _post(event, headers, receiver)
    except (OSError, HTTPException) as error:
        passed_seconds = time.monotonic() - began
        is_late = passed_seconds >= receiver.timeout_seconds
        told = f"no answer in {receiver.timeout_seconds:g} s" if is_late else explain(error)
        return Answer(None, "", told, round(passed_seconds * 1000), "")
    return Answer(status, reason, None, round((time.monotonic() - began) * 1000), body.decode("utf-8", "replace"))


def _post(event: Event, headers: dict[str, str], receiver: Receiver) -> tuple[int, str, bytes]:
    """Post it; a body that is cut, or hangs, changes nothing."""
    until = time.monotonic() + receiver.timeout_seconds
    with (
        closing(connect(receiver.url, receiver.timeout_seconds, receiver.tls)) as connection,
        cut_after(until - time.monotonic(), connection.sock),
    ):
        connection.request("POST", split_target(receiver.url).target, event.body, headers)
        with connection.getresponse() as response:
            if time.monotonic() >= until:  # A head that was cut looks like one that has ended.
                raise TimeoutError
            body = b""
            with suppress(OSError, HTTPException):
                body = response.read(MAX_ANSWER_BYTES)
            return response.status, show_text(response.reason), body
