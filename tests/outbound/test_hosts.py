"""No more fetches at once from one host than allowed; who comes too many is told when to come again."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import pytest

from tests.support.exchanges import Exchange, Reply
from tests.support.outbound import HOST, IMAGE, Build, resolve_to, wait_until
from tests.support.servers import SourceServer
from thumbs.errors import SourceBusy
from thumbs.outbound.hosts import MAX_DELAY_SECONDS, MIN_DELAY_SECONDS, PATIENCE_SECONDS, HostSlots


class Gate:
    """A source's behaviour that counts who is in, and lets nobody out before it is told to."""

    def __init__(self) -> None:
        self.count = 0
        self.most = 0
        self.opened = threading.Event()
        self._lock = threading.Lock()

    def answer(self, exchange: Exchange) -> None:
        with self._lock:
            self.count += 1
            self.most = max(self.most, self.count)
        self.opened.wait(10)
        with self._lock:
            self.count -= 1
        exchange.reply(Reply(200, IMAGE))


@contextmanager
def taken(slots: HostSlots, host: str, count: int) -> Iterator[None]:
    """Hold so many slots of a host."""
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(slots.hold(host))
        yield


class Watch:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def read(self) -> float:
        return self.now


# ── through the real module ─────────────────────────────────────────────────────────────────────────────


def test_fetches_at_once_from_one_host_are_bounded(build: Build, source: SourceServer) -> None:
    gate = Gate()
    url = source.script("/gate", gate.answer)
    outbound = build(max_per_host=3)
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(outbound.fetch, url) for _ in range(8)]
        wait_until(lambda: sum(call.done() for call in calls) == 5)
        gate.opened.set()
    errors = [call.exception() for call in calls]
    assert sum(isinstance(error, SourceBusy) for error in errors) == 5
    assert sum(error is None for error in errors) == 3
    assert gate.most == 3


def test_hosts_do_not_share_their_slots(build: Build, source: SourceServer) -> None:
    """Nor do ports of one host; one that hangs takes nothing from others."""
    gate = Gate()
    url = source.script("/gate", gate.answer)
    outbound = build(resolve_to(HOST), max_per_host=1)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(outbound.fetch, url)
        wait_until(lambda: gate.count == 1)
        assert outbound.fetch(source.url("/image", host="other.example")).body == IMAGE
        with SourceServer(host=HOST) as other:
            other.serve("/image", IMAGE)
            assert outbound.fetch(other.url("/image")).body == IMAGE
        gate.opened.set()
        assert call.result().body == IMAGE


def test_redirect_to_a_busy_host_waits_for_that_host(build: Build, source: SourceServer) -> None:
    gate = Gate()
    with SourceServer(host=HOST) as other, ThreadPoolExecutor(1) as pool:
        outbound = build(max_per_host=1)
        call = pool.submit(outbound.fetch, other.script("/gate", gate.answer))
        wait_until(lambda: gate.count == 1)
        with pytest.raises(SourceBusy):
            outbound.fetch(source.redirect_to(other.url("/gate")))
        gate.opened.set()
        call.result()


def test_failed_fetch_gives_its_slot_back(build: Build, source: SourceServer) -> None:
    outbound = build(max_per_host=1)
    for path in ("/reset", "/status/500", "/short", "/nonsense"):
        with suppress(Exception):
            outbound.fetch(source.url(path))
    assert outbound.fetch(source.url("/image")).body == IMAGE


def test_webhooks_have_no_such_slots(build: Build, source: SourceServer) -> None:
    """Lanes see to that."""
    gate = Gate()
    url = source.script("/gate", gate.answer)
    outbound = build(max_per_host=1)
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(outbound.post, url, b"{}", {}) for _ in range(3)]
        wait_until(lambda: gate.count == 3)
        gate.opened.set()
        assert [call.result().http_status for call in calls] == [200] * 3


# ── the slots themselves ────────────────────────────────────────────────────────────────────────────────


def test_slot_that_comes_free_is_taken_by_who_waits() -> None:
    slots = HostSlots(1)
    holding, leaving = threading.Event(), threading.Event()

    def hold() -> None:
        with slots.hold("host"):
            holding.set()
            leaving.wait(5)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(hold)
        holding.wait(5)
        threading.Timer(PATIENCE_SECONDS / 5, leaving.set).start()
        with slots.hold("host"):
            first.result()


def test_all_get_through_to_a_quick_host() -> None:
    """A thread waits a moment for its turn: handing jobs back would cost more."""
    slots, most, inside = HostSlots(2, patience_seconds=600), [], []

    def visit(number: int) -> None:
        with slots.hold("host"):
            inside.append(number)
            most.append(len(inside))
            inside.remove(number)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(visit, range(60)))
    assert len(most) == 60
    assert max(most) <= 2


def test_slow_host_is_not_waited_for() -> None:
    """Its threads would stand still, one after the other; here, for longer than a test may take."""
    watch = Watch()
    slots = HostSlots(2, patience_seconds=600, monotonic=watch.read)
    with taken(slots, "host", 2):
        watch.now += 600
        with pytest.raises(SourceBusy), slots.hold("host"):
            pass


def test_promised_times_follow_each_other_at_the_pace_of_the_host() -> None:
    """A hundred jobs of a host that takes 4 s for each do not come back together, nor at once."""
    watch = Watch()
    slots, delays = HostSlots(2, monotonic=watch.read), []
    with taken(slots, "host", 2):
        watch.now += 4
        for _ in range(20):
            with pytest.raises(SourceBusy) as caught, slots.hold("host"):
                pass
            delays.append(caught.value.delay_seconds)
    assert delays[:3] == [2.0, 4.0, 6.0]
    assert max(delays) == MAX_DELAY_SECONDS
    assert min(delays) >= MIN_DELAY_SECONDS
    assert max(delays.count(delay) for delay in delays) <= 2


def test_host_at_rest_is_forgotten() -> None:
    """A million hosts leave nothing behind."""
    slots = HostSlots(1)
    for number in range(100):
        with slots.hold(f"host{number}"):
            pass
    assert slots._hosts == {}
