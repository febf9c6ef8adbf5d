"""What starts and ends say about a receiver: the breaker, pauses, slow lanes, the pace of one that is back, health."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.builders import NOW, RULES, build_ending, build_lane
from thumbs.domain import Health, Lane
from thumbs.lanes import finish, is_blocked, may_start, reset, settle, start, tell_health

LATER = NOW + timedelta(hours=1)
PROVEN = build_lane(is_proven=True, started_at=NOW)
TWO = ("dlv_1", "dlv_2", "dlv_1", "dlv_2", "dlv_1")
"""The deliveries of five failures in a row."""


def fail(lane: Lane, now: datetime = NOW, delivery_id: str = "dlv_0", **changes: Any) -> Lane:
    return finish(lane, build_ending(delivery_id, is_success=False, **changes), RULES, now)


def fail_each(lane: Lane, delivery_ids: Iterable[str]) -> Lane:
    for delivery_id in delivery_ids:
        lane = fail(lane, delivery_id=delivery_id)
    return lane


def succeed(lane: Lane, now: datetime = NOW, **changes: Any) -> Lane:
    return finish(lane, build_ending(**changes), RULES, now)


def blocked_seconds(lane: Lane, now: datetime = NOW) -> float:
    return (lane.blocked_until - now).total_seconds() if lane.blocked_until else 0.0


OPEN = fail_each(PROVEN, TWO)


# ── the breaker ─────────────────────────────────────────────────────────────────────────────────────────


def test_breaker_opens_after_five_failures_in_a_row_of_two_deliveries() -> None:
    assert not is_blocked(fail_each(PROVEN, TWO[:4]), NOW)
    assert (OPEN.open_seconds, blocked_seconds(OPEN), OPEN.failure_count) == (60, 60, 5)


def test_one_delivery_that_is_retried_never_opens_the_breaker() -> None:
    """It may be that event which its receiver cannot take."""
    lane = fail_each(PROVEN, ["dlv_1"] * 11)
    assert (lane.open_seconds, lane.blocked_until) == (0, None)


def test_second_delivery_opens_the_breaker_after_many_failures_of_one() -> None:
    assert fail_each(PROVEN, ["dlv_1"] * 7 + ["dlv_2"]).open_seconds == 60


def test_success_in_between_begins_the_count_anew() -> None:
    lane = fail_each(succeed(fail_each(PROVEN, TWO[:4])), TWO[:4])
    assert (lane.open_seconds, lane.failure_count) == (0, 4)


def test_open_breaker_lets_one_probe_through_when_its_time_is_over() -> None:
    """A receiver that answered well once is not trusted any more: one, not four."""
    assert not may_start(OPEN, [], RULES, NOW + timedelta(seconds=59.9))
    assert may_start(OPEN, [], RULES, NOW + timedelta(seconds=60))
    assert not OPEN.is_proven


def test_each_probe_that_fails_opens_it_for_twice_as_long_up_to_a_quarter_of_an_hour() -> None:
    lane, opened = OPEN, []
    for _ in range(6):
        now = lane.blocked_until or NOW
        lane = fail(lane, now)
        opened.append(blocked_seconds(lane, now))
    assert opened == [120, 240, 480, 900, 900, 900]


def test_late_failure_of_an_attempt_that_was_under_way_does_not_double_it() -> None:
    late = fail(OPEN, NOW + timedelta(seconds=14), delivery_id="dlv_9")
    assert (late.open_seconds, late.blocked_until) == (60, OPEN.blocked_until)
    assert late.failure_count == 6


def test_success_closes_the_breaker_and_forgets_the_failures() -> None:
    lane = succeed(OPEN, NOW + timedelta(seconds=60))
    assert (lane.open_seconds, lane.blocked_until, lane.failure_count, lane.failing_since) == (0, None, 0, None)
    assert (lane.is_proven, lane.has_failed_several, lane.failed_delivery_id) == (True, False, None)


def test_late_success_of_an_attempt_that_was_under_way_closes_it_too() -> None:
    assert not is_blocked(succeed(OPEN, NOW + timedelta(seconds=1)), NOW + timedelta(seconds=1))


def test_failing_since_is_the_first_failure_in_a_row() -> None:
    lane = fail(fail(PROVEN, NOW), LATER)
    assert (lane.failing_since, lane.failure_count) == (NOW, 2)


# ── pauses ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("wish", "pause"), [(0, 0), (30, 30), (3600, 3600), (86_400, 3600), (float("inf"), 3600)])
def test_retry_after_pauses_the_lane_for_an_hour_at_most(wish: float, pause: float) -> None:
    """One answer of a receiver must not silence it for a day: that is for its delivery alone."""
    assert blocked_seconds(fail(PROVEN, pause_seconds=wish)) == pause


def test_shorter_pause_does_not_end_a_longer_one() -> None:
    lane = fail(fail(PROVEN, pause_seconds=600), pause_seconds=5)
    assert blocked_seconds(lane) == 600


def test_pause_and_breaker_hold_until_the_later_of_the_two() -> None:
    almost = fail_each(PROVEN, TWO[:4])
    assert blocked_seconds(fail(almost, delivery_id="dlv_1", pause_seconds=300)) == 300
    assert blocked_seconds(fail(almost, delivery_id="dlv_1", pause_seconds=5)) == 60


def test_success_of_an_attempt_that_was_under_way_does_not_end_a_pause() -> None:
    """A receiver that said 429 to one of four means it."""
    assert blocked_seconds(succeed(fail(PROVEN, pause_seconds=600))) == 600


# ── slow lanes ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("seconds", "is_slow"), [(5.0, False), (5.01, True), (15.0, True)])
@pytest.mark.parametrize("is_success", [True, False])
def test_answer_that_takes_longer_than_five_seconds_makes_the_lane_slow(
    seconds: float, is_slow: bool, is_success: bool
) -> None:
    ending = build_ending(is_success=is_success, duration_seconds=seconds)
    assert finish(PROVEN, ending, RULES, NOW).is_slow is is_slow


def test_slow_lane_is_not_trusted_until_a_fast_2xx() -> None:
    slow = succeed(PROVEN, duration_seconds=6)
    assert (slow.is_proven, slow.is_trusted) == (True, False)
    assert not fail(slow).is_trusted
    assert succeed(slow).is_trusted


# ── a receiver that is back ─────────────────────────────────────────────────────────────────────────────


def test_receiver_that_is_back_is_sent_twenty_a_second_at_most() -> None:
    lane = start(succeed(OPEN), RULES, NOW)
    assert lane.is_recovering
    assert blocked_seconds(lane) == pytest.approx(0.05)


def test_pace_holds_until_nothing_is_due_any_more() -> None:
    back = succeed(OPEN)
    assert settle(back, NOW, NOW).is_recovering
    assert not settle(back, LATER, NOW).is_recovering
    assert not settle(back, None, NOW).is_recovering


def test_receiver_that_was_not_down_has_no_pace() -> None:
    lane = start(succeed(PROVEN), RULES, NOW)
    assert (lane.is_recovering, lane.blocked_until, lane.started_at) == (False, None, NOW)


def test_settled_lane_is_due_with_the_next_of_its_deliveries() -> None:
    assert settle(PROVEN, LATER, NOW).due_at == LATER


# ── reset and health ────────────────────────────────────────────────────────────────────────────────────


def test_reset_forgets_how_the_receiver_did() -> None:
    """Its endpoint was enabled again, or has another URL: it is as new, and keeps what is due."""
    used = replace(fail(OPEN, LATER, duration_seconds=15), is_recovering=True, due_at=LATER)
    assert reset(used) == build_lane(due_at=LATER)


def test_health_of_a_lane() -> None:
    assert tell_health(None) is tell_health(PROVEN) is tell_health(build_lane()) is Health.OK
    assert tell_health(fail(PROVEN)) is tell_health(succeed(PROVEN, duration_seconds=6)) is Health.DEGRADED
    assert tell_health(OPEN) is Health.OPEN


def test_health_is_open_until_a_2xx_also_while_a_probe_is_due() -> None:
    assert tell_health(fail(OPEN, LATER)) is Health.OPEN
    assert tell_health(succeed(OPEN)) is Health.OK
