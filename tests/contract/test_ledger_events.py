"""Events: in one order per account without gaps, read behind a cursor, adopted, and forgotten."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tests.support.builders import (
    NOW,
    build_account,
    build_announcement,
    build_delivery,
    build_job,
    build_lease,
    end,
    record_account,
    record_ended_job,
    succeed,
    take,
    take_surely,
)
from thumbs.domain import Event, EventFilter, EventType, Job
from thumbs.ledger import Ledger
from thumbs.ledger.tables import events

LATER = NOW + timedelta(seconds=60)
THREADS = 8
JOBS_EACH = 6


def read(ledger: Ledger, account_id: str, limit: int = 100, **where: Any) -> list[Event]:
    return ledger.events.list_after(account_id, EventFilter(**where), limit)


def record_events(ledger: Ledger, account_id: str, count: int, **changes: Any) -> list[Event]:
    announcements = [build_announcement(account_id, **changes) for _ in range(count)]
    for announcement in announcements:
        ledger.events.record(announcement)
    return [announcement.event for announcement in announcements]


def read_positions(engine: Engine, account_id: str) -> list[int]:
    query = sa.select(events.c.position).where(events.c.account_id == account_id).order_by(events.c.position)
    with engine.connect() as connection:
        return list(connection.scalars(query))


@pytest.fixture
def account_id(ledger: Ledger) -> str:
    return record_account(ledger).id


# ── order ───────────────────────────────────────────────────────────────────────────────────────────────


def test_events_are_read_as_they_were_written_in_their_order(ledger: Ledger, account_id: str) -> None:
    told = record_events(ledger, account_id, 3)
    assert read(ledger, account_id) == told


def test_each_account_has_an_order_of_its_own(ledger: Ledger, account_id: str, engine: Engine) -> None:
    other_id = record_account(ledger).id
    for each in (account_id, other_id, account_id):
        record_events(ledger, each, 1)
    assert read_positions(engine, account_id) == [1, 2]
    assert read_positions(engine, other_id) == [1]


def test_event_that_was_not_written_leaves_no_gap(ledger: Ledger, account_id: str, engine: Engine) -> None:
    told = build_announcement(account_id, build_delivery())
    ledger.events.record(told)
    with pytest.raises(sa.exc.IntegrityError):
        ledger.events.record(replace(told, event=replace(told.event, id="evt_other")))
    record_events(ledger, account_id, 1)
    assert read_positions(engine, account_id) == [1, 2]


def record_running_jobs(ledger: Ledger, account_id: str, count: int) -> list[Job]:
    found = [build_job(account_id=account_id, callback_url=None) for _ in range(count)]
    ledger.jobs.record(*found)
    running = [ledger.jobs.lease(build_lease(job.id), NOW) for job in found]
    return [job for job in running if job is not None]


def follow(ledger: Ledger, account_id: str, count: int) -> Iterator[Event]:
    """Read behind the cursor until so many were read, as a receiver behind a firewall does."""
    after_id = None
    while count > 0:
        found = read(ledger, account_id, limit=5, after_id=after_id)
        yield from found
        count, after_id = count - len(found), found[-1].id if found else after_id


def test_reader_sees_every_event_once_in_order_while_many_finish_jobs(
    ledger: Ledger, account_id: str, engine: Engine
) -> None:
    """Nothing appears behind a cursor: a position is drawn while the account is locked until the commit."""
    jobs = record_running_jobs(ledger, account_id, THREADS * JOBS_EACH)
    with ThreadPoolExecutor(THREADS + 1) as pool:
        reader = pool.submit(lambda: list(follow(ledger, account_id, len(jobs))))
        list(pool.map(lambda job: ledger.jobs.finish(build_lease(job.id), succeed(job)), jobs))
        seen = reader.result(timeout=30)
    assert sorted(event.job_id or "" for event in seen) == sorted(job.id for job in jobs)
    assert seen == read(ledger, account_id)
    assert read_positions(engine, account_id) == list(range(1, len(jobs) + 1))


# ── the cursor and the filters ──────────────────────────────────────────────────────────────────────────


def test_page_goes_on_behind_the_last_one(ledger: Ledger, account_id: str) -> None:
    told = record_events(ledger, account_id, 5)
    assert read(ledger, account_id, limit=2) == told[:2]
    assert read(ledger, account_id, after_id=told[1].id) == told[2:]
    assert read(ledger, account_id, after_id=told[4].id) == []


def test_cursor_that_is_forgotten_goes_on_with_what_is_younger(ledger: Ledger, account_id: str) -> None:
    """Some events may come again, none is left out."""
    told = record_events(ledger, account_id, 2) + record_events(ledger, account_id, 2, created_at=LATER)
    assert ledger.events.forget_expired(LATER, 10) == 2
    assert read(ledger, account_id, after_id=told[0].id, floor_id=told[0].id) == told[2:]
    assert read(ledger, account_id, after_id=told[1].id, floor_id=told[2].id) == told[3:]


def test_cursor_that_is_forgotten_with_nothing_younger_waits_for_what_comes(ledger: Ledger, account_id: str) -> None:
    [gone] = record_events(ledger, account_id, 1)
    ledger.events.forget_expired(LATER, 10)
    assert read(ledger, account_id, after_id=gone.id, floor_id=gone.id) == []
    told = record_events(ledger, account_id, 1)
    assert read(ledger, account_id, after_id=gone.id, floor_id=gone.id) == told


def test_cursor_of_another_account_tells_nothing_of_it(ledger: Ledger, account_id: str) -> None:
    [foreign] = record_events(ledger, record_account(ledger).id, 1)
    told = record_events(ledger, account_id, 2)
    assert read(ledger, account_id, after_id=foreign.id) == told


def test_cursor_of_an_account_without_events_waits(ledger: Ledger, account_id: str) -> None:
    assert read(ledger, account_id, after_id="evt_never") == []


def test_events_are_filtered_by_their_type(ledger: Ledger, account_id: str) -> None:
    record_events(ledger, account_id, 2)
    pings = record_events(ledger, account_id, 1, type=EventType.PING)
    assert read(ledger, account_id, kind=EventType.PING) == pings


def test_event_is_undelivered_until_one_receiver_has_it(ledger: Ledger, account_id: str) -> None:
    announcement = build_announcement(account_id, build_delivery(), build_delivery(url="https://b.example/"))
    ledger.events.record(announcement)
    [alone] = record_events(ledger, account_id, 1)
    first = take_surely(ledger, announcement.deliveries[0].id)
    assert read(ledger, account_id, is_undelivered=True) == [announcement.event, alone]
    end(ledger, first)
    assert read(ledger, account_id, is_undelivered=True) == [alone]


def test_delivered_event_stays_so_while_it_is_sent_again(ledger: Ledger, account_id: str) -> None:
    announcement = build_announcement(account_id, build_delivery())
    ledger.events.record(announcement)
    end(ledger, take_surely(ledger, announcement.deliveries[0].id))
    assert ledger.redeliveries.ask(announcement.deliveries[0], LATER)
    assert read(ledger, account_id, is_undelivered=True) == []


# ── what is dispatched at once ──────────────────────────────────────────────────────────────────────────


def test_deliveries_of_a_lane_that_does_well_are_dispatched_at_once(ledger: Ledger, account_id: str) -> None:
    announcement = build_announcement(account_id, build_delivery(), build_delivery(url="https://b.example/"))
    assert set(ledger.events.record(announcement)) == {delivery.id for delivery in announcement.deliveries}


@pytest.mark.parametrize(("is_failing", "seconds"), [(True, 0.1), (False, 6.0)], ids=["failing", "slow"])
def test_deliveries_of_a_lane_that_does_not_are_left_to_the_couriers(
    ledger: Ledger, account_id: str, is_failing: bool, seconds: float
) -> None:
    """A thousand messages for a receiver that is down would be in everybody's way."""
    announcement = build_announcement(account_id, build_delivery())
    ledger.events.record(announcement)
    leased = take_surely(ledger, announcement.deliveries[0].id)
    end(ledger, leased, next_at=LATER if is_failing else None, duration_seconds=seconds)
    assert ledger.events.record(build_announcement(account_id, build_delivery())) == []


# ── adopting and forgetting ─────────────────────────────────────────────────────────────────────────────


def test_events_without_a_position_are_adopted_behind_the_others(
    ledger: Ledger, account_id: str, engine: Engine
) -> None:
    """A release that knows no positions has made them: nobody has read on behind them."""
    strangers, known = record_events(ledger, account_id, 2), record_events(ledger, account_id, 1)
    with engine.begin() as connection:
        its_own = events.c.id.in_([event.id for event in strangers])
        connection.execute(events.update().where(its_own).values(position=None))
    assert read(ledger, account_id) == known
    assert [ledger.events.adopt(1), ledger.events.adopt(5), ledger.events.adopt(5)] == [1, 1, 0]
    assert read(ledger, account_id, after_id=known[0].id) == strangers


def test_events_that_tell_of_no_job_are_forgotten_by_their_age(ledger: Ledger, account_id: str) -> None:
    """A ping, say, with its delivery and the attempts; what tells of a job goes with it."""
    job_event = record_ended_job(ledger, account_id=account_id).event
    ping = build_announcement(account_id, build_delivery(), type=EventType.PING)
    ledger.events.record(ping)
    take(ledger, ping.deliveries[0].id)
    assert ledger.events.forget_expired(NOW, 10) == 0
    assert ledger.events.forget_expired(LATER, 10) == 1
    assert read(ledger, account_id) == [job_event]


def test_forgetting_goes_on_where_it_stopped(ledger: Ledger, account_id: str) -> None:
    record_events(ledger, account_id, 3)
    assert [ledger.events.forget_expired(LATER, 2) for _ in range(3)] == [2, 1, 0]


def test_event_of_an_account_that_is_not_there_is_refused(ledger: Ledger) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        ledger.events.record(build_announcement(build_account().id))
