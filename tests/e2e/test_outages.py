"""What happens while a store is gone, hangs, forgets or is full, and when work takes longer than a stop may.

Redis and PostgreSQL are real; a proxy in front of each takes it away while the server itself runs on. The sweep gives
a message 30 s before it counts as lost: the rows are made older instead of waiting for that.
"""

import re
import resource
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from redis import Redis

from tests.e2e.conftest import FAST, serve_late
from tests.support.authority import TestAuthority
from tests.support.engines import Postgres
from tests.support.exchanges import Exchange
from tests.support.images import build_photo, encode
from tests.support.proxies import Proxy
from tests.support.servers import Receiver, SourceServer
from tests.support.stack import Stack, wait_until

ACCEPT_SECONDS = 5.0
QUIET_SECONDS = 2.0
MAX_LINES_PER_SECOND = 20
STOP_SECONDS = 25.0
FULL_BYTES = 16_384
"""How long a file may get on a full disk: shorter than each of SQLite's already is."""
SECRET_KEY = "a secret key that is long enough for tests"
FEW_THREADS = {"THUMBS_WORKER_THREADS": "2", "THUMBS_COURIER_THREADS": "2", "THUMBS_DECODERS": "1"}
PATIENT = {
    "THUMBS_FETCH_TIMEOUT_SECONDS": "60",
    "THUMBS_WEBHOOK_TIMEOUT_SECONDS": "60",
    "THUMBS_LEASE_SECONDS": "90",
}
"""Longer than a stop may take."""
AGE_ROWS = """
    UPDATE jobs SET dispatched_at = dispatched_at - 60000000, lease_until = lease_until - 60000000
        WHERE status IN ('queued', 'running');
    UPDATE locks SET until = until - 60000000;
"""
PNG = encode(build_photo(), "PNG")


@dataclass(frozen=True, slots=True)
class Production:
    """The service on PostgreSQL and Redis, with a proxy in front of each; Redis speaks TLS, as on Heroku."""

    stack: Stack
    ledger: Proxy
    queue: Proxy
    database_url: str
    valkey: Redis

    def age_rows(self) -> None:
        """Let a minute pass since every dispatch and lease, of the sweep too."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(AGE_ROWS.encode())

    def count_jobs(self) -> int:
        """Count the jobs on record, past the proxy."""
        with psycopg.connect(self.database_url) as connection:
            row = connection.execute("SELECT count(*) FROM jobs").fetchone()
        return int(row[0]) if row else 0


@pytest.fixture(scope="module")
def shared_production(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, valkey_url: str
) -> Iterator[Production]:
    """One service for all tests that only take its stores away."""
    database_url = postgres.create_database(is_migrated=False)
    socket_path = Path(parse_qs(urlsplit(database_url).query)["host"][0]) / ".s.PGSQL.5432"
    redis_url = urlsplit(valkey_url)._replace(path="/7")
    tls = TestAuthority(tmp_path_factory.mktemp("tls")).build_context("redis.invalid")
    with (
        Proxy(socket_path) as ledger,
        Proxy(redis_url.port or 0, tls=tls) as queue,
        Redis.from_url(redis_url.geturl()) as valkey,
    ):
        settings = FAST | FEW_THREADS
        settings |= {
            "DATABASE_URL": f"postgresql://postgres@127.0.0.1:{ledger.port}{urlsplit(database_url).path}",
            "REDIS_URL": redis_url._replace(scheme="rediss", netloc=f"127.0.0.1:{queue.port}").geturl(),
            "THUMBS_SECRET_KEY": SECRET_KEY,
            "THUMBS_LOG_FORMAT": "json",
        }
        with Stack(tmp_path_factory.mktemp("production") / "var", **settings) as stack:
            yield Production(stack, ledger, queue, database_url, valkey)


@pytest.fixture
def production(shared_production: Production) -> Iterator[Production]:
    """The service on PostgreSQL and Redis; both are back for the next test."""
    yield shared_production
    shared_production.ledger.restore()
    shared_production.queue.restore()
    wait_until(lambda: shared_production.stack.request("GET", "/readyz").status == 200, 20)


def submit_in_time(stack: Stack, source_url: str) -> str:
    """Submit a job that is accepted within ACCEPT_SECONDS."""
    began = time.monotonic()
    job = stack.submit(source_url=source_url)
    assert time.monotonic() - began < ACCEPT_SECONDS
    return str(job["id"])


def count_lines_per_second(stack: Stack) -> float:
    """Count how fast the log grows."""
    before = len(stack.read_log().splitlines())
    time.sleep(QUIET_SECONDS)
    return (len(stack.read_log().splitlines()) - before) / QUIET_SECONDS


@contextmanager
def full_disk(stack: Stack) -> Iterator[None]:
    """Let no file of the running processes grow, as on a full disk.

    It is their RLIMIT_FSIZE, lowered from outside and raised again: that needs neither root nor a file system.
    """
    _limit_files(stack, FULL_BYTES)
    try:
        yield
    finally:
        _limit_files(stack, resource.RLIM_INFINITY)


def _limit_files(stack: Stack, limit_bytes: int) -> None:
    for pid in stack.list_pids():
        _, hard_limit = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        if hard_limit == resource.RLIM_INFINITY:  # Not a decoder's, which is 0 already.
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit_bytes, hard_limit))


def age_file(path: Path) -> None:
    """Let a minute pass since every dispatch and lease, of the sweep too."""
    with closing(sqlite3.connect(path, timeout=10)) as connection, connection:
        connection.executescript(AGE_ROWS)


def check_integrity(path: Path) -> str:
    """Let SQLite check a file; "ok" when it is whole."""
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


@pytest.mark.parametrize("outage", [Proxy.cut, Proxy.hang])
def test_jobs_are_accepted_without_redis_and_run_when_it_is_back(
    production: Production, source: SourceServer, outage: Callable[[Proxy], None]
) -> None:
    stack = production.stack
    outage(production.queue)
    job_id = submit_in_time(stack, source.serve("/i", PNG))
    assert count_lines_per_second(stack) < MAX_LINES_PER_SECOND
    assert stack.get_job(job_id)["status"] == "queued"
    production.queue.restore()
    production.age_rows()
    assert stack.wait_for_job(job_id)["status"] == "succeeded"


def test_batch_is_accepted_in_bounded_time_while_redis_hangs(production: Production, source: SourceServer) -> None:
    """The queue is asked once, not a hundred times."""
    production.queue.hang()
    began = time.monotonic()
    jobs = [{"source_url": source.serve("/i", PNG)}] * 100
    assert production.stack.request("POST", "/v1/batches", json={"jobs": jobs}).status == 202
    assert time.monotonic() - began < ACCEPT_SECONDS


def test_redis_over_tls_with_a_certificate_that_nobody_knows_works(
    production: Production, source: SourceServer, receiver: Receiver
) -> None:
    """As on Heroku: from an authority and for a name that nobody knows."""
    assert production.stack.environ["REDIS_URL"].startswith("rediss://")
    job = production.stack.submit(source_url=source.serve("/i", PNG), callback_url=receiver.url())
    assert production.stack.wait_for_callback(job["id"], "delivered")["status"] == "succeeded"


def test_sweep_dispatches_again_what_redis_has_forgotten(production: Production, source: SourceServer) -> None:
    """Two jobs keep both of the worker's threads busy, the third one's message is lost."""
    stack = production.stack
    url = serve_late(source, "/late", PNG, 1)
    jobs = [stack.submit(source_url=f"{url}?n={number}") for number in range(3)]
    source.wait_for(2)
    assert production.valkey.dbsize() > 0
    production.valkey.flushdb()
    production.age_rows()
    assert [stack.wait_for_job(job["id"])["status"] for job in jobs] == ["succeeded"] * 3


def test_lost_ledger_is_told_and_the_workers_go_on_when_it_is_back(
    production: Production, source: SourceServer, receiver: Receiver
) -> None:
    """It goes while two jobs run and one waits; each is finished, with one event. A key of that time is unused."""
    stack, before = production.stack, production.count_jobs()
    url = serve_late(source, "/late", PNG, 1)
    jobs = [stack.submit(source_url=f"{url}?n={number}", callback_url=receiver.url()) for number in range(3)]
    source.wait_for(2)
    production.ledger.cut()
    request: dict[str, Any] = {"json": {"source_url": url}, "headers": {"Idempotency-Key": "during the outage"}}
    answer = stack.request("POST", "/v1/jobs", **request)
    assert (answer.status, answer.json()["code"], answer.headers["Retry-After"]) == (503, "unavailable", "5")
    assert count_lines_per_second(stack) < MAX_LINES_PER_SECOND
    production.ledger.restore()
    assert production.count_jobs() == before + 3
    production.age_rows()
    assert {stack.wait_for_callback(job["id"], "delivered")["status"] for job in jobs} == {"succeeded"}
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 3
    assert stack.request("POST", "/v1/jobs", **request).status == 202


def test_every_line_of_the_log_was_written_once_and_as_json(shared_production: Production) -> None:
    """Outages included: huey_consumer brings a log handler of its own."""
    lines = re.findall(r"(?:worker|courier) +\| (.*)", shared_production.stack.read_log())
    assert lines
    assert [line for line in lines if not line.startswith("{")] == []
    assert len(lines) == len(set(lines))


def test_full_disk_refuses_jobs_and_corrupts_nothing(tmp_path: Path, source: SourceServer) -> None:
    """One job is at work when the disk gets full: it is finished when there is room again."""
    with Stack(tmp_path / "var", **FAST, **FEW_THREADS) as stack:
        done = stack.wait_for_job(stack.submit(source_url=source.serve("/i", PNG))["id"])
        running = stack.submit(source_url=serve_late(source, "/late", PNG, 0.5))
        source.wait_for(2)
        with full_disk(stack):
            answers = [stack.request("POST", "/v1/jobs", json={"source_url": source.url("/i")}) for _ in range(5)]
            assert {(answer.status, answer.json()["code"]) for answer in answers} == {(503, "unavailable")}
            assert stack.request("GET", done["thumbnail"]["url"]).status == 200
            time.sleep(QUIET_SECONDS)
            assert stack.get_job(running["id"])["status"] == "running"
        age_file(tmp_path / "var" / "ledger.db")
        assert stack.wait_for_job(stack.submit(source_url=source.url("/i"))["id"])["status"] == "succeeded"
        assert stack.wait_for_job(running["id"])["status"] == "succeeded"
    files = {path.name: check_integrity(path) for path in (tmp_path / "var").glob("*.db")}
    assert files == dict.fromkeys(("images.db", "ledger.db", "limits.db", "webhooks.db"), "ok")


def test_work_that_outlasts_a_stop_is_given_back_and_finished_by_the_next_start(
    tmp_path: Path, source: SourceServer, receiver: Receiver
) -> None:
    """A fetch and a delivery hang when SIGTERM comes: neither counts as tried in vain, and no process is left."""
    receiver.hang(count=1)
    stack = Stack(tmp_path / "var", **FAST | PATIENT)
    stack.start()
    sending = stack.submit(source_url=source.serve("/i", PNG), callback_url=receiver.url())
    receiver.wait_for(1, timeout_seconds=20)
    running = stack.submit(source_url=source.script("/hang", Exchange.wait))
    source.wait_for(2, timeout_seconds=20)
    began = time.monotonic()
    assert stack.stop() == 0
    assert time.monotonic() - began < STOP_SECONDS
    assert stack.list_pids() == []
    source.serve("/hang", PNG)
    with stack:
        assert stack.wait_for_job(running["id"])["run_count"] == 1
        stack.wait_for_callback(sending["id"], "delivered")
        [delivery] = stack.list_deliveries(sending["id"])
    assert [each["error_code"] for each in delivery["attempts"]] == ["abandoned", None]
