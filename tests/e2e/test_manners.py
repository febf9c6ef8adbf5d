"""How a source sees us: not more of us at once than is polite, and every job done all the same."""

import threading

from tests.e2e.conftest import FAST
from tests.support.exchanges import Exchange, Reply
from tests.support.images import build_photo, encode
from tests.support.servers import SourceServer
from tests.support.stack import Stack
from thumbs.settings import read_settings

JOB_COUNT = 12
ANSWER_SECONDS = 0.4


def test_source_sees_no_more_fetches_at_once_than_allowed(stack: Stack, source: SourceServer) -> None:
    """What finds no slot waits or comes back; that uses up none of its runs."""
    body, lock = encode(build_photo(), "PNG"), threading.Lock()
    counts = [0]
    most = 0

    def answer(exchange: Exchange) -> None:
        nonlocal most
        with lock:
            counts[0] += 1
            most = max(most, counts[0])
        exchange.wait(ANSWER_SECONDS)
        with lock:
            counts[0] -= 1
        exchange.reply(Reply(200, body, {"Content-Type": "image/png"}))

    url = source.script("/slow.png", answer)
    jobs = [stack.submit(source_url=f"{url}?n={number}") for number in range(JOB_COUNT)]
    ended = [stack.wait_for_job(job["id"], 60) for job in jobs]
    assert [(job["status"], job["run_count"]) for job in ended] == [("succeeded", 1)] * JOB_COUNT
    assert 1 < most <= read_settings(FAST).fetch_max_per_host
