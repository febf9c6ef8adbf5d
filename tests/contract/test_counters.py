"""Counters of requests: windows that begin with their first request, the same over SQLite and Redis, and exact."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from limits.errors import StorageError
from limits.storage import Storage, storage_from_string
from redis import Redis

from tests.support.authority import TestAuthority
from tests.support.proxies import Proxy
from tests.support.races import race
from tests.support.services import build_test_settings
from tests.support.stack import wait_until
from thumbs.counters import FILE_NAME, KEY_PREFIX, REDIS_TIMEOUT_SECONDS, choose_counters

COUNT = """
import sys
from thumbs.counters import SqliteCounters
counters = SqliteCounters(sys.argv[1])
print(*(counters.incr("a", 60) for _ in range(500)))
"""


def build_counters(**variables: str) -> Storage:
    """Build a storage as Flask-Limiter does."""
    uri, options = choose_counters(build_test_settings(**variables))
    storage = storage_from_string(uri, **options)
    assert isinstance(storage, Storage)
    return storage


def choose_database(valkey_url: str) -> str:
    """Choose a numbered database that no other test uses."""
    return f"{valkey_url.rpartition('/')[0]}/9"


def build_sqlite(folder: Path) -> Storage:
    return build_counters(THUMBS_DATA_DIR=str(folder))


@pytest.fixture(params=["sqlite", "redis"])
def counters(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """Empty counters, on each store."""
    if request.param == "sqlite":
        yield build_sqlite(tmp_path)
        return
    url = choose_database(request.getfixturevalue("valkey_url"))
    yield build_counters(REDIS_URL=url, THUMBS_SECRET_KEY="k" * 32)
    with closing(Redis.from_url(url)) as redis:
        assert all(key.startswith(f"{KEY_PREFIX}:".encode()) for key in redis.scan_iter())
        redis.flushdb()


def test_each_key_is_counted_up_by_itself(counters: Storage) -> None:
    assert [counters.incr("a", 60) for _ in range(3)] == [1, 2, 3]
    assert counters.incr("b", 60, 5) == 5
    assert (counters.get("a"), counters.get("b"), counters.get("c")) == (3, 5, 0)


def test_window_ends_so_long_after_its_first_request(counters: Storage) -> None:
    began = time.time()
    counters.incr("a", 60)
    ends_at = counters.get_expiry("a")
    assert began + 58 <= ends_at <= time.time() + 60
    counters.incr("a", 600)
    assert counters.get_expiry("a") <= time.time() + 61


def test_count_begins_again_after_its_window(counters: Storage) -> None:
    counters.incr("a", 1)
    counters.incr("a", 1)
    assert wait_until(lambda: counters.get("a") == 0, 10)
    assert counters.incr("a", 60) == 1


def test_no_count_is_lost_between_threads(counters: Storage) -> None:
    counts = race(*[partial(counters.incr, "a", 60)] * 20)
    assert sorted(counts) == list(range(1, 21))


def test_counts_can_be_forgotten(counters: Storage) -> None:
    for key in ("a", "b", "c"):
        counters.incr(key, 60)
    counters.clear("a")
    assert (counters.get("a"), counters.get("b")) == (0, 1)
    assert counters.reset() == 2
    assert counters.get("b") == 0


def test_counters_that_answer_say_so(counters: Storage) -> None:
    assert counters.check() is True


# ── SQLite ──────────────────────────────────────────────────────────────────────────────────────────────


def test_no_count_is_lost_between_processes(tmp_path: Path) -> None:
    """Two processes of `web` are the default."""
    command = [sys.executable, "-c", COUNT, f"sqlite:///{tmp_path / FILE_NAME}"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    counts = [int(count) for process in processes for count in process.communicate(timeout=60)[0].split()]
    assert sorted(counts) == list(range(1, 1001))


def test_what_has_expired_is_deleted_as_others_begin(tmp_path: Path) -> None:
    counters = build_sqlite(tmp_path)
    for number in range(50):
        counters.incr(str(number), 0)
    counters.incr("last", 60)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        assert connection.execute("SELECT key FROM counters").fetchall() == [("last",)]


def test_file_that_is_locked_is_told_soon_and_works_again(tmp_path: Path) -> None:
    counters = build_sqlite(tmp_path)
    counters.incr("a", 60)
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(StorageError):
            counters.incr("a", 60)
        assert counters.check() is False
        assert time.monotonic() - began < 5
    assert counters.check() is True
    assert counters.incr("a", 60) == 2


@pytest.mark.parametrize("content", [b"this is no database" * 100, None])
def test_file_that_cannot_be_used_is_told(tmp_path: Path, content: bytes | None) -> None:
    """It is none, or its place is taken by a folder; once it is gone, counting begins again."""
    path = tmp_path / FILE_NAME
    path.write_bytes(content) if content else path.mkdir()
    counters = build_sqlite(tmp_path)
    with pytest.raises(StorageError):
        counters.incr("a", 60)
    assert counters.check() is False
    path.unlink() if content else path.rmdir()
    assert counters.incr("a", 60) == 1


def test_nothing_is_opened_before_the_first_request(tmp_path: Path) -> None:
    build_sqlite(tmp_path)
    assert list(tmp_path.iterdir()) == []


# ── Redis ───────────────────────────────────────────────────────────────────────────────────────────────


def test_redis_that_hangs_is_given_up_soon(valkey_url: str) -> None:
    """It is asked once."""
    with Proxy(int(valkey_url.rpartition(":")[2].partition("/")[0])) as proxy:
        counters = build_counters(REDIS_URL=f"redis://127.0.0.1:{proxy.port}/0", THUMBS_SECRET_KEY="k" * 32)
        counters.incr("a", 60)
        proxy.hang()
        began = time.monotonic()
        with pytest.raises(StorageError):
            counters.incr("a", 60)
        assert time.monotonic() - began < 4 * REDIS_TIMEOUT_SECONDS
        proxy.restore()
        assert wait_until(counters.check, 10)
        counters.clear("a")


def test_redis_with_a_certificate_that_nobody_knows_works(valkey_url: str, tmp_path: Path) -> None:
    """As on Heroku."""
    tls = TestAuthority(tmp_path).build_context("redis.invalid")
    with Proxy(int(valkey_url.rpartition(":")[2].partition("/")[0]), tls=tls) as proxy:
        counters = build_counters(REDIS_URL=f"rediss://127.0.0.1:{proxy.port}/9", THUMBS_SECRET_KEY="k" * 32)
        assert counters.incr("tls", 60) == 1
        counters.clear("tls")
