"""The moves of jobs. Each names the status that it moves from, and changes nothing when the row moved on.

A run is leased: its token must still be the row's when the run ends, so a worker that was thought dead and comes back
changes nothing. Of jobs with one `reuse_key` one runs at a time; the others stay queued, and share its end. A job ends
in `finish` or `cancel`: with its event and its deliveries, in one transaction.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from thumbs.domain import Batch, Conclusion, IdempotencyKey, Job, JobFilter, JobStatus, Lease
from thumbs.errors import NotFound
from thumbs.ledger.connection import Connection, Prepared
from thumbs.ledger.database import Database
from thumbs.ledger.events import write_announcement
from thumbs.ledger.keys import claim_key
from thumbs.ledger.results import write_result
from thumbs.ledger.rows import job_of_row, row_of_batch, row_of_job
from thumbs.ledger.tables import batches, jobs
from thumbs.ledger.upkeep import delete_jobs
from thumbs.ledger.uploads import delete_uploads, write_uploads

_ID: Final[sa.BindParameter[Any]] = sa.bindparam("job_id")
_NOW: Final[sa.BindParameter[Any]] = sa.bindparam("now", type_=jobs.c.started_at.type)
_TOKEN: Final[sa.BindParameter[Any]] = sa.bindparam("token")
_IS_HELD = (jobs.c.id == _ID, jobs.c.status == JobStatus.RUNNING, jobs.c.lease_token == _TOKEN)
_RESULT: Final = ("thumbnail", "source", "error", "variants", "reused")
_ENDED: Final = ("status", "started_at", "finished_at", "timings_ms", *_RESULT)
"""What the end of a job changes."""

_FIND = Prepared(sa.select(jobs).where(jobs.c.id == _ID))
_INSERT = Prepared(jobs.insert())
_other = jobs.alias()
_HAS_SAME: Final = (_other.c.reuse_key == jobs.c.reuse_key, _other.c.id != jobs.c.id)
_IS_RUNNING: Final = (_other.c.status == JobStatus.RUNNING,)
_IS_TO_RUN_AGAIN: Final = (_other.c.status == JobStatus.QUEUED, _other.c.run_at > _NOW, _other.c.run_count > 0)
_IS_ALONE: Final = tuple(
    ~sa.exists().where(*_HAS_SAME, *is_at_work).correlate(jobs) for is_at_work in (_IS_RUNNING, _IS_TO_RUN_AGAIN)
)
"""No other job for the same is at work. Two conditions: for one with an OR, SQLite looks at every job of the key."""
_LOCK_KEY = Prepared(
    sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(jobs.c.reuse_key, 0))).where(
        jobs.c.id == _ID, jobs.c.status == JobStatus.QUEUED, jobs.c.reuse_key.is_not(None)
    )
)
"""PostgreSQL: lets one transaction at a time look for others at the same work; SQLite has one writer anyway."""
_LEASE = Prepared(
    jobs.update()
    .where(jobs.c.id == _ID, jobs.c.status == JobStatus.QUEUED, jobs.c.run_at <= _NOW, *_IS_ALONE)
    .values(
        status=JobStatus.RUNNING,
        run_count=jobs.c.run_count + 1,
        started_at=sa.func.coalesce(jobs.c.started_at, _NOW),
        lease_token=_TOKEN,
        lease_until=sa.bindparam("until"),
    )
    .returning(jobs)
)
_TAKE = Prepared(
    jobs.update()
    .where(jobs.c.id == _ID, jobs.c.status == JobStatus.QUEUED)
    .values(
        status=JobStatus.RUNNING,
        started_at=sa.func.coalesce(jobs.c.started_at, _NOW),
        lease_token=_TOKEN,
        lease_until=sa.bindparam("until"),
    )
    .returning(jobs)
)
_FINISH = Prepared(
    jobs.update()
    .where(*_IS_HELD)
    .values({name: sa.bindparam(name) for name in _ENDED} | {"lease_token": None, "lease_until": None})
)
_LIST_SHARING = Prepared(
    sa.select(jobs)
    .where(jobs.c.reuse_key == sa.bindparam("reuse_key"), jobs.c.status == JobStatus.QUEUED)
    .order_by(jobs.c.run_at, jobs.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)

_HAS_QUEUED: Final = sa.exists().where(*_HAS_SAME, jobs.c.status == JobStatus.QUEUED).correlate(_other)
_MAY_HAVE_SHARING = tuple(
    Prepared(sa.select(_other.c.id).where(*conditions, _other.c.reuse_key.is_not(None)).limit(sa.literal(1)))
    for conditions in ((*_IS_RUNNING, _HAS_QUEUED), _IS_TO_RUN_AGAIN)
)
"""From those that run, which are few, to those that wait for them. In an outage of a source, those that are to run
again are many, and to look for others beside each would take longer than to count all."""

_IS_QUEUED: Final = jobs.c.status == JobStatus.QUEUED


class Jobs:
    """The jobs of the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(
        self,
        *accepted: Job,
        batch: Batch | None = None,
        key: IdempotencyKey | None = None,
        uploads: Mapping[str, bytes] | None = None,
    ) -> None:
        """Write accepted jobs with their batch and idempotency key, all or none; they are on disk when this returns.

        `uploads` are the sources that came along, by their jobs' ids. Raises KeyAlreadyUsed, and writes nothing, when
        the key is one that has not expired.
        """
        rows = [row_of_job(job) | {"dispatched_at": job.created_at} for job in accepted]
        if len(rows) == 1 and not (batch or key or uploads):
            with self._database.changing() as connection:
                connection.execute(_INSERT, rows)
            return
        with self._database.writing() as connection:
            if key is not None:
                claim_key(connection, key, accepted[0].created_at)
            if batch is not None:
                connection.execute(batches.insert(), row_of_batch(batch))
            connection.execute(_INSERT, rows)
            if uploads:
                write_uploads(connection, uploads)

    def get(self, account_id: str, job_id: str) -> Job:
        """Get a job of the account; raises NotFound, for another account's job too."""
        job = self.find(job_id)
        if job is None or job.account_id != account_id:
            raise NotFound(f"There is no job {job_id}.")
        return job

    def find(self, job_id: str) -> Job | None:
        """Find a job by its id alone, for those who work for every account."""
        return self._find(_FIND, {"job_id": job_id})

    def find_by_blob_name(self, blob_name: str) -> Job | None:
        """Find the job that a thumbnail's unguessable name was drawn with."""
        return self._find(sa.select(jobs).where(jobs.c.blob_name == blob_name), {})

    def list_for_account(self, account_id: str, where: JobFilter, limit: int) -> list[Job]:
        """List the account's jobs, newest first."""
        query = sa.select(jobs).where(jobs.c.account_id == account_id, *_conditions(where))
        with self._database.reading() as connection:
            return [job_of_row(row) for row in connection.execute(query.order_by(jobs.c.id.desc()).limit(limit))]

    def lease(self, lease: Lease, now: datetime) -> Job | None:
        """Take a queued job that is due for one run. Atomic.

        None when it is not due, somebody else was faster, or a job with the same `reuse_key` is at work: its end will
        be this one's, too.
        """
        values = {"job_id": lease.id, "now": now, "token": lease.token, "until": lease.until}
        with self._database.writing() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(_LOCK_KEY, {"job_id": lease.id})
            row = connection.execute(_LEASE, values).one_or_none()
        return job_of_row(row) if row is not None else None

    def requeue(self, lease: Lease, run_at: datetime, now: datetime) -> bool:
        """Put a running job back to queued, due at `run_at`; False when the lease was lost."""
        with self._database.writing() as connection:
            return _move(connection, lease, **_queued(run_at, now))

    def hand_back(self, lease: Lease, run_at: datetime, now: datetime) -> bool:
        """Put a running job back as if it had not run: what stopped the run was ours; False when the lease was lost."""
        with self._database.writing() as connection:
            return _move(connection, lease, run_count=jobs.c.run_count - 1, **_queued(run_at, now))

    def finish(self, lease: Lease, conclusion: Conclusion) -> list[str] | None:
        """End a running job with its event and deliveries, in one transaction; None when the lease was lost.

        Returns the ids of the deliveries to dispatch at once.
        """
        values = _ended(conclusion.job) | {"job_id": lease.id, "token": lease.token}
        with self._database.writing() as connection:
            if connection.execute(_FINISH, values).rowcount != 1:
                return None
            return _write_end(connection, conclusion)

    def cancel(self, conclusion: Conclusion) -> list[str] | None:
        """End a job that is queued, with its event and deliveries, in one transaction; None when it is not queued."""
        job = conclusion.job
        move = jobs.update().where(jobs.c.id == job.id, jobs.c.status == JobStatus.QUEUED).values(**_ended(job))
        with self._database.writing() as connection:
            if connection.execute(move).rowcount != 1:
                return None
            return _write_end(connection, conclusion)

    def forget(self, job: Job) -> None:
        """Delete a final job with all that hangs on it, its idempotency key too."""
        with self._database.writing() as connection:
            delete_jobs(connection, [job.id])

    def take(self, lease: Lease, now: datetime) -> Job | None:
        """Take a queued job that another one's run is to end, so that nobody else does; None when it is not queued.

        No run is counted.
        """
        values = {"job_id": lease.id, "now": now, "token": lease.token, "until": lease.until}
        with self._database.changing() as connection:
            row = connection.execute(_TAKE, values).one_or_none()
        return job_of_row(row) if row is not None else None

    def list_sharing(self, reuse_key: str, limit: int) -> list[Job]:
        """List queued jobs with this key, those that are due first; oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(_LIST_SHARING, {"reuse_key": reuse_key, "limit": limit})
            return [job_of_row(row) for row in rows]

    def may_have_sharing(self, now: datetime) -> bool:
        """Tell whether queued jobs wait for another one's run, or may do so."""
        with self._database.reading() as connection:
            return any(connection.scalar(query, {"now": now}) is not None for query in _MAY_HAVE_SHARING)

    def count_queued(self, limit: int) -> int:
        """Count the queued jobs, also those whose time has not come, up to a limit."""
        queued = sa.select(sa.literal(1)).select_from(jobs).where(_IS_QUEUED).limit(limit)
        with self._database.reading() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(queued.subquery())) or 0

    def count_queued_by_account(self, limit: int) -> dict[str, int]:
        """Count the queued jobs of each account that has some, up to a limit in all."""
        queued = sa.select(jobs.c.account_id).where(_IS_QUEUED).limit(limit).subquery()
        query = sa.select(queued.c.account_id, sa.func.count()).group_by(queued.c.account_id)
        with self._database.reading() as connection:
            return {row.account_id: row[1] for row in connection.execute(query)}

    def list_expired_leases(self, now: datetime, limit: int) -> list[tuple[Job, Lease]]:
        """List running jobs whose worker has let its lease run out, with that stale lease."""
        query = (
            sa.select(jobs)
            .where(jobs.c.status == JobStatus.RUNNING, jobs.c.lease_until < now)
            .order_by(jobs.c.lease_until)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [(job_of_row(row), _lease_of(row)) for row in connection.execute(query)]

    def claim_undispatched(self, now: datetime, since: datetime, limit: int) -> list[str]:
        """Claim due queued jobs last dispatched before `since`, to be dispatched again; marks them as dispatched.

        Those that wait for another one's run are left alone: a message would do nothing for them.
        """
        due = (
            sa.select(jobs.c.id)
            .where(jobs.c.status == JobStatus.QUEUED, jobs.c.dispatched_at < since, jobs.c.run_at <= _NOW, *_IS_ALONE)
            .order_by(jobs.c.dispatched_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        claim = jobs.update().where(jobs.c.id.in_(due)).values(dispatched_at=now).returning(jobs.c.id)
        with self._database.writing() as connection:
            return list(connection.scalars(claim, {"now": now}))

    def _find(self, query: Prepared | sa.Select[Any], values: dict[str, Any]) -> Job | None:
        with self._database.reading() as connection:
            row = connection.execute(query, values).one_or_none()
        return job_of_row(row) if row is not None else None


def _write_end(connection: Connection, conclusion: Conclusion) -> list[str]:
    """Write what comes with the end of a job; returns the ids of the deliveries to dispatch at once."""
    if conclusion.job.source_url is None:
        delete_uploads(connection, [conclusion.job.id])
    if conclusion.result is not None:
        write_result(connection, conclusion.result)
    return write_announcement(connection, conclusion)


def _move(connection: Connection, lease: Lease, **values: Any) -> bool:
    """Change a running job whose lease is still this one; the row count tells whether it was."""
    move = jobs.update().where(*_IS_HELD).values(**values)
    return connection.execute(move, {"job_id": lease.id, "token": lease.token}).rowcount == 1


def _ended(job: Job) -> dict[str, Any]:
    """Give the values that the end of a job changes."""
    row = row_of_job(job)
    return {name: row[name] for name in _ENDED}


def _queued(run_at: datetime, now: datetime) -> dict[str, Any]:
    """Give the values of a job that waits for its next run, which is dispatched at once, with the delay."""
    dispatched_at = max(run_at, now)
    return {
        "status": JobStatus.QUEUED,
        "run_at": run_at,
        "dispatched_at": dispatched_at,
        "lease_token": None,
        "lease_until": None,
    }


def _lease_of(row: Any) -> Lease:
    return Lease(id=row.id, token=row.lease_token, until=row.lease_until)


def _conditions(where: JobFilter) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if where.status is not None:
        conditions.append(jobs.c.status == where.status)
    if where.created_after is not None:
        conditions.append(jobs.c.created_at > where.created_after)
    if where.created_before is not None:
        conditions.append(jobs.c.created_at < where.created_before)
    if where.before_id is not None:
        conditions.append(jobs.c.id < where.before_id)
    return conditions
