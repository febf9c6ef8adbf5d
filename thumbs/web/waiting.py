"""Waits for a job's end on behalf of a caller (`Prefer: wait=N`), without letting those who wait fill every thread."""

import re
import threading
from collections.abc import Callable
from typing import Final

from thumbs.domain import FINAL_JOB_STATUSES, Job
from thumbs.services import Services

MAX_WAIT_SECONDS: Final = 25
"""Platforms' routers give up after 30 s."""
FIRST_PAUSE_SECONDS: Final = 0.01
LONGEST_PAUSE_SECONDS: Final = 0.2
_WAIT = re.compile(r"\s*wait\s*=\s*(\d{1,6})\s*", re.IGNORECASE)


class WaitingRoom:
    """Holds at most half of this process's threads; who does not fit is answered at once."""

    def __init__(self, services: Services, *, is_stopping: Callable[[], bool]) -> None:
        self._services = services
        self._seats = threading.BoundedSemaphore(max(1, services.settings.web_threads // 2))
        self._is_stopping = is_stopping

    def wait_for_end(self, job: Job, wait_seconds: float) -> Job:
        """Wait until the job is final, the time is up, or we are stopping; returns the job as it then is."""
        if wait_seconds <= 0 or job.status in FINAL_JOB_STATUSES or not self._seats.acquire(blocking=False):
            return job
        try:
            return self._poll(job, wait_seconds)
        finally:
            self._seats.release()

    def _poll(self, job: Job, wait_seconds: float) -> Job:
        clock = self._services.clock
        until, pause_seconds = clock.monotonic() + wait_seconds, FIRST_PAUSE_SECONDS
        while job.status not in FINAL_JOB_STATUSES and not self._is_stopping():
            left_seconds = until - clock.monotonic()
            if left_seconds <= 0:
                break
            clock.sleep(min(pause_seconds, left_seconds))
            pause_seconds = min(pause_seconds * 1.5, LONGEST_PAUSE_SECONDS)
            job = self._services.ledger.jobs.find(job.id) or job
        return job


def parse_wait(prefer: str | None) -> int:
    """Parse `Prefer: wait=N` (RFC 7240 section 4.3) into seconds, at most 25; 0 when it is absent or not understood."""
    for preference in (prefer or "").split(","):
        match = _WAIT.fullmatch(preference.split(";")[0])
        if match:
            return min(int(match[1]), MAX_WAIT_SECONDS)
    return 0
