"""Thumbnail bytes in the ledger's database: the embedded default of the blob store."""

from datetime import datetime

import sqlalchemy as sa

from thumbs.domain import Blob
from thumbs.ledger.database import Database, upsert
from thumbs.ledger.tables import blobs


class LedgerBlobs:
    """A blob store (see thumbs.blobs.BlobStore) of 2-6 kB rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, blob: Blob) -> None:
        """Write the blob under its name, in place of one that is there: putting twice is harmless."""
        row = {name: getattr(blob, name) for name in Blob.__dataclass_fields__}
        with self._database.changing() as connection:
            upsert(connection, blobs, row)

    def find(self, name: str, now: datetime) -> Blob | None:
        """Find a blob that has not expired."""
        query = sa.select(blobs).where(blobs.c.name == name, blobs.c.expires_at > now)
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
        return Blob(**row._mapping) if row is not None else None

    def delete(self, name: str) -> None:
        """Delete a blob; one that is not there is fine."""
        with self._database.writing() as connection:
            connection.execute(blobs.delete().where(blobs.c.name == name))

    def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to `limit` expired blobs and tell how many."""
        expired = sa.select(blobs.c.name).where(blobs.c.expires_at <= now).limit(limit)
        with self._database.writing() as connection:
            return connection.execute(blobs.delete().where(blobs.c.name.in_(expired))).rowcount
