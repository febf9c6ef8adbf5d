"""What goes on while processes are killed: sources good and bad, receivers with moods, and a caller who insists.

What a job's source and receiver do follows from the job's number alone, so a run with the same seed asks the same.
"""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import requests

from tests.support.exchanges import Exchange, Reply, Request
from tests.support.images import build_photo, encode
from tests.support.servers import Server

CALLERS: Final = 12
REQUEST_SECONDS: Final = 20.0
RETRY_SECONDS: Final = 0.2
GIVE_UP_SECONDS: Final = 60.0
"""A caller who is not answered for so long has found a fault."""
SLOW_SECONDS: Final = 0.7
REPEATED_EVERY: Final = 10
"""Every tenth request is sent again after its answer: the same job must come back."""

KINDS: Final = ("good", "good", "late", "good", "busy", "good", "late", "gone", "good", "busy", "text", "good", "cut")
"""A source, by its number: `late` takes its time, `busy` answers 503 once."""
JOBS_PER_SOURCE: Final = 3
"""They are in flight together, or find what the ones before have left."""
ETAG: Final = '"v1"'
ERROR_CODES: Final[Mapping[str, str]] = {
    "gone": "source_http_error",
    "text": "unsupported_format",
    "cut": "image_corrupt",
}
"""What the jobs of bad sources end with; those of the others succeed."""
MOODS: Final = ("fine", "fine", "slow", "fine", "moody", "fine", "fine")
"""A job's receiver, by its number: `moody` answers 500 once or twice."""


class Source(Server):
    """Serves `/{kind}/{number}`."""

    def __init__(self) -> None:
        super().__init__()
        self._image = encode(build_photo(), "PNG")
        self._asked: Counter[str] = Counter()

    def handle(self, exchange: Exchange) -> None:
        """Answer as the kind says."""
        kind = exchange.request.path.split("/")[1]
        with self._changed:
            self._asked[exchange.request.path] += 1
            is_first = self._asked[exchange.request.path] == 1
        if kind == "late":
            exchange.wait(SLOW_SECONDS)
        is_known = exchange.request.headers.get("if-none-match") == ETAG
        exchange.reply(Reply(304, b"") if is_known else self._choose(kind, is_first=is_first))

    def _choose(self, kind: str, *, is_first: bool) -> Reply:
        if kind == "gone":
            return Reply(404, b"nothing here")
        if kind == "busy" and is_first:
            return Reply(503, b"come again")
        return Reply(200, {"text": b"hello world", "cut": self._image[:2000]}.get(kind, self._image), {"ETag": ETAG})


class MoodyReceiver(Server):
    """Takes the webhooks of job `n` at `/{mood}/{n}`."""

    def __init__(self) -> None:
        super().__init__()
        self.accepted: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()

    def handle(self, exchange: Exchange) -> None:
        """Answer as the mood says; what was accepted is counted."""
        path = exchange.request.path
        if path.startswith("/slow"):
            exchange.wait(SLOW_SECONDS)
        with self._changed:
            is_refused = path.startswith("/moody") and self._refused[path] < 1 + int(path.rpartition("/")[2]) % 2
            (self._refused if is_refused else self.accepted)[path] += 1
        exchange.reply(Reply(500 if is_refused else 200))

    def list_by_path(self) -> dict[str, list[Request]]:
        """List the webhooks of each path."""
        found: dict[str, list[Request]] = {}
        for request in self.requests:
            found.setdefault(request.path, []).append(request)
        return found


class Caller:
    """Submits numbered jobs at an even pace, each with a key of its own, until each is accepted."""

    def __init__(self, base: str, source: Source, receiver: MoodyReceiver) -> None:
        self.job_ids: dict[int, str] = {}
        self.faults: list[str] = []
        self.retries: Counter[str] = Counter()
        self._base, self._source, self._receiver = base, source, receiver
        self._lock = threading.Lock()

    def submit(self, job_count: int, seconds: float) -> None:
        """Submit that many jobs over that time; returns when each is accepted, or has found a fault."""
        began = time.monotonic()

        def submit_in_time(number: int) -> None:
            time.sleep(max(0.0, began + seconds * number / job_count - time.monotonic()))
            self._insist(number)

        with ThreadPoolExecutor(CALLERS, thread_name_prefix="caller") as callers:
            list(callers.map(submit_in_time, range(job_count)))

    def _insist(self, number: int) -> None:
        until = time.monotonic() + GIVE_UP_SECONDS
        wanted_count = 2 if number % REPEATED_EVERY == 0 else 1
        while wanted_count:
            if self._ask(number):
                wanted_count -= 1
            elif time.monotonic() < until:
                time.sleep(RETRY_SECONDS)
            else:
                self.faults.append(f"job {number} was not accepted in {GIVE_UP_SECONDS} s")
                return

    def _ask(self, number: int) -> bool:
        """Ask once; False when it is to be asked again."""
        try:
            with requests.Session() as session:
                session.trust_env = False
                answer = session.post(
                    f"{self._base}/v1/jobs",
                    json=self._build_body(number),
                    headers={"Idempotency-Key": f"job-{number}"},
                    timeout=REQUEST_SECONDS,
                )
        except requests.RequestException as error:
            return self._note(type(error).__name__)
        if answer.status_code == 503:
            return self._note("503")
        with self._lock:
            self._judge(number, answer)
        return True

    def _build_body(self, number: int) -> dict[str, Any]:
        return {
            "source_url": self._source.url(name_source(number)),
            "callback_url": self._receiver.url(name_receiver(number)),
            "metadata": {"number": number},
        }

    def _note(self, reason: str) -> bool:
        with self._lock:
            self.retries[reason] += 1
        return False

    def _judge(self, number: int, answer: requests.Response) -> None:
        if answer.status_code not in (200, 202):
            self.faults.append(f"job {number} was answered {answer.status_code}: {answer.text[:300]}")
            return
        job_id = answer.json()["id"]
        if self.job_ids.setdefault(number, job_id) != job_id:
            self.faults.append(f"job {number} was accepted as {self.job_ids[number]} and as {job_id}")


def name_source(number: int) -> str:
    """Tell the path of a job's source: three in a row have one together."""
    shared = number // JOBS_PER_SOURCE
    return f"/{KINDS[shared % len(KINDS)]}/{shared}"


def name_receiver(number: int) -> str:
    """Tell the path of a job's receiver."""
    return f"/{MOODS[number % len(MOODS)]}/{number}"
