"""A real receiver of webhooks on loopback: it records and verifies what comes, and misbehaves as it is told.

    with WebhookReceiver(secret) as receiver:
        receiver.fail(times=2)
        ... something makes thumbs POST to receiver.url ...
        first, second, third = receiver.wait_for(3)

A webhook that does not verify is answered 401, and recorded with the reason. Methods may be called from any thread.
"""

import json
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Final, Self

from thumbs.signing import SignatureInvalid, parse_secret, verify
from thumbs.testing.samples import SAMPLE_SECRET

POLL_SECONDS: Final = 0.02
"""How often the server looks whether it is to stop."""
IDLE_SECONDS: Final = 5.0
"""For how long a connection may say nothing."""
MAX_BODY_BYTES: Final = 1024 * 1024
"""Far more than a webhook has."""
MAX_DIGITS: Final = 9


@dataclass(frozen=True, slots=True)
class ReceivedDelivery:
    """One attempt of a delivery, as it arrived; what its request did not have is empty, or 0.

    `id` is the `webhook-id`, the same at every attempt; `headers` have lower-case names. `refusal` says why the
    signature was refused, None when it verified. `answer_status` is what was answered, None for no answer.
    """

    id: str
    type: str
    event: Mapping[str, Any]
    delivery_id: str
    attempt: int
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    refusal: str | None
    answer_status: int | None
    arrived_at: datetime

    @property
    def is_verified(self) -> bool:
        """Tell whether it was signed with the receiver's secret, within the last five minutes."""
        return self.refusal is None


@dataclass(frozen=True, slots=True)
class _Request:
    """A request; the names of `headers` are lower-case."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    arrived_at: datetime


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to answer: after `seconds`, None for never."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float | None = 0.0


class WebhookReceiver:
    """A receiver on a port of its own; it answers 200 unless told otherwise. What it is told queues up."""

    def __init__(self, secret: str = SAMPLE_SECRET) -> None:
        """Listen; requests are taken from `with` on."""
        self._secrets = [_check(secret)]
        self._changed = threading.Condition()
        self._received: list[ReceivedDelivery] = []
        self._default = _Plan()
        self._plans: deque[_Plan] = deque()
        self._released = threading.Event()
        self._server = _Server(self._receive)
        # Joined before the server is closed.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_SECONDS,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where webhooks are taken; paths below it are taken too."""
        return f"http://127.0.0.1:{self._server.server_port}/hooks"

    @property
    def secret(self) -> str:
        """The secret that webhooks are verified with; setting it forgets those of `trust`."""
        return self._secrets[0]

    @secret.setter
    def secret(self, secret: str) -> None:
        self._secrets = [_check(secret)]

    def trust(self, secret: str) -> None:
        """Verify with this secret as well, as during a rotation."""
        self._secrets = [*self._secrets, _check(secret)]

    @property
    def deliveries(self) -> list[ReceivedDelivery]:
        """Everything that has arrived, in the order of arrival, with what was refused."""
        with self._changed:
            return list(self._received)

    def wait_for(
        self, count: int = 1, *, type: str | None = None, timeout_seconds: float = 10.0
    ) -> list[ReceivedDelivery]:
        """Wait until so many verified webhooks, of that type if one is given, have arrived; returns all of them.

        Each attempt counts, also one that was answered with an error. AssertionError says what has arrived instead.
        """
        __tracebackhide__ = True
        with self._changed:
            if self._changed.wait_for(lambda: len(self._find(type)) >= count, timeout_seconds):
                return self._find(type)
            found_count, arrived = len(self._find(type)), list(self._received)
        wanted = f"{count} verified webhook{'' if count == 1 else 's'}{f' of type {type}' if type else ''}"
        lines = [f"  {_tell(each)}" for each in arrived] or ["  nothing"]
        told = "\n".join([f"{found_count} of {wanted} came to {self.url} in {timeout_seconds:g} s; arrived:", *lines])
        raise AssertionError(told)

    def answer(
        self, status: int, *, headers: Mapping[str, str] | None = None, body: bytes = b"", times: int | None = 1
    ) -> None:
        """Answer the next `times` webhooks so, all from now on when it is None."""
        self._plan(_Plan(status, dict(headers or {}), body), times)

    def fail(self, times: int | None = 1, *, status: int = 500) -> None:
        """Answer the next `times` webhooks with an error, all from now on when it is None."""
        self._plan(_Plan(status), times)

    def gone(self, times: int | None = None) -> None:
        """Answer 410, which ends a delivery and disables an endpoint, from now on."""
        self._plan(_Plan(410), times)

    def hang(self, seconds: float | None = None, *, times: int | None = 1) -> None:
        """Answer the next `times` webhooks after that time only; without one, never."""
        self._plan(_Plan(seconds=seconds), times)

    def reset(self) -> None:
        """Forget what arrived and what was told, and let go of what hangs: as if it was new. The secrets stay."""
        with self._changed:
            self._received.clear()
            self._plans.clear()
            self._default = _Plan()
            self._released.set()
            self._released = threading.Event()

    def _plan(self, plan: _Plan, times: int | None) -> None:
        with self._changed:
            if times is None:
                self._default = plan
                self._plans.clear()
            else:
                self._plans.extend([plan] * times)

    def _find(self, type: str | None) -> list[ReceivedDelivery]:
        return [each for each in self._received if each.is_verified and type in (None, each.type)]

    def _receive(self, request: _Request) -> _Plan | None:
        """Record a request and choose its answer; blocks for as long as it is to hang. None is no answer."""
        refusal = self._judge(request)
        with self._changed:
            plan = self._choose(refusal)
            status = None if plan.seconds is None else plan.status
            self._received.append(_build(request, refusal, status))
            self._changed.notify_all()
            released = self._released
        if plan.seconds == 0:
            return plan
        return None if released.wait(plan.seconds) else plan

    def _judge(self, request: _Request) -> str | None:
        try:
            verify(self._secrets, request.headers, request.body, now=request.arrived_at)
        except SignatureInvalid as error:
            return str(error)
        return None

    def _choose(self, refusal: str | None) -> _Plan:
        if refusal is not None:
            return _Plan(401, body=refusal.encode())
        return self._plans.popleft() if self._plans else self._default


Receive = Callable[[_Request], _Plan | None]


class _Server(ThreadingHTTPServer):
    """One thread per connection, all of which have ended when it is closed."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, receive: Receive) -> None:
        self.receive = receive
        super().__init__(("127.0.0.1", 0), _Handler)

    def server_bind(self) -> None:
        """Bind; HTTPServer's own would ask a name server, who may take its time, for the name of 127.0.0.1."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.socket.getsockname()[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing when the peer breaks off: it may give up on an answer that hangs."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = IDLE_SECONDS

    def do_POST(self) -> None:
        """Take a webhook."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(min(_parse_count(headers.get("content-length", "")), MAX_BODY_BYTES))
        plan = self.server.receive(_Request(self.path, headers, body, datetime.now(UTC)))
        if plan is None:
            self.close_connection = True
            return
        self.send_response(plan.status)
        for name, value in ({"Content-Length": str(len(plan.body))} | dict(plan.headers)).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(plan.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: what arrived is told when something is missing."""


def _check(secret: str) -> str:
    parse_secret(secret)
    return secret


def _build(request: _Request, refusal: str | None, answer_status: int | None) -> ReceivedDelivery:
    event, headers = _parse_event(request.body), request.headers
    return ReceivedDelivery(
        id=headers.get("webhook-id", ""),
        type=str(event.get("type", "")),
        event=event,
        delivery_id=headers.get("thumbs-delivery", ""),
        attempt=_parse_count(headers.get("thumbs-attempt", "")),
        path=request.path,
        headers=headers,
        body=request.body,
        refusal=refusal,
        answer_status=answer_status,
        arrived_at=request.arrived_at,
    )


def _parse_count(text: str) -> int:
    """Parse what should be a number; 0 when it is none."""
    return int(text) if len(text) <= MAX_DIGITS and text.isascii() and text.isdigit() else 0


def _parse_event(body: bytes) -> dict[str, Any]:
    try:
        event = json.loads(body)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _tell(delivery: ReceivedDelivery) -> str:
    name = (
        f"{delivery.type or 'no event'} {delivery.id or 'without id'}, attempt {delivery.attempt}, to {delivery.path}"
    )
    if delivery.refusal is not None:
        return f"{name}: refused, because: {delivery.refusal}"
    return f"{name}: answered {delivery.answer_status or 'nothing'}"
