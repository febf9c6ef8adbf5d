"""A ledger and its model side by side: how a move is made, and what always holds after it."""

import itertools
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from hypothesis.stateful import RuleBasedStateMachine, invariant

from tests.support.builders import build_account
from tests.support.ledger_model import LedgerModel
from thumbs.domain import (
    DELIVERY_MOVES,
    FINAL_JOB_STATUSES,
    JOB_MOVES,
    Announcement,
    Delivery,
    DeliveryStatus,
    JobStatus,
)
from thumbs.ledger import Ledger
from thumbs.ledger.database import build_engine
from thumbs.ledger.rows import delivery_of_row, endpoint_of_row, lane_of_row
from thumbs.ledger.tables import attempts, deliveries, endpoints, events, jobs, lanes

TABLES = (jobs, events, deliveries, attempts, endpoints, lanes)

Choice = tuple[int, bool]
Snapshot = dict[str, dict[str, Any]]
OpenLedger = Callable[[], tuple[Ledger, str]]


class LedgerMachine(RuleBasedStateMachine):
    """Moves the ledger and the model alike."""

    def __init__(self, open_ledger: OpenLedger) -> None:
        super().__init__()
        self.ledger, url = open_ledger()
        self.engine = build_engine(url)
        self.connection = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        account = build_account()
        self.ledger.accounts.record(account)
        self.model = LedgerModel(account.id)
        self.job_ids: list[str] = []
        self.delivery_ids: list[str] = []
        self.endpoint_ids: list[str] = []
        self.tokens = (f"token{number}" for number in itertools.count())
        self.rows = self.read()

    def teardown(self) -> None:
        """Close what was opened."""
        self.connection.close()
        self.engine.dispose()
        self.ledger.close()

    # ── how a move is made ──

    def call(self, move: Callable[[], Any], can: bool, *, may_change: bool = False) -> Any:
        """Make one move that can be made or not; every row moves legally, and none when it is refused."""
        before = self.rows
        result = move()
        self.rows = self.read()
        assert bool(result) == can
        assert can or may_change or before == self.rows
        return result

    def read(self) -> Snapshot:
        """Read every row."""
        return {
            table.name: {row.id: row for row in self.connection.execute(sa.select(table).order_by(table.c.id))}
            for table in TABLES
        }

    def _announce(self, announcement: Announcement) -> None:
        self.model.announce(announcement)
        self.delivery_ids += [delivery.id for delivery in announcement.deliveries]

    def _choose_job(self, choice: Choice, status: JobStatus) -> str:
        """Choose among all jobs that there ever were, forgotten and refused ones too, or among the apt ones."""
        apt = [name for name, each in self.model.jobs.items() if each.status is status]
        return _choose(choice, self.job_ids, apt)

    def _choose_delivery(self, choice: Choice, status: DeliveryStatus) -> str:
        apt = [name for name, each in self.model.deliveries.items() if each.delivery.status is status]
        return _choose(choice, self.delivery_ids, apt)

    def _choose_endpoint(self, choice: Choice) -> str:
        return _choose(choice, self.endpoint_ids, [endpoint.id for endpoint in self.model.list_endpoints()])

    # ── what always holds ──

    @invariant()
    def ledger_is_as_the_model_says(self) -> None:
        """Every row is compared, after every move."""
        before, self.rows = self.rows, self.read()
        _check_moves(before["jobs"], self.rows["jobs"], JOB_MOVES)
        _check_moves(before["deliveries"], self.rows["deliveries"], DELIVERY_MOVES)
        self._compare_jobs()
        self._compare_events()
        self._compare_deliveries()
        self._compare_attempts()
        found = {name: endpoint_of_row(row) for name, row in self.rows["endpoints"].items()}
        assert found == self.model.endpoints
        self._compare_lanes()

    def _compare_lanes(self) -> None:
        """A lane is due with the earliest of its deliveries; earlier where that was forgotten, and never later."""
        found = {name: lane_of_row(row) for name, row in self.rows["lanes"].items()}
        assert found == self.model.lanes
        for name, lane in found.items():
            due_at = self.model.find_due_at(name)
            if name not in self.model.stale_lanes:
                assert lane.due_at == due_at
            elif due_at is not None:
                assert lane.due_at is not None
                assert lane.due_at <= due_at
        waiting = [each.delivery for each in self.model.deliveries.values() if each.delivery.next_attempt_at]
        assert {delivery.lane_id for delivery in waiting if not _has_parted(delivery)} <= set(found)

    def _compare_jobs(self) -> None:
        names = ("status", "run_count", "run_at", "dispatched_at", "lease_token", "lease_until")
        found = {job_id: tuple(getattr(row, name) for name in names) for job_id, row in self.rows["jobs"].items()}
        assert found == {
            name: (each.status, each.run_count, each.run_at, each.dispatched_at, each.token, each.until)
            for name, each in self.model.jobs.items()
        }

    def _compare_events(self) -> None:
        """One event per final job; the positions are those in which they became known, and none comes twice."""
        rows = self.rows["events"].values()
        found = {row.position: (row.id, row.job_id, row.type) for row in rows}
        assert len(found) == len(rows)
        events = self.model.events.items()
        assert found == {position: (event.id, event.job_id, event.type) for position, event in events}
        told = sorted((event.job_id, str(event.type)) for _, event in events if event.job_id)
        jobs = self.model.jobs.items()
        assert told == sorted((name, f"job.{job.status}") for name, job in jobs if job.status in FINAL_JOB_STATUSES)

    def _compare_deliveries(self) -> None:
        """Besides, a callback always is to the URL that came with its job."""
        rows = self.rows["deliveries"]
        models = self.model.deliveries.items()
        assert {name: delivery_of_row(row) for name, row in rows.items()} == {
            name: model.delivery for name, model in models
        }
        assert {name: (row.dispatched_at, row.lease_token, row.lease_until) for name, row in rows.items()} == {
            name: (model.dispatched_at, model.token, model.until) for name, model in models
        }
        callbacks = [row for row in rows.values() if row.is_callback]
        assert [row.url for row in callbacks] == [self.model.jobs[row.job_id].job.callback_url for row in callbacks]

    def _compare_attempts(self) -> None:
        """Attempts are numbered from 1 without gaps, and the delivery counts them."""
        found: dict[str, list[tuple[int, str | None]]] = {name: [] for name in self.model.deliveries}
        for row in sorted(self.rows["attempts"].values(), key=lambda row: row.number):
            found[row.delivery_id].append((row.number, row.error_code))
        for name, each in self.model.deliveries.items():
            assert found[name] == list(enumerate(each.error_codes, start=1))
            assert each.delivery.attempt_count == len(each.error_codes)


def _choose(choice: Choice, every: list[str], apt: list[str]) -> str:
    place, is_apt = choice
    names = apt if is_apt and apt else every
    return names[place % len(names)]


def _has_parted(delivery: Delivery) -> bool:
    """Tell whether it is a callback that has left its endpoint's lane, and was not adopted yet."""
    return delivery.lane_id is None and delivery.endpoint_id is None and delivery.is_callback


def _check_moves(before: dict[str, Any], after: dict[str, Any], legal: Any) -> None:
    for name in before.keys() & after.keys():
        old, new = before[name].status, after[name].status
        assert new == old or new in legal[old], f"{name} moved from {old} to {new}"
