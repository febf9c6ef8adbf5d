"""Endpoints, the secrets that sign for them and for callbacks, and deliveries that are asked for again.

What ends or changes an endpoint moves its open deliveries in the same transaction.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from thumbs.domain import Announcement, DisabledReason, Endpoint, EndpointStatus, Lane
from thumbs.errors import Conflict, NotFound
from thumbs.lanes import name_host, reset
from thumbs.ledger.connection import Connection, Prepared
from thumbs.ledger.database import Database
from thumbs.ledger.deliveries import ASKED_FOR, fail_open, part_callbacks
from thumbs.ledger.events import write_announcement
from thumbs.ledger.lanes import lock_all, settle_lane
from thumbs.ledger.rows import endpoint_of_row, row_of_endpoint
from thumbs.ledger.tables import Moment, accounts, attempts, deliveries, endpoints, retired_secrets

OWNERS: Final[Mapping[str, tuple[sa.Table, str]]] = {
    "ep": (endpoints, "secret"),
    "acct": (accounts, "callback_secret"),
}
"""Where the newest secret of an owner is, by the prefix of its id."""

_IS_THERE = endpoints.c.deleted_at.is_(None)
_LIST_OF_ACCOUNT = Prepared(
    sa.select(endpoints)
    .where(endpoints.c.account_id == sa.bindparam("account_id"), _IS_THERE)
    .order_by(endpoints.c.id.desc())
)
_NEWEST: Final = datetime.max.replace(tzinfo=UTC)
"""The moment of a secret that is not retired, so that it comes first."""
_RETIRED = (
    retired_secrets.c.owner_id.in_([sa.bindparam("endpoint_id"), sa.bindparam("account_id")]),
    retired_secrets.c.expires_at > sa.bindparam("now"),
)
_LIST_SECRETS = Prepared(
    sa.union_all(
        sa.select(accounts.c.callback_secret.label("secret"), sa.literal(_NEWEST, Moment).label("retired_at")).where(
            accounts.c.id == sa.bindparam("account_id")
        ),
        sa.select(retired_secrets.c.secret, retired_secrets.c.retired_at).where(*_RETIRED),
    ).order_by(sa.desc("retired_at"))
)


class Endpoints:
    """The endpoints of the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, endpoint: Endpoint, announcement: Announcement, limit: int) -> list[str]:
        """Write a new endpoint with its first ping; raises Conflict when its account has as many as it may.

        Returns the ids of the deliveries to dispatch at once.
        """
        mine = sa.select(sa.func.count()).where(endpoints.c.account_id == endpoint.account_id, _IS_THERE)
        with self._database.writing() as connection:
            ids = write_announcement(connection, announcement)  # First: it locks the account, so that we count alone.
            if (connection.scalar(mine) or 0) >= limit:
                raise Conflict(f"The account has {limit} endpoints, which is the most that it may have: delete one.")
            connection.execute(endpoints.insert(), row_of_endpoint(endpoint))
        return ids

    def get(self, account_id: str, endpoint_id: str, *, is_deleted_too: bool = False) -> Endpoint:
        """Get an endpoint of the account; raises NotFound, for another account's endpoint too."""
        endpoint = self.find(endpoint_id)
        if endpoint is None or endpoint.account_id != account_id or (endpoint.deleted_at and not is_deleted_too):
            raise NotFound(f"There is no endpoint {endpoint_id}.")
        return endpoint

    def find(self, endpoint_id: str) -> Endpoint | None:
        """Find an endpoint, a deleted one too."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(endpoints).where(endpoints.c.id == endpoint_id)).one_or_none()
        return endpoint_of_row(row) if row is not None else None

    def list_for_account(self, account_id: str) -> list[Endpoint]:
        """List the account's endpoints, newest first; they are few."""
        with self._database.reading() as connection:
            return [endpoint_of_row(row) for row in connection.execute(_LIST_OF_ACCOUNT, {"account_id": account_id})]

    def change(self, endpoint: Endpoint, names: Collection[str], now: datetime) -> bool:
        """Write those fields that its owner changes; False when it is gone. With another URL nothing is known of it.

        The other fields are left alone: two changes at once do not undo each other.
        """
        row = row_of_endpoint(endpoint)
        values = {"id": endpoint.id} | {name: row[name] for name in names}  # With the id, there is always something.
        with self._database.writing() as connection:
            before = connection.scalar(_of(sa.select(endpoints.c.url), endpoint.id).with_for_update())
            if before is None:
                return False
            connection.execute(_of(endpoints.update(), endpoint.id).values(values))
            if "url" in names and before != endpoint.url:
                _renew_lane(connection, endpoint, now)
        return True

    def enable(self, endpoint: Endpoint, now: datetime) -> bool:
        """Enable it, with nothing held against it; False when it is enabled, or gone."""
        values = {"status": EndpointStatus.ENABLED, "disabled_reason": None, "warned_at": None}
        is_disabled = endpoints.c.status == EndpointStatus.DISABLED
        with self._database.writing() as connection:
            moved = connection.execute(_of(endpoints.update(), endpoint.id).where(is_disabled).values(values))
            if moved.rowcount != 1:
                return False
            _renew_lane(connection, endpoint, now)
        return True

    def disable(
        self, endpoint: Endpoint, reason: DisabledReason, now: datetime, announcement: Announcement | None = None
    ) -> list[str] | None:
        """Disable it, fail its open deliveries and tell the account's other endpoints.

        None when it is not enabled, or when its owner did not ask for it and it has another URL by now: of that nothing
        is known.
        """
        endpoint_id, values = endpoint.id, {"status": EndpointStatus.DISABLED, "disabled_reason": reason}
        is_meant = sa.true() if reason is DisabledReason.MANUAL else endpoints.c.url == endpoint.url
        with self._database.writing() as connection:
            if not _change_enabled(connection, endpoint_id, values, is_meant):
                return None
            ids = write_announcement(connection, announcement) if announcement else []
            _fail_open(connection, endpoint_id, "endpoint_disabled", now, is_asked_for_too=False)
        return ids

    def warn(
        self, endpoint_id: str, failing_since: datetime, now: datetime, announcement: Announcement
    ) -> list[str] | None:
        """Tell the account's other endpoints that this one fails; None when they know, or it is not enabled."""
        is_news = sa.or_(endpoints.c.warned_at.is_(None), endpoints.c.warned_at < failing_since)
        with self._database.writing() as connection:
            if not _change_enabled(connection, endpoint_id, {"warned_at": now}, is_news):
                return None
            return write_announcement(connection, announcement)

    def delete(self, endpoint_id: str, now: datetime) -> bool:
        """Delete it and fail its open deliveries; False when it is gone. Its deliveries stay on record."""
        with self._database.writing() as connection:
            if connection.execute(_of(endpoints.update(), endpoint_id).values(deleted_at=now)).rowcount != 1:
                return False
            _fail_open(connection, endpoint_id, "endpoint_deleted", now, is_asked_for_too=True)
        return True

    def rotate_secret(self, owner_id: str, old: str, new: str, now: datetime, expires_at: datetime) -> bool:
        """Replace the secret of an endpoint or of an account's callbacks; the old one signs, too, until it expires.

        False when the owner is gone or somebody else has rotated meanwhile. Atomic.
        """
        table, name = OWNERS[owner_id.partition("_")[0]]
        retired = {"owner_id": owner_id, "secret": old, "retired_at": now, "expires_at": expires_at}
        is_there = _IS_THERE if table is endpoints else sa.true()
        with self._database.writing() as connection:
            change = table.update().where(table.c.id == owner_id, table.c[name] == old, is_there).values({name: new})
            if connection.execute(change).rowcount != 1:
                return False
            connection.execute(retired_secrets.insert(), retired)
        return True

    def list_secrets(self, endpoint_id: str | None, account_id: str | None, now: datetime) -> list[str]:
        """List the account's callback secret, and those of both owners that are replaced and still sign, newest first.

        Either may be None: nothing of it is listed then.
        """
        owners = {"endpoint_id": endpoint_id, "account_id": account_id}
        with self._database.reading() as connection:
            return connection.scalars(_LIST_SECRETS, owners | {"now": now})

    def count_failed_events(self, endpoint_id: str, since: datetime) -> int:
        """Count the events that an endpoint did not take since then; what somebody asked for does not count."""
        query = (
            sa.select(sa.func.count(deliveries.c.event_id.distinct()))
            .join(attempts, attempts.c.delivery_id == deliveries.c.id)
            .where(
                deliveries.c.endpoint_id == endpoint_id,
                attempts.c.started_at >= since,
                attempts.c.trigger.not_in(sorted(ASKED_FOR)),
                attempts.c.error_code != "abandoned",  # Nor does what is under way, or went well: it has no code.
            )
        )
        with self._database.reading() as connection:
            return connection.scalar(query) or 0

    def forget_expired_secrets(self, now: datetime, limit: int) -> int:
        """Delete up to `limit` secrets that sign no more; tell how many."""
        key = sa.tuple_(retired_secrets.c.owner_id, retired_secrets.c.secret)
        expired = sa.select(*key.clauses).where(retired_secrets.c.expires_at <= now).limit(limit)
        with self._database.writing() as connection:
            return connection.execute(retired_secrets.delete().where(key.in_(expired))).rowcount


def _of(statement: Any, endpoint_id: str) -> Any:
    return statement.where(endpoints.c.id == endpoint_id, _IS_THERE)


def _change_enabled(
    connection: Connection, endpoint_id: str, values: Mapping[str, Any], *conditions: sa.ColumnElement[bool]
) -> bool:
    is_enabled = endpoints.c.status == EndpointStatus.ENABLED
    change = _of(endpoints.update(), endpoint_id).where(is_enabled, *conditions).values(dict(values))
    return bool(connection.execute(change).rowcount == 1)


def _renew_lane(connection: Connection, endpoint: Endpoint, now: datetime) -> None:
    """Forget how the endpoint did, and part the callbacks that are to another URL than it has now."""
    lanes = _lock_lanes(connection, endpoint.id)
    part_callbacks(connection, sa.and_(deliveries.c.endpoint_id == endpoint.id, deliveries.c.url != endpoint.url))
    for lane in lanes:
        settle_lane(connection, replace(reset(lane), host=name_host(endpoint.url)), now)


def _fail_open(connection: Connection, endpoint_id: str, reason: str, now: datetime, *, is_asked_for_too: bool) -> None:
    """Fail the pending deliveries of an endpoint, but callbacks, which part from it.

    What is being sent is looked after when it ends.
    """
    lanes = _lock_lanes(connection, endpoint_id)
    part_callbacks(connection, deliveries.c.endpoint_id == endpoint_id)
    fail_open(connection, deliveries.c.endpoint_id == endpoint_id, reason, is_asked_for_too=is_asked_for_too)
    for lane in lanes:
        settle_lane(connection, lane, now)


def _lock_lanes(connection: Connection, endpoint_id: str) -> list[Lane]:
    return list(lock_all(connection, (endpoint_id, f"{endpoint_id}.asked")).values())
