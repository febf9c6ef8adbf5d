"""Makes jobs as callers do, and waits for their webhooks: K threads, each with one job in flight at a time.

A job's number is in the path of its callback, so that a webhook which overtakes the answer of its POST finds its job;
and in the query of its source, so that no two jobs are about the same one.
"""

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import IO, Any, Final

JOB_SECONDS: Final = 20.0
"""After which a job is taken for lost, and the run given up."""
PHASE_SECONDS: Final = 35.0
"""After which a phase makes no more jobs, so that a slow machine is done in time too."""
ACCEPTED: Final = (http.HTTPStatus.ACCEPTED, http.HTTPStatus.OK)
"""A job that is final before its POST is answered is answered with 200."""
BARE: Final = "bare"
"""The type of what others than ours send: that the work is done, and nothing of its steps."""
Make = Callable[[str, str], None]
"""Makes a job of a source's URL and a callback's; RuntimeError when it is refused."""
STEPS: Final = ("accepted", "queued", "fetched", "decoded", "stored", "concluded", "webhook")
"""POST to `created_at`; the job's own timings_ms; the rest up to `finished_at`; and from there to the arrival."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A webhook as it came, at a monotonic time."""

    at: float
    body: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A job to be made: the URLs, which are its own, and what will hold its webhook."""

    source_url: str
    callback_url: str
    arrival: Future[Arrival]


@dataclass(frozen=True, slots=True)
class Sample:
    """One job: monotonic times, and the milliseconds of each of STEPS, which add up to the whole; others' have none."""

    posted_at: float
    answered_at: float
    arrived_at: float
    steps_ms: dict[str, float]

    @property
    def answer_ms(self) -> float:
        """From just before the POST to its answer."""
        return (self.answered_at - self.posted_at) * 1000

    @property
    def total_ms(self) -> float:
        """From just before the POST to the webhook's arrival."""
        return (self.arrived_at - self.posted_at) * 1000


class Origin:
    """The process of bench.origin, and the webhooks that it has taken."""

    def __init__(self, process: subprocess.Popen[str], lines: IO[str]) -> None:
        self.pid = process.pid
        self.base = f"http://127.0.0.1:{int(lines.readline())}"
        self._lines = lines
        self._changed = threading.Lock()
        self._awaited: dict[str, Future[Arrival]] = {}
        self._numbers = count()
        threading.Thread(target=self._read, daemon=True).start()

    def plan(self) -> Plan:
        """Plan a job of the picture, with a callback to here."""
        future: Future[Arrival] = Future()
        with self._changed:
            number = next(self._numbers)
            self._awaited[f"/hook/{number}"] = future
        return Plan(f"{self.base}/photo.jpg?n={number}", f"{self.base}/hook/{number}", future)

    def _read(self) -> None:
        for line in self._lines:
            path, at, body = line.split(" ", 2)
            with self._changed:
                future = self._awaited.pop(path, None)
            if future is not None:
                future.set_result(Arrival(float(at), body))


@contextmanager
def run_origin(source: Path, delay_seconds: float = 0) -> Iterator[Origin]:
    """Run the origin until the block ends; it answers for the picture after that delay."""
    command = [sys.executable, "-m", "bench.origin", str(source), str(delay_seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Origin(process, process.stdout)
        finally:
            process.kill()


class Caller:
    """Makes jobs, of the origin's picture and with callbacks to it."""

    def __init__(self, make: Make, origin: Origin) -> None:
        self._make = make
        self.origin = origin

    def make_jobs(self, jobs: int, in_flight: int) -> list[Sample]:
        """Make that many jobs with so many in flight; RuntimeError when one is refused, lost or failed."""
        left = iter(range(jobs))
        until = time.monotonic() + PHASE_SECONDS
        with ThreadPoolExecutor(in_flight) as pool:
            parts = [pool.submit(self._make_in_turn, left, until) for _ in range(in_flight)]
            return [sample for part in parts for sample in part.result()]

    def queue_jobs(self, jobs: int, in_flight: int) -> list[Future[Arrival]]:
        """Post that many jobs without waiting for them, and give what will hold their webhooks."""
        with ThreadPoolExecutor(in_flight) as pool:
            return list(pool.map(lambda _: self._queue_one(), range(jobs)))

    def _make_in_turn(self, left: Iterator[int], until: float) -> list[Sample]:
        samples = []
        for _ in left:  # range's iterator: next() is one step under the GIL.
            if time.monotonic() > until:
                break
            samples.append(self._make_one())
        return samples

    def _make_one(self) -> Sample:
        plan = self.origin.plan()
        posted_at, wall_at = time.monotonic(), time.time()
        self._make(plan.source_url, plan.callback_url)
        answered_at = time.monotonic()
        webhook = wait_for(plan.arrival)
        return Sample(posted_at, answered_at, webhook.at, _list_steps(posted_at, webhook, wall_at))

    def _queue_one(self) -> Future[Arrival]:
        plan = self.origin.plan()
        self._make(plan.source_url, plan.callback_url)
        return plan.arrival


def post_job(port: int, source_url: str, callback_url: str) -> None:
    """Post a job over a connection of its own, as a caller without a pool does; RuntimeError when it is refused."""
    body = json.dumps({"source_url": source_url, "callback_url": callback_url})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=JOB_SECONDS)
    try:
        connection.request("POST", "/v1/jobs", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        told = answer.read()
    except OSError as error:
        raise RuntimeError(f"the service does not answer: {error}") from error
    finally:
        connection.close()
    if answer.status not in ACCEPTED:
        raise RuntimeError(f"a job was refused: {answer.status} {told!r}")


def wait_for(arrival: Future[Arrival], timeout_seconds: float = JOB_SECONDS) -> Arrival:
    """Wait for a webhook; RuntimeError when it does not come in time."""
    try:
        return arrival.result(timeout_seconds)
    except TimeoutError as error:
        raise RuntimeError(f"a webhook did not come within {timeout_seconds} s") from error


def _list_steps(posted_at: float, webhook: Arrival, wall_at: float) -> dict[str, float]:
    """List what the webhook tells of the steps; RuntimeError when the job failed."""
    event = json.loads(webhook.body)
    if event["type"] == BARE:
        return {}
    if event["type"] != "job.succeeded":
        raise RuntimeError(f"a job failed: {webhook.body}")
    job: dict[str, Any] = event["data"]["job"]
    created_ms, finished_ms = (_to_ms(job[name]) - wall_at * 1000 for name in ("created_at", "finished_at"))
    told: dict[str, float] = {name: job["timings_ms"][name] for name in ("queued", "fetched", "decoded", "stored")}
    return {
        "accepted": created_ms,
        **told,
        "concluded": finished_ms - created_ms - sum(told.values()),
        "webhook": (webhook.at - posted_at) * 1000 - finished_ms,
    }


def _to_ms(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp() * 1000
