"""Lanes in the ledger: which deliveries may start now, and the rows that the rules in thumbs.lanes read and write.

Starts of one account, and to one host, are made one at a time: on PostgreSQL locks of the transaction see to it, SQLite
has one writer anyway. Who changes a lane locks its row before its deliveries', so that `due_at` is never older than
what it tells of.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from thumbs.domain import DeliveryStatus, InFlight, Lane, Startable
from thumbs.lanes import Full, LaneRules, build_lane, choose_lanes, find_full, has_slot, settle
from thumbs.ledger.connection import Connection, Prepared
from thumbs.ledger.database import Database
from thumbs.ledger.rows import delivery_of_row, lane_of_row
from thumbs.ledger.tables import attempts, deliveries, lanes

CANDIDATES: Final = 200
"""Due lanes that one look takes in; those of accounts and hosts that are full are left out before."""
SOON: Final = timedelta(seconds=0.25)
"""A lane that is held back no longer than that is worth waiting for."""
STARTS_LOCK: Final = 7_483_647
"""PostgreSQL's advisory locks are numbers; with this seed names become ours."""

_PENDING = deliveries.c.status == DeliveryStatus.PENDING
_NOW: Final[sa.BindParameter[Any]] = sa.bindparam("now")
_SOON: Final[sa.BindParameter[Any]] = sa.bindparam("soon")
_LANE: Final[sa.BindParameter[Any]] = sa.bindparam("lane_id")
_IS_TRUSTED = sa.and_(lanes.c.is_proven, ~lanes.c.is_slow)
_RANK = sa.case((_IS_TRUSTED, 0), (lanes.c.started_at.is_(None), 1), else_=2)
_WAITS_SINCE = sa.case(
    (lanes.c.started_at.is_(None), -sa.type_coerce(lanes.c.created_at, sa.BigInteger)),
    else_=sa.type_coerce(lanes.c.started_at, sa.BigInteger),
)
"""The order of thumbs.lanes.choose_lanes: where more are due than one look takes in, the same come first."""

_LIST_IN_FLIGHT = Prepared(
    sa.select(
        lanes.c.id, lanes.c.account_id, lanes.c.host, _IS_TRUSTED, attempts.c.started_at, deliveries.c.lease_token
    )
    .select_from(deliveries)
    .join(lanes, lanes.c.id == deliveries.c.lane_id)
    .join(
        attempts,
        sa.and_(attempts.c.delivery_id == deliveries.c.id, attempts.c.number == deliveries.c.attempt_count),
    )
    .where(deliveries.c.status == DeliveryStatus.SENDING, attempts.c.started_at > sa.bindparam("since"))
)
_IS_CANDIDATE = (lanes.c.due_at <= _NOW, sa.or_(lanes.c.blocked_until.is_(None), lanes.c.blocked_until <= _SOON))
_HAS_CANDIDATES = Prepared(sa.select(sa.literal(1)).select_from(lanes).where(*_IS_CANDIDATE).limit(1))
_ALL_CANDIDATES = sa.select(lanes).where(*_IS_CANDIDATE).order_by(_RANK, _WAITS_SINCE).limit(CANDIDATES)
_LIST_ALL_CANDIDATES = Prepared(_ALL_CANDIDATES)
_LIST_CANDIDATES = _ALL_CANDIDATES.where(
    lanes.c.account_id.not_in(sa.bindparam("accounts", expanding=True)),
    lanes.c.host.not_in(sa.bindparam("hosts", expanding=True)),
    sa.or_(
        _IS_TRUSTED,
        sa.and_(
            lanes.c.account_id.not_in(sa.bindparam("doubt_accounts", expanding=True)),
            lanes.c.host.not_in(sa.bindparam("doubt_hosts", expanding=True)),
        ),
    ),
)
_FIND_NEXT = Prepared(
    sa.select(deliveries.c.id)
    .where(deliveries.c.lane_id == _LANE, _PENDING, deliveries.c.next_attempt_at <= _NOW)
    .order_by(deliveries.c.next_attempt_at)
    .limit(1)
)
_SERIALIZE = Prepared(
    sa.text(
        "SELECT pg_advisory_xact_lock(hashtextextended(name, :seed)) FROM (SELECT name FROM deliveries JOIN lanes ON "
        "lanes.id = deliveries.lane_id, LATERAL (VALUES ('a ' || lanes.account_id), ('h ' || lanes.host)) AS names "
        "(name) WHERE deliveries.id = :delivery_id ORDER BY name) AS ordered"
    )
)
"""In one order for everybody, so that nobody waits for each other."""
_DUE_AT = sa.select(sa.func.min(deliveries.c.next_attempt_at)).where(deliveries.c.lane_id == _LANE, _PENDING)
_FIND_DUE_AT = Prepared(_DUE_AT)
_LOCK = Prepared(sa.select(lanes).where(lanes.c.id == _LANE).with_for_update())
_CHANGED = [name for name in Lane.__dataclass_fields__ if name not in ("id", "account_id", "endpoint_id", "created_at")]
_WRITE = Prepared(lanes.update().where(lanes.c.id == _LANE).values({name: sa.bindparam(name) for name in _CHANGED}))
_SETTLE = Prepared(
    lanes.update()
    .where(lanes.c.id == _LANE)
    .values({name: sa.bindparam(name) for name in _CHANGED} | {"due_at": _DUE_AT.scalar_subquery()})
    .returning(lanes.c.due_at)
)
_NAMES = list(Lane.__dataclass_fields__)
_PUSH = Prepared(
    sa.text(
        f"INSERT INTO lanes ({', '.join(_NAMES)}) VALUES ({', '.join(f':{name}' for name in _NAMES)}) "
        "ON CONFLICT (id) DO UPDATE SET due_at = CASE WHEN lanes.due_at < excluded.due_at THEN lanes.due_at "
        "ELSE excluded.due_at END RETURNING failure_count, is_slow"
    ).bindparams(*(sa.bindparam(name, type_=lanes.c[name].type) for name in _NAMES))
)


class Lanes:
    """The lanes of the ledger, for who looks for work and for who tends them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find_startable(self, now: datetime, rules: LaneRules, own_tokens: Collection[str]) -> Startable:
        """Find deliveries that may start now, at most one of each lane; whoever leases one first has it."""
        with self._database.reading() as connection:
            if connection.scalar(_HAS_CANDIDATES, {"now": now, "soon": now + SOON}) is None:
                return Startable(())
            in_flight = list_in_flight(connection, rules, now, own_tokens)
            candidates = _list_candidates(connection, find_full(in_flight, rules, now), now)
            chosen = choose_lanes(candidates, in_flight, rules, now)
            found = {lane.id: connection.scalar(_FIND_NEXT, {"lane_id": lane.id, "now": now}) for lane in chosen}
        self._settle([lane_id for lane_id, delivery_id in found.items() if delivery_id is None], now)
        ids = tuple(delivery_id for delivery_id in found.values() if delivery_id is not None)
        return Startable(ids, None if ids else _find_wait(candidates, in_flight, rules, now))

    def find(self, lane_id: str) -> Lane | None:
        """Find a lane."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(lanes).where(lanes.c.id == lane_id)).one_or_none()
        return lane_of_row(row) if row is not None else None

    def list_for_endpoints(self, endpoint_ids: Sequence[str]) -> dict[str, Lane]:
        """List the lanes of endpoints, by their ids."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(lanes).where(lanes.c.id.in_(endpoint_ids)))
            return {row.id: lane_of_row(row) for row in rows}

    def adopt(self, now: datetime, since: datetime, limit: int) -> int:
        """Take care of due deliveries without a lane, and of those overdue since then whose lane does not know.

        They have parted from an endpoint; or a release that knows no lanes has made them, or moved them, while it ran
        beside this one. Tells how many.
        """
        is_late = deliveries.c.next_attempt_at <= since
        is_unknown = sa.and_(is_late, sa.or_(lanes.c.due_at.is_(None), lanes.c.due_at > deliveries.c.next_attempt_at))
        overdue = (
            sa.select(deliveries)
            .join(lanes, lanes.c.id == deliveries.c.lane_id, isouter=True)
            .where(_PENDING, deliveries.c.next_attempt_at <= now, sa.or_(deliveries.c.lane_id.is_(None), is_unknown))
            .limit(limit)
        )
        with self._database.reading() as connection:
            found = [delivery_of_row(row) for row in connection.execute(overdue)]
        for delivery in found:
            lane = build_lane(delivery)
            with self._database.writing() as connection:
                push(connection, lane)
                connection.execute(deliveries.update().where(deliveries.c.id == delivery.id).values(lane_id=lane.id))
                settle_lane(connection, lock(connection, lane.id), now)
        return len(found)

    def forget_idle(self, since: datetime, limit: int) -> int:
        """Delete up to `limit` lanes that have had no deliveries since then; tell how many."""
        has_deliveries = sa.exists().where(deliveries.c.lane_id == lanes.c.id)
        is_idle = sa.and_(lanes.c.due_at.is_(None), sa.func.coalesce(lanes.c.started_at, lanes.c.created_at) < since)
        idle = sa.select(lanes.c.id).where(is_idle, ~has_deliveries).limit(limit)
        # Told twice: PostgreSQL looks again at the lanes themselves after it has waited for one that is used just now.
        with self._database.writing() as connection:
            return connection.execute(lanes.delete().where(lanes.c.id.in_(idle), is_idle)).rowcount

    def _settle(self, lane_ids: Sequence[str], now: datetime) -> None:
        """Put right the due moment of lanes whose delivery was taken or forgotten meanwhile."""
        for lane_id in sorted(lane_ids):
            with self._database.writing() as connection:
                settle_lane(connection, lock(connection, lane_id), now)


def serialize_starts(connection: Connection, delivery_id: str) -> None:
    """Let one start at a time through of each account and each host, until the transaction ends.

    So each sees what those before it have written that counts toward the same limits.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_SERIALIZE, {"delivery_id": delivery_id, "seed": STARTS_LOCK})


def list_in_flight(
    connection: Connection, rules: LaneRules, now: datetime, own_tokens: Collection[str]
) -> list[InFlight]:
    """List the attempts that are under way, of every courier: at most as many as they have threads together."""
    return [
        InFlight(row[0], row[1], row[2], bool(row[3]), started_at=row[4], is_own=row[5] in own_tokens)
        for row in connection.execute(_LIST_IN_FLIGHT, {"since": now - rules.longest})
    ]


def lock(connection: Connection, lane_id: str) -> Lane | None:
    """Lock a lane until the transaction ends; None when there is no such lane."""
    row = connection.execute(_LOCK, {"lane_id": lane_id}).one_or_none()
    return lane_of_row(row) if row is not None else None


def lock_all(connection: Connection, lane_ids: Iterable[str]) -> dict[str, Lane]:
    """Lock those of several lanes that there are, in the order of their names: so nobody waits for each other."""
    locked = ((lane_id, lock(connection, lane_id)) for lane_id in sorted(lane_ids))
    return {lane_id: lane for lane_id, lane in locked if lane is not None}


def push(connection: Connection, lane: Lane) -> bool:
    """Note that something of the lane is due by `due_at`, making the lane if it is new; tell whether all is well.

    Not so is a lane that fails or is slow: it is looked after in its turn, without a message for each delivery.
    """
    row = connection.execute(_PUSH, asdict(lane)).one()
    return not (row.failure_count or row.is_slow)


def settle_lane(connection: Connection, lane: Lane | None, now: datetime) -> Lane | None:
    """Write a lane that is locked, with the moment at which the next of its deliveries is due."""
    if lane is None:
        return None
    values = {name: getattr(lane, name) for name in _CHANGED} | {"lane_id": lane.id}
    if not lane.is_recovering:
        return settle(lane, connection.scalar(_SETTLE, values), now)
    lane = settle(lane, connection.scalar(_FIND_DUE_AT, {"lane_id": lane.id}), now)  # That may be the end of it.
    connection.execute(_WRITE, values | {"due_at": lane.due_at, "is_recovering": lane.is_recovering})
    return lane


def _list_candidates(connection: Connection, full: Full, now: datetime) -> list[Lane]:
    times = {"now": now, "soon": now + SOON}
    names = {name: list(getattr(full, name)) for name in ("accounts", "hosts", "doubt_accounts", "doubt_hosts")}
    if any(names.values()):
        return [lane_of_row(row) for row in connection.execute(_LIST_CANDIDATES, names | times)]
    return [lane_of_row(row) for row in connection.execute(_LIST_ALL_CANDIDATES, times)]


def _find_wait(
    candidates: Sequence[Lane], in_flight: Sequence[InFlight], rules: LaneRules, now: datetime
) -> float | None:
    """Find when the first of those that are held back for a moment may start."""
    waits = [
        (lane.blocked_until - now).total_seconds()
        for lane in candidates
        if lane.blocked_until is not None and lane.blocked_until > now and has_slot(lane, in_flight, rules)
    ]
    return min(waits, default=None)
