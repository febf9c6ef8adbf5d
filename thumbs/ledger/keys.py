"""Idempotency keys: the same key and request lead to the same job, however often and however many at once."""

from datetime import datetime

import sqlalchemy as sa

from thumbs.domain import IdempotencyKey
from thumbs.errors import KeyAlreadyUsed
from thumbs.ledger.connection import Connection
from thumbs.ledger.database import Database, insert_new
from thumbs.ledger.tables import idempotency_keys


class IdempotencyKeys:
    """The idempotency keys of the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, account_id: str, key: str, now: datetime) -> IdempotencyKey | None:
        """Find an account's key that has not expired."""
        query = sa.select(idempotency_keys).where(
            idempotency_keys.c.account_id == account_id,
            idempotency_keys.c.key == key,
            idempotency_keys.c.expires_at > now,
        )
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
        return IdempotencyKey(**row._mapping) if row is not None else None

    def forget_expired(self, now: datetime, limit: int) -> int:
        """Delete up to `limit` expired keys and tell how many."""
        table = idempotency_keys
        expired = sa.select(table.c.account_id, table.c.key).where(table.c.expires_at <= now).limit(limit)
        with self._database.writing() as connection:
            found = sa.tuple_(table.c.account_id, table.c.key).in_(expired)
            return connection.execute(table.delete().where(found)).rowcount


def claim_key(connection: Connection, key: IdempotencyKey, now: datetime) -> None:
    """Write a key inside the caller's transaction; raises KeyAlreadyUsed while the same key has not expired.

    The primary key decides: of fifty at once, forty-nine wait for the first one's commit and are refused.
    """
    same = (idempotency_keys.c.account_id == key.account_id, idempotency_keys.c.key == key.key)
    connection.execute(idempotency_keys.delete().where(*same, idempotency_keys.c.expires_at <= now))
    row = {name: getattr(key, name) for name in IdempotencyKey.__dataclass_fields__}
    if not insert_new(connection, idempotency_keys, row):
        raise KeyAlreadyUsed
