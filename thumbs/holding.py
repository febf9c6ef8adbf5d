"""What this process is working on, so that it can be given back when the process must end before it is done."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from thumbs.domain import Lease
from thumbs.errors import UnavailableError

logger = logging.getLogger(__name__)


class HeldLeases:
    """What this process is working on, and how to give each of it back when the process must end before it is done."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, Callable[[], object]] = {}

    @contextmanager
    def hold(self, lease: Lease, give_back: Callable[[], object]) -> Iterator[None]:
        """Hold a lease until the block ends."""
        with self._lock:
            self._held[lease.token] = give_back
        try:
            yield
        finally:
            with self._lock:
                self._held.pop(lease.token, None)

    def list_tokens(self) -> list[str]:
        """List the tokens of the leases that are held."""
        with self._lock:
            return list(self._held)

    def give_back_all(self) -> None:
        """Give back what is still held: others take it up at once, and what comes of our own work is dropped."""
        with self._lock:
            held = list(self._held.values())
        for give_back in held:
            try:
                give_back()
            except UnavailableError:
                logger.warning("a lease could not be given back: it runs out by itself")
