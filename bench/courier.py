"""Nobody starves and there is no herd, as numbers: the real courier, beside receivers that hang, and after an outage.

`python -m bench.courier` runs `thumbs up` three times in temporary folders, each for about a minute: one healthy
receiver alone; the same beside 20 that hang with 1,000 deliveries each, in the same account; and one that was down with
1,000 waiting.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from bench.processes import describe_machine, read_memory
from bench.receivers import Receiver, run_receivers
from bench.report import Figure, Mark, find_point, show, summarize
from tests.support.images import build_photo, encode
from tests.support.stack import Stack, wait_until
from thumbs.accounts import get_default_account
from thumbs.cli.environment import open_services
from thumbs.domain import Announcement, Delivery, DeliveryStatus, Endpoint, Event, EventType
from thumbs.endpoints import NewEndpoint, create_endpoint
from thumbs.services import Services

HANGING: Final = 20
WAITING: Final = 1000
EVENTS_PER_SECOND: Final = 5
BACK_HOLD_SECONDS: Final = 0.1
"""How long the receiver that is back takes for each: with less, there would never be two at once."""
OUTAGE_BREAKER_SECONDS: Final = 5
"""Instead of 60, so that the run is short."""
CATCH_UP_SECONDS: Final = 180.0
UP: Final = {"THUMBS_ALLOW_CIDRS": "127.0.0.0/8", "THUMBS_CALLBACK_SCHEMES": "https,http", "THUMBS_LOG_LEVEL": "error"}
"""What `thumbs up` sets, for ourselves on the same ledger."""


@dataclass(frozen=True, slots=True)
class Phase:
    """What a healthy receiver saw: how late each event was, and the most memory that the courier had."""

    delays_seconds: Sequence[float]
    courier_mib: float
    jobs_per_second: float


def main() -> None:
    """Run the benchmark and print what it found."""
    parser = argparse.ArgumentParser(prog="python -m bench.courier", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long the healthy receiver is sent events (60)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    about = {"machine": describe_machine(), "load": f"{EVENTS_PER_SECOND} jobs a second for {options.seconds} s"}
    with tempfile.TemporaryDirectory(prefix="thumbs-bench-") as folder:
        alone = _measure_healthy(Path(folder) / "alone", options.seconds, [])
        hanging = [Receiver(hold_seconds=None) for _ in range(HANGING)]
        beside = _measure_healthy(Path(folder) / "beside", options.seconds, hanging)
        figures, marks = _list_healthy(alone, beside, hanging)
        back_figures, back_marks = _measure_back(Path(folder) / "back")
    show(about, figures + back_figures, marks + back_marks, options.json)


# ── beside receivers that hang ──────────────────────────────────────────────────────────────────────────


def _measure_healthy(data_dir: Path, seconds: int, hanging: Sequence[Receiver]) -> Phase:
    healthy = Receiver(content=encode(build_photo(), "JPEG"))
    stack = Stack(data_dir, WEB_CONCURRENCY="2")
    with run_receivers(healthy, *hanging), stack:
        if hanging:
            stack.stop()
            with open_services(stack.environ | UP) as services:
                _fill(services, hanging, WAITING)
            stack.start()
        _submit_steadily(stack, healthy, seconds)
        wait_until(lambda: len(healthy.arrivals) >= seconds * EVENTS_PER_SECOND, CATCH_UP_SECONDS)
        delays = [arrival.at - _read_moment(arrival.body) for arrival in healthy.arrivals]
        rate = _measure_throughput(stack, healthy)
        return Phase(delays, _read_courier_mib(stack), rate)


def _submit_steadily(stack: Stack, healthy: Receiver, seconds: int) -> None:
    begins_at = time.monotonic()
    with ThreadPoolExecutor(EVENTS_PER_SECOND) as pool:
        for number in range(seconds * EVENTS_PER_SECOND):
            time.sleep(max(0.0, begins_at + number / EVENTS_PER_SECOND - time.monotonic()))
            pool.submit(_submit, stack, healthy, number)


def _submit(stack: Stack, healthy: Receiver, number: int) -> None:
    stack.submit(source_url=f"{healthy.base}/photo.jpg?n={number}", callback_url=f"{healthy.base}/hooks")


def _measure_throughput(stack: Stack, healthy: Receiver, jobs: int = 200) -> float:
    """Measure thumbnails a second, 16 in flight, from the first POST to the last end."""
    began = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        for job in pool.map(lambda n: stack.submit(source_url=f"{healthy.base}/alone.jpg?n={n}"), range(jobs)):
            last = job
    stack.wait_for_job(last["id"], 60)
    return jobs / (time.monotonic() - began)


def _list_healthy(alone: Phase, beside: Phase, hanging: Sequence[Receiver]) -> tuple[list[Figure], list[Mark]]:
    table = "event made to webhook, s"
    beside_name = f"beside {HANGING} that hang"
    figures = summarize(table, "alone", alone.delays_seconds) + summarize(table, beside_name, beside.delays_seconds)
    p95 = sorted(beside.delays_seconds)[int(len(beside.delays_seconds) * 0.95)]
    figures += [
        Figure(table, "alone", "max", max(alone.delays_seconds)),
        Figure(table, beside_name, "max", max(beside.delays_seconds)),
        Figure("the rest of the service", "thumbnails/s", "alone", alone.jobs_per_second),
        Figure("the rest of the service", "thumbnails/s", "beside", beside.jobs_per_second),
        Figure("the rest of the service", "courier RSS, MiB", "alone", alone.courier_mib),
        Figure("the rest of the service", "courier RSS, MiB", "beside", beside.courier_mib),
        Figure("the rest of the service", "attempts that hang", "beside", sum(len(each.arrivals) for each in hanging)),
    ]
    marks = [
        Mark("first attempts beside those that hang, p95", p95, 2, "s"),
        Mark("first attempts beside those that hang, p99", find_point(beside.delays_seconds, "p99"), 5, "s"),
        Mark("memory of the courier", beside.courier_mib, 150, "MiB"),
        Mark("thumbnails/s beside : alone", beside.jobs_per_second / alone.jobs_per_second, 0.95, "", is_minimum=True),
    ]
    return figures, marks


# ── back from an outage ─────────────────────────────────────────────────────────────────────────────────


def _measure_back(data_dir: Path) -> tuple[list[Figure], list[Mark]]:
    back = Receiver(hold_seconds=BACK_HOLD_SECONDS, is_up=False)
    stack = Stack(data_dir, THUMBS_WEBHOOK_BREAKER_SECONDS=str(OUTAGE_BREAKER_SECONDS))
    with run_receivers(back), stack:
        with open_services(stack.environ | UP) as services:
            _fill(services, [back], WAITING)
        wait_until(lambda: back.refused >= 5, CATCH_UP_SECONDS)
        threading.Timer(OUTAGE_BREAKER_SECONDS / 2, lambda: setattr(back, "is_up", True)).start()
        wait_until(lambda: _count_events(back) >= WAITING, CATCH_UP_SECONDS)
        memory_mib = _read_courier_mib(stack)
    times = [arrival.at for arrival in back.arrivals]
    most_a_second = max(sum(at <= other < at + 1 for other in times) for at in times)
    gap_seconds = times[1] - times[0]
    table = f"back from an outage, {WAITING} waiting"
    figures = [
        Figure(table, "attempts while it was down", "", back.refused),
        Figure(table, "first to second, ms", "", gap_seconds * 1000),
        Figure(table, "first to last, s", "", times[-1] - times[0]),
        Figure(table, "courier RSS, MiB", "", memory_mib),
    ]
    marks = [
        Mark(
            "one probe first: from it to the second",
            gap_seconds,
            BACK_HOLD_SECONDS,
            "s",
            is_minimum=True,
        ),
        Mark("at once", back.most_at_once, 4, ""),
        Mark("in any second", most_a_second, 20, ""),
        Mark("that arrived, of those that waited", _count_events(back), WAITING, "", is_minimum=True),
    ]
    return figures, marks


# ── the ledger and the processes ────────────────────────────────────────────────────────────────────────


def _fill(services: Services, receivers: Sequence[Receiver], count: int) -> None:
    """Register receivers and write events for all of them, as jobs that failed would have."""
    account = get_default_account(services)
    news = [NewEndpoint(f"{receiver.base}/hooks", (EventType.JOB_FAILED,)) for receiver in receivers]
    endpoints = [create_endpoint(services, account, new)[0] for new in news]
    for _ in range(count):
        services.ledger.events.record(_build_announcement(services, endpoints))


def _build_announcement(services: Services, endpoints: Sequence[Endpoint]) -> Announcement:
    now, event_id = services.clock.now(), services.new_id("evt")
    document = {"id": event_id, "type": "job.failed", "timestamp": now.isoformat(), "data": {}}
    event = Event(event_id, endpoints[0].account_id, None, EventType.JOB_FAILED, json.dumps(document).encode(), now)
    deliveries = [
        Delivery(
            services.new_id("dlv"),
            event.account_id,
            event.id,
            None,
            endpoint.id,
            endpoint.url,
            DeliveryStatus.PENDING,
            now,
            next_attempt_at=now,
            is_callback=False,
            lane_id=endpoint.id,
        )
        for endpoint in endpoints
    ]
    return Announcement(event, tuple(deliveries))


def _count_events(receiver: Receiver) -> int:
    return len({json.loads(arrival.body)["id"] for arrival in receiver.arrivals})


def _read_moment(body: bytes) -> float:
    return datetime.fromisoformat(json.loads(body)["timestamp"]).timestamp()


def _read_courier_mib(stack: Stack) -> float:
    return max(memory.rss_mib for memory in read_memory(stack.list_pids()) if memory.kind == "courier")


if __name__ == "__main__":
    main()
