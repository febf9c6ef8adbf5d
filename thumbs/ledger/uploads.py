"""Sources that came with their jobs: kept from the job's record to its end."""

from collections.abc import Mapping

import sqlalchemy as sa

from thumbs.domain import OPEN_JOB_STATUSES
from thumbs.ledger.connection import Connection
from thumbs.ledger.database import Database
from thumbs.ledger.tables import jobs, uploads


class Uploads:
    """The uploaded sources of jobs that are not final; they are written and deleted with their jobs' moves."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, job_id: str) -> bytes | None:
        """Find the source of a job; None once the job is final, or when it has a URL."""
        with self._database.reading() as connection:
            body: bytes | None = connection.scalar(sa.select(uploads.c.body).where(uploads.c.job_id == job_id))
        return body

    def count_bytes(self) -> int:
        """Count the bytes of all that wait."""
        with self._database.reading() as connection:
            return connection.scalar(sa.select(sa.func.coalesce(sa.func.sum(uploads.c.size_bytes), 0))) or 0

    def forget_abandoned(self, limit: int) -> int:
        """Delete up to `limit` sources whose jobs another release has ended, and tell how many."""
        is_open = sa.exists().where(jobs.c.id == uploads.c.job_id, jobs.c.status.in_(sorted(OPEN_JOB_STATUSES)))
        abandoned = sa.select(uploads.c.job_id).where(~is_open).limit(limit)
        with self._database.writing() as connection:
            return connection.execute(uploads.delete().where(uploads.c.job_id.in_(abandoned))).rowcount


def write_uploads(connection: Connection, sources: Mapping[str, bytes]) -> None:
    """Write the sources of jobs, by the jobs' ids, inside the caller's transaction."""
    rows = [{"job_id": job_id, "size_bytes": len(body), "body": body} for job_id, body in sources.items()]
    connection.execute(uploads.insert(), rows)


def delete_uploads(connection: Connection, job_ids: list[str]) -> None:
    """Delete the sources of jobs, inside the caller's transaction."""
    connection.execute(uploads.delete().where(uploads.c.job_id.in_(job_ids)))
