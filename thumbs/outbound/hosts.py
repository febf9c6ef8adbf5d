"""Good manners: at most so many fetches at once from one host, whoever asked for them.

A fetch that finds every slot of its host taken waits a moment. Where that is not enough, its job is handed back with a
time to come again, so that a slow host holds its own slots and no more threads than that. `call` is its only caller.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from thumbs.errors import SourceBusy

PATIENCE_SECONDS = 0.25
"""How long a thread waits for a slot; not at all when none of them has changed hands for as long: the host is slow."""

MIN_DELAY_SECONDS = 1.0
MAX_DELAY_SECONDS = 30.0
"""A host that was slow may be quick by then."""


@dataclass(slots=True)
class _Host:
    """When its fetches began (monotonic), how long the last one took, and the time that is promised to others."""

    began: list[float] = field(default_factory=list)
    last_seconds: float = 0.0
    promised_until: float = 0.0


class HostSlots:
    """The slots of every host that is being fetched from. Thread-safe; forgets a host that is at rest."""

    def __init__(
        self,
        limit: int,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the number of slots of a host; a test's patience and clock are its own."""
        self._limit = limit
        self._patience_seconds = patience_seconds
        self._monotonic = monotonic
        self._hosts: dict[str, _Host] = {}
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, host: str) -> Iterator[None]:
        """Hold a slot of the host; raises SourceBusy, with a time to come again, when none comes free in a moment."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_free(host), timeout=self._choose_patience(host)):
                raise SourceBusy(self._promise(self._hosts[host]))
            began = self._monotonic()
            self._hosts.setdefault(host, _Host()).began.append(began)
        try:
            yield
        finally:
            self._leave(host, began)

    def _is_free(self, host: str) -> bool:
        return host not in self._hosts or len(self._hosts[host].began) < self._limit

    def _choose_patience(self, host: str) -> float:
        if self._is_free(host):
            return 0.0
        is_slow = self._monotonic() - max(self._hosts[host].began) >= self._patience_seconds
        return 0.0 if is_slow else self._patience_seconds

    def _promise(self, host: _Host) -> float:
        """Promise a time after all those that were promised before, at the pace of the host: no herd comes back."""
        now = self._monotonic()
        fetch_seconds = max(host.last_seconds, now - min(host.began))
        host.promised_until = max(host.promised_until, now) + fetch_seconds / self._limit
        if host.promised_until > now + MAX_DELAY_SECONDS:
            host.promised_until = now + MAX_DELAY_SECONDS / 2  # Begin again half-way: they are spread, and not a herd.
        return max(host.promised_until - now, MIN_DELAY_SECONDS)

    def _leave(self, name: str, began: float) -> None:
        with self._changed:
            host = self._hosts[name]
            host.began.remove(began)
            host.last_seconds = self._monotonic() - began
            if not host.began:
                del self._hosts[name]
            self._changed.notify_all()
