"""When a failed run or attempt is tried again, and what Retry-After may say about it."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from tests.support.builders import build_delivery
from thumbs.domain import DeliveryStatus, NextStep, Trigger
from thumbs.errors import DecoderCrashed, ImageCorrupt, JobError, SourceHttpError, SourceUnreachable
from thumbs.retries import MAX_RUNS, add_seconds, decide_next_attempt, decide_next_run, parse_retry_after, repeat

NOW = datetime(2026, 11, 23, 10, 15, 30, tzinfo=UTC)
SCHEDULE = (5.0, 30.0)


@pytest.mark.parametrize(("run_count", "seconds"), [(1, 2.0), (2, 10.0), (3, None)])
def test_run_is_repeated_after_2_and_10_seconds(run_count: int, seconds: float | None) -> None:
    assert decide_next_run(SourceUnreachable(), run_count, chance=0) == seconds


@pytest.mark.parametrize(("chance", "seconds"), [(0, 2.0), (0.5, 2.2), (0.999, 2.3996)])
def test_run_is_delayed_by_up_to_a_fifth_more(chance: float, seconds: float) -> None:
    assert decide_next_run(SourceUnreachable(), 1, chance=chance) == pytest.approx(seconds)


def test_permanent_error_is_final() -> None:
    assert decide_next_run(ImageCorrupt(), 1, chance=0) is None


def test_image_that_kills_the_decoder_is_tried_once_more() -> None:
    assert decide_next_run(DecoderCrashed(), 1, chance=0) == 2.0
    assert decide_next_run(DecoderCrashed(), 2, chance=0) is None


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503, 599])
def test_source_status_that_may_pass_is_tried_again(status: int) -> None:
    assert decide_next_run(SourceHttpError(source_status=status), 1, chance=0) == 2.0


@pytest.mark.parametrize("status", [None, 304, 400, 401, 403, 404, 410, 451])
def test_source_status_that_will_not_pass_is_final(status: int | None) -> None:
    assert decide_next_run(SourceHttpError(source_status=status), 1, chance=0) is None


@pytest.mark.parametrize(("wish", "seconds"), [(None, 2.0), (0.0, 2.0), (1.0, 2.0), (30.0, 30.0), (3600.0, 60.0)])
def test_sources_wish_lengthens_the_delay_up_to_a_minute(wish: float | None, seconds: float) -> None:
    error: JobError = SourceHttpError(source_status=503, retry_after_seconds=wish)
    assert decide_next_run(error, 1, chance=0) == seconds


def test_run_count_above_the_limit_is_final() -> None:
    """A job that the sweep and a worker counted twice does not run for ever."""
    assert decide_next_run(SourceUnreachable(), MAX_RUNS + 1, chance=0) is None


@pytest.mark.parametrize(("scheduled_count", "seconds"), [(1, 5.0), (2, 30.0), (3, None), (4, None)])
def test_attempts_follow_the_schedule_until_it_ends(scheduled_count: int, seconds: float | None) -> None:
    """A schedule of n delays means n + 1 attempts."""
    assert decide_next_attempt(SCHEDULE, scheduled_count, chance=0) == seconds


@pytest.mark.parametrize("chance", [0.0, 0.3, 0.999])
def test_attempt_is_never_earlier_than_scheduled(chance: float) -> None:
    delay_seconds = decide_next_attempt(SCHEDULE, 1, chance=chance)
    assert delay_seconds is not None
    assert 5.0 <= delay_seconds < 6.0


@pytest.mark.parametrize(("wish", "seconds"), [(0.0, 5.0), (1.0, 5.0), (300.0, 300.0)])
def test_receivers_wish_lengthens_the_delay_and_never_shortens_it(wish: float, seconds: float) -> None:
    assert decide_next_attempt(SCHEDULE, 1, chance=0, wish_seconds=wish) == seconds


def test_receivers_wish_does_not_add_attempts() -> None:
    assert decide_next_attempt(SCHEDULE, 3, chance=0, wish_seconds=60.0) is None


@pytest.mark.parametrize("trigger", Trigger)
def test_attempt_that_broke_off_is_repeated_at_once_for_the_same_reason(trigger: Trigger) -> None:
    """Whatever made it due, and wherever the schedule goes on afterwards: the receiver is not at fault."""
    delivery = build_delivery(trigger=trigger, reason="gone", resume_at=NOW, delivered_at=NOW)
    later = add_seconds(NOW, 60)
    assert repeat(delivery, later) == NextStep(DeliveryStatus.PENDING, "gone", later, NOW, trigger, NOW)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 120 ", 120.0),
        ("9" * 400, float("inf")),
        ("Mon, 23 Nov 2026 10:17:30 GMT", 120.0),
        ("Mon, 23 Nov 2026 11:17:30 +0100", 120.0),
        ("Mon, 23 Nov 2026 10:17:30 -0000", 120.0),
        ("Monday, 23-Nov-26 10:17:30 GMT", 120.0),
        ("Mon Nov 23 10:17:30 2026", 120.0),
        ("Mon, 23 Nov 2026 10:15:29 GMT", 0.0),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(text: str, seconds: float) -> None:
    """RFC 9110 section 10.2.3, with the three forms of section 5.6.7; a date in the past is now."""
    assert parse_retry_after(text, NOW) == seconds


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        " ",
        "-5",
        "1.5",
        "1e9",
        "soon",
        "٣",
        "²",
        "Mon",
        "Mon, 23 Nov 2026",
        "Mon, 99 Nov 2026 10:17:30 GMT",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 23 Nov 2026 10:17:30 +99999999999999999999",
    ],
)
def test_retry_after_that_is_not_sane_says_nothing(text: str | None) -> None:
    """Whoever answers decides on this text: nothing in it may raise."""
    assert parse_retry_after(text, NOW) is None


def test_add_seconds_keeps_the_time_zone() -> None:
    moment = NOW.astimezone(timezone(timedelta(hours=2)))
    assert add_seconds(moment, 1.5) - NOW == timedelta(seconds=1.5)
