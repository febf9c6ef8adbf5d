"""One service's ledger and queue from inside, as a worker has them: fills them with queued jobs, and times calls.

`python -m bench.probe` takes its settings from the environment, as every process of the service does, and so has one
store: who compares stores runs one probe for each. It reads a JSON array per line, the name of a method of Probe and
its argument, and prints the result as JSON; it ends with its input.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import psycopg
from huey.storage import BaseStorage, SqliteStorage

from tasks import dispatcher, images
from tests.support.builders import build_job
from thumbs.accounts import get_default_account
from thumbs.gauge import QueueGauge
from thumbs.services import Services, build
from thumbs.sweep import sweep

EXPIRES_AFTER: Final = timedelta(days=7)
SOURCE_URL: Final = "https://img.example/queued.jpg?n={}"
"""No two jobs are about the same source."""
ROWS: Final = 1000
"""Jobs per transaction while filling."""
STRIDE: Final = 7919
"""A prime: steps of it lead all over the backlog, and to each job once."""


class Probe:
    """The services of this process, and the ids of the jobs that it has queued; durations are in milliseconds."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._ids: list[str] = []
        self._position = 0

    def fill(self, count: int) -> float:
        """Queue that many jobs, in the ledger and as messages, and return the seconds that it took."""
        began = time.monotonic()
        account = get_default_account(self._services)
        with _skipping_sync(images.storage):
            for start in range(0, count, ROWS):
                self._queue(account.id, min(ROWS, count - start))
        self._vacuum()
        return time.monotonic() - began

    def claim(self, times: int) -> list[float]:
        """Time the lease of queued jobs; each is given back as if it had not run."""
        return [self._claim_one() for _ in range(times)]

    def take(self, times: int) -> list[float]:
        """Time taking the next message off the queue; each is put back at its end."""
        return [self._take_one() for _ in range(times)]

    def sweep(self, times: int) -> list[float]:
        """Time whole sweeps that find nothing wrong."""
        return [self._sweep() for _ in range(times)]

    def sweep_after_loss(self, times: int) -> list[float]:
        """Time whole sweeps, each after a message was lost."""
        return [self._sweep() for _ in range(times) if images.storage.dequeue()]

    def gauge(self, times: int) -> list[float]:
        """Time the count that back-pressure makes once a second."""
        return [_time(self._build_gauge_count()) for _ in range(times)]

    def find_oldest(self, times: int) -> list[float]:
        """Time what /readyz asks of the backlog."""
        return [_time(self._services.ledger.upkeep.find_oldest_queued) for _ in range(times)]

    def _queue(self, account_id: str, count: int) -> None:
        now = self._services.clock.now()
        changes = {"account_id": account_id, "created_at": now, "run_at": now, "expires_at": now + EXPIRES_AFTER}
        jobs = [build_job(source_url=SOURCE_URL.format(len(self._ids) + number), **changes) for number in range(count)]
        self._services.ledger.jobs.record(*jobs)
        for job in jobs:
            dispatcher.process(job.id)
        self._ids += [job.id for job in jobs]

    def _vacuum(self) -> None:
        """Do what PostgreSQL's autovacuum has done with a backlog that was not made in seconds."""
        url = self._services.settings.database_url
        if url.startswith("postgres"):
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("VACUUM (ANALYZE)")

    def _claim_one(self) -> float:
        self._position = (self._position + STRIDE) % len(self._ids)
        jobs, now = self._services.ledger.jobs, self._services.clock.now()
        lease = self._services.new_lease(self._ids[self._position], now)
        spent_ms = _time(lambda: jobs.lease(lease, now))
        if not jobs.hand_back(lease, now, now):
            raise RuntimeError(f"the job {lease.id} was not there to be leased")
        return spent_ms

    def _take_one(self) -> float:
        taken: list[bytes] = []
        spent_ms = _time(lambda: taken.append(images.storage.dequeue()))
        images.storage.enqueue(taken[0])
        return spent_ms

    def _sweep(self) -> float:
        return _time(lambda: sweep(self._services, "worker"))

    def _build_gauge_count(self) -> Callable[[], int]:
        """Build a gauge that has not counted yet: one that has would tell what it knows for a second."""
        gauge = QueueGauge(self._services.ledger, self._services.dispatcher, self._services.clock)
        return lambda: gauge.count(self._services.settings.max_queued_jobs)


@contextmanager
def _skipping_sync(storage: BaseStorage) -> Iterator[None]:
    """Let a SQLite queue not wait for the disk: only what is measured later has to."""
    if isinstance(storage, SqliteStorage):
        storage.sql("pragma synchronous=off")
    yield
    if isinstance(storage, SqliteStorage):
        storage.sql("pragma synchronous=full")


def _time(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def main() -> None:
    """Do what the input says, line by line."""
    probe = Probe(build(images.settings, dispatcher))
    for line in sys.stdin:
        name, argument = json.loads(line)
        print(json.dumps(getattr(probe, name)(argument)), flush=True)


if __name__ == "__main__":
    main()
