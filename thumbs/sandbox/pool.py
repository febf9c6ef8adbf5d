"""Lend decoders to threads: a fixed number of them, fresh ones for those that ended in anything but an answer.

`process` calls Sandbox from many threads, and `services` builds it and closes it.
"""

import atexit
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from thumbs.domain import DecodeLimits, Rendering, ThumbnailSpec
from thumbs.errors import DecoderCrashed, DecodersBusy
from thumbs.sandbox.child import Work
from thumbs.sandbox.decoder import CLOSED, Decoder, NeverBegun

CLOSE_SECONDS = 5.0
"""How long close() waits for the renders that it interrupted."""

TRIES = 2
"""A child that died idle is no fault of the image that would have been next: it gets a fresh one, once."""


class Sandbox:
    """A fixed number of decoder processes; the last one used is the next, and threads that wait are served in turn."""

    def __init__(self, limits: DecodeLimits, *, decoders: int, timeout_seconds: float, memory_bytes: int) -> None:
        """Take the limits of each image: pixels, wall time, and the address space of its process."""
        self._limits = limits
        self._decoder_count = decoders
        self._timeout_seconds = timeout_seconds
        self._memory_bytes = memory_bytes
        self._free: list[Decoder] = []
        self._busy: set[Decoder] = set()
        self._waiting: deque[Future[Decoder]] = deque()
        self._is_closed = False
        self._changed = threading.Condition()

    def start(self) -> None:
        """Start the children; returns before they are ready, and render() waits for them."""
        with self._changed:
            for _ in range(self._decoder_count):
                self._offer(Decoder(self._memory_bytes, self._limits.formats))
        atexit.register(self.close)

    def render(self, body: bytes, specs: Sequence[ThumbnailSpec], *, wait_seconds: float) -> Rendering:
        """Make the thumbnails in a child process; blocking, and safe to call from many threads at once.

        Raises DecodersBusy when no decoder comes free within `wait_seconds`, and when the sandbox is closed meanwhile;
        DecoderTimeout, DecoderCrashed; and whatever DecodeError imaging raised in the child.
        """
        work = Work(body, tuple(specs), self._limits, self._timeout_seconds)
        for _ in range(TRIES):
            with self._borrow(wait_seconds) as decoder, suppress(NeverBegun):
                return decoder.render(work)
        raise DecoderCrashed("died before it began, twice")

    def close(self) -> None:
        """Kill the children; renders under way raise DecodersBusy. Idempotent, and done within CLOSE_SECONDS."""
        with self._changed:
            self._is_closed = True
            idle, self._free = self._free, []
            while self._waiting:
                self._waiting.popleft().set_exception(DecodersBusy(CLOSED))
            for decoder in self._busy:
                decoder.interrupt()
            self._changed.wait_for(lambda: not self._busy, timeout=CLOSE_SECONDS)
        _stop_all(idle)
        atexit.unregister(self.close)

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    @contextmanager
    def _borrow(self, wait_seconds: float) -> Iterator[Decoder]:
        """Lend a free decoder; one that ended in anything but an answer does not come back, a fresh one does."""
        decoder = self._take(wait_seconds)
        try:
            yield decoder
        finally:
            self._give_back(decoder)

    def _take(self, wait_seconds: float) -> Decoder:
        place: Future[Decoder] = Future()
        with self._changed:
            if self._is_closed:
                raise DecodersBusy(CLOSED)
            self._waiting.append(place)
            if self._free:
                self._offer(self._free.pop())
        try:
            return place.result(timeout=wait_seconds)
        except TimeoutError:
            return self._leave_line(place, wait_seconds)

    def _leave_line(self, place: "Future[Decoder]", wait_seconds: float) -> Decoder:
        """Give up waiting, unless a decoder came at the last moment."""
        with self._changed:
            if place in self._waiting:
                self._waiting.remove(place)
                raise DecodersBusy(f"none came free in {wait_seconds} s")
        return place.result()

    def _give_back(self, decoder: Decoder) -> None:
        with self._changed:
            is_kept = decoder.is_sound and not self._is_closed
            if is_kept:
                self._busy.discard(decoder)
            if not self._is_closed:
                self._offer(decoder if is_kept else Decoder(self._memory_bytes, self._limits.formats))
        if not is_kept:
            self._discard(decoder)

    def _discard(self, decoder: Decoder) -> None:
        """Stop a decoder; close() waits for this."""
        _stop_all([decoder])
        with self._changed:
            self._busy.discard(decoder)
            self._changed.notify_all()

    def _offer(self, decoder: Decoder) -> None:
        """Hand the decoder to whoever waits longest; it is free when nobody does. The lock is held."""
        if self._waiting:
            self._busy.add(decoder)
            self._waiting.popleft().set_result(decoder)
        else:
            self._free.append(decoder)


def _stop_all(decoders: list[Decoder]) -> None:
    for decoder in decoders:
        decoder.stop()
    for decoder in decoders:
        decoder.join()
