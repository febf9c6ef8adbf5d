"""Deliveries that somebody asks for again: one at once, or all that never arrived in a time."""

from dataclasses import replace
from datetime import datetime, timedelta

import sqlalchemy as sa

from thumbs.domain import Delivery, DeliveryStatus, EventType, Trigger
from thumbs.lanes import build_lane, name_lane
from thumbs.ledger.connection import Connection
from thumbs.ledger.database import Database
from thumbs.ledger.deliveries import of_endpoint
from thumbs.ledger.lanes import lock_all, push, settle_lane
from thumbs.ledger.rows import delivery_of_row
from thumbs.ledger.tables import count_microseconds, deliveries, events

_RESUME_AT = sa.case(
    (
        sa.and_(deliveries.c.status == DeliveryStatus.PENDING, deliveries.c.trigger == Trigger.AUTO),
        deliveries.c.next_attempt_at,
    ),
    else_=deliveries.c.resume_at,
)
"""Where the schedule goes on afterwards: nowhere when it was through."""


class Redeliveries:
    """The second tries of deliveries in the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(self, delivery: Delivery, now: datetime) -> Delivery | None:
        """Make one attempt due at once, whatever became of the earlier ones; None while it is being sent, or gone.

        It goes by the endpoint that is named here: a callback that is asked for without one has parted from it.
        """
        asked = _again(delivery, Trigger.MANUAL, now)
        lane = build_lane(asked)
        move = (
            deliveries.update()
            .where(deliveries.c.id == delivery.id, deliveries.c.status != DeliveryStatus.SENDING)
            .values(
                status=DeliveryStatus.PENDING,
                trigger=Trigger.MANUAL,
                next_attempt_at=now,
                resume_at=_RESUME_AT,
                endpoint_id=delivery.endpoint_id,
                lane_id=lane.id,
            )
            .returning(deliveries)
        )
        with self._database.writing() as connection:
            lane_ids = {delivery.lane_id or lane.id, lane.id}
            lock_all(connection, lane_ids)
            row = connection.execute(move).one_or_none()
            if row is None:
                return None
            push(connection, lane)
            for each in lock_all(connection, lane_ids).values():
                settle_lane(connection, each, now)
        return delivery_of_row(row)

    def recover(
        self, account_id: str, endpoint_id: str, since: datetime, until: datetime, now: datetime, gap: timedelta
    ) -> int:
        """Make one attempt due of each delivery that never arrived and whose event was made in that time.

        The first at once, each further one a `gap` after the one before; what is being sent or due by then is left
        alone, and so are pings, which say nothing later. Tells how many there are.
        """
        is_ping = sa.exists().where(events.c.id == deliveries.c.event_id, events.c.type == EventType.PING)
        wanted = sa.and_(
            deliveries.c.account_id == account_id,
            of_endpoint(endpoint_id),
            deliveries.c.created_at >= since,
            deliveries.c.created_at <= until,
            deliveries.c.delivered_at.is_(None),
            ~is_ping,
            sa.or_(
                deliveries.c.status == DeliveryStatus.FAILED,
                sa.and_(
                    deliveries.c.status == DeliveryStatus.PENDING,
                    deliveries.c.trigger == Trigger.AUTO,
                    deliveries.c.next_attempt_at > now,
                ),
            ),
        )
        with self._database.writing() as connection:
            lane_ids = _push_lanes(connection, wanted, now)
            count = _make_due(connection, wanted, now, gap)
            for lane in lock_all(connection, lane_ids).values():
                settle_lane(connection, lane, now)
        return count


def _push_lanes(connection: Connection, wanted: sa.ColumnElement[bool], now: datetime) -> set[str]:
    """Lock the lanes of those deliveries, in the order of their names, and make those that were forgotten.

    Deliveries that a release made which knows no lanes are given theirs.
    """
    first_ids = sa.select(sa.func.min(deliveries.c.id)).where(wanted).group_by(deliveries.c.lane_id, deliveries.c.url)
    rows = connection.execute(sa.select(deliveries).where(deliveries.c.id.in_(first_ids)).order_by(deliveries.c.id))
    found = [_again(delivery_of_row(row), Trigger.RECOVER, now) for row in rows]
    for lane in sorted(map(build_lane, found), key=lambda lane: lane.id):
        push(connection, lane)
    for delivery in found:
        if delivery.lane_id is None:
            alike = sa.and_(wanted, deliveries.c.lane_id.is_(None), deliveries.c.url == delivery.url)
            connection.execute(deliveries.update().where(alike).values(lane_id=name_lane(delivery)))
    return {name_lane(delivery) for delivery in found}


def _make_due(connection: Connection, wanted: sa.ColumnElement[bool], now: datetime, gap: timedelta) -> int:
    """Space them out in the order of their ids: moments are microseconds in the database."""
    numbered = (
        sa.select(deliveries.c.id, (sa.func.row_number().over(order_by=deliveries.c.id) - 1).label("number"))
        .where(wanted)
        .subquery()
    )
    offset = numbered.c.number * sa.literal(gap // timedelta(microseconds=1), sa.BigInteger)
    values = {
        "status": DeliveryStatus.PENDING,
        "trigger": Trigger.RECOVER,
        "next_attempt_at": sa.literal(count_microseconds(now), sa.BigInteger) + offset,
        "resume_at": _RESUME_AT,
    }
    return connection.execute(deliveries.update().where(deliveries.c.id == numbered.c.id).values(values)).rowcount


def _again(delivery: Delivery, trigger: Trigger, now: datetime) -> Delivery:
    return replace(delivery, status=DeliveryStatus.PENDING, trigger=trigger, next_attempt_at=now)
