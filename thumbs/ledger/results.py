"""What earlier jobs have found of a source: thumbnails that may be used again, and that it keeps failing."""

from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from thumbs.domain import Failure, Result, SourceFailures
from thumbs.ledger.connection import Connection, Prepared
from thumbs.ledger.database import Database, upsert
from thumbs.ledger.tables import results, source_failures

_KEY: Final[sa.BindParameter[Any]] = sa.bindparam("key")
_FIND = Prepared(sa.select(results).where(results.c.key == _KEY))
_FIND_FAILURES = Prepared(
    sa.select(source_failures).where(
        source_failures.c.key == _KEY,
        source_failures.c.expires_at > sa.bindparam("now", type_=source_failures.c.expires_at.type),
    )
)


class Results:
    """The results and failures of sources in the ledger; results are written with their jobs' ends, by Jobs.finish."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, key: str) -> Result | None:
        """Find the result of this work; its job is there, too."""
        with self._database.reading() as connection:
            row = connection.execute(_FIND, {"key": key}).one_or_none()
        return Result(**row._mapping) if row is not None else None

    def find_failures(self, source_key: str, now: datetime) -> SourceFailures | None:
        """Find how often a source has failed in a row, and how the last time; None when it has not, lately."""
        with self._database.reading() as connection:
            row = connection.execute(_FIND_FAILURES, {"key": source_key, "now": now}).one_or_none()
        return SourceFailures(row.failure_count, Failure(**row.error)) if row is not None else None

    def record_failure(self, source_key: str, failure: Failure, until: datetime, now: datetime) -> None:
        """Count a failure of a source, to be remembered until then; those before count while they are remembered."""
        with self._database.writing() as connection:
            row = connection.execute(_FIND_FAILURES, {"key": source_key, "now": now}).one_or_none()
            count = 1 + (row.failure_count if row is not None else 0)
            values = {"key": source_key, "failure_count": count, "error": asdict(failure), "expires_at": until}
            upsert(connection, source_failures, values)

    def forget_failures(self, source_key: str) -> None:
        """Forget that a source has failed: it works."""
        with self._database.writing() as connection:
            connection.execute(source_failures.delete().where(source_failures.c.key == source_key))

    def forget_expired_failures(self, now: datetime, limit: int) -> int:
        """Delete up to `limit` failures that are remembered no longer, and tell how many."""
        expired = sa.select(source_failures.c.key).where(source_failures.c.expires_at <= now).limit(limit)
        with self._database.writing() as connection:
            return connection.execute(source_failures.delete().where(source_failures.c.key.in_(expired))).rowcount


def write_result(connection: Connection, result: Result) -> None:
    """Write a result over the one before, inside the caller's transaction."""
    upsert(connection, results, asdict(result))


def delete_results(connection: Connection, job_ids: list[str]) -> None:
    """Delete the results of jobs that are about to be forgotten, inside the caller's transaction."""
    connection.execute(results.delete().where(results.c.job_id.in_(job_ids)))
