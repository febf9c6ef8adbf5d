"""What this process has counted, on its way to the ledger, where the counts of all processes are added up.

Nobody can scrape a worker or a courier: they listen to no port. A count that has not been written when a process is
killed is lost, up to THUMBS_SWEEP_SECONDS of them; metrics are no promise, and a write for each would cost as much as a
job's end.
"""

import json
import logging
import threading
from bisect import bisect_left
from collections import Counter
from typing import Final

from thumbs.errors import UnavailableError
from thumbs.ledger import Ledger
from thumbs.metrics import Metric

INFINITE: Final = "+Inf"

logger = logging.getLogger(__name__)


class Tally:
    """Counts in memory, and writes what has come together. Thread-safe."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def count(self, metric: Metric, **labels: str) -> None:
        """Count one."""
        self._add(f"{metric.name}_total", 1, labels)

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Count a value of a histogram: in its bucket alone, they are added up when they are shown."""
        place = bisect_left(metric.buckets, value)
        bucket = str(metric.buckets[place]) if place < len(metric.buckets) else INFINITE
        self._add(f"{metric.name}_bucket", 1, labels | {"le": bucket})
        self._add(f"{metric.name}_sum", value, labels)

    def flush(self) -> None:
        """Write what was counted since the last time; what cannot be written is kept for the next."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        if not counts:
            return
        try:
            self._ledger.counts.add(counts)
        except UnavailableError:
            logger.debug("the counts could not be written: they will be the next time")
            with self._lock:
                self._counts.update(counts)

    def _add(self, name: str, value: float, labels: dict[str, str]) -> None:
        with self._lock:
            self._counts[name, json.dumps(labels, sort_keys=True)] += value  # type: ignore[assignment]
