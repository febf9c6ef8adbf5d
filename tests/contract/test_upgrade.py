"""A ledger with rows of the release before: the upgrade loses nothing, and that release goes on beside this one."""

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tests.support.builders import NOW, build_announcement
from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.engines import Postgres
from tests.support.services import ScriptedOutbound, build_answer, build_test_services
from thumbs.accounts import create_account
from thumbs.deliver import deliver, dispatch_startable
from thumbs.domain import CALLBACKS, Account, Delivery, DeliveryStatus, EventFilter, JobStatus
from thumbs.endpoints import recover, redeliver
from thumbs.ledger import Ledger
from thumbs.ledger.database import build_engine
from thumbs.ledger.tables import count_microseconds
from thumbs.migrations import upgrade
from thumbs.process import process
from thumbs.services import Services
from thumbs.sweep import DISPATCH_GRACE_SECONDS, sweep

URL = "https://app.example/hooks"
SPEC = {"width": 100, "height": 100, "fit": "cover", "format": "auto", "quality": 80, "background": "#ffffff"}
Row = dict[str, Any]


class OldRelease:
    """Writes what the release before writes: the columns that it knows and no others."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._metadata = sa.MetaData()
        self._metadata.reflect(engine)

    def write(self, table: str, **row: Any) -> None:
        """Insert a row; moments become numbers, as in every release."""
        values = {name: count_microseconds(each) if isinstance(each, datetime) else each for name, each in row.items()}
        with self._engine.begin() as connection:
            connection.execute(self._metadata.tables[table].insert(), values)

    def write_account(self, account: Account) -> None:
        """Write an account."""
        self.write(
            "accounts",
            id=account.id,
            name=account.name,
            callback_secret=account.callback_secret,
            created_at=account.created_at,
        )

    def write_job(self, account_id: str, number: int) -> None:
        """Write a job that waits."""
        job: Row = {"status": "queued", "source_url": "https://img.example/cat.jpg", "callback_url": URL, "spec": SPEC}
        job |= {"metadata": {}, "public_url": "https://t.example", "request_id": "r", "blob_name": f"b{number}"}
        job |= {"run_count": 0, "run_at": NOW, "dispatched_at": NOW, "expires_at": NOW + timedelta(days=7)}
        self.write("jobs", id=f"job_{number}", account_id=account_id, created_at=NOW, timings_ms={}, **job)

    def write_event(self, account_id: str, number: int, at: datetime = NOW, **delivery: Any) -> None:
        """Write a final job with its event and delivery, numbered alike."""
        common: Row = {"account_id": account_id, "created_at": at}
        job: Row = {
            "status": "succeeded",
            "source_url": "https://img.example/cat.jpg",
            "callback_url": URL,
            "spec": SPEC,
        }
        job |= {"metadata": {}, "public_url": "https://t.example", "request_id": "r", "blob_name": f"b{number}"}
        job |= {"run_count": 1, "run_at": at, "dispatched_at": at, "expires_at": at + timedelta(days=7)}
        self.write("jobs", id=f"job_{number}", timings_ms={}, **common | job)
        told = {"job_id": f"job_{number}", "type": "job.succeeded", "body": b"{%d}" % number}
        self.write("events", id=f"evt_{number}", **common | told)
        sent: Row = {"job_id": f"job_{number}", "event_id": f"evt_{number}", "url": URL, "status": "pending"}
        sent |= {"attempt_count": 0, "next_attempt_at": at, "dispatched_at": at}
        self.write("deliveries", id=f"dlv_{number}", **common | sent | delivery)

    def write_attempt(self, number: int, attempt: int, **changes: Any) -> None:
        """Write an attempt of the delivery with that number."""
        row: Row = {"number": attempt, "trigger": "auto", "started_at": NOW, "response_headers": {"server": "x"}}
        row |= {"response_body_truncated": False, "error_code": "http_5xx", "http_status": 500}
        self.write("attempts", id=f"att_{number}_{attempt}", delivery_id=f"dlv_{number}", **row | changes)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database at the schema of the release before."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.create_database(is_migrated=False)
    upgrade(url, "0001")
    return url


@pytest.fixture
def old(url: str) -> Iterator[OldRelease]:
    engine = build_engine(url)
    yield OldRelease(engine)
    engine.dispose()


@pytest.fixture
def services(
    url: str, dispatcher: RecordingDispatcher, clock: FrozenClock, outbound: ScriptedOutbound
) -> Iterator[Services]:
    with closing(Ledger(url)) as ledger:
        yield build_test_services(ledger, dispatcher, clock, outbound=outbound)


@pytest.fixture
def account(services: Services, old: OldRelease) -> Account:
    """An account of the release before, with five events: not sent yet, failing, failed, delivered, being sent."""
    account = Account("acct_old", "old", services.cipher.encrypt("whsec_" + "A" * 43 + "="), NOW)
    old.write_account(account)
    old.write_event(account.id, 1)
    old.write_event(account.id, 2, attempt_count=2, next_attempt_at=NOW + timedelta(seconds=30))
    old.write_event(account.id, 3, attempt_count=2, status="failed", reason="gone", next_attempt_at=None)
    old.write_event(account.id, 4, attempt_count=1, status="delivered", delivered_at=NOW, next_attempt_at=None)
    lease: Row = {"lease_token": "lost", "lease_until": NOW + timedelta(seconds=45)}
    old.write_event(account.id, 5, attempt_count=1, status="sending", next_attempt_at=None, **lease)
    for number, attempt in ((2, 1), (2, 2), (3, 1), (3, 2), (4, 1), (5, 1)):
        old.write_attempt(number, attempt)
    return account


def get(services: Services, number: int) -> Delivery:
    return services.ledger.deliveries.get("acct_old", f"dlv_{number}")


def work(services: Services, dispatcher: RecordingDispatcher, clock: FrozenClock) -> None:
    """Sweep when the grace is over, and do what is then dispatched until there is nothing left."""
    clock.move(services.settings.lease_seconds + DISPATCH_GRACE_SECONDS)
    sweep(services, "courier")
    clock.move(DISPATCH_GRACE_SECONDS)
    sweep(services, "courier")
    dispatcher.delivered.clear()
    dispatch_startable(services)
    next_id: str | None = dispatcher.delivered[0][0]
    while next_id is not None:
        next_id = deliver(services, next_id)


# ── what was there ──────────────────────────────────────────────────────────────────────────────────────


def test_everything_reads_as_it_was(url: str, services: Services, account: Account) -> None:
    upgrade(url)
    job = services.ledger.jobs.get(account.id, "job_4")
    [(delivery, attempts)] = services.ledger.deliveries.list_for_job(job.id)
    assert (job.status, job.callback_url) == (JobStatus.SUCCEEDED, URL)
    assert (delivery.status, delivery.delivered_at, delivery.is_callback) == (DeliveryStatus.DELIVERED, NOW, True)
    assert [(each.number, each.error_code, each.response_headers) for each in attempts] == [
        (1, "http_5xx", {"server": "x"})
    ]
    assert services.ledger.accounts.find(account.id) == account


def test_events_are_numbered_in_the_order_of_their_making(
    url: str, services: Services, account: Account, old: OldRelease
) -> None:
    other = Account("acct_two", "two", "secret", NOW)
    old.write_account(other)
    old.write_event(other.id, 6)
    upgrade(url)
    told = services.ledger.events.list_after(account.id, EventFilter(), 10)
    assert [event.id for event in told] == ["evt_1", "evt_2", "evt_3", "evt_4", "evt_5"]
    assert told[0].body == b"{1}"
    assert [event.id for event in services.ledger.events.list_after(other.id, EventFilter(), 10)] == ["evt_6"]


def test_new_events_come_behind_the_old_ones(url: str, services: Services, account: Account) -> None:
    upgrade(url)
    announcement = build_announcement(account.id)
    services.ledger.events.record(announcement)
    found = services.ledger.events.list_after(account.id, EventFilter(after_id="evt_5"), 10)
    assert found == [announcement.event]


def test_what_was_open_is_delivered(
    url: str, services: Services, account: Account, dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    """What waited, what waited for its schedule, and what a courier was sending when it was stopped."""
    upgrade(url)
    work(services, dispatcher, clock)
    assert {number: get(services, number).status for number in (1, 2, 5)} == dict.fromkeys((1, 2, 5), "delivered")
    codes = [attempt.error_code for attempt in services.ledger.deliveries.list_attempts("dlv_5")]
    assert codes == ["abandoned", None]


def test_schedule_goes_on_where_it_stood(
    url: str,
    services: Services,
    account: Account,
    dispatcher: RecordingDispatcher,
    clock: FrozenClock,
    outbound: ScriptedOutbound,
) -> None:
    """Two attempts were made: after the third comes the third delay, and not the first one again."""
    upgrade(url)
    outbound.on_post = lambda: build_answer(500)
    clock.move(30)
    sweep(services, "courier")
    deliver(services, "dlv_2")
    next_attempt_at = get(services, 2).next_attempt_at
    assert next_attempt_at is not None
    assert 120 <= (next_attempt_at - clock.now()).total_seconds() <= 144


@pytest.mark.parametrize("number", [3, 4])
def test_what_was_over_can_be_sent_again(url: str, services: Services, account: Account, number: int) -> None:
    upgrade(url)
    deliver(services, redeliver(services, account, f"dlv_{number}").id)
    assert get(services, number).status is DeliveryStatus.DELIVERED


def test_what_had_failed_can_be_recovered(
    url: str, services: Services, account: Account, outbound: ScriptedOutbound
) -> None:
    """What failed, and what waits for its schedule; what is due or being sent comes by itself."""
    upgrade(url)
    assert recover(services, account, CALLBACKS, NOW, None) == 2
    deliver(services, "dlv_2")
    assert get(services, 2).status is DeliveryStatus.DELIVERED


# ── the release before, beside this one ─────────────────────────────────────────────────────────────────


def test_release_before_goes_on_writing_and_the_sweep_adopts_it(
    url: str, services: Services, account: Account, old: OldRelease, dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    """An upgrade is rolling: its INSERTs know none of the new columns."""
    upgrade(url)
    old.write_event(account.id, 7)
    work(services, dispatcher, clock)
    assert get(services, 7).status is DeliveryStatus.DELIVERED
    told = services.ledger.events.list_after(account.id, EventFilter(after_id="evt_5"), 10)
    assert [event.id for event in told] == ["evt_7"]


def test_release_before_can_make_accounts(url: str, services: Services, old: OldRelease) -> None:
    upgrade(url)
    account = Account("acct_new", "new", "secret", NOW)
    old.write_account(account)
    services.ledger.events.record(build_announcement(account.id))
    assert services.ledger.accounts.find(account.id) == account
    assert len(services.ledger.events.list_after(account.id, EventFilter(), 10)) == 1


@pytest.mark.parametrize("is_beside", [False, True])
def test_job_of_a_release_without_variants_runs(url: str, services: Services, is_beside: bool) -> None:
    """Written before the upgrade, or by a process of that release that goes on beside this one."""
    upgrade(url, "0002")
    engine = build_engine(url)
    try:
        release = OldRelease(engine)
        if is_beside:
            upgrade(url)
        release.write_account(Account("acct_old", "old", services.cipher.encrypt("whsec_" + "A" * 43 + "="), NOW))
        release.write_job("acct_old", 8)
    finally:
        engine.dispose()
    upgrade(url)
    process(services, "job_8")
    job = services.ledger.jobs.get("acct_old", "job_8")
    assert (job.status, job.variants, job.is_inline, job.reuse_key) == (JobStatus.SUCCEEDED, {}, False, None)


def test_upgrade_of_an_empty_ledger_gives_one_that_works(url: str, services: Services) -> None:
    upgrade(url)
    account = create_account(services, "acme")
    assert account is not None
    announcement = build_announcement(account.id)
    services.ledger.events.record(announcement)
    assert services.ledger.events.list_after(account.id, EventFilter(), 10) == [announcement.event]
