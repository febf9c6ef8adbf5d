"""A service on PostgreSQL and Valkey whose jobs are done by one machine or by two: each a worker and a courier.

A machine has a data directory and processes of its own; all that it shares with another one are the two servers. Jobs
are queued beforehand, on another database of Valkey than the machines listen to, and released at once.
"""

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from redis import Redis

from bench.engines import Engines, choose_database
from bench.load import Arrival, Caller, wait_for
from bench.processes import CpuSpent, CpuTimes, read_cpu, subtract
from bench.programs import build_environ, migrate, start_consumer, start_web, telling_logs
from tests.support.chaos import Supervisor

CONSUMERS: Final = ("worker", "courier")
WAITING: Final = 15
"""The number of the database on which messages wait for their release."""
IN_FLIGHT: Final = 8
"""POSTs at once while jobs are queued."""
DONE_SECONDS: Final = 60.0
"""After which a webhook is taken for lost."""
STOP_SECONDS: Final = 25.0


@dataclass(frozen=True, slots=True)
class Spent:
    """What was used between two moments: seconds on the clock, CPU, and bytes of PostgreSQL's write-ahead log."""

    seconds: float
    cpu: CpuSpent
    wal_bytes: int


@dataclass(frozen=True, slots=True)
class Work:
    """So many jobs: what accepting them took, what doing them took, and the time from the first webhook to the last."""

    jobs: int
    accepted: Spent
    done: Spent
    webhook_seconds: float


@dataclass(frozen=True, slots=True)
class _Reading:
    at: float
    cpu: CpuTimes
    wal_bytes: int


class Service:
    """The servers and one web process, which stay; machines come and go."""

    def __init__(self, engines: Engines, folder: Path, supervisor: Supervisor) -> None:
        self._engines = engines
        self._folder = folder
        self._supervisors = [supervisor]
        self._environ = build_environ(folder / "web", engines.create_store(), THUMBS_SWEEP_SECONDS="60")
        self._waiting_url = choose_database(self._environ["REDIS_URL"], WAITING)
        self.database_url = self._environ["DATABASE_URL"]
        migrate(self._environ)
        self.port = start_web(supervisor, "web", {**self._environ, "REDIS_URL": self._waiting_url})

    @contextmanager
    def run_machine(self, name: str) -> Iterator[None]:
        """Run a machine until the block ends."""
        folder = self._folder / name
        folder.mkdir()
        environ = {**self._environ, "THUMBS_DATA_DIR": str(folder)}
        with Supervisor(folder) as supervisor:
            self._supervisors.append(supervisor)
            for kind in CONSUMERS:
                start_consumer(supervisor, kind, environ)
            with telling_logs(supervisor, *CONSUMERS):
                yield
            self._supervisors.remove(supervisor)
            supervisor.stop(STOP_SECONDS)

    def work(self, caller: Caller, jobs: int) -> Work:
        """Queue that many jobs, release them, and wait for the last webhook."""
        before = self._read(caller)
        arrivals = caller.queue_jobs(jobs, IN_FLIGHT)
        queued = self._read(caller)
        webhook_seconds = self.finish(arrivals)
        done = self._read(caller)
        return Work(jobs, _subtract(queued, before), _subtract(done, queued), webhook_seconds)

    def finish(self, arrivals: Sequence[Future[Arrival]]) -> float:
        """Release the queued jobs and wait for their webhooks; tells the seconds from the first one to the last."""
        self._release()
        came_at = [wait_for(arrival, DONE_SECONDS).at for arrival in arrivals]
        return max(came_at) - min(came_at)

    def _release(self) -> None:
        """Move the waiting messages to where the machines listen."""
        with Redis.from_url(self._waiting_url) as client:
            for key in _list_keys(client):
                if not client.move(key, _read_number(self._environ["REDIS_URL"])):
                    raise RuntimeError("messages are on the queue already: queueing took longer than the sweep's grace")

    def _read(self, caller: Caller) -> _Reading:
        pids = [pid for supervisor in self._supervisors for pid in supervisor.list_pids()]
        beside = {"load generator": os.getpid(), "origin": caller.origin.pid}
        with psycopg.connect(self.database_url) as connection:
            row = connection.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')").fetchone()
        return _Reading(time.monotonic(), read_cpu(pids, beside, self._engines.pids), int(row[0]) if row else 0)


def _list_keys(client: Any) -> list[bytes]:
    return list(client.scan_iter())


def _read_number(url: str) -> int:
    return int(url.rpartition("/")[2])


def _subtract(after: _Reading, before: _Reading) -> Spent:
    return Spent(after.at - before.at, subtract(after.cpu, before.cpu), after.wal_bytes - before.wal_bytes)
