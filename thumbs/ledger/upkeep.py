"""What keeps the ledger itself in order: its schema's age, the sweep's lock, signs of life, and forgetting."""

from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa

from thumbs.domain import FINAL_JOB_STATUSES, Lease
from thumbs.ledger.connection import Connection
from thumbs.ledger.database import Database, insert_new, upsert
from thumbs.ledger.events import delete_events
from thumbs.ledger.results import delete_results
from thumbs.ledger.tables import events, heartbeats, idempotency_keys, jobs, locks
from thumbs.ledger.uploads import delete_uploads

TIME_QUERIES: Final = {
    "sqlite": "SELECT (julianday('now') - 2440587.5) * 86400",
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())",
}
"""Seconds since 1970, by the database's own clock; 2440587.5 is 1970 as a Julian day."""


class Upkeep:
    """The housekeeping of the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ping(self) -> None:
        """Raise LedgerUnavailable when the ledger does not answer."""
        with self._database.reading() as connection:
            connection.execute(sa.text("SELECT 1"))

    def tell_time(self) -> datetime:
        """Tell the time by the database's own clock: SQLite's is this machine's."""
        with self._database.reading() as connection:
            seconds = connection.scalar(sa.text(TIME_QUERIES[connection.dialect.name]))
        return datetime.fromtimestamp(float(seconds or 0), UTC)

    def find_schema_revision(self) -> str | None:
        """Find the revision of the database's schema; None when it has none yet."""
        if not self._database.has_table("alembic_version"):
            return None
        with self._database.reading() as connection:
            revision: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        return revision

    def take_lock(self, lock: Lease, now: datetime) -> bool:
        """Take a named lock until `lock.until`, unless somebody else holds it. Atomic."""
        free = sa.or_(locks.c.token.is_(None), locks.c.token == lock.token, locks.c.until < now)
        take = locks.update().where(locks.c.name == lock.id, free).values(token=lock.token, until=lock.until)
        with self._database.writing() as connection:
            if connection.execute(take).rowcount == 1:
                return True
            return insert_new(connection, locks, {"name": lock.id, "token": lock.token, "until": lock.until})

    def release_lock(self, lock: Lease) -> None:
        """Let go of a named lock that is still ours."""
        held = (locks.c.name == lock.id, locks.c.token == lock.token)
        with self._database.writing() as connection:
            connection.execute(locks.update().where(*held).values(token=None))

    def record_heartbeat(self, process: str, now: datetime) -> None:
        """Write that a process of this kind is alive."""
        with self._database.writing() as connection:
            upsert(connection, heartbeats, {"process": process, "seen_at": now})

    def list_heartbeats(self) -> dict[str, datetime]:
        """List when each kind of process was last seen."""
        with self._database.reading() as connection:
            return {row.process: row.seen_at for row in connection.execute(sa.select(heartbeats))}

    def find_oldest_queued(self) -> datetime | None:
        """Find since when the oldest due job has been waiting; None when none is."""
        query = sa.select(sa.func.min(jobs.c.run_at)).where(jobs.c.status == "queued")
        with self._database.reading() as connection:
            oldest: datetime | None = connection.scalar(query)
        return oldest

    def forget_expired_jobs(self, now: datetime, limit: int) -> int:
        """Delete up to `limit` final jobs past their retention, with all that hangs on them; tell how many."""
        query = (
            sa.select(jobs.c.id)
            .where(jobs.c.expires_at <= now, jobs.c.status.in_(sorted(FINAL_JOB_STATUSES)))
            .limit(limit)
        )
        with self._database.writing() as connection:
            ids = list(connection.scalars(query))
            delete_jobs(connection, ids)
        return len(ids)


def delete_jobs(connection: Connection, ids: list[str]) -> None:
    """Delete jobs with all that hangs on them, inside the caller's transaction."""
    delete_events(connection, events.c.job_id.in_(ids))
    delete_results(connection, ids)
    delete_uploads(connection, ids)
    connection.execute(idempotency_keys.delete().where(idempotency_keys.c.resource_id.in_(ids)))
    connection.execute(jobs.delete().where(jobs.c.id.in_(ids)))
