"""Callers who are slow to say what they want do not keep the others out: one thread, and each of them holds it."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.stack import ROOT, find_free_port, wait_until

HEAD = b"POST / HTTP/1.1\r\nHost: thumbs\r\nConnection: close\r\n"
SLOW = {
    "half a line": b"GET /",
    "half a head": HEAD,
    "half a body": HEAD + b"Content-Length: 10\r\n\r\nhalf",
    "half a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nff\r\nhalf",
}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Where gunicorn runs our worker, with one thread."""
    port = find_free_port()
    options = ["--worker-class", "tests.support.impatient.ImpatientWorker", "--threads", "1", "--log-level", "critical"]
    command = [sys.executable, "-m", "gunicorn", *options, "--no-control-socket", "--bind", f"127.0.0.1:{port}"]
    process = subprocess.Popen([*command, "tests.support.impatient:app"], cwd=ROOT)
    try:
        wait_until(lambda: can_connect(port), 20)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def can_connect(port: int) -> bool:
    try:
        return ask(port) != b""
    except ConnectionError:
        return False


def ask(port: int) -> bytes:
    """Send a request, and return its answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(HEAD + b"Content-Length: 2\r\n\r\nok")
        return b"".join(iter(lambda: connection.recv(65_536), b""))


@pytest.mark.parametrize("name", SLOW)
def test_slow_callers_keep_nobody_out(port: int, name: str) -> None:
    with ExitStack() as stack:
        for _ in range(2):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            slow.sendall(SLOW[name])
        assert ask(port).endswith(b"\r\n\r\n2")


def test_caller_who_does_not_read_the_answer_keeps_nobody_out(port: int) -> None:
    """What was sent is read by then: to end that alone would not wake the thread."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as deaf:
        deaf.sendall(b"GET /huge HTTP/1.1\r\nHost: thumbs\r\n\r\n")
        assert deaf.recv(1) == b"H"
        assert ask(port).endswith(b"\r\n\r\n2")


def test_caller_who_drips_is_cut_off_in_time(port: int) -> None:
    """A byte now and then does not begin the time again."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
        slow.sendall(HEAD)
        slow.settimeout(0.1)
        assert wait_until(lambda: is_cut_off(slow), 20)


def is_cut_off(slow: socket.socket) -> bool:
    """Send one more byte, and look whether the connection was closed meanwhile."""
    try:
        slow.sendall(b"x")
        return slow.recv(65_536) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True
