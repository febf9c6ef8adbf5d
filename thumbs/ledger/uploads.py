"""Sources that came with their jobs: kept from the job's record to its end."""

import sqlalchemy as sa

from thumbs.ledger.database import Database
from thumbs.ledger.tables import uploads


class Uploads:
    """The uploaded sources of jobs that are not final."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, job_id: str) -> bytes | None:
        """Find the source of a job; None once the job is final, or when it has a URL."""
        with self._database.reading() as connection:
            body: bytes | None = connection.scalar(sa.select(uploads.c.body).where(uploads.c.job_id == job_id))
        return body
