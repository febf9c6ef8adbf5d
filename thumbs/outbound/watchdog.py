"""Makes deadlines hard: one thread that shuts the socket of every call whose time is up.

A socket's own timeout is per read, so a server that drips one byte at a time is never late by it. The watchdog shuts a
duplicate of the socket, which wakes whoever reads, writes or shakes hands on it. `call` is its only caller.
"""

import math
import socket
import threading
import time
from contextlib import suppress


class Watch:
    """One socket under watch; `has_fired` tells that it was shut because its time was up."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        """Take a socket of our own to shut, and the monotonic time until which it may live."""
        self.sock = sock
        self.until = until
        self.has_fired = False

    def shut(self) -> None:
        """Shut the socket in both directions, whoever uses it."""
        self.has_fired = True
        with suppress(OSError):  # The peer was quicker.
            self.sock.shutdown(socket.SHUT_RDWR)


class Watchdog:
    """Watches the sockets of all calls in one thread, which starts with the first and survives a fork.

    Thread-safe. The lock is held while a socket is shut or closed: its number cannot be another's by then.
    """

    def __init__(self) -> None:
        """Start nothing yet."""
        self._changed = threading.Condition()
        self._watches: set[Watch] = set()
        self._wakes_at = math.inf
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def watch(self, sock: socket.socket, until: float) -> Watch:
        """Watch a socket until the monotonic time; the watch must be dropped by its owner."""
        # A duplicate outlives SSLContext.wrap_socket, which detaches the socket that it is given.
        watch = Watch(sock.dup(), until)
        with self._changed:
            self._watches.add(watch)
            if self._is_closed:
                watch.shut()
                return watch
            self._ensure_thread()
            if until < self._wakes_at:
                self._changed.notify()
        return watch

    def extend(self, watch: Watch, until: float) -> None:
        """Let a watch last longer."""
        with self._changed:
            watch.until = max(watch.until, until)

    def drop(self, watch: Watch) -> None:
        """Stop a watch and close its socket; harmless when repeated."""
        with self._changed:
            self._watches.discard(watch)
            watch.sock.close()

    def close(self) -> None:
        """Shut every socket that is still watched, and end the thread. Later watches are shut at once."""
        with self._changed:
            self._is_closed = True
            for watch in self._watches:
                watch.shut()
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _ensure_thread(self) -> None:
        if self._thread is None or not self._thread.is_alive():  # Not alive: we are the child of a fork.
            self._thread = threading.Thread(target=self._run, name="outbound-watchdog", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        with self._changed:
            while not self._is_closed:
                now = time.monotonic()
                for watch in [watch for watch in self._watches if watch.until <= now]:
                    watch.shut()
                    self._watches.discard(watch)
                self._wakes_at = min((watch.until for watch in self._watches), default=math.inf)
                self._changed.wait(None if self._wakes_at == math.inf else self._wakes_at - now)
