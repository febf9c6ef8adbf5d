"""How long the queue is: as the queue tells, at most once a second; as the ledger tells while the queue is down."""

from tests.support.builders import build_lease, record_job
from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from thumbs.gauge import GAUGE_SECONDS, QueueGauge
from thumbs.ledger import Ledger
from thumbs.retries import add_seconds


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


def test_gauge_counts_queued_jobs_up_to_the_limit_while_the_queue_is_down(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    """Back-pressure holds in an outage of the queue, too."""
    dispatcher.is_down = True
    for _ in range(3):
        record_job(ledger)
    assert QueueGauge(ledger, dispatcher, clock).count(limit=2) == 2


def test_gauge_counts_jobs_that_wait_for_another_ones_run(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    """Their messages are used up: a queue that is empty does not tell of them."""
    account_id = record_job(ledger).account_id
    first, *_ = (record_job(ledger, account_id=account_id, reuse_key="same") for _ in range(4))
    assert QueueGauge(ledger, dispatcher, clock).count(limit=100) == 0
    assert ledger.jobs.lease(build_lease(first.id), clock.now()) is not None
    assert QueueGauge(ledger, dispatcher, clock).count(limit=100) == 4
    assert ledger.jobs.requeue(build_lease(first.id), add_seconds(clock.now(), 60), clock.now())
    assert QueueGauge(ledger, dispatcher, clock).count(limit=100) == 5


def test_gauge_tells_each_accounts_part_once_a_second(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    """Of what is queued, in the first so many jobs that wait: 45 ms of the ledger's time for 100,000, whoever asks."""
    mine = record_job(ledger).account_id
    record_job(ledger, account_id=mine)
    record_job(ledger, account_id=mine, run_at=add_seconds(clock.now(), 60))
    other = record_job(ledger).account_id
    gauge = QueueGauge(ledger, dispatcher, clock)
    assert (gauge.count_share(mine, 100), gauge.count_share(other, 100), gauge.count_share("acct_x", 100)) == (3, 1, 0)
    record_job(ledger, account_id=mine)
    assert gauge.count_share(mine, 100) == 3
    clock.move(GAUGE_SECONDS)
    assert gauge.count_share(mine, 100) == 4
    clock.move(GAUGE_SECONDS)
    assert gauge.count_share(mine, 2) <= 2
