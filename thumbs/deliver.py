"""One delivery attempt: lease, sign, post, record, schedule; and which delivery is next in line.

The attempt is on record before anything is sent. A delivery may come twice (after a crash, or a lost answer): same
`webhook-id`, same bytes. What counts as delivered is written in docs/webhooks.md.
"""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from thumbs import signing
from thumbs.disabling import look_after
from thumbs.documents import HIDDEN
from thumbs.domain import (
    Answer,
    Attempt,
    Delivery,
    DeliveryStatus,
    Lane,
    Lease,
    LeasedDelivery,
    NextStep,
    Startable,
    Trigger,
)
from thumbs.errors import AttemptError
from thumbs.lanes import Ending
from thumbs.retries import add_seconds, decide_next_attempt, parse_retry_after
from thumbs.services import Services, name_agent
from thumbs.telemetry import log_context

WEBHOOK_AGENT: Final = "thumbs-webhooks/1"
GONE: Final = 410
RETRY_AFTER_STATUSES: Final = frozenset({429, 503})
"""The answers whose Retry-After is heard (RFC 9110 section 10.2.3, RFC 6585 section 4)."""
MIN_HIDDEN_CHARS: Final = 8
"""Words of headers that are shorter, such as `Bearer` and `prod`, are not hidden in answers."""
TELLING_TRIGGERS: Final = frozenset({Trigger.AUTO, Trigger.RECOVER})
"""The attempts that say something about a receiver; what somebody asked for in between does not."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """How an attempt went: `error_code` is None for a 2xx."""

    error_code: str | None
    error_detail: str | None = None
    answer: Answer | None = None
    wish_seconds: float = 0.0


def deliver(services: Services, delivery_id: str) -> str | None:
    """Make one attempt of the delivery if it is due and its lane may start it. Blocking; idempotent.

    Returns the id of a delivery that may start next; None when there is none, or when this one did not. Raises
    LedgerUnavailable only.
    """
    now = services.clock.now()
    lease = services.new_lease(delivery_id, now)
    leased = _lease(services, lease, now)
    if leased is None:
        logger.debug("the delivery moved on, or has to wait: nothing to do", extra={"delivery_id": delivery_id})
        return None
    with (
        log_context(delivery_id=delivery_id, job_id=leased.delivery.job_id or "none"),
        services.held_leases.hold(lease, lambda: _give_back(services, lease, leased)),
    ):
        began = services.clock.monotonic()
        result = _post(services, leased)
        lane = _record(services, lease, leased, result, services.clock.monotonic() - began)
    return _find_next(services, is_patient=lane is not None and lane.is_recovering)


def dispatch_startable(services: Services) -> None:
    """Dispatch a delivery of each lane that may start one: what was held back until now, or whose message is gone.

    Raises LedgerUnavailable and QueueUnavailable.
    """
    if services.dispatcher.count_deliveries() >= services.settings.courier_threads:
        return  # The couriers have their hands full: who is done looks for what is next.
    for delivery_id in _find_startable(services).delivery_ids:
        services.dispatcher.deliver(delivery_id)


def _lease(services: Services, lease: Lease, now: datetime) -> LeasedDelivery | None:
    attempt = Attempt(services.new_id("att"), lease.id, number=0, trigger=Trigger.AUTO, started_at=now)
    tokens = services.held_leases.list_tokens()
    return services.ledger.deliveries.lease(lease, attempt, now, services.lane_rules, tokens)


def _find_next(services: Services, *, is_patient: bool) -> str | None:
    """Find a delivery that may start now; with patience, wait for one that is held back for a moment only."""
    while True:
        startable = _find_startable(services)
        if startable.delivery_ids:
            return startable.delivery_ids[0]
        if startable.wait_seconds is None or not is_patient:
            return None
        services.clock.sleep(startable.wait_seconds)


def _find_startable(services: Services) -> Startable:
    tokens = services.held_leases.list_tokens()
    return services.ledger.lanes.find_startable(services.clock.now(), services.lane_rules, tokens)


def _give_back(services: Services, lease: Lease, leased: LeasedDelivery) -> None:
    """Give the delivery back before its answer has come: it may have arrived, and is sent again."""
    if services.ledger.deliveries.release(lease, leased, services.clock.now()):
        services.dispatch_deliveries([leased.delivery.id])


def _post(services: Services, leased: LeasedDelivery) -> Result:
    stored = leased.endpoint.headers if leased.endpoint else {}
    custom = {name: services.cipher.decrypt(value) for name, value in stored.items()}
    try:
        answer = services.outbound.post(leased.delivery.url, leased.body, custom | _build_headers(services, leased))
    except AttemptError as error:
        return Result(error.code, error.detail or None)
    return _judge(_hide(answer, " ".join(custom.values()).split()), services.clock.now())


def _hide(answer: Answer, words: Iterable[str]) -> Answer:
    """Hide the words of the endpoint's headers where its receiver says them back: answers are recorded and shown."""
    headers, body = dict(answer.headers), answer.body
    spellings = _list_spellings(word for word in words if len(word) >= MIN_HIDDEN_CHARS)
    for spelling in spellings:
        headers = {name: value.replace(spelling.decode("latin-1"), HIDDEN) for name, value in headers.items()}
        body = body.replace(spelling, HIDDEN.encode())
    if answer.is_truncated:
        body = _hide_cut(body, spellings)
    return replace(answer, headers=headers, body=body)


def _list_spellings(words: Iterable[str]) -> list[bytes]:
    """List how a receiver may write the words, longest first: as they were sent (Latin-1), in UTF-8, or in JSON."""
    spelled = set(words)
    spelled |= {json.dumps(word, ensure_ascii=is_ascii)[1:-1] for word in spelled for is_ascii in (True, False)}
    spelled |= {text.replace("/", "\\/") for text in spelled}  # As PHP writes JSON.
    return sorted({text.encode(charset) for text in spelled for charset in ("utf-8", "latin-1")}, key=len, reverse=True)


def _hide_cut(body: bytes, spellings: Iterable[bytes]) -> bytes:
    """Hide what a word begins with where the body is cut off within it."""
    for spelling in spellings:
        for size in range(len(spelling) - 1, MIN_HIDDEN_CHARS - 1, -1):
            if body.endswith(spelling[:size]):
                return body[:-size] + HIDDEN.encode()
    return body


def _build_headers(services: Services, leased: LeasedDelivery) -> dict[str, str]:
    delivery, attempt = leased.delivery, leased.attempt
    timestamp = int(attempt.started_at.timestamp())
    return {
        "content-type": "application/json",
        "user-agent": name_agent(WEBHOOK_AGENT, services.settings),
        "webhook-id": delivery.event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signing.sign(_list_keys(services, leased), delivery.event_id, timestamp, leased.body),
        "thumbs-delivery": delivery.id,
        "thumbs-attempt": str(attempt.number),
    }


def _list_keys(services: Services, leased: LeasedDelivery) -> list[bytes]:
    """List the keys that sign for this receiver, newest first: its endpoint's, its account's callbacks', or both."""
    delivery, endpoint = leased.delivery, leased.endpoint
    is_callback = endpoint is None or delivery.is_callback
    secrets = [endpoint.secret] if endpoint else []
    secrets += services.ledger.endpoints.list_secrets(
        endpoint.id if endpoint else None, delivery.account_id if is_callback else None, services.clock.now()
    )
    if not secrets:
        raise LookupError(f"there is no account {delivery.account_id}, though a delivery belongs to it")
    return [signing.parse_secret(services.cipher.decrypt(secret)) for secret in secrets]


def _judge(answer: Answer, now: datetime) -> Result:
    """Judge an answer by its status alone: a 2xx counts even when its body is cut."""
    status = answer.http_status
    if 200 <= status < 300:
        return Result(None, answer=answer)
    wish_seconds = None
    if status in RETRY_AFTER_STATUSES:
        wish_seconds = parse_retry_after(_find_header(answer, "retry-after"), now)
    return Result(_name_status(status), answer=answer, wish_seconds=wish_seconds or 0.0)


def _name_status(status: int) -> str:
    if status == GONE:
        return "gone"
    if status == 429:
        return "rate_limited"
    if 300 <= status < 400:
        return "redirect"
    return "http_4xx" if 400 <= status < 500 else "http_5xx"


def _record(
    services: Services, lease: Lease, leased: LeasedDelivery, result: Result, duration_seconds: float
) -> Lane | None:
    """Write down how it went, tell the lane, and look after an endpoint that fails; None when the lease was lost."""
    now, delivery = services.clock.now(), leased.delivery
    step = _decide_step(services, delivery, result, now)
    attempt = _complete(leased.attempt, result, round(duration_seconds * 1000))
    ending = None
    if attempt.trigger in TELLING_TRIGGERS:
        ending = Ending(delivery.id, result.error_code is None, duration_seconds, result.wish_seconds)
    deliveries = services.ledger.deliveries
    lane = deliveries.record(lease, attempt, step, now, delivery=delivery, rules=services.lane_rules, ending=ending)
    if lane is None:
        logger.warning("the lease was lost, the attempt's result is dropped")
        return None
    told = {"attempt": attempt.number, "trigger": str(attempt.trigger), "http_status": attempt.http_status}
    told |= {"error_code": result.error_code, "duration_ms": attempt.duration_ms, "delivery_status": str(step.status)}
    logger.info("attempt ended", extra=told)
    if ending is not None and leased.endpoint is not None and result.error_code is not None:
        look_after(services, leased.endpoint, lane, is_gone=result.error_code == "gone")
    return lane


def _decide_step(services: Services, delivery: Delivery, result: Result, now: datetime) -> NextStep:
    if result.error_code is None:
        return NextStep(DeliveryStatus.DELIVERED, delivered_at=delivery.delivered_at or now)
    if delivery.trigger is not Trigger.AUTO:
        return _decide_step_back(delivery)
    if result.error_code == "gone":
        return NextStep(DeliveryStatus.FAILED, reason="gone")
    delay_seconds = decide_next_attempt(
        services.settings.webhook_schedule_seconds,
        delivery.scheduled_count,
        chance=services.random.random(),
        wish_seconds=min(result.wish_seconds, services.settings.webhook_max_retry_after_seconds),
    )
    if delay_seconds is None:
        return NextStep(DeliveryStatus.FAILED, reason="attempts_exhausted")
    return NextStep(DeliveryStatus.PENDING, next_attempt_at=add_seconds(now, delay_seconds))


def _decide_step_back(delivery: Delivery) -> NextStep:
    """Put a delivery back to where it stood before somebody asked for an attempt, which was the only one."""
    if delivery.delivered_at is not None:
        return NextStep(DeliveryStatus.DELIVERED, delivered_at=delivery.delivered_at)
    if delivery.resume_at is not None:
        return NextStep(DeliveryStatus.PENDING, next_attempt_at=delivery.resume_at)
    return NextStep(DeliveryStatus.FAILED, reason=delivery.reason or "attempts_exhausted")


def _complete(attempt: Attempt, result: Result, duration_ms: int) -> Attempt:
    """Fill in how the attempt went. NUL is shown as U+FFFD: PostgreSQL's text cannot hold it."""
    ended = replace(attempt, duration_ms=duration_ms, error_code=result.error_code, error_detail=result.error_detail)
    answer = result.answer
    if answer is None:
        return ended
    return replace(
        ended,
        http_status=answer.http_status,
        response_headers=dict(answer.headers),
        response_body=answer.body.decode("utf-8", "replace").replace("\0", "\ufffd"),
        response_body_truncated=answer.is_truncated,
    )


def _find_header(answer: Answer, name: str) -> str | None:
    return next((value for key, value in answer.headers.items() if key.lower() == name), None)
