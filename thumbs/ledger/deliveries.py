"""The moves of deliveries and attempts. An attempt is on record before anything is sent.

A delivery's attempt is leased like a job's run; what comes back with a stale token changes nothing. Whether it may
start, beside those that are under way, is for the rules of lanes to say.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from thumbs import lanes as rules_of_lanes
from thumbs.domain import (
    CALLBACKS,
    Attempt,
    Delivery,
    DeliveryFilter,
    DeliveryStatus,
    Endpoint,
    Lane,
    Lease,
    LeasedDelivery,
    NextStep,
    Trigger,
)
from thumbs.errors import NotFound
from thumbs.lanes import Ending, LaneRules, build_lane, may_start, name_host, name_lane, takes_callbacks
from thumbs.ledger.connection import Connection, Prepared
from thumbs.ledger.database import Database
from thumbs.ledger.lanes import list_in_flight, lock_all, push, serialize_starts, settle_lane
from thumbs.ledger.rows import attempt_of_row, delivery_of_row, endpoint_of_row, lane_of_row
from thumbs.ledger.tables import attempts, deliveries, endpoints, events, lanes
from thumbs.retries import repeat

ASKED_FOR: Final = frozenset({Trigger.PING, Trigger.MANUAL})
"""What somebody asked for goes to a disabled endpoint, too."""

_ID: Final[sa.BindParameter[Any]] = sa.bindparam("delivery_id")
_NOW: Final[sa.BindParameter[Any]] = sa.bindparam("now")
_TOKEN: Final[sa.BindParameter[Any]] = sa.bindparam("token")
_IS_DUE = (deliveries.c.status == DeliveryStatus.PENDING, deliveries.c.next_attempt_at <= _NOW)
_IS_HELD = (deliveries.c.status == DeliveryStatus.SENDING, deliveries.c.lease_token == _TOKEN)

_LOCK_DUE_LANE = Prepared(
    sa.select(lanes)
    .join(deliveries, deliveries.c.lane_id == lanes.c.id)
    .where(deliveries.c.id == _ID, *_IS_DUE)
    .with_for_update(of=lanes)
)
_FIND_LOAD = Prepared(
    sa.select(events.c.body, deliveries.c.url.label("delivery_url"), endpoints)
    .select_from(deliveries)
    .join(events, events.c.id == deliveries.c.event_id)
    .join(endpoints, endpoints.c.id == deliveries.c.endpoint_id, isouter=True)
    .where(deliveries.c.id == _ID)
)
_LEASE = Prepared(
    deliveries.update()
    .where(deliveries.c.id == _ID, deliveries.c.lane_id == sa.bindparam("its_lane_id"), *_IS_DUE)
    .values(
        status=DeliveryStatus.SENDING,
        attempt_count=deliveries.c.attempt_count + 1,
        scheduled_count=deliveries.c.scheduled_count
        + sa.case((deliveries.c.trigger == Trigger.AUTO, sa.literal(1)), else_=sa.literal(0)),
        next_attempt_at=None,
        url=sa.func.coalesce(sa.bindparam("endpoint_url", type_=sa.String), deliveries.c.url),
        lease_token=_TOKEN,
        lease_until=sa.bindparam("until"),
    )
    .returning(deliveries)
)
_INSERT_ATTEMPT = Prepared(attempts.insert())
_STEP_COLUMNS: Final = (
    "status",
    "reason",
    "next_attempt_at",
    "delivered_at",
    "trigger",
    "resume_at",
    "lane_id",
    "dispatched_at",
)
_STEP = Prepared(
    deliveries.update()
    .where(deliveries.c.id == _ID, *_IS_HELD)
    .values({name: sa.bindparam(name) for name in _STEP_COLUMNS} | {"lease_token": None, "lease_until": None})
)
_ATTEMPT_COLUMNS: Final = [name for name in Attempt.__dataclass_fields__ if name not in ("id", "delivery_id")]
_END_ATTEMPT = Prepared(
    attempts.update()
    .where(attempts.c.id == sa.bindparam("attempt_id"))
    .values({name: sa.bindparam(name) for name in _ATTEMPT_COLUMNS})
)
_FIND = Prepared(sa.select(deliveries).where(deliveries.c.id == _ID))
_FIND_CALLBACK = Prepared(
    sa.select(deliveries).where(deliveries.c.job_id == sa.bindparam("job_id"), deliveries.c.is_callback)
)
_LIST_ATTEMPTS = Prepared(sa.select(attempts).where(attempts.c.delivery_id == _ID).order_by(attempts.c.number))


class Deliveries:
    """The deliveries of the ledger, with their attempts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, account_id: str, delivery_id: str) -> Delivery:
        """Get a delivery of the account; raises NotFound, for another account's delivery too."""
        with self._database.reading() as connection:
            delivery = _find(connection, delivery_id)
        if delivery is None or delivery.account_id != account_id:
            raise NotFound(f"There is no delivery {delivery_id}.")
        return delivery

    def find_callback(self, job_id: str) -> Delivery | None:
        """Find the delivery to the job's own callback; None while the job is not final, or without a callback."""
        with self._database.reading() as connection:
            row = connection.execute(_FIND_CALLBACK, {"job_id": job_id}).one_or_none()
        return delivery_of_row(row) if row is not None else None

    def list_callbacks(self, job_ids: Iterable[str]) -> dict[str, Delivery]:
        """List the callback deliveries of several jobs, by job id."""
        query = sa.select(deliveries).where(deliveries.c.job_id.in_(list(job_ids)), deliveries.c.is_callback)
        with self._database.reading() as connection:
            return {row.job_id: delivery_of_row(row) for row in connection.execute(query)}

    def list_for_job(self, job_id: str) -> list[tuple[Delivery, list[Attempt]]]:
        """List the job's deliveries, newest first, each with its attempts in their order."""
        query = sa.select(deliveries).where(deliveries.c.job_id == job_id).order_by(deliveries.c.id.desc())
        with self._database.reading() as connection:
            return [_with_attempts(connection, delivery_of_row(row)) for row in connection.execute(query).all()]

    def list_for_account(
        self, account_id: str, where: DeliveryFilter, limit: int
    ) -> list[tuple[Delivery, list[Attempt]]]:
        """List the account's deliveries, newest first, each with its attempts in their order."""
        query = sa.select(deliveries).where(deliveries.c.account_id == account_id, *_conditions(where))
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(deliveries.c.id.desc()).limit(limit)).all()
            return [_with_attempts(connection, delivery_of_row(row)) for row in rows]

    def list_attempts(self, delivery_id: str) -> list[Attempt]:
        """List the attempts of a delivery, in their order."""
        with self._database.reading() as connection:
            return _list_attempts(connection, delivery_id)

    def lease(
        self, lease: Lease, attempt: Attempt, now: datetime, rules: LaneRules, own_tokens: Collection[str] = ()
    ) -> LeasedDelivery | None:
        """Take a due delivery for one attempt and put the attempt on record. Atomic.

        None when it is not due, taken, or when its lane may not start another one now. The attempt's number and
        trigger are given here: the number counts on from the delivery's.
        """
        with self._database.writing() as connection:
            serialize_starts(connection, lease.id)
            lane = _lock_due_lane(connection, lease.id, now)
            if lane is None:
                return None
            if not may_start(lane, list_in_flight(connection, rules, now, own_tokens), rules, now):
                return None
            leased = _start(connection, lane, lease, attempt, now)
            if leased is not None:
                lane = replace(rules_of_lanes.start(lane, rules, now), host=name_host(leased.delivery.url))
            settle_lane(connection, lane, now)
        return leased

    def record(
        self,
        lease: Lease,
        attempt: Attempt,
        step: NextStep,
        now: datetime,
        *,
        delivery: Delivery | None = None,
        rules: LaneRules | None = None,
        ending: Ending | None = None,
    ) -> Lane | None:
        """Write how the attempt went and what comes next, in one transaction; None when the lease was lost.

        Who has the delivery as it was leased gives it: while it is being sent nobody else changes it. With an ending
        the lane learns of it. Returns the lane as it then is.
        """
        with self._database.writing() as connection:
            delivery = delivery or _find(connection, lease.id)
            if delivery is None:  # Its job was forgotten meanwhile.
                return None
            locked = lock_all(connection, {delivery.lane_id or "", name_lane(replace(delivery, trigger=Trigger.AUTO))})
            step = _check_step(connection, delivery, step)
            moved = replace(delivery, trigger=step.trigger)
            values = {name: getattr(step, name, None) for name in _STEP_COLUMNS}
            values |= {"lane_id": name_lane(moved), "dispatched_at": step.next_attempt_at or now}
            if connection.execute(_STEP, values | {"delivery_id": lease.id, "token": lease.token}).rowcount != 1:
                return None
            ended = {name: getattr(attempt, name) for name in _ATTEMPT_COLUMNS}
            connection.execute(_END_ATTEMPT, ended | {"attempt_id": attempt.id})
            if step.next_attempt_at is not None and name_lane(moved) not in locked:
                push(connection, build_lane(replace(moved, next_attempt_at=step.next_attempt_at)))
            return _end_turn(connection, locked, moved, now, rules, ending)

    def release(self, lease: Lease, leased: LeasedDelivery, now: datetime) -> bool:
        """Give a delivery back that is being sent, to be sent again at once; False when the lease was lost."""
        abandoned = replace(leased.attempt, error_code="abandoned")
        return self.record(lease, abandoned, repeat(leased.delivery, now), now) is not None

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


def of_endpoint(endpoint_id: str) -> sa.ColumnElement[bool]:
    """Build the condition of an endpoint's deliveries; CALLBACKS has those that are to no registered one."""
    if endpoint_id == CALLBACKS:
        return deliveries.c.endpoint_id.is_(None)
    return deliveries.c.endpoint_id == endpoint_id


def part_callbacks(connection: Connection, condition: sa.ColumnElement[bool]) -> int:
    """Part pending callbacks from the endpoint that they go by, inside the caller's transaction; tells how many.

    The URL came with a job, and gets its event whatever becomes of the endpoint: the sweep adopts them into lanes of
    callbacks. To lock those here would be out of the order in which lanes are locked.
    """
    conditions = (condition, deliveries.c.is_callback, deliveries.c.status == DeliveryStatus.PENDING)
    return connection.execute(deliveries.update().where(*conditions).values(endpoint_id=None, lane_id=None)).rowcount


def fail_open(connection: Connection, condition: sa.ColumnElement[bool], reason: str, *, is_asked_for_too: bool) -> int:
    """Fail pending deliveries inside the caller's transaction; tells how many. Nothing of their schedule is left."""
    conditions = [condition, deliveries.c.status == DeliveryStatus.PENDING]
    if not is_asked_for_too:
        conditions.append(deliveries.c.trigger.not_in(sorted(ASKED_FOR)))
    values = {"status": DeliveryStatus.FAILED, "reason": reason, "next_attempt_at": None, "resume_at": None}
    return connection.execute(deliveries.update().where(*conditions).values(values)).rowcount


def _conditions(where: DeliveryFilter) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if where.status is not None:
        conditions.append(deliveries.c.status == where.status)
    if where.endpoint_id is not None:
        conditions.append(of_endpoint(where.endpoint_id))
    if where.job_id is not None:
        conditions.append(deliveries.c.job_id == where.job_id)
    if where.before_id is not None:
        conditions.append(deliveries.c.id < where.before_id)
    return conditions


def _with_attempts(connection: Connection, delivery: Delivery) -> tuple[Delivery, list[Attempt]]:
    return delivery, _list_attempts(connection, delivery.id)


def _list_attempts(connection: Connection, delivery_id: str) -> list[Attempt]:
    return [attempt_of_row(row) for row in connection.execute(_LIST_ATTEMPTS, {"delivery_id": delivery_id})]


def _find(connection: Connection, delivery_id: str) -> Delivery | None:
    row = connection.execute(_FIND, {"delivery_id": delivery_id}).one_or_none()
    return delivery_of_row(row) if row is not None else None


def _lock_due_lane(connection: Connection, delivery_id: str, now: datetime) -> Lane | None:
    row = connection.execute(_LOCK_DUE_LANE, {"delivery_id": delivery_id, "now": now}).one_or_none()
    return lane_of_row(row) if row is not None else None


def _find_load(connection: Connection, delivery_id: str) -> tuple[bytes | None, str, Endpoint | None]:
    """Find what is sent, None when the delivery was forgotten meanwhile, its URL, and its endpoint, if it has one."""
    row = connection.execute(_FIND_LOAD, {"delivery_id": delivery_id}).one_or_none()
    if row is None:
        return None, "", None
    return bytes(row.body), row.delivery_url, endpoint_of_row(row) if row.id is not None else None


def _refuse(connection: Connection, delivery_id: str, url: str, endpoint: Endpoint | None) -> bool:
    """Fail a due delivery to an endpoint that takes none any more; what was asked for goes to a disabled one, too.

    A callback only parts from it, and from one that has another URL by now.
    """
    if endpoint is None or takes_callbacks(endpoint, url):
        return False
    condition = deliveries.c.id == delivery_id
    if part_callbacks(connection, condition):
        return True
    if endpoint.is_enabled:
        return False
    reason = _name_refusal(endpoint)
    return fail_open(connection, condition, reason, is_asked_for_too=endpoint.deleted_at is not None) == 1


def _check_step(connection: Connection, delivery: Delivery, step: NextStep) -> NextStep:
    """Leave no delivery waiting for an endpoint that was disabled or deleted while it was being sent.

    A callback waits nevertheless: it parts from the endpoint when it is due.
    """
    if step.status is not DeliveryStatus.PENDING or step.trigger in ASKED_FOR:
        return step
    if delivery.endpoint_id is None or delivery.is_callback:
        return step
    _, _, endpoint = _find_load(connection, delivery.id)
    if endpoint is None or endpoint.is_enabled:
        return step
    return NextStep(DeliveryStatus.FAILED, reason=_name_refusal(endpoint))


def _name_refusal(endpoint: Endpoint) -> str:
    return "endpoint_deleted" if endpoint.deleted_at else "endpoint_disabled"


def _start(connection: Connection, lane: Lane, lease: Lease, attempt: Attempt, now: datetime) -> LeasedDelivery | None:
    """Move a due delivery of the lane that is locked; None when it moved on before, or may not be sent any more."""
    body, url, endpoint = _find_load(connection, lease.id)
    if body is None or _refuse(connection, lease.id, url, endpoint):
        return None
    values = {"delivery_id": lease.id, "its_lane_id": lane.id, "now": now, "token": lease.token, "until": lease.until}
    row = connection.execute(_LEASE, values | {"endpoint_url": endpoint.url if endpoint else None}).one_or_none()
    if row is None:
        return None
    delivery = delivery_of_row(row)
    attempt = replace(attempt, number=delivery.attempt_count, trigger=delivery.trigger)
    connection.execute(_INSERT_ATTEMPT, {name: getattr(attempt, name) for name in Attempt.__dataclass_fields__})
    return LeasedDelivery(delivery, attempt, body, endpoint)


def _end_turn(
    connection: Connection,
    locked: dict[str, Lane],
    delivery: Delivery,
    now: datetime,
    rules: LaneRules | None,
    ending: Ending | None,
) -> Lane | None:
    """Tell the lane, and the other one where the schedule goes on after somebody asked for an attempt."""
    lane = locked.pop(delivery.lane_id or "", None)
    for other in locked.values():
        settle_lane(connection, other, now)
    if lane is None:  # A release that knows no lanes has made the delivery.
        return build_lane(delivery)
    if rules is not None and ending is not None:
        lane = rules_of_lanes.finish(lane, ending, rules, now)
    return settle_lane(connection, lane, now)
