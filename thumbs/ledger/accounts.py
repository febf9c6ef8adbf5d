"""Accounts and their API keys. Of a key only a hash is stored; callback secrets are stored as the cipher's text."""

from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from thumbs.domain import Account, ApiKey
from thumbs.ledger.connection import Prepared
from thumbs.ledger.database import Database
from thumbs.ledger.tables import accounts, api_keys

LAST_USE_PRECISION: Final = timedelta(minutes=1)
"""`last_used_at` is written at most this often, so that reading with a key does not write each time."""

_SELECT = sa.select(*(accounts.c[name] for name in Account.__dataclass_fields__))
_FIND = Prepared(_SELECT.where(accounts.c.id == sa.bindparam("account_id")))
_FIND_BY_NAME = Prepared(_SELECT.where(accounts.c.name == sa.bindparam("name")))
_FIND_KEY = Prepared(
    sa.select(api_keys).where(api_keys.c.id == sa.bindparam("key_id"), api_keys.c.revoked_at.is_(None))
)


class Accounts:
    """The accounts of the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, account: Account) -> bool:
        """Write a new account; False when its name is taken."""
        row = {name: getattr(account, name) for name in Account.__dataclass_fields__}
        try:
            with self._database.writing() as connection:
                connection.execute(accounts.insert(), row)
        except IntegrityError:
            return False
        return True

    def find(self, account_id: str) -> Account | None:
        """Find an account by its id."""
        return self._find(_FIND, account_id=account_id)

    def find_by_name(self, name: str) -> Account | None:
        """Find an account by its name."""
        return self._find(_FIND_BY_NAME, name=name)

    def list_all(self) -> list[Account]:
        """List every account, oldest first."""
        with self._database.reading() as connection:
            return [Account(**row._mapping) for row in connection.execute(_SELECT.order_by(accounts.c.id))]

    def record_key(self, key: ApiKey) -> None:
        """Write a new API key."""
        row = {name: getattr(key, name) for name in ApiKey.__dataclass_fields__}
        with self._database.writing() as connection:
            connection.execute(api_keys.insert(), row)

    def find_key(self, key_id: str) -> ApiKey | None:
        """Find a key that is not revoked."""
        with self._database.reading() as connection:
            row = connection.execute(_FIND_KEY, {"key_id": key_id}).one_or_none()
        return ApiKey(**row._mapping) if row is not None else None

    def list_keys(self, account_id: str) -> list[ApiKey]:
        """List the account's keys, revoked ones too, oldest first."""
        query = sa.select(api_keys).where(api_keys.c.account_id == account_id).order_by(api_keys.c.id)
        with self._database.reading() as connection:
            return [ApiKey(**row._mapping) for row in connection.execute(query)]

    def record_key_use(self, key: ApiKey, now: datetime) -> None:
        """Write when the key was last used, unless that was a moment ago."""
        if key.last_used_at is not None and now - key.last_used_at < LAST_USE_PRECISION:
            return
        with self._database.changing() as connection:
            connection.execute(api_keys.update().where(api_keys.c.id == key.id).values(last_used_at=now))

    def revoke_key(self, key_id: str, now: datetime) -> bool:
        """Take a key's right away, from now on; False when there is no such key, or it has none."""
        valid = (api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        with self._database.writing() as connection:
            return connection.execute(api_keys.update().where(*valid).values(revoked_at=now)).rowcount == 1

    def has_keys(self) -> bool:
        """Tell whether anybody could come in at all."""
        query = sa.select(api_keys.c.id).where(api_keys.c.revoked_at.is_(None)).limit(1)
        with self._database.reading() as connection:
            return connection.execute(query).one_or_none() is not None

    def _find(self, query: Prepared, **values: str) -> Account | None:
        with self._database.reading() as connection:
            row = connection.execute(query, values).one_or_none()
        return Account(**row._mapping) if row is not None else None
