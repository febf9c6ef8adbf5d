"""The engine under the ledger: connections, transactions, and the one seam where database errors become ours.

Reads run outside a transaction. Writes run inside one; on SQLite it takes the write lock when it begins (BEGIN
IMMEDIATE), so a transaction that reads first and writes later cannot be refused half-way.
"""

import fcntl
import functools
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from thumbs.errors import LedgerUnavailable

BUSY_TIMEOUT_SECONDS: Final = 10
"""How long a SQLite connection waits for another process's write lock."""
SHORTEST_PAUSE_SECONDS: Final = 0.0005
LONGEST_PAUSE_SECONDS: Final = 0.004
"""Between two tries for the write lock; a write takes about 1 ms."""
MAX_SQLITE_CONNECTIONS: Final = 300
"""More than any process has threads: with SQLite, a thread never waits for a connection."""
CONNECT_TIMEOUT_SECONDS: Final = 5
POOL_TIMEOUT_SECONDS: Final = 10
STATEMENT_TIMEOUT_MS: Final = 10_000
"""PostgreSQL: a statement that takes longer is given up, so that a stuck server does not hold every thread."""

logger = logging.getLogger(__name__)


class Database:
    """Gives out connections, one per use, and turns the driver's errors into LedgerUnavailable."""

    def __init__(self, url: str, max_connections: int) -> None:
        self._engine = build_engine(url, max_connections)
        self._write_lock: AbstractContextManager[Any] = nullcontext()
        if self._engine.dialect.name == "sqlite":
            self._write_lock = _FileLock(f"{self._engine.url.database}.lock")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection for SELECTs; each sees what is committed when it runs."""
        with _translating(), self._engine.connect() as connection:
            if self._engine.dialect.name != "sqlite":  # Which is out of any transaction anyway.
                connection.execution_options(isolation_level="AUTOCOMMIT")
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield a connection inside a transaction: committed at the end, rolled back on an exception."""
        with _translating(), self._write_lock, self._engine.connect() as connection:
            connection.execution_options(thumbs_writing=True)
            with connection.begin():
                yield connection

    def has_table(self, name: str) -> bool:
        """Tell whether there is such a table."""
        with self.reading() as connection:
            return sa.inspect(connection).has_table(name)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()
        if isinstance(self._write_lock, _FileLock):
            self._write_lock.close()


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
    return sa.create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_size=max_connections,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "tcp_user_timeout": STATEMENT_TIMEOUT_MS,
            "keepalives_idle": 10,
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c timezone=UTC",
        },
    )


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
def _build_insert(table: sa.Table, on_conflict: str) -> sa.TextClause:
    """Build the statement as text, which both databases understand; SQLAlchemy has it per dialect only, 2 MiB each."""
    names = [column.name for column in table.columns]
    keys = ", ".join(column.name for column in table.primary_key)
    values = ", ".join(f":{name}" for name in names)
    text = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({values}) ON CONFLICT ({keys}) {on_conflict}"
    return sa.text(text).bindparams(*(sa.bindparam(column.name, type_=column.type) for column in table.columns))


def _build_sqlite_engine(url: URL) -> Engine:
    """Build SQLite's engine: WAL, full sync, foreign keys on."""
    engine = sa.create_engine(
        url,
        pool_size=8,
        max_overflow=MAX_SQLITE_CONNECTIONS,
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


def _begin_sqlite(connection: Connection) -> None:
    if connection.get_execution_options().get("thumbs_writing"):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def _translating() -> Iterator[None]:
    """Turn a database that does not answer into LedgerUnavailable; a mistake of ours stays what it is."""
    try:
        yield
    except (OperationalError, InterfaceError, InternalError, PoolTimeout) as error:
        raise _build_unavailable(error) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise _build_unavailable(error) from error
        raise


def _build_unavailable(error: Exception) -> LedgerUnavailable:
    logger.warning("the ledger does not answer", extra={"reason": str(error.__cause__ or error)})
    return LedgerUnavailable("the ledger does not answer")
