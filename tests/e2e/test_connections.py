"""What arrives at the port and is no request, or one whose body is not what its headers say: refused by gunicorn or us.

The caller gets a problem document, the log one line, and the next caller an answer.
"""

import json
import socket

import pytest

from tests.support.stack import Stack

HEAD = b"POST /v1/jobs HTTP/1.1\r\nHost: thumbs\r\nConnection: close\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET /v1/jobs HTTP/1.1\r\nHost: thumbs\r\n"
JOB = b'{"source_url": "https://img.example/cat.jpg"}'
LAST = b"0\r\n\r\n"


def write_chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


BAD: dict[str, tuple[int, str, bytes]] = {
    "chunks of more than 64 KiB": (413, "body_too_large", CHUNKED + write_chunk(b" " * 1_000) * 100 + LAST),
    "a job and more than 64 KiB": (413, "body_too_large", CHUNKED + write_chunk(JOB + b" " * 100_000) + LAST),
    "a length of 20 MB": (413, "body_too_large", HEAD + b"Content-Length: 20000000\r\n\r\n"),
    "a chunk without a size": (400, "bad_request", CHUNKED + b"zz\r\n{}\r\n" + LAST),
    "a chunk without an end": (400, "bad_request", CHUNKED + b"2\r\n{}XX" + LAST),
    "a chunk's endless extension": (400, "bad_request", CHUNKED + b"2;" + b"x" * 100_000),
    "a length that is none": (400, "bad_request", HEAD + b"Content-Length: abc\r\n\r\n"),
    "a length and chunks": (
        400,
        "bad_request",
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + LAST,
    ),
    "a first line of 20 KB": (414, "uri_too_long", b"GET /?x=" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n"),
    "a header of 20 KB": (431, "headers_too_large", GET + b"X: " + b"x" * 20_000 + b"\r\n\r\n"),
    "200 headers": (431, "headers_too_large", GET + b"X: 1\r\n" * 200 + b"\r\n"),
    "a header with NUL": (400, "bad_request", GET + b"X: a\0b\r\n\r\n"),
    "two hosts": (400, "bad_request", GET + b"Host: evil\r\n\r\n"),
    "an expectation": (400, "bad_request", HEAD + b"Expect: 200-maybe\r\nContent-Length: 0\r\n\r\n"),
    "TLS": (400, "bad_request", b"\x16\x03\x01\x02\x00\x01\r\n\r\n"),
    "HTTP of another time": (400, "bad_request", b"GET /\r\n\r\n"),
}


def send(stack: Stack, data: bytes) -> bytes:
    """Send bytes and return all that is answered; the server may close before it has read everything."""
    answered = b""
    with socket.create_connection(("127.0.0.1", stack.port), timeout=20) as connection:
        try:
            connection.sendall(data)
            while block := connection.recv(65_536):
                answered += block
        except ConnectionError:
            return answered
    return answered


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_request_is_told_as_a_problem(stack: Stack, name: str) -> None:
    status, code, data = BAD[name]
    head, _, body = send(stack, data).partition(b"\r\n\r\n")
    lines = head.decode("ascii").split("\r\n")
    problem = json.loads(body)
    assert (int(lines[0].split()[1]), problem["status"], problem["code"]) == (status, status, code)
    assert "Content-Type: application/problem+json" in lines
    assert f"X-Request-ID: {problem['request_id']}" in lines


def test_chunked_body_is_read(stack: Stack) -> None:
    """Some clients do not know the length of what they send."""
    data = CHUNKED + b"".join(write_chunk(JOB[at : at + 7]) for at in range(0, len(JOB), 7)) + LAST
    assert send(stack, data).startswith(b"HTTP/1.1 202 ")


def test_caller_who_leaves_in_the_middle_is_no_error_of_ours(stack: Stack) -> None:
    """Nothing is recorded, and nobody is woken up."""
    before = stack.read_log().count("a request failed")
    for data in (HEAD + b"Content-Length: 1000\r\n\r\n{", CHUNKED + b"30\r\n{"):
        with socket.create_connection(("127.0.0.1", stack.port), timeout=20) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65_536):
                pass
    assert stack.request("GET", "/healthz").status == 200
    assert stack.read_log().count("a request failed") == before


def test_classic_url_may_be_as_long_as_any_other_when_it_is_percent_encoded(stack: Stack) -> None:
    """2,048 characters are 6 KB then; gunicorn by itself takes 4 KB."""
    url = "https://img.example/" + "a" * 2_028
    path = "/generateThumbnailAsync?url=" + "".join(f"%{byte:02x}" for byte in url.encode("ascii"))
    assert stack.request("GET", path).status == 200
