"""How long the queue is, and each account's part of it, at most once a second."""

from tests.support.builders import record_job
from tests.support.clock import FrozenClock
from thumbs.gauge import GAUGE_SECONDS, QueueGauge
from thumbs.ledger import Ledger
from thumbs.retries import add_seconds


def test_gauge_counts_queued_jobs_up_to_the_limit(ledger: Ledger, clock: FrozenClock) -> None:
    """Whether they have a message on the queue or not: one that waits for another one's run has none."""
    for _ in range(3):
        record_job(ledger)
    assert QueueGauge(ledger, clock).count(limit=100) == 3
    assert QueueGauge(ledger, clock).count(limit=2) == 2


def test_gauge_counts_once_a_second(ledger: Ledger, clock: FrozenClock) -> None:
    gauge = QueueGauge(ledger, clock)
    gauge.count(limit=100)
    record_job(ledger)
    assert gauge.count(limit=100) == 0
    clock.move(GAUGE_SECONDS)
    assert gauge.count(limit=100) == 1


def test_gauge_tells_each_accounts_part_once_a_second(ledger: Ledger, clock: FrozenClock) -> None:
    """Of what is queued, in the first so many jobs that wait: 45 ms of the ledger's time for 100,000, whoever asks."""
    mine = record_job(ledger).account_id
    record_job(ledger, account_id=mine)
    record_job(ledger, account_id=mine, run_at=add_seconds(clock.now(), 60))
    other = record_job(ledger).account_id
    gauge = QueueGauge(ledger, clock)
    assert (gauge.count_share(mine, 100), gauge.count_share(other, 100), gauge.count_share("acct_x", 100)) == (3, 1, 0)
    record_job(ledger, account_id=mine)
    assert gauge.count_share(mine, 100) == 3
    clock.move(GAUGE_SECONDS)
    assert gauge.count_share(mine, 100) == 4
    clock.move(GAUGE_SECONDS)
    assert gauge.count_share(mine, 2) <= 2
