"""Waits on behalf of a caller (`Prefer: wait=N`), without letting those who wait fill every thread."""

import re
import socket
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from flask import has_request_context, request

from thumbs.domain import FINAL_JOB_STATUSES, Job
from thumbs.services import Services

MAX_WAIT_SECONDS: Final = 25
"""Platforms' routers give up after 30 s."""
FIRST_PAUSE_SECONDS: Final = 0.01
LONGEST_PAUSE_SECONDS: Final = 0.2
_WAIT = re.compile(r"\s*wait\s*=\s*(\d{1,6})\s*", re.IGNORECASE)

T = TypeVar("T")


class WaitingRoom:
    """Holds at most half of this process's threads; who does not fit is answered at once."""

    def __init__(self, services: Services, *, is_stopping: Callable[[], bool]) -> None:
        self._services = services
        self._seats = threading.BoundedSemaphore(max(1, services.settings.web_threads // 2))
        self._is_stopping = is_stopping

    def wait_for_end(self, job: Job, wait_seconds: float) -> Job:
        """Wait until the job is final; returns it as it is by then, or when there is no more waiting."""
        jobs = self._services.ledger.jobs
        return self.wait_until(
            lambda job: job.status in FINAL_JOB_STATUSES, job, lambda: jobs.find(job.id) or job, wait_seconds
        )

    def wait_until(self, is_enough: Callable[[T], bool], seen: T, look: Callable[[], T], wait_seconds: float) -> T:
        """Look again and again, until it is enough, the time is up, we are stopping, or the caller has left.

        Returns what was seen last. `seen` is what was there at first: who need not wait, or finds no seat, gets that.
        """
        if wait_seconds <= 0 or is_enough(seen) or not self._seats.acquire(blocking=False):
            return seen
        try:
            return self._poll(is_enough, seen, look, wait_seconds)
        finally:
            self._seats.release()

    def _poll(self, is_enough: Callable[[T], bool], seen: T, look: Callable[[], T], wait_seconds: float) -> T:
        clock = self._services.clock
        until, pause_seconds = clock.monotonic() + wait_seconds, FIRST_PAUSE_SECONDS
        while not is_enough(seen) and not self._is_stopping() and not _has_caller_left():
            left_seconds = until - clock.monotonic()
            if left_seconds <= 0:
                break
            clock.sleep(min(pause_seconds, left_seconds))
            pause_seconds = min(pause_seconds * 1.5, LONGEST_PAUSE_SECONDS)
            seen = look()
        return seen


def parse_wait(prefer: str | None) -> int:
    """Parse `Prefer: wait=N` (RFC 7240 section 4.3) into seconds, at most 25; 0 when it is absent or not understood."""
    for preference in (prefer or "").split(","):
        match = _WAIT.fullmatch(preference.split(";")[0])
        if match:
            return min(int(match[1]), MAX_WAIT_SECONDS)
    return 0


def _has_caller_left() -> bool:
    """Tell whether who asked has closed the connection: nobody would sit in its seat, for up to 25 s.

    Gunicorn hands its socket over; with another server, nobody leaves.
    """
    caller = request.environ.get("gunicorn.socket") if has_request_context() else None
    return caller is not None and _is_closed(caller)


def _is_closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
