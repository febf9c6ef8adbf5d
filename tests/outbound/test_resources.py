"""Calls leave nothing open, and do not meet."""

import threading
from concurrent.futures import ThreadPoolExecutor

import psutil

from tests.support.outbound import HOST, Build, resolve_to, wait_until
from tests.support.servers import SourceServer
from thumbs.errors import FetchError
from thumbs.outbound import Outbound


def test_two_hundred_fetches_leave_nothing_open(build: Build, source: SourceServer) -> None:
    """Good and bad ones: neither a file descriptor nor a thread is left."""
    outbound = build(resolve_to(HOST), max_source_bytes=50_000, timeout_seconds=0.2)
    paths = ["/image", "/chunks", "/status/500", "/reset", "/short", "/huge", "/redirect?to=/image", "/missing"]
    outbound.fetch(source.url("/image"))
    process = psutil.Process()
    before = process.num_fds()
    for path in (*paths * 25, "/drip/body", "/drip/head"):
        with_errors_ignored(outbound, source.url(path, host="host.example"))
    wait_until(lambda: process.num_fds() <= before)
    wait_until(lambda: "outbound-lookup" not in {thread.name for thread in threading.enumerate()})


def test_calls_from_32_threads_do_not_meet(outbound: Outbound, source: SourceServer) -> None:
    """Each gets its own bytes."""
    for number in range(32):
        source.serve(f"/{number}", f"body {number}".encode() * 1000)
    with ThreadPoolExecutor(32) as pool:
        urls = [source.url(f"/{number % 32}") for number in range(320)]
        bodies = [fetched.body for fetched in pool.map(outbound.fetch, urls)]
    assert bodies == [f"body {number % 32}".encode() * 1000 for number in range(320)]


def with_errors_ignored(outbound: Outbound, url: str) -> None:
    """Fetch, whatever becomes of it, as long as its error is ours."""
    try:
        outbound.fetch(url)
    except FetchError:
        return
