"""What the core needs from outside, and is handed: a queue to put ids on, and the time."""

from datetime import datetime
from typing import Protocol


class Dispatcher(Protocol):
    """Puts ids on the queue. A message is a hint: it may be lost, doubled or late.

    Each method raises QueueUnavailable when the queue does not answer.
    """

    def process(self, job_id: str, delay_seconds: float = 0) -> None:
        """Ask for one run of the job, not before the delay has passed."""

    def deliver(self, delivery_id: str, delay_seconds: float = 0) -> None:
        """Ask for one attempt of the delivery, not before the delay has passed."""

    def count_jobs(self) -> int:
        """Count the messages about jobs that wait, for their turn or for their time."""

    def find_oldest_job_at(self) -> datetime | None:
        """Find since when the message about a job that is next in line has been there; None when none waits."""

    def count_deliveries(self) -> int:
        """Count the messages about deliveries that wait."""


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Tell the wall clock's time, aware, in UTC."""

    def monotonic(self) -> float:
        """Tell seconds that never step back, for durations."""

    def sleep(self, seconds: float) -> None:
        """Block for that long."""
