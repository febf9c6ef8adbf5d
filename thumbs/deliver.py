"""One delivery attempt: lease, sign, post, record, schedule.

The attempt is on record before anything is sent. A delivery may come twice (after a crash, or a lost answer): same
`webhook-id`, same bytes. What counts as delivered is written in docs/webhooks.md.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from thumbs import signing
from thumbs.domain import Answer, Attempt, DeliveryStatus, Lease, LeasedDelivery, NextStep, Trigger
from thumbs.errors import AttemptError
from thumbs.retries import add_seconds, decide_next_attempt, parse_retry_after
from thumbs.services import Services, name_agent
from thumbs.telemetry import log_context

WEBHOOK_AGENT: Final = "thumbs-webhooks/1"
GONE: Final = 410
RETRY_AFTER_STATUSES: Final = frozenset({429, 503})
"""The answers whose Retry-After is heard (RFC 9110 section 10.2.3, RFC 6585 section 4)."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """How an attempt went: `error_code` is None for a 2xx."""

    error_code: str | None
    error_detail: str | None = None
    answer: Answer | None = None
    retry_after_seconds: float | None = None


def deliver(services: Services, delivery_id: str) -> None:
    """Make one attempt of the delivery if it is due. Blocking; idempotent; raises LedgerUnavailable only."""
    now = services.clock.now()
    lease = services.new_lease(delivery_id, now)
    attempt = Attempt(services.new_id("att"), delivery_id, number=0, trigger=Trigger.AUTO, started_at=now)
    leased = services.ledger.deliveries.lease(lease, attempt, now)
    if leased is None:
        logger.debug("the delivery moved on: nothing to do", extra={"delivery_id": delivery_id})
        return
    with (
        log_context(delivery_id=delivery_id, job_id=leased.delivery.job_id or "none"),
        services.held_leases.hold(lease, lambda: _give_back(services, lease, leased)),
    ):
        began = services.clock.monotonic()
        result = _post(services, leased)
        duration_ms = round((services.clock.monotonic() - began) * 1000)
        _record(services, lease, leased, result, duration_ms)


def _give_back(services: Services, lease: Lease, leased: LeasedDelivery) -> None:
    """Give the delivery back before its answer has come: it may have arrived, and is sent again."""
    if services.ledger.deliveries.release(lease, leased.attempt, services.clock.now()):
        services.dispatch_delivery(leased.delivery.id)


def _post(services: Services, leased: LeasedDelivery) -> Result:
    headers = _build_headers(services, leased)
    try:
        answer = services.outbound.post(leased.delivery.url, leased.body, headers)
    except AttemptError as error:
        return Result(error.code, error.detail or None)
    return _judge(answer, services.clock.now())


def _build_headers(services: Services, leased: LeasedDelivery) -> Mapping[str, str]:
    delivery, attempt = leased.delivery, leased.attempt
    timestamp = int(attempt.started_at.timestamp())
    keys = _list_keys(services, delivery.account_id)
    return {
        "content-type": "application/json",
        "user-agent": name_agent(WEBHOOK_AGENT, services.settings),
        "webhook-id": delivery.event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signing.sign(keys, delivery.event_id, timestamp, leased.body),
        "thumbs-delivery": delivery.id,
        "thumbs-attempt": str(attempt.number),
    }


def _list_keys(services: Services, account_id: str) -> list[bytes]:
    """List the keys that sign this account's callbacks, newest first."""
    account = services.ledger.accounts.find(account_id)
    if account is None:
        raise LookupError(f"there is no account {account_id}, though a delivery belongs to it")
    return [signing.parse_secret(services.cipher.decrypt(account.callback_secret))]


def _judge(answer: Answer, now: datetime) -> Result:
    """Judge an answer by its status alone: a 2xx counts even when its body is cut."""
    status = answer.http_status
    if 200 <= status < 300:
        return Result(None, answer=answer)
    wish_seconds = None
    if status in RETRY_AFTER_STATUSES:
        wish_seconds = parse_retry_after(_find_header(answer, "retry-after"), now)
    return Result(_name_status(status), answer=answer, retry_after_seconds=wish_seconds)


def _name_status(status: int) -> str:
    if status == GONE:
        return "gone"
    if status == 429:
        return "rate_limited"
    if 300 <= status < 400:
        return "redirect"
    return "http_4xx" if 400 <= status < 500 else "http_5xx"


def _record(services: Services, lease: Lease, leased: LeasedDelivery, result: Result, duration_ms: int) -> None:
    now = services.clock.now()
    delay_seconds = _decide_delay(services, leased, result)
    step = _decide_step(result, now, delay_seconds)
    attempt = _complete(leased.attempt, result, duration_ms)
    if not services.ledger.deliveries.record(lease, attempt, step, now):
        logger.warning("the lease was lost, the attempt's result is dropped")
        return
    logger.info(
        "attempt ended",
        extra={
            "attempt": attempt.number,
            "http_status": attempt.http_status,
            "error_code": result.error_code,
            "duration_ms": duration_ms,
            "delivery_status": str(step.status),
        },
    )
    if delay_seconds is not None:
        services.dispatch_delivery(leased.delivery.id, delay_seconds)


def _decide_delay(services: Services, leased: LeasedDelivery, result: Result) -> float | None:
    """Decide after how many seconds to try again; None when it was delivered, is gone, or attempts are used up."""
    if result.error_code in (None, "gone"):
        return None
    return decide_next_attempt(
        services.settings.webhook_schedule_seconds,
        leased.delivery.attempt_count,
        chance=services.random.random(),
        retry_after_seconds=result.retry_after_seconds,
    )


def _decide_step(result: Result, now: datetime, delay_seconds: float | None) -> NextStep:
    if result.error_code is None:
        return NextStep(DeliveryStatus.DELIVERED, delivered_at=now)
    if delay_seconds is not None:
        return NextStep(DeliveryStatus.PENDING, next_attempt_at=add_seconds(now, delay_seconds))
    return NextStep(DeliveryStatus.FAILED, reason="gone" if result.error_code == "gone" else "attempts_exhausted")


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
