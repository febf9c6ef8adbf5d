"""The moves of events, deliveries and attempts. An attempt is on record before anything is sent.

A delivery's attempt is leased like a job's run; what comes back with a stale token changes nothing.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from thumbs.domain import Announcement, Attempt, Delivery, DeliveryStatus, Event, Lease, LeasedDelivery, NextStep
from thumbs.ledger.database import Database
from thumbs.ledger.rows import attempt_of_row, delivery_of_row
from thumbs.ledger.tables import attempts, deliveries, events


class Deliveries:
    """The deliveries of the ledger, with their events and attempts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find_callback(self, job_id: str) -> Delivery | None:
        """Find the delivery to the job's own callback; None while the job is not final, or without a callback."""
        query = sa.select(deliveries).where(deliveries.c.job_id == job_id, deliveries.c.endpoint_id.is_(None))
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
        return delivery_of_row(row) if row is not None else None

    def list_callbacks(self, job_ids: Iterable[str]) -> dict[str, Delivery]:
        """List the callback deliveries of several jobs, by job id."""
        query = sa.select(deliveries).where(deliveries.c.job_id.in_(list(job_ids)), deliveries.c.endpoint_id.is_(None))
        with self._database.reading() as connection:
            return {row.job_id: delivery_of_row(row) for row in connection.execute(query)}

    def list_for_job(self, job_id: str) -> list[tuple[Delivery, list[Attempt]]]:
        """List the job's deliveries, newest first, each with its attempts in their order."""
        query = sa.select(deliveries).where(deliveries.c.job_id == job_id).order_by(deliveries.c.id.desc())
        with self._database.reading() as connection:
            found = [delivery_of_row(row) for row in connection.execute(query)]
            return [(delivery, _list_attempts(connection, delivery.id)) for delivery in found]

    def lease(self, lease: Lease, attempt: Attempt, now: datetime) -> LeasedDelivery | None:
        """Take a due delivery for one attempt and put the attempt on record; None when it is not due or taken. Atomic.

        The attempt's number is given here: it counts on from the delivery's.
        """
        move = (
            deliveries.update()
            .where(
                deliveries.c.id == lease.id,
                deliveries.c.status == DeliveryStatus.PENDING,
                deliveries.c.next_attempt_at <= now,
            )
            .values(
                status=DeliveryStatus.SENDING,
                attempt_count=deliveries.c.attempt_count + 1,
                next_attempt_at=None,
                lease_token=lease.token,
                lease_until=lease.until,
            )
            .returning(deliveries)
        )
        with self._database.writing() as connection:
            row = connection.execute(move).one_or_none()
            if row is None:
                return None
            delivery = delivery_of_row(row)
            attempt = replace(attempt, number=delivery.attempt_count)
            connection.execute(attempts.insert(), _row_of(attempt))
            body = connection.scalar(sa.select(events.c.body).where(events.c.id == delivery.event_id))
        return LeasedDelivery(delivery, attempt, bytes(body or b""))

    def record(self, lease: Lease, attempt: Attempt, step: NextStep, now: datetime) -> bool:
        """Write how the attempt went and what comes next, in one transaction; False when the lease was lost."""
        held = (deliveries.c.status == DeliveryStatus.SENDING, deliveries.c.lease_token == lease.token)
        move = deliveries.update().where(deliveries.c.id == lease.id, *held).values(_row_of_step(step, now))
        with self._database.writing() as connection:
            moved = connection.execute(move).rowcount == 1
            if moved:
                row = {name: value for name, value in _row_of(attempt).items() if name != "id"}
                connection.execute(attempts.update().where(attempts.c.id == attempt.id).values(row))
        return moved

    def release(self, lease: Lease, attempt: Attempt, now: datetime) -> bool:
        """Give a delivery back that is being sent, to be sent again at once; False when the lease was lost."""
        abandoned = replace(attempt, error_code="abandoned")
        return self.record(lease, abandoned, NextStep(DeliveryStatus.PENDING, next_attempt_at=now), now)

    def list_expired_leases(self, now: datetime, limit: int) -> list[tuple[Delivery, Attempt, Lease]]:
        """List deliveries whose courier has let its lease run out, with the open attempt and that stale lease."""
        query = (
            sa.select(deliveries)
            .where(deliveries.c.status == DeliveryStatus.SENDING, deliveries.c.lease_until < now)
            .order_by(deliveries.c.lease_until)
            .limit(limit)
        )
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
            return [
                (
                    delivery_of_row(row),
                    _list_attempts(connection, row.id)[-1],
                    Lease(row.id, row.lease_token, row.lease_until),
                )
                for row in rows
            ]

    def count_due(self, now: datetime) -> int:
        """Count the pending deliveries that are due: as many messages should wait on the queue."""
        with self._database.reading() as connection:
            return connection.scalar(sa.select(sa.func.count()).where(*_due(now))) or 0

    def claim_due(self, now: datetime, since: datetime, limit: int) -> list[str]:
        """Claim due deliveries last dispatched before `since`, to be dispatched again; marks them as dispatched now."""
        due = (
            sa.select(deliveries.c.id)
            .where(*_due(now), deliveries.c.dispatched_at < since)
            .order_by(deliveries.c.next_attempt_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        claim = deliveries.update().where(deliveries.c.id.in_(due)).values(dispatched_at=now).returning(deliveries.c.id)
        with self._database.writing() as connection:
            return list(connection.scalars(claim))


def insert_event(connection: Connection, announcement: Announcement) -> None:
    """Write an event and its deliveries inside the caller's transaction."""
    connection.execute(events.insert(), _row_of(announcement.event))
    for delivery in announcement.deliveries:
        connection.execute(deliveries.insert(), _row_of(delivery) | {"dispatched_at": delivery.created_at})


def delete_events(connection: Connection, condition: sa.ColumnElement[bool]) -> None:
    """Delete events with their deliveries and attempts inside the caller's transaction.

    The deliveries are locked first: a courier that takes one meanwhile waits and finds it gone, rather than adding an
    attempt behind our back.
    """
    event_ids = sa.select(events.c.id).where(condition)
    delivery_ids = sa.select(deliveries.c.id).where(deliveries.c.event_id.in_(event_ids))
    connection.execute(delivery_ids.with_for_update()).all()
    connection.execute(attempts.delete().where(attempts.c.delivery_id.in_(delivery_ids)))
    connection.execute(deliveries.delete().where(deliveries.c.event_id.in_(event_ids)))
    connection.execute(events.delete().where(condition))


def _due(now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    return deliveries.c.status == DeliveryStatus.PENDING, deliveries.c.next_attempt_at <= now


def _list_attempts(connection: Connection, delivery_id: str) -> list[Attempt]:
    query = sa.select(attempts).where(attempts.c.delivery_id == delivery_id).order_by(attempts.c.number)
    return [attempt_of_row(row) for row in connection.execute(query)]


def _row_of_step(step: NextStep, now: datetime) -> dict[str, Any]:
    """Give the columns of a delivery after an attempt; its next one is dispatched at once, with the delay."""
    return {
        **_row_of(step),
        "dispatched_at": step.next_attempt_at or now,
        "lease_token": None,
        "lease_until": None,
    }


def _row_of(value: Event | Delivery | Attempt | NextStep) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}
