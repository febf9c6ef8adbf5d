"""The rules of lanes: which delivery may start now, and what an attempt's end says about its receiver. Pure.

A lane holds the deliveries that share a receiver. Nobody starves, because lanes that hang or are not known yet together
hold at most five eighths of the slots of their account and of their host, and take the third one and further slowly;
and there is no herd, because a receiver that was down gets one probe, then a few at once, so many a second.
The ledger asks here whenever a delivery starts or ends (docs/webhooks.md tells the promises).
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from thumbs.domain import Delivery, Endpoint, Health, InFlight, Lane, Trigger
from thumbs.settings import Settings

DOUBTFUL_SHARE: Final = 5 / 8
"""Of the slots of an account, of a host and of a courier: the rest is for lanes that answer well and fast."""
FREE_DOUBTFUL_SLOTS: Final = 2
"""Doubtful lanes take so many slots at once; further ones at intervals, so that they never all end together."""
DOUBTFUL_INTERVALS: Final = 4
"""In the time that an attempt may take, so many further doubtful ones start: a new lane waits a quarter of it."""
AFTERLIFE_SECONDS: Final = 2.0
"""An attempt that takes longer than it may, by so much, is of a courier that was killed: it holds no slot any more."""

_ID_LIKE = re.compile(r"\d+|(?=.*\d)[^/]{8,}")
"""A part of a path that is likely to be another one in each URL: a number, or long with a digit in it."""


@dataclass(frozen=True, slots=True)
class LaneRules:
    """The numbers that the rules work with, each a setting."""

    max_per_lane: int
    max_per_account: int
    max_per_host: int
    timeout_seconds: float
    slow_seconds: float
    breaker_failures: int
    breaker_seconds: float
    breaker_max_seconds: float
    max_pause_seconds: float
    max_per_second: int
    threads: int
    """Of one courier."""

    @classmethod
    def of(cls, settings: Settings) -> "LaneRules":
        """Take the numbers from the settings."""
        names = [name for name in cls.__dataclass_fields__ if name != "threads"]
        numbers = {name: getattr(settings, f"webhook_{name}") for name in names}
        return cls(threads=settings.courier_threads, **numbers)

    @property
    def doubtful_threads(self) -> int:
        """The threads of one courier that doubtful lanes may hold together."""
        return _share(self.threads)

    @property
    def interval(self) -> timedelta:
        """Between two starts of doubtful lanes that share an account or a host."""
        return timedelta(seconds=self.timeout_seconds / DOUBTFUL_INTERVALS)

    @property
    def longest(self) -> timedelta:
        """How long an attempt counts as under way; its lease is longer, for what follows the answer."""
        return timedelta(seconds=self.timeout_seconds + AFTERLIFE_SECONDS)

    @property
    def pace(self) -> timedelta:
        """Between two starts of a lane whose receiver is back."""
        return timedelta(seconds=1 / self.max_per_second)


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended, as far as its lane is concerned. `pause_seconds` is the receiver's Retry-After."""

    delivery_id: str
    is_success: bool
    duration_seconds: float
    pause_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Full:
    """Accounts and hosts that have no slot left; `doubt_…` those without one for a doubtful lane, at this moment."""

    accounts: frozenset[str]
    hosts: frozenset[str]
    doubt_accounts: frozenset[str]
    doubt_hosts: frozenset[str]
    has_thread_for_doubt: bool


# ── names ───────────────────────────────────────────────────────────────────────────────────────────────


def name_lane(delivery: Delivery) -> str:
    """Name the lane of a delivery: its endpoint's, or that of its account's callbacks to the same receiver.

    Callbacks are one receiver when their URLs differ in nothing but the query and parts of the path that look like ids.
    What somebody asked for, a ping or a redelivery, goes by a lane beside: no breaker holds it back.
    """
    lane_id = delivery.endpoint_id or _name_callbacks(delivery.account_id, delivery.url)
    return f"{lane_id}.asked" if delivery.trigger in (Trigger.PING, Trigger.MANUAL) else lane_id


def takes_callbacks(endpoint: Endpoint, url: str) -> bool:
    """Tell whether callbacks to that URL go by the endpoint's lane: as long as it is enabled and has the same URL."""
    return endpoint.is_enabled and endpoint.url == url


def name_host(url: str) -> str:
    """Name the host and port that a URL leads to; the name of it is all that is looked at."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{(parts.hostname or '').lower()}:{port}"


def build_lane(delivery: Delivery) -> Lane:
    """Build the lane of a delivery as it is at first: nothing is known of its receiver."""
    return Lane(
        id=name_lane(delivery),
        account_id=delivery.account_id,
        host=name_host(delivery.url),
        endpoint_id=delivery.endpoint_id,
        created_at=delivery.created_at,
        due_at=delivery.next_attempt_at,
    )


def _name_callbacks(account_id: str, url: str) -> str:
    path = "/".join("*" if _ID_LIKE.fullmatch(part) else part for part in urlsplit(url).path.split("/"))
    receiver = f"{account_id} {name_host(url)} {path}"
    return f"cb_{hashlib.sha256(receiver.encode()).hexdigest()[:40]}"


# ── which may start ─────────────────────────────────────────────────────────────────────────────────────


def choose_lanes(
    candidates: Sequence[Lane], in_flight: Sequence[InFlight], rules: LaneRules, now: datetime
) -> list[Lane]:
    """Choose the due lanes that may start one delivery each, the most urgent first.

    Trusted lanes come before new ones and new ones before those that fail; among equals the one that has waited for
    longest, but the newest of the new: where many are new at once, the last to come is not among those who hang.
    """
    started, chosen = list(in_flight), []
    for lane in sorted(candidates, key=_rank):
        if may_start(lane, started, rules, now):
            chosen.append(lane)
            started.append(InFlight(lane.id, lane.account_id, lane.host, lane.is_trusted, now, is_own=True))
    return chosen


def may_start(lane: Lane, in_flight: Sequence[InFlight], rules: LaneRules, now: datetime) -> bool:
    """Tell whether one more delivery of the lane may start beside those that are under way."""
    if is_blocked(lane, now) or not has_slot(lane, in_flight, rules):
        return False
    if lane.is_trusted:
        return True
    full = find_full(in_flight, rules, now)
    return (
        full.has_thread_for_doubt and lane.account_id not in full.doubt_accounts and lane.host not in full.doubt_hosts
    )


def find_full(in_flight: Sequence[InFlight], rules: LaneRules, now: datetime) -> Full:
    """Find who has no slot left, at all or for lanes that are doubtful."""
    accounts, hosts = _group(in_flight, "account_id"), _group(in_flight, "host")
    doubtful_threads = sum(each.is_own and not each.is_trusted for each in in_flight)
    return Full(
        accounts=frozenset(name for name, each in accounts.items() if len(each) >= rules.max_per_account),
        hosts=frozenset(name for name, each in hosts.items() if len(each) >= rules.max_per_host),
        doubt_accounts=_find_doubtful(accounts, rules.max_per_account, rules, now),
        doubt_hosts=_find_doubtful(hosts, rules.max_per_host, rules, now),
        has_thread_for_doubt=doubtful_threads < rules.doubtful_threads,
    )


def is_blocked(lane: Lane, now: datetime) -> bool:
    """Tell whether the lane is held back: by its breaker, a pause, or the pace of a receiver that is back."""
    return lane.blocked_until is not None and lane.blocked_until > now


def has_slot(lane: Lane, in_flight: Sequence[InFlight], rules: LaneRules) -> bool:
    """Tell whether the lane, its account and its host each have fewer attempts under way than they may."""
    limit = rules.max_per_lane if lane.is_proven else 1
    return (
        sum(each.lane_id == lane.id for each in in_flight) < limit
        and sum(each.account_id == lane.account_id for each in in_flight) < rules.max_per_account
        and sum(each.host == lane.host for each in in_flight) < rules.max_per_host
    )


def _group(in_flight: Sequence[InFlight], name: str) -> Mapping[str, list[InFlight]]:
    groups: dict[str, list[InFlight]] = defaultdict(list)
    for each in in_flight:
        groups[getattr(each, name)].append(each)
    return groups


def _find_doubtful(
    groups: Mapping[str, Sequence[InFlight]], limit: int, rules: LaneRules, now: datetime
) -> frozenset[str]:
    return frozenset(name for name, each in groups.items() if not _has_room_for_doubt(each, limit, rules, now))


def _has_room_for_doubt(fellows: Sequence[InFlight], limit: int, rules: LaneRules, now: datetime) -> bool:
    """Tell whether one more doubtful attempt fits among those that share an account or a host."""
    starts = [each.started_at for each in fellows if not each.is_trusted]
    if len(starts) >= _share(limit):
        return False
    return len(starts) < FREE_DOUBTFUL_SLOTS or max(starts) + rules.interval <= now


def _share(limit: int) -> int:
    """Tell how many of so many slots doubtful lanes may hold; one they may, else they would never be known."""
    return max(1, int(limit * DOUBTFUL_SHARE))


def _rank(lane: Lane) -> tuple[int, float, str]:
    """Tell whose turn it is; by their names, where nothing else tells lanes apart."""
    waits_since = (lane.started_at or lane.created_at).timestamp()
    if lane.is_trusted:
        return 0, waits_since, lane.id
    if lane.started_at is None:
        return 1, -waits_since, lane.id
    return 2, waits_since, lane.id


# ── what a start and an end mean to a lane ──────────────────────────────────────────────────────────────


def start(lane: Lane, rules: LaneRules, now: datetime) -> Lane:
    """Tell what becomes of the lane when one of its deliveries starts; its due_at is the ledger's matter."""
    return replace(lane, started_at=now, blocked_until=now + rules.pace if lane.is_recovering else lane.blocked_until)


def settle(lane: Lane, due_at: datetime | None, now: datetime) -> Lane:
    """Give the lane its next due moment; a receiver that was down has caught up once nothing of it is due."""
    return replace(lane, due_at=due_at, is_recovering=lane.is_recovering and due_at is not None and due_at <= now)


def finish(lane: Lane, ending: Ending, rules: LaneRules, now: datetime) -> Lane:
    """Tell what becomes of the lane when an attempt of the schedule, or of a recovery, has ended."""
    is_slow = ending.duration_seconds > rules.slow_seconds
    if ending.is_success:
        return _recover(replace(lane, is_slow=is_slow))
    lane = replace(
        lane,
        is_slow=lane.is_slow or is_slow,
        failure_count=lane.failure_count + 1,
        failing_since=lane.failing_since or now,
        failed_delivery_id=ending.delivery_id,
        has_failed_several=lane.has_failed_several or lane.failed_delivery_id not in (None, ending.delivery_id),
    )
    pause_seconds = min(ending.pause_seconds, rules.max_pause_seconds)
    return _block(_trip(lane, rules, now), now, pause_seconds)


def reset(lane: Lane) -> Lane:
    """Forget how the receiver did: its endpoint was enabled again, or has another URL."""
    return replace(
        _recover(lane), is_proven=False, is_slow=False, is_recovering=False, started_at=None, blocked_until=None
    )


def tell_health(lane: Lane | None) -> Health:
    """Tell how a receiver does."""
    if lane is not None and lane.open_seconds:
        return Health.OPEN
    return Health.DEGRADED if lane is not None and (lane.failure_count or lane.is_slow) else Health.OK


def _recover(lane: Lane) -> Lane:
    """Close the breaker and forget the failures; after an open breaker the pace holds until all has been sent."""
    was_open = lane.open_seconds > 0
    return replace(
        lane,
        is_proven=True,
        is_recovering=lane.is_recovering or was_open,
        blocked_until=None if was_open else lane.blocked_until,
        failure_count=0,
        failing_since=None,
        failed_delivery_id=None,
        has_failed_several=False,
        open_seconds=0.0,
    )


def _trip(lane: Lane, rules: LaneRules, now: datetime) -> Lane:
    """Open the breaker after enough failures, and again, for twice as long, after a probe that failed.

    Failures of one delivery alone, retried, say little about the receiver of the others.
    """
    if lane.open_seconds:
        if is_blocked(lane, now):
            return lane  # The attempt was under way already when the breaker opened: no probe.
        open_seconds = lane.open_seconds * 2
    elif lane.failure_count >= rules.breaker_failures and lane.has_failed_several:
        open_seconds = rules.breaker_seconds
    else:
        return lane
    open_seconds = min(open_seconds, rules.breaker_max_seconds)
    return _block(replace(lane, open_seconds=open_seconds, is_proven=False), now, open_seconds)


def _block(lane: Lane, now: datetime, seconds: float) -> Lane:
    if seconds <= 0:
        return lane
    until = now + timedelta(seconds=seconds)
    return replace(lane, blocked_until=max(until, lane.blocked_until or until))
