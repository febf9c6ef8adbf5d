"""Where the requests of each account are counted, for `web`'s rate limits: a SQLite file of its own, or Redis.

It is a storage of `limits`, whose own memory storage counts in one process only, while two processes of `web` are the
default. Counters are worth little: nothing is synced to the disk, and whoever cannot reach them counts in memory.
"""

import sqlite3
import threading
import time
import weakref
from typing import Any, Final

from limits.storage import Storage

from thumbs.settings import Settings

FILE_NAME: Final = "limits.db"
KEY_PREFIX: Final = "thumbs-limits"
BUSY_SECONDS: Final = 0.25
"""How long a request waits for another process's write, which takes some 20 µs."""
REDIS_TIMEOUT_SECONDS: Final = 0.5
"""A Redis that hangs holds up one request for so long, and then one every 1 to 32 s."""

_CREATE: Final = (
    "CREATE TABLE IF NOT EXISTS counters (key TEXT PRIMARY KEY, count INTEGER NOT NULL, expires_at REAL NOT NULL)"
    " WITHOUT ROWID"
)
_INCREASE: Final = (
    "INSERT INTO counters (key, count, expires_at) VALUES (:key, :amount, :expires_at) ON CONFLICT (key) DO UPDATE SET"
    " count = CASE WHEN expires_at <= :now THEN 0 ELSE count END + :amount,"
    " expires_at = CASE WHEN expires_at <= :now THEN :expires_at ELSE expires_at END"
    " RETURNING count"
)
_READ: Final = "SELECT count, expires_at FROM counters WHERE key = ? AND expires_at > ?"
_FORGET: Final = "DELETE FROM counters WHERE expires_at <= ?"


class SqliteCounters(Storage):
    """Counts in a SQLite file, exactly, over every process of one machine. Thread-safe.

    As little as fixed windows need. Each method raises limits.errors.StorageError when the file cannot be used.
    """

    STORAGE_SCHEME = ("sqlite",)  # type: ignore[assignment]  # Their type is a list, which would be mutable.

    def __init__(self, uri: str, wrap_exceptions: bool = True, **_options: float | str | bool) -> None:
        super().__init__(uri, wrap_exceptions)
        self._path = uri.removeprefix("sqlite:///")
        self._lock = threading.Lock()
        self._connections: list[sqlite3.Connection] = []
        weakref.finalize(self, _close_all, self._connections)

    @property
    def base_exceptions(self) -> type[Exception]:
        """What is wrapped."""
        return sqlite3.Error

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count up, in a window that ends `expiry` seconds after its first request; returns the count. Atomic."""
        now = time.time()
        [(count,)] = self._run(_INCREASE, {"key": key, "amount": amount, "now": now, "expires_at": now + expiry})
        if count == amount:
            self._run(_FORGET, (now,))
        return int(count)

    def get(self, key: str) -> int:
        """Get the count of the window that is open."""
        return next((int(count) for count, _ in self._read(key)), 0)

    def get_expiry(self, key: str) -> float:
        """Get when the window ends, in seconds since 1970; now, when none is open."""
        return next((float(expires_at) for _, expires_at in self._read(key)), time.time())

    def check(self) -> bool:
        """Tell whether a count can be written."""
        try:
            self._run(_INCREASE, {"key": "check", "amount": 1, "now": 0, "expires_at": 0})
        except sqlite3.Error:
            return False
        return True

    def reset(self) -> int:
        """Forget every count, and tell how many there were."""
        return len(self._run("DELETE FROM counters RETURNING 1"))

    def clear(self, key: str) -> None:
        """Forget one count."""
        self._run("DELETE FROM counters WHERE key = ?", (key,))

    def _read(self, key: str) -> list[Any]:
        return self._run(_READ, (key, time.time()))

    def _run(self, statement: str, values: Any = ()) -> list[Any]:
        """Run one statement, over the one connection; after an error a new one is opened the next time."""
        with self._lock:
            try:
                if not self._connections:
                    self._connections.append(_connect(self._path))
                return self._connections[0].execute(statement, values).fetchall()
            except sqlite3.Error:
                _close_all(self._connections)
                raise


def choose_counters(settings: Settings) -> tuple[str, dict[str, Any]]:
    """Choose Redis where there is one, else a SQLite file: the URI and options of a storage; nothing is opened yet."""
    if settings.redis_url is None:
        return f"sqlite:///{settings.data_dir / FILE_NAME}", {}
    return settings.redis_url, {
        "key_prefix": KEY_PREFIX,
        "wrap_exceptions": True,
        "socket_timeout": REDIS_TIMEOUT_SECONDS,
        "socket_connect_timeout": REDIS_TIMEOUT_SECONDS,
    }


def _close_all(connections: list[sqlite3.Connection]) -> None:
    while connections:
        connections.pop().close()


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=OFF", _CREATE):
            connection.execute(statement)
    except sqlite3.Error:
        connection.close()
        raise
    return connection
