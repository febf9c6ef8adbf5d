"""Events: written with their deliveries, read in order by who cannot be called, and forgotten with what they tell of.

Each event has a position among its account's, drawn while the account's row is locked until the commit: who has read up
to one position finds all that comes later, and nothing appears behind it.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from thumbs.domain import Announcement, Delivery, DeliveryStatus, Event, EventFilter, EventType
from thumbs.lanes import build_lane
from thumbs.ledger.connection import Connection, Prepared
from thumbs.ledger.database import Database
from thumbs.ledger.lanes import push
from thumbs.ledger.tables import accounts, attempts, deliveries, events

_COUNT = Prepared(
    accounts.update()
    .where(accounts.c.id == sa.bindparam("account_id"))
    .values(event_count=accounts.c.event_count + 1)
    .returning(accounts.c.event_count)
)
_INSERT_EVENT = Prepared(events.insert())
_INSERT_DELIVERY = Prepared(deliveries.insert())


class Events:
    """The events of the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, announcement: Announcement) -> list[str]:
        """Write an event with its deliveries; returns the ids of those to dispatch at once."""
        with self._database.writing() as connection:
            return write_announcement(connection, announcement)

    def list_after(self, account_id: str, where: EventFilter, limit: int) -> list[Event]:
        """List the account's events in the order in which they became known, oldest first."""
        query = sa.select(events).where(events.c.account_id == account_id, events.c.position.is_not(None))
        if where.kind is not None:
            query = query.where(events.c.type == where.kind)
        if where.is_undelivered:
            has_arrived = sa.and_(deliveries.c.event_id == events.c.id, deliveries.c.delivered_at.is_not(None))
            query = query.where(~sa.exists().where(has_arrived))
        with self._database.reading() as connection:
            if where.after_id is not None:
                query = query.where(events.c.position > _find_position(connection, account_id, where))
            rows = connection.execute(query.order_by(events.c.position).limit(limit))
            return [_event_of_row(row) for row in rows]

    def adopt(self, limit: int) -> int:
        """Give a position to events that a release made which knows none; tell how many there were."""
        query = sa.select(events.c.id, events.c.account_id).where(events.c.position.is_(None)).limit(limit)
        with self._database.writing() as connection:
            rows = connection.execute(query.order_by(events.c.id)).all()
            for row in rows:
                position = connection.scalar(_COUNT, {"account_id": row.account_id})
                connection.execute(events.update().where(events.c.id == row.id).values(position=position))
        return len(rows)

    def forget_expired(self, since: datetime, limit: int) -> int:
        """Delete up to `limit` events from before that moment that tell of no job or batch; tell how many."""
        is_loose = sa.and_(events.c.job_id.is_(None), events.c.batch_id.is_(None))
        query = sa.select(events.c.id).where(events.c.created_at < since, is_loose).limit(limit)
        with self._database.writing() as connection:
            ids = list(connection.scalars(query))
            delete_events(connection, events.c.id.in_(ids))
        return len(ids)


def write_announcement(connection: Connection, announcement: Announcement) -> list[str]:
    """Write an event and its deliveries inside the caller's transaction; tells which deliveries to dispatch at once."""
    event = announcement.event
    position = connection.scalar(_COUNT, {"account_id": event.account_id})
    connection.execute(_INSERT_EVENT, _row_of(event) | {"position": position})
    if not announcement.deliveries:
        return []
    rows = [_row_of(delivery) | {"dispatched_at": delivery.created_at} for delivery in announcement.deliveries]
    connection.execute(_INSERT_DELIVERY, rows)
    return _push_lanes(connection, announcement.deliveries)


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


def _push_lanes(connection: Connection, written: Sequence[Delivery]) -> list[str]:
    """Tell the lanes, in the order of their names, so that two of us do not wait for each other."""
    pending = [delivery for delivery in written if delivery.status is DeliveryStatus.PENDING]
    lanes = sorted(((build_lane(delivery), delivery.id) for delivery in pending), key=lambda each: each[0].id)
    return [delivery_id for lane, delivery_id in lanes if push(connection, lane)]


def _find_position(connection: Connection, account_id: str, where: EventFilter) -> int:
    """Find the position behind which to go on: some events may come again, none is left out."""
    mine = events.c.account_id == account_id
    known = sa.select(events.c.position).where(mine, events.c.id == where.after_id)
    younger = sa.select(sa.func.min(events.c.position) - 1).where(mine, events.c.id > where.floor_id)
    newest = sa.select(accounts.c.event_count).where(accounts.c.id == account_id)
    found = (connection.scalar(query) for query in (known, younger, newest))
    return next((int(position) for position in found if position is not None), 0)


def _event_of_row(row: Any) -> Event:
    values = {name: row._mapping[name] for name in Event.__dataclass_fields__}
    return Event(**values | {"type": EventType(values["type"]), "body": bytes(values["body"])})


def _row_of(value: Event | Delivery) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}
