"""The engine under the ledger: its pool, transactions, and the one seam where database errors become ours.

Reads run outside a transaction. Writes run inside one; on SQLite it takes the write lock when it begins (BEGIN
IMMEDIATE), so a transaction that reads first and writes later cannot be refused half-way.
"""

import fcntl
import functools
import logging
import math
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from thumbs.errors import LedgerUnavailable
from thumbs.ledger.connection import Connection, Prepared

BUSY_TIMEOUT_SECONDS: Final = 10
"""How long a SQLite connection waits for another process's write lock."""
SHORTEST_PAUSE_SECONDS: Final = 0.0005
LONGEST_PAUSE_SECONDS: Final = 0.004
"""Between two tries for the write lock; a write takes about 1 ms."""
MAX_SQLITE_CONNECTIONS: Final = 300
"""More than any process has threads: with SQLite, a thread never waits for a connection."""
CONNECT_TIMEOUT_SECONDS: Final = 5
POOL_TIMEOUT_SECONDS: Final = 10
IDLE_SECONDS: Final = 1.0
"""PostgreSQL: a connection that nobody has used for longer is asked whether it still is one before it is used."""
RETURNED_AT: Final = "returned_at"
STATEMENT_TIMEOUT_MS: Final = 10_000
"""PostgreSQL: a statement that takes longer is given up, so that a stuck server does not hold every thread."""

logger = logging.getLogger(__name__)


class Database:
    """Gives out connections, one per use, and turns the driver's errors into LedgerUnavailable."""

    def __init__(self, url: str, max_connections: int) -> None:
        self._engine = build_engine(url, max_connections)
        self._is_sqlite = self._engine.dialect.name == "sqlite"
        self._write_lock: AbstractContextManager[Any] = nullcontext()
        if self._is_sqlite:
            self._write_lock = _FileLock(f"{self._engine.url.database}.lock")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection for SELECTs; each sees what is committed when it runs."""
        with self._lending() as lent:
            if not self._is_sqlite:  # Which is out of any transaction anyway.
                _set_autocommit(lent, wanted=True)
            yield Connection(self._engine, lent)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield a connection inside a transaction: committed at the end, rolled back on an exception."""
        with self._write_lock, self._lending() as lent:
            if self._is_sqlite:
                lent.cursor().execute("BEGIN IMMEDIATE")
            else:
                _set_autocommit(lent, wanted=False)
            yield Connection(self._engine, lent)
            lent.commit()

    @contextmanager
    def changing(self) -> Iterator[Connection]:
        """Yield a connection for one statement that writes, which is a transaction by itself: it need not be begun."""
        with self._write_lock, self._lending() as lent:
            if not self._is_sqlite:
                _set_autocommit(lent, wanted=True)
            yield Connection(self._engine, lent)

    def has_table(self, name: str) -> bool:
        """Tell whether there is such a table."""
        try:
            return sa.inspect(self._engine).has_table(name)
        except DBAPIError as error:
            raise self._translate(error) from error

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()
        if isinstance(self._write_lock, _FileLock):
            self._write_lock.close()

    @contextmanager
    def _lending(self) -> Iterator[PoolProxiedConnection]:
        """Lend a connection; one that broke is not lent again, and those beside it are not believed any more."""
        lent: PoolProxiedConnection | None = None
        try:
            lent = self._engine.raw_connection()
            yield lent
        except BaseException as error:
            if lent is not None:
                self._clean(lent, error)
            translated = self._translate(error)
            if translated is error:
                raise
            raise translated from error
        finally:
            if lent is not None:
                lent.close()

    def _clean(self, lent: PoolProxiedConnection, error: BaseException) -> None:
        """Undo what a use has left behind that ended early; whoever was interrupted has left an unknown state."""
        try:
            if isinstance(error, Exception) and lent.is_valid:
                lent.rollback()
                return
        except self._engine.dialect.loaded_dbapi.Error:
            logger.debug("a connection broke")
        if lent.is_valid:  # SQLAlchemy has done it where it ran the statement.
            lent.invalidate()
        self._engine.dispose()

    def _translate(self, error: BaseException) -> BaseException:
        """Turn a database that does not answer into LedgerUnavailable; a mistake of ours stays what it is."""
        driver = self._engine.dialect.loaded_dbapi
        cause = error.orig if isinstance(error, DBAPIError) else error
        is_away = isinstance(error, DBAPIError) and error.connection_invalidated
        kinds = (driver.OperationalError, driver.InterfaceError, driver.InternalError, PoolTimeout)
        if isinstance(error, driver.IntegrityError):
            return IntegrityError(None, None, error)  # The same, whoever has run the statement.
        if not is_away and not isinstance(cause, kinds):
            return error
        logger.warning("the ledger does not answer", extra={"reason": str(cause)})
        return LedgerUnavailable("the ledger does not answer")


class _FileLock:
    """Lets one writer of all threads and processes through at a time, and the next one a few ms later.

    SQLite's own busy handler sleeps up to 100 ms between two tries: with a lock like this, 16 jobs in flight were done
    at 57-62 a second instead of 44-52. It is a courtesy between us: when a process that holds it is stuck, the others
    go on without it after BUSY_TIMEOUT_SECONDS, and SQLite decides.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._threads = threading.Lock()
        self._file: IO[bytes] | None = None

    def __enter__(self) -> None:
        if not self._threads.acquire(timeout=BUSY_TIMEOUT_SECONDS):
            raise LedgerUnavailable("the ledger is busy")
        try:
            if self._file is None:
                self._file = Path(self._path).open("ab")
            self._wait_for_processes(self._file)
        except OSError as error:
            self._threads.release()
            raise LedgerUnavailable("the ledger's lock file cannot be used") from error

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        self._threads.release()

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        with self._threads:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _wait_for_processes(self, file: IO[bytes]) -> None:
        until, pause_seconds = time.monotonic() + BUSY_TIMEOUT_SECONDS, SHORTEST_PAUSE_SECONDS
        while time.monotonic() < until:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(pause_seconds)
                pause_seconds = min(pause_seconds * 2, LONGEST_PAUSE_SECONDS)
            else:
                return


def build_engine(url: str, max_connections: int = 1) -> Engine:
    """Build the engine for a `sqlite:///`, `postgres://` or `postgresql://` URL; nothing is connected yet."""
    parsed = make_url(url.replace("postgres://", "postgresql://", 1))
    if parsed.get_backend_name() == "sqlite":
        return _build_sqlite_engine(parsed)
    engine = sa.create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_size=max_connections,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        pool_use_lifo=True,
        pool_reset_on_return=None,
        hide_parameters=True,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "tcp_user_timeout": STATEMENT_TIMEOUT_MS,
            "keepalives_idle": 10,
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c timezone=UTC",
        },
    )
    _check_idle_connections(engine)
    return engine


def upsert(connection: Connection, table: sa.Table, row: dict[str, Any]) -> None:
    """Insert a row, or write over the one with its primary key. Atomic."""
    changes = ", ".join(f"{column.name} = excluded.{column.name}" for column in table.columns)
    connection.execute(_build_insert(table, f"DO UPDATE SET {changes}"), row)


def insert_new(connection: Connection, table: sa.Table, row: dict[str, Any]) -> bool:
    """Insert a row unless there is one with its primary key; False when there is. Atomic.

    What is usual raises no error: PostgreSQL would write each into its log, and end the transaction.
    """
    return connection.execute(_build_insert(table, "DO NOTHING"), row).rowcount == 1


@functools.cache
def _build_insert(table: sa.Table, on_conflict: str) -> Prepared:
    """Build the statement as text, which both databases understand; SQLAlchemy has it per dialect only, 2 MiB each."""
    names = [column.name for column in table.columns]
    keys = ", ".join(column.name for column in table.primary_key)
    values = ", ".join(f":{name}" for name in names)
    text = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({values}) ON CONFLICT ({keys}) {on_conflict}"
    binds = (sa.bindparam(column.name, type_=column.type) for column in table.columns)
    return Prepared(sa.text(text).bindparams(*binds))


def _build_sqlite_engine(url: URL) -> Engine:
    """Build SQLite's engine: WAL, full sync, foreign keys on."""
    engine = sa.create_engine(
        url,
        paramstyle="named",  # As psycopg's parameters are: of names.
        pool_size=8,
        max_overflow=MAX_SQLITE_CONNECTIONS,
        pool_use_lifo=True,
        pool_reset_on_return=None,
        hide_parameters=True,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_SECONDS},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    """Take transactions into our own hands, and set what SQLite keeps per connection."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    if connection.get_execution_options().get("thumbs_writing"):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _check_idle_connections(engine: Engine) -> None:
    """Let the pool replace a connection that broke while nobody used it.

    To ask before each use, as SQLAlchemy's pre-ping does, were 13 of a job's 61 statements.
    """

    def note_return(_connection: Any, record: ConnectionPoolEntry) -> None:
        record.info[RETURNED_AT] = time.monotonic()

    def check(connection: Any, record: ConnectionPoolEntry, _lent: PoolProxiedConnection) -> None:
        if time.monotonic() - record.info.get(RETURNED_AT, math.inf) < IDLE_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error

    event.listen(engine, "checkin", note_return)
    event.listen(engine, "checkout", check)


def _set_autocommit(lent: PoolProxiedConnection, *, wanted: bool) -> None:
    """Take psycopg's connection out of transactions, or let the next statement begin one."""
    connection: Any = lent.dbapi_connection
    if connection.autocommit is not wanted:
        connection.autocommit = wanted
