"""How long the queue is, told to every request without counting for each."""

from typing import Final

from thumbs.ledger import Ledger
from thumbs.protocols import Clock

GAUGE_SECONDS: Final = 1.0


class QueueGauge:
    """Counts the queued jobs at most once a second: with 100,000 of them a count takes milliseconds."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._counted_at = -GAUGE_SECONDS
        self._count = 0

    def count(self, limit: int) -> int:
        """Count the queued jobs that are due, up to the limit, as they were at most a second ago."""
        if self._clock.monotonic() - self._counted_at >= GAUGE_SECONDS:
            self._count = self._ledger.jobs.count_due(self._clock.now(), limit)
            self._counted_at = self._clock.monotonic()
        return self._count
