"""`Prefer: wait=N`: how it is read, and that those who wait never fill every thread."""

import threading

import pytest

from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import accept, build_test_services
from thumbs.domain import JobStatus
from thumbs.ledger import Ledger
from thumbs.process import process
from thumbs.web.waiting import WaitingRoom, parse_wait


class GateClock(FrozenClock):
    """Whoever sleeps is counted, and sleeps until the gate is opened; then time passes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.asleep = threading.Semaphore(0)
        self.gate = threading.Event()

    def sleep(self, seconds: float) -> None:
        """Sleep at the gate."""
        self.asleep.release()
        assert self.gate.wait(10)
        super().sleep(seconds)


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("wait=5", 5),
        ("wait=0", 0),
        ("wait=25", 25),
        ("wait=26", 25),
        ("wait=999999", 25),
        ("WAIT = 7 ", 7),
        ("respond-async, wait=7", 7),
        ("wait=7; x=y", 7),
        ("wait=7, wait=9", 7),
        ("wait", 0),
        ("wait=", 0),
        ("wait=-1", 0),
        ("wait=1.5", 0),
        ("wait=9999999", 0),
        ("await=5", 0),
    ],
)
def test_prefer_is_read_as_rfc_7240_says(prefer: str | None, seconds: int) -> None:
    """Section 2: the first one counts, and what is not understood is ignored."""
    assert parse_wait(prefer) == seconds


def test_half_of_the_threads_may_wait_and_the_next_is_answered_at_once(
    ledger: Ledger, dispatcher: RecordingDispatcher
) -> None:
    clock = GateClock()
    services = build_test_services(ledger, dispatcher, clock, THUMBS_WEB_THREADS="4")
    room = WaitingRoom(services, is_stopping=lambda: False)
    job = accept(services)
    threads = [threading.Thread(target=room.wait_for_end, args=(job, 5)) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert all(clock.asleep.acquire(timeout=10) for _ in threads)
    assert room.wait_for_end(job, 5) is job
    clock.gate.set()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)


def test_seat_is_free_again_after_a_wait(ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock) -> None:
    services = build_test_services(ledger, dispatcher, clock, THUMBS_WEB_THREADS="1")
    room = WaitingRoom(services, is_stopping=lambda: False)
    job = accept(services)
    room.wait_for_end(job, 5)
    process(services, job.id)
    assert room.wait_for_end(job, 5).status is JobStatus.SUCCEEDED


def test_wait_is_for_whatever_is_looked_for(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    room = WaitingRoom(build_test_services(ledger, dispatcher, clock), is_stopping=lambda: False)
    numbers = iter(range(1, 100))
    assert room.wait_until(lambda number: number >= 3, 0, lambda: next(numbers), 5) == 3
    assert next(numbers) == 4


def test_wait_in_vain_ends_with_what_was_seen_last(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    room = WaitingRoom(build_test_services(ledger, dispatcher, clock), is_stopping=lambda: False)
    began, numbers = clock.monotonic(), iter(range(1, 1_000))
    seen = room.wait_until(lambda _: False, 0, lambda: next(numbers), 5)
    assert seen + 1 == next(numbers)
    assert clock.monotonic() - began == pytest.approx(5)


def test_those_who_wait_are_answered_when_the_process_stops(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    services = build_test_services(ledger, dispatcher, clock)
    began = clock.monotonic()
    job = accept(services)
    assert WaitingRoom(services, is_stopping=lambda: True).wait_for_end(job, 25) == job
    assert clock.monotonic() == began
