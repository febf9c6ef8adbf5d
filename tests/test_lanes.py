"""The rules of lanes: their names, which may start, in which order, and how the slots are shared."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.builders import NOW, RULES, build_delivery, build_in_flight, build_lane
from thumbs.domain import InFlight, Lane, Trigger
from thumbs.lanes import LaneRules, choose_lanes, may_start, name_host, name_lane
from thumbs.lanes import build_lane as build_lane_of

TRUSTED = {"is_proven": True, "started_at": NOW - timedelta(minutes=1)}
KNOWN = {"started_at": NOW - timedelta(minutes=1)}
LONG_AGO = NOW - timedelta(minutes=1)
"""Longer than the interval between two doubtful lanes."""


def fly(count: int, **changes: Any) -> list[InFlight]:
    """Build attempts under way, each since long in a lane, account and host of its own, apart from what is named."""
    names = [{"lane_id": f"l{n}", "account_id": f"a{n}", "host": f"h{n}", "started_at": LONG_AGO} for n in range(count)]
    return [build_in_flight(**each | changes) for each in names]


def fly_in(lane: Lane, count: int) -> list[InFlight]:
    return fly(count, lane_id=lane.id, account_id=lane.account_id, host=lane.host, is_trusted=lane.is_trusted)


# ── names ───────────────────────────────────────────────────────────────────────────────────────────────


def name_of(url: str, **changes: Any) -> str:
    return name_lane(build_delivery(url=url, **changes))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://app.example/hooks?job=1", "https://app.example/hooks?job=2"),
        ("https://app.example/hooks/1", "https://app.example/hooks/23"),
        ("https://app.example/hooks/1?a=b", "https://app.example/hooks/2#c"),
        ("https://app.example/o/4f9a2b7c1d/hook", "https://app.example/o/99a2b7c1d0e8/hook"),
        ("https://app.example/job_01K5Z8M3V7Q2X9T4B6N8R0WYCD", "https://app.example/job_01K5Z8KZZZZZZZZZZZZZZZZZZZ"),
        ("https://app.example/hooks", "https://APP.example:443/hooks"),
    ],
)
def test_callbacks_that_differ_in_an_id_share_a_lane(one: str, other: str) -> None:
    """One receiver with an id of its own in each URL must not look like a thousand receivers."""
    assert name_of(one) == name_of(other)


@pytest.mark.parametrize(
    "other",
    [
        "https://app.example/other",
        "https://app.example/hooks/v2",
        "https://app.example/hooks/order",
        "https://app.example/",
        "https://app.example:8443/hooks",
        "http://app.example/hooks",
        "https://www.app.example/hooks",
    ],
)
def test_callbacks_to_other_receivers_have_other_lanes(other: str) -> None:
    assert name_of("https://app.example/hooks") != name_of(other)


def test_callbacks_of_another_account_have_another_lane() -> None:
    """Who hurts a receiver of everybody's hurts his own lane alone."""
    assert name_of("https://app.example/hooks") != name_of("https://app.example/hooks", account_id="acct_1")


def test_endpoint_has_one_lane_whatever_its_url() -> None:
    assert name_of("https://app.example/hooks", endpoint_id="ep_1") == "ep_1"
    assert name_of("https://other.example/", endpoint_id="ep_1") == "ep_1"


@pytest.mark.parametrize(
    ("trigger", "suffix"),
    [(Trigger.AUTO, ""), (Trigger.RECOVER, ""), (Trigger.MANUAL, ".asked"), (Trigger.PING, ".asked")],
)
def test_what_somebody_asked_for_goes_by_a_lane_beside(trigger: Trigger, suffix: str) -> None:
    """No breaker holds back what somebody waits for in front of a screen."""
    assert name_of("https://app.example/hooks", endpoint_id="ep_1", trigger=trigger) == f"ep_1{suffix}"
    callbacks = name_of("https://app.example/hooks")
    assert name_of("https://app.example/hooks", trigger=trigger) == f"{callbacks}{suffix}"


def test_names_fit_their_columns() -> None:
    url = f"https://{'a' * 253}:65535/{'b' * 1700}"
    assert len(name_of(url, trigger=Trigger.MANUAL)) <= 64
    assert len(name_host(url)) <= 300


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://App.Example/hooks", "app.example:443"),
        ("http://app.example/hooks", "app.example:80"),
        ("https://app.example:8443/", "app.example:8443"),
        ("https://[2001:DB8::1]/", "2001:db8::1:443"),
    ],
)
def test_host_is_a_name_and_a_port(url: str, host: str) -> None:
    assert name_host(url) == host


def test_new_lane_knows_nothing_of_its_receiver() -> None:
    delivery = build_delivery(endpoint_id="ep_1")
    lane = build_lane_of(delivery)
    assert (lane.id, lane.host, lane.endpoint_id, lane.due_at) == ("ep_1", "app.example:443", "ep_1", NOW)
    assert (lane.is_trusted, lane.blocked_until, lane.failure_count, lane.open_seconds) == (False, None, 0, 0)


# ── slots ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("lane", "limit"),
    [(build_lane(), 1), (build_lane(**KNOWN), 1), (build_lane(**TRUSTED), 4), (build_lane(**TRUSTED, is_slow=True), 4)],
    ids=["new", "failed", "trusted", "slow"],
)
def test_lane_has_one_attempt_in_flight_until_its_first_2xx_and_then_four(lane: Lane, limit: int) -> None:
    assert may_start(lane, fly_in(lane, limit - 1), RULES, NOW)
    assert not may_start(lane, fly_in(lane, limit), RULES, NOW)


@pytest.mark.parametrize("shared", ["account_id", "host"])
def test_account_and_host_each_have_eight_in_flight_at_most(shared: str) -> None:
    lane = build_lane(**TRUSTED)
    name = {shared: getattr(lane, shared)}
    assert may_start(lane, fly(7, **name), RULES, NOW)
    assert not may_start(lane, fly(8, **name), RULES, NOW)


@pytest.mark.parametrize("shared", ["account_id", "host"])
def test_doubtful_lanes_leave_three_eighths_of_the_slots_to_the_others(shared: str) -> None:
    name = {shared: getattr(build_lane(), shared)}
    assert may_start(build_lane(), fly(4, is_trusted=False, **name), RULES, NOW)
    hanging = fly(5, is_trusted=False, **name)
    assert not may_start(build_lane(), hanging, RULES, NOW)
    assert not may_start(build_lane(**TRUSTED, is_slow=True), hanging, RULES, NOW)
    assert may_start(build_lane(**TRUSTED), hanging, RULES, NOW)


@pytest.mark.parametrize("shared", ["account_id", "host"])
def test_two_doubtful_lanes_start_at_once_and_further_ones_at_intervals(shared: str) -> None:
    """So that those who hang for 15 s never all end together, and a new one waits a quarter of it."""
    name = {shared: getattr(build_lane(), shared), "is_trusted": False}
    for count, seconds, is_free in ((1, 0.0, True), (2, 0.0, False), (2, 3.7, False), (2, 3.75, True)):
        hanging = fly(count, started_at=NOW, **name)
        assert may_start(build_lane(), hanging, RULES, NOW + timedelta(seconds=seconds)) is is_free


def test_interval_is_counted_from_the_last_start() -> None:
    hanging = fly(2, account_id="acct_0", is_trusted=False) + fly(1, account_id="acct_0", is_trusted=False)
    hanging[1] = replace(hanging[1], started_at=NOW)
    assert not may_start(build_lane(), hanging, RULES, NOW + timedelta(seconds=3))


def test_trusted_attempts_take_nothing_of_what_doubtful_ones_may_have() -> None:
    assert may_start(build_lane(), fly(7, account_id="acct_0", started_at=NOW), RULES, NOW)


def test_courier_keeps_three_eighths_of_its_threads_for_trusted_lanes() -> None:
    hanging = fly(20, is_trusted=False)
    assert may_start(build_lane(), hanging[1:], RULES, NOW)
    assert not may_start(build_lane(), hanging, RULES, NOW)
    assert may_start(build_lane(**TRUSTED), hanging, RULES, NOW)


def test_threads_of_other_couriers_are_their_own_matter() -> None:
    assert may_start(build_lane(), fly(200, is_trusted=False, is_own=False), RULES, NOW)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_small_limits_leave_room_for_both(limit: int) -> None:
    """Of two slots a doubtful lane takes one; of a single one it takes it, else it would never be known."""
    rules = replace(RULES, max_per_account=limit, max_per_lane=limit)
    assert may_start(build_lane(), [], rules, NOW)
    hanging = fly(1, account_id="acct_0", is_trusted=False)
    assert not may_start(build_lane(), hanging, rules, NOW)
    assert may_start(build_lane(**TRUSTED), hanging, rules, NOW) is (limit > 1)


@pytest.mark.parametrize(("threads", "share"), [(1, 1), (2, 1), (3, 1), (8, 5), (32, 20)])
def test_share_of_threads_is_five_eighths_and_one_at_least(threads: int, share: int) -> None:
    assert replace(RULES, threads=threads).doubtful_threads == share


def test_blocked_lane_does_not_start_until_it_is_over() -> None:
    lane = build_lane(**TRUSTED, blocked_until=NOW + timedelta(seconds=1))
    assert not may_start(lane, [], RULES, NOW)
    assert may_start(lane, [], RULES, NOW + timedelta(seconds=1))


# ── order ───────────────────────────────────────────────────────────────────────────────────────────────


def choose_ids(*lanes: Lane, in_flight: Sequence[InFlight] = ()) -> list[str]:
    return [lane.id for lane in choose_lanes(lanes, in_flight, RULES, NOW)]


def apart(lane_id: str, **changes: Any) -> Lane:
    """Build a lane of an account and host of its own."""
    return build_lane(id=lane_id, account_id=f"acct of {lane_id}", host=f"host of {lane_id}", **changes)


def test_trusted_lanes_come_first_and_then_new_ones_and_then_those_that_fail() -> None:
    lanes = [apart("failing", **KNOWN), apart("slow", **TRUSTED, is_slow=True), apart("new"), apart("good", **TRUSTED)]
    assert choose_ids(*lanes)[:2] == ["good", "new"]
    assert set(choose_ids(*lanes)[2:]) == {"failing", "slow"}


@pytest.mark.parametrize("is_proven", [True, False])
def test_who_has_waited_longest_comes_first(is_proven: bool) -> None:
    ages = {"young": 1, "old": 9, "middle": 5}
    started = {name: NOW - timedelta(minutes=age) for name, age in ages.items()}
    lanes = [apart(name, is_proven=is_proven, started_at=moment) for name, moment in started.items()]
    assert choose_ids(*lanes) == ["old", "middle", "young"]


def test_newest_of_the_new_comes_first() -> None:
    """Where a thousand dead receivers are new at once, who comes last is not behind them all."""
    created = {"first": NOW - timedelta(seconds=9), "last": NOW}
    assert choose_ids(*(apart(name, created_at=moment) for name, moment in created.items())) == ["last", "first"]


def test_each_due_lane_is_chosen_once() -> None:
    lane = build_lane(**TRUSTED)
    assert choose_ids(lane) == [lane.id]


def test_what_is_chosen_counts_for_what_is_chosen_next() -> None:
    new = [build_lane(id=f"new{n}", host=f"host{n}") for n in range(4)]
    assert len(choose_ids(*new)) == 2
    good = [build_lane(id=f"good{n}", host=f"host{n}", **TRUSTED) for n in range(9)]
    assert len(choose_ids(*good)) == 8


# ── whatever there is ───────────────────────────────────────────────────────────────────────────────────

SECONDS = st.sampled_from([0, 0, 1, 3, 4, 14])
LIMITS = st.integers(1, 9)
RULES_OF_ANY_SIZE = st.builds(
    lambda lane, account, host, threads: replace(
        RULES, max_per_lane=lane, max_per_account=account, max_per_host=host, threads=threads
    ),
    LIMITS,
    LIMITS,
    LIMITS,
    LIMITS,
)


Situation = tuple[list[Lane], list[InFlight]]


@st.composite
def situations(draw: Callable[..., Any]) -> Situation:
    """Lanes of a few accounts and hosts, and attempts of them and of others under way, more than there may be, too."""
    lanes = [
        build_lane(
            id=f"lane{number}",
            account_id=draw(st.sampled_from("ab")),
            host=draw(st.sampled_from("xyz")),
            is_proven=draw(st.booleans()),
            is_slow=draw(st.booleans()),
            started_at=draw(st.sampled_from([None, NOW])),
            blocked_until=draw(st.sampled_from([None, None, None, NOW, NOW + timedelta(seconds=1)])),
        )
        for number in range(draw(st.integers(1, 12)))
    ]
    flights = draw(st.lists(st.tuples(st.sampled_from(lanes), SECONDS, st.booleans()), max_size=10))
    return lanes, [
        InFlight(lane.id, lane.account_id, lane.host, lane.is_trusted, NOW - timedelta(seconds=age), is_own)
        for lane, age, is_own in flights
    ]


def count_by(name: str, flights: Sequence[InFlight]) -> Counter[str]:
    return Counter(getattr(each, name) for each in flights)


def choose(lanes: Sequence[Lane], in_flight: Sequence[InFlight], rules: LaneRules) -> tuple[list[Lane], list[InFlight]]:
    """Choose; returns who was chosen, and what is then in flight, that first."""
    chosen = choose_lanes(lanes, in_flight, rules, NOW)
    began = [InFlight(lane.id, lane.account_id, lane.host, lane.is_trusted, NOW, is_own=True) for lane in chosen]
    return chosen, [*began, *in_flight]


WHATEVER = settings(max_examples=150, derandomize=True, deadline=None, database=None)


@WHATEVER
@given(situation=situations(), rules=RULES_OF_ANY_SIZE)
def test_choice_never_exceeds_a_limit(situation: Situation, rules: LaneRules) -> None:
    chosen, after = choose(*situation, rules)
    lanes, accounts, hosts = (count_by(name, after) for name in ("lane_id", "account_id", "host"))
    for lane in chosen:
        assert lanes[lane.id] <= (rules.max_per_lane if lane.is_proven else 1)
        assert accounts[lane.account_id] <= rules.max_per_account
        assert hosts[lane.host] <= rules.max_per_host


@WHATEVER
@given(situation=situations(), rules=RULES_OF_ANY_SIZE)
def test_choice_never_gives_doubtful_lanes_more_than_their_share(situation: Situation, rules: LaneRules) -> None:
    chosen, after = choose(*situation, rules)
    doubtful = [each for each in after if not each.is_trusted]
    accounts, hosts = count_by("account_id", doubtful), count_by("host", doubtful)
    for lane in (lane for lane in chosen if not lane.is_trusted):
        assert accounts[lane.account_id] <= max(1, rules.max_per_account * 5 / 8)
        assert hosts[lane.host] <= max(1, rules.max_per_host * 5 / 8)
        assert sum(each.is_own for each in doubtful) <= max(1, rules.threads * 5 / 8)


@WHATEVER
@given(situation=situations(), rules=RULES_OF_ANY_SIZE)
def test_trusted_lane_with_a_slot_is_never_refused(situation: Situation, rules: LaneRules) -> None:
    """However many others hang, as long as its account and its host have a slot."""
    chosen, after = choose(*situation, rules)
    lanes, accounts, hosts = (count_by(name, after) for name in ("lane_id", "account_id", "host"))
    for lane in (lane for lane in situation[0] if lane.is_trusted and lane not in chosen):
        assert (
            (lane.blocked_until is not None and lane.blocked_until > NOW)
            or lanes[lane.id] >= rules.max_per_lane
            or accounts[lane.account_id] >= rules.max_per_account
            or hosts[lane.host] >= rules.max_per_host
        )
