"""A dispatcher for tests that look at what was dispatched."""

from datetime import datetime

from thumbs.errors import QueueUnavailable


class RecordingDispatcher:
    """Remembers what it is asked for; refuses while `is_down`."""

    def __init__(self) -> None:
        self.processed: list[tuple[str, float]] = []
        self.delivered: list[tuple[str, float]] = []
        self.is_down = False
        self.waiting_jobs = 0
        self.oldest_job_at: datetime | None = None
        self.waiting_deliveries = 0

    def process(self, job_id: str, delay_seconds: float = 0) -> None:
        """Remember a job."""
        self._answer()
        self.processed.append((job_id, delay_seconds))

    def deliver(self, delivery_id: str, delay_seconds: float = 0) -> None:
        """Remember a delivery."""
        self._answer()
        self.delivered.append((delivery_id, delay_seconds))

    def count_jobs(self) -> int:
        """Count what waits; `waiting_jobs` are told by the test."""
        self._answer()
        return self.waiting_jobs

    def find_oldest_job_at(self) -> datetime | None:
        """Find since when the next message waits; `oldest_job_at` is told by the test."""
        self._answer()
        return self.oldest_job_at

    def count_deliveries(self) -> int:
        """Count what waits; `waiting_deliveries` are told by the test."""
        self._answer()
        return self.waiting_deliveries

    def _answer(self) -> None:
        if self.is_down:
            raise QueueUnavailable("the queue is down, says the test")
