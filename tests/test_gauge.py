"""How long the queue is: as the queue tells, at most once a second; as the ledger tells while the queue is down."""

from tests.support.builders import record_job
from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from thumbs.gauge import GAUGE_SECONDS, QueueGauge
from thumbs.ledger import Ledger


def test_gauge_tells_what_the_queue_tells(ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock) -> None:
    dispatcher.waiting_jobs = 7
    assert QueueGauge(ledger, dispatcher, clock).count(limit=100) == 7


def test_gauge_asks_once_a_second(ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock) -> None:
    gauge = QueueGauge(ledger, dispatcher, clock)
    gauge.count(limit=100)
    dispatcher.waiting_jobs = 7
    assert gauge.count(limit=100) == 0
    clock.move(GAUGE_SECONDS)
    assert gauge.count(limit=100) == 7


def test_gauge_counts_due_jobs_up_to_the_limit_while_the_queue_is_down(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    """Back-pressure holds in an outage of the queue, too."""
    dispatcher.is_down = True
    for _ in range(3):
        record_job(ledger)
    assert QueueGauge(ledger, dispatcher, clock).count(limit=2) == 2
