"""When what failed is tried again: the rules for a job's runs and a delivery's attempts. Pure; chance is handed in."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from thumbs.domain import Delivery, DeliveryStatus, NextStep
from thumbs.errors import DecoderCrashed, JobError

MAX_RUNS = 3
"""Runs of a job in all, whatever ended the earlier ones (docs/security.md, manners)."""

RUN_DELAYS_SECONDS = (2.0, 10.0)
"""Before the second and the third run of a job whose source failed in a retryable way."""

MAX_SOURCE_RETRY_AFTER_SECONDS = 60.0
"""The longest Retry-After of a source that we wait for."""

MAX_CRASHED_RUNS = 2
"""Runs of a job whose image kills the decoder: tried once more, in case something else killed it."""

JITTER = 0.2
"""Each delay is lengthened by 0 to 20 %, so that what failed together is not tried together."""


def decide_next_run(error: JobError, run_count: int, *, chance: float) -> float | None:
    """Decide after how many seconds the job runs again; None when this failure is final.

    `run_count` counts the run that just failed; `chance` is in [0, 1) and spreads the delay.
    """
    limit = MAX_CRASHED_RUNS if isinstance(error, DecoderCrashed) else MAX_RUNS
    if not error.retryable or run_count >= limit:
        return None
    delay_seconds = RUN_DELAYS_SECONDS[min(run_count, len(RUN_DELAYS_SECONDS)) - 1]
    wish_seconds = min(error.retry_after_seconds or 0.0, MAX_SOURCE_RETRY_AFTER_SECONDS)
    return max(delay_seconds * (1 + JITTER * chance), wish_seconds)


def decide_next_attempt(
    schedule_seconds: Sequence[float], scheduled_count: int, *, chance: float, wish_seconds: float = 0.0
) -> float | None:
    """Decide after how many seconds a failed delivery is tried again; None when its attempts are used up.

    `scheduled_count` counts the attempt that just failed. The receiver's wish, its Retry-After, lengthens the schedule
    and never shortens it.
    """
    if scheduled_count > len(schedule_seconds):
        return None
    return max(schedule_seconds[scheduled_count - 1] * (1 + JITTER * chance), wish_seconds)


def repeat(delivery: Delivery, now: datetime) -> NextStep:
    """Decide what follows an attempt that broke off through no fault of its receiver: the same again, now."""
    return NextStep(
        DeliveryStatus.PENDING,
        reason=delivery.reason,
        next_attempt_at=now,
        delivered_at=delivery.delivered_at,
        trigger=delivery.trigger,
        resume_at=delivery.resume_at,
    )


def parse_retry_after(text: str | None, now: datetime) -> float | None:
    """Parse a Retry-After header, seconds or an HTTP date, into seconds from now; None when it says nothing sane.

    RFC 9110 section 10.2.3. A date in the past is 0.
    """
    if text is None:
        return None
    if text.strip().isascii() and text.strip().isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # Overflow: `99999999999:00:00`.
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds())


def add_seconds(moment: datetime, seconds: float) -> datetime:
    """Tell the moment that many seconds later."""
    return moment + timedelta(seconds=seconds)
