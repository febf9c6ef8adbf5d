"""When all is at rest: what the ledger, the receivers and the callers must agree on, and what may have come twice."""

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

import requests
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from tests.chaos.system import PROCESSES
from tests.chaos.traffic import ERROR_CODES, Caller, MoodyReceiver, Source, name_receiver, name_source
from tests.support.chaos import Supervisor
from thumbs.cli.environment import open_services
from thumbs.domain import DeliveryStatus, Reuse
from thumbs.errors import LedgerUnavailable
from thumbs.ledger.database import build_engine
from thumbs.ledger.tables import attempts, deliveries, events, jobs

FAR: Final = datetime(2100, 1, 1, tzinfo=UTC)
OPEN_STATUSES: Final = (DeliveryStatus.PENDING, DeliveryStatus.SENDING)
OUR_FAULTS: Final = frozenset(
    {"worker_lost", "decoder_crashed", "decoder_timeout", "source_timeout", "storage_unavailable"}
)
"""What a job may fail with although its source is good: it was hit too often, or everything was too slow."""

HARMLESS: Final = ("resource_tracker", "warnings.warn", "Address already in use")
"""Python's resource tracker minds that its process was killed; web, that its killed master's children hold the port."""


@dataclass(frozen=True, slots=True)
class Books:
    """All rows that count, read at once; deliveries by their job, attempts by their delivery."""

    jobs: dict[str, Any]
    events: dict[str, list[Any]]
    deliveries: dict[str, list[Any]]
    attempts: dict[str, list[int]]


def is_at_rest(environ: dict[str, str]) -> bool:
    """Tell whether every job and every delivery is final."""
    with open_services(environ) as services:
        ledger, url = services.ledger, services.settings.database_url
        try:
            return not (
                ledger.jobs.count_queued(1) or ledger.jobs.list_expired_leases(FAR, 1) or _has_open_deliveries(url)
            )
        except (LedgerUnavailable, DBAPIError):
            return False


def _has_open_deliveries(database_url: str) -> bool:
    query = sa.select(deliveries.c.id).where(deliveries.c.status.in_(OPEN_STATUSES)).limit(1)
    engine = build_engine(database_url)
    try:
        with engine.connect() as connection:
            return connection.scalar(query) is not None
    finally:
        engine.dispose()


def read_books(database_url: str) -> Books:
    """Read the ledger."""
    engine = build_engine(database_url)
    books = Books({}, defaultdict(list), defaultdict(list), defaultdict(list))
    with engine.connect() as connection:
        books.jobs.update({row.id: row for row in connection.execute(sa.select(jobs))})
        for row in connection.execute(sa.select(events)):
            books.events[row.job_id].append(row)
        for row in connection.execute(sa.select(deliveries)):
            books.deliveries[row.job_id].append(row)
        for row in connection.execute(sa.select(attempts).order_by(attempts.c.number)):
            books.attempts[row.delivery_id].append(row.number)
    engine.dispose()
    return books


def list_faults(books: Books, caller: Caller, receiver: MoodyReceiver) -> list[str]:
    """List every promise that was broken."""
    received = receiver.list_by_path()
    faults = list(caller.faults)
    if set(books.jobs) != set(caller.job_ids.values()):
        faults.append(f"{len(books.jobs)} jobs are in the ledger, {len(caller.job_ids)} were accepted")
    if not {Reuse.IN_FLIGHT, Reuse.REVALIDATED} <= {job.reused for job in books.jobs.values()}:
        faults.append("no run was shared, or nothing was used again")
    for number, job_id in caller.job_ids.items():
        path = name_receiver(number)
        found = [*_check_job(books, number, job_id), *_check_callback(books, job_id, received.get(path, []))]
        if not receiver.accepted[path]:
            found.append("its webhook was never accepted")
        faults += [f"job {number}, {job_id}: {fault}" for fault in found]
    return faults


def _check_job(books: Books, number: int, job_id: str) -> list[str]:
    job, kind = books.jobs.get(job_id), name_source(number).split("/")[1]
    if job is None:
        return ["it is not in the ledger"]
    faults = []
    code = job.error["code"] if job.error else None
    if job.status not in ("succeeded", "failed") or (job.status == "failed") != (code is not None):
        faults.append(f"it is {job.status} with {code}")
    if code != ERROR_CODES.get(kind) and code not in OUR_FAULTS:
        faults.append(f"its source is {kind} and it ended with {code}")
    if [event.type for event in books.events[job_id]] != [f"job.{job.status}"]:
        faults.append(f"it is {job.status} and its events are {[event.type for event in books.events[job_id]]}")
    return faults


def _check_callback(books: Books, job_id: str, received: list[Any]) -> list[str]:
    faults = []
    if len(books.deliveries[job_id]) != 1:
        return [f"it has {len(books.deliveries[job_id])} deliveries"]
    [delivery] = books.deliveries[job_id]
    if delivery.status != "delivered":
        faults.append(f"its delivery is {delivery.status}, {delivery.reason}")
    if books.attempts[delivery.id] != list(range(1, delivery.attempt_count + 1)):
        faults.append(f"its attempts are {books.attempts[delivery.id]} of {delivery.attempt_count}")
    told = {(request.headers["webhook-id"], request.body) for request in received}
    if told != {(event.id, event.body) for event in books.events[job_id]}:
        faults.append(f"its receiver was told {len(told)} different things, or something else than the ledger has")
    return faults


def list_wrong_thumbnails(books: Books, base: str) -> list[str]:
    """List the jobs that succeeded and whose thumbnail is not served as it was told."""
    wrong = []
    with requests.Session() as session:
        session.trust_env = False
        for job in books.jobs.values():
            if job.status == "succeeded":
                answer = session.get(f"{base}/t/{job.blob_name}.jpg", timeout=10)
                if answer.status_code != 200 or sha256(answer.content).hexdigest() != job.thumbnail["sha256"]:
                    wrong.append(f"{job.id}: its thumbnail is answered {answer.status_code}")
    return wrong


def list_log_faults(supervisor: Supervisor) -> list[str]:
    """List lines that say that we must act, lines in a format that is not ours, and what PostgreSQL minded."""
    faults = []
    for name in supervisor.start_counts:
        is_wrong = _is_wrong_line if name in PROCESSES else _is_minded
        wrong = [line for line in supervisor.read_log(name).splitlines() if is_wrong(line)]
        faults += [f"{name} said, {count} times: {line}" for line, count in Counter(map(_shorten, wrong)).items()]
    return faults


def _is_wrong_line(line: str) -> bool:
    """Judge a line of ours."""
    if not line.startswith("{"):
        return not any(harmless in line for harmless in HARMLESS)
    told = json.loads(line)
    return told["severity"] in ("ERROR", "CRITICAL") and told["logger"].startswith(("thumbs", "tasks"))


def _is_minded(line: str) -> bool:
    return " ERROR: " in line


def _shorten(line: str) -> str:
    return re.sub(r"[0-9]+", "0", line)[:300]


def describe(books: Books, caller: Caller, source: Source, receiver: MoodyReceiver) -> list[str]:
    """Describe what was done more than once, and how the jobs ended, a line each."""
    runs = Counter(job.run_count for job in books.jobs.values())
    ends = Counter(job.error["code"] if job.error else "succeeded" for job in books.jobs.values())
    shared = Counter(str(job.reused) for job in books.jobs.values())
    abandoned = sum(len(numbers) for numbers in books.attempts.values())
    twice = sum(count - 1 for count in receiver.accepted.values())
    return [
        f"jobs {len(books.jobs)}, ended: {_list(ends)}",
        f"runs per job: {_list(runs)}; sources fetched {len(source.requests)} times",
        f"shared with another job: {_list(shared)}",
        f"attempts {abandoned}, webhooks arrived {len(receiver.requests)} times, accepted more than once: {twice}",
        f"requests sent again: {_list(caller.retries)}",
    ]


def _list(counts: Counter[Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"
