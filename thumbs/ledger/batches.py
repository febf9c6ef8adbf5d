"""Batches: jobs that were accepted together, and their common end."""

from datetime import datetime

import sqlalchemy as sa

from thumbs.domain import OPEN_JOB_STATUSES, Announcement, Batch, JobStatus
from thumbs.errors import NotFound
from thumbs.ledger.database import Database
from thumbs.ledger.events import delete_events, write_announcement
from thumbs.ledger.tables import batches, events, jobs


class Batches:
    """The batches of the ledger; they are written with their jobs, by Jobs.record."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, account_id: str, batch_id: str) -> Batch:
        """Get a batch of the account; raises NotFound, for another account's batch too."""
        query = sa.select(batches).where(batches.c.id == batch_id, batches.c.account_id == account_id)
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound(f"There is no batch {batch_id}.")
        return Batch(**row._mapping)

    def find_done(self, batch_id: str) -> Batch | None:
        """Find the batch if every job of it is final and its end has not been told."""
        return next(iter(self._list_done(batches.c.id == batch_id, 1)), None)

    def list_done(self, limit: int) -> list[Batch]:
        """List batches whose jobs are all final and whose end has not been told, oldest first."""
        return self._list_done(sa.true(), limit)

    def list_jobs(self, batch_id: str) -> list[tuple[str, JobStatus]]:
        """List the ids and statuses of the batch's jobs, in the order in which they were sent."""
        query = sa.select(jobs.c.id, jobs.c.status).where(jobs.c.batch_id == batch_id).order_by(jobs.c.id)
        with self._database.reading() as connection:
            return [(row.id, JobStatus(row.status)) for row in connection.execute(query)]

    def finish(self, batch_id: str, announcement: Announcement) -> list[str] | None:
        """Tell the end of a batch, with its event and deliveries, in one transaction; None when it was told before.

        Returns the ids of the deliveries to dispatch at once.
        """
        finished_at = announcement.event.created_at
        open_one = (batches.c.id == batch_id, batches.c.finished_at.is_(None))
        with self._database.writing() as connection:
            if connection.execute(batches.update().where(*open_one).values(finished_at=finished_at)).rowcount != 1:
                return None
            return write_announcement(connection, announcement)

    def forget_expired(self, now: datetime, limit: int) -> int:
        """Delete up to `limit` finished batches past their retention, whose jobs are forgotten; tell how many."""
        is_empty = ~sa.exists().where(jobs.c.batch_id == batches.c.id)
        query = sa.select(batches.c.id).where(batches.c.expires_at <= now, is_empty).limit(limit)
        with self._database.writing() as connection:
            ids = list(connection.scalars(query))
            delete_events(connection, events.c.batch_id.in_(ids))
            connection.execute(batches.delete().where(batches.c.id.in_(ids)))
        return len(ids)

    def _list_done(self, condition: sa.ColumnElement[bool], limit: int) -> list[Batch]:
        has_open = sa.exists().where(jobs.c.batch_id == batches.c.id, jobs.c.status.in_(sorted(OPEN_JOB_STATUSES)))
        query = sa.select(batches).where(condition, batches.c.finished_at.is_(None), ~has_open)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(batches.c.created_at).limit(limit))
            return [Batch(**row._mapping) for row in rows]
