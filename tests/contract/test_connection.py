"""Prepared statements find what SQLAlchemy finds, and a connection that broke is used by nobody."""

import time
from collections.abc import Iterator
from contextlib import closing

import pytest
import sqlalchemy as sa

from tests.support.builders import build_account, build_job
from tests.support.engines import Postgres
from thumbs.errors import LedgerUnavailable
from thumbs.ledger import Ledger
from thumbs.ledger.connection import Prepared
from thumbs.ledger.database import IDLE_SECONDS, Database, build_engine
from thumbs.ledger.tables import accounts, jobs

_MISSING = Prepared(sa.text("SELECT 1 AS number WHERE 1 = 2"))


@pytest.fixture
def database(ledger: Ledger) -> Database:
    return ledger._database


@pytest.fixture
def far_url(postgres: Postgres) -> str:
    """PostgreSQL's: SQLite has no connection that could break."""
    return postgres.clear_database()


@pytest.fixture
def far_database(far_url: str) -> Iterator[Database]:
    with closing(Database(far_url, 5)) as database:
        yield database


def test_prepared_statement_finds_the_same_values_as_sqlalchemy(ledger: Ledger, database: Database) -> None:
    """Moments, JSON, booleans and NULL: every kind of column that a job has."""
    account = build_account()
    ledger.accounts.record(account)
    ledger.jobs.record(build_job(account_id=account.id, metadata={"order": "42"}))
    query = sa.select(jobs).where(jobs.c.account_id == sa.bindparam("account_id"))
    with database.reading() as connection:
        ours = connection.execute(Prepared(query), {"account_id": account.id}).one_or_none()
        theirs = connection.execute(query, {"account_id": account.id}).one_or_none()
    assert ours is not None
    assert theirs is not None
    assert ours._mapping == dict(theirs._mapping)


def test_prepared_statement_that_finds_nothing_says_so(database: Database) -> None:
    with database.reading() as connection:
        assert connection.scalar(_MISSING) is None
        assert connection.scalars(_MISSING) == []


def test_transaction_is_one_for_both_ways_to_run_a_statement(ledger: Ledger, database: Database) -> None:
    account = build_account()
    ledger.accounts.record(account)
    with pytest.raises(LookupError):
        _change_and_fail(database, account.id)
    assert ledger.accounts.find(account.id) == account


def test_connection_that_broke_in_use_is_told_and_not_lent_again(far_database: Database) -> None:
    database = far_database
    with pytest.raises(LedgerUnavailable), database.reading() as connection:
        connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))
    with database.reading() as connection:
        assert connection.scalar(sa.text("SELECT 1")) == 1


def test_connection_that_broke_while_idle_is_replaced(far_database: Database, far_url: str) -> None:
    """Nobody is told: it is asked before it is used."""
    database, engine = far_database, build_engine(far_url)
    with database.reading() as connection:
        pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
    with engine.begin() as other:
        other.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    engine.dispose()
    time.sleep(IDLE_SECONDS)
    with database.reading() as connection:
        assert connection.scalar(sa.text("SELECT 1")) == 1


def _change_and_fail(database: Database, account_id: str) -> None:
    change = accounts.update().where(accounts.c.id == account_id)
    with database.writing() as connection:
        connection.execute(Prepared(change.values(name="renamed")))
        connection.execute(change.values(callback_secret="changed"))
        raise LookupError
