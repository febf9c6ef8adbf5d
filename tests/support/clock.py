"""A clock for tests that decide what time it is."""

from datetime import UTC, datetime, timedelta


class FrozenClock:
    """Stands still until `move` is called; sleeping moves it."""

    def __init__(self, now: datetime = datetime(2026, 11, 23, 10, 15, 30, 123_000, tzinfo=UTC)) -> None:
        self._now = now
        self._monotonic = 1000.0

    def now(self) -> datetime:
        """Tell the frozen moment."""
        return self._now

    def monotonic(self) -> float:
        """Tell the frozen seconds."""
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        """Pass the time at once."""
        self.move(seconds)

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds
