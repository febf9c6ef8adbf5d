"""Posting a webhook: what is sent, and how much of the answer is kept."""

import gzip

import pytest

from tests.support.exchanges import Exchange, Reply
from tests.support.outbound import HOST, TIMEOUT_SECONDS, Build, in_time
from tests.support.servers import RawServer, Receiver, SourceServer
from thumbs.errors import AttemptTimeout, ConnectionFailed, InvalidDestination
from thumbs.outbound import Outbound


def test_post_sends_the_bytes_and_headers_as_they_are(outbound: Outbound, receiver: Receiver) -> None:
    body = b'{"a":"\xc3\xbc"}\x00\r\n'
    outbound.post(receiver.url("/hooks?a=1"), body, {"content-type": "application/json", "webhook-id": "evt_1"})
    request = receiver.requests[0]
    assert (request.method, request.target, request.body) == ("POST", "/hooks?a=1", body)
    assert request.headers["webhook-id"] == "evt_1"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["content-length"] == str(len(body))


def test_post_lets_its_caller_choose_the_user_agent_but_not_the_host(outbound: Outbound, receiver: Receiver) -> None:
    headers = {"user-agent": "thumbs-webhooks/1", "host": "inside.example", "accept-encoding": "gzip"}
    outbound.post(receiver.url(), b"{}", headers)
    request = receiver.requests[0]
    assert request.headers["user-agent"] == "thumbs-webhooks/1"
    assert request.headers["host"] == f"{HOST}:{receiver.port}"
    assert request.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("status", [200, 204, 299, 301, 302, 304, 400, 404, 410, 429, 500, 503, 599])
def test_post_answers_with_any_status(status: int, outbound: Outbound, receiver: Receiver) -> None:
    """What a status means is not decided here; no redirect is followed."""
    receiver.answer_with(status, headers={"Location": receiver.url("/elsewhere"), "Retry-After": "5"})
    answer = outbound.post(receiver.url(), b"{}", {})
    assert answer.http_status == status
    assert answer.headers["retry-after"] == "5"
    assert not answer.is_truncated
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(("length", "is_truncated"), [(0, False), (4096, False), (4097, True), (10_000_000, True)])
def test_post_keeps_4096_bytes_of_the_answer(
    length: int, is_truncated: bool, outbound: Outbound, receiver: Receiver
) -> None:
    receiver.answer_with(200, body=bytes(length))
    answer = outbound.post(receiver.url(), b"{}", {})
    assert answer.body == bytes(min(length, 4096))
    assert answer.is_truncated is is_truncated


def test_post_keeps_the_answer_as_it_came(outbound: Outbound, receiver: Receiver) -> None:
    """A body that is encoded is neither refused nor unpacked."""
    body = gzip.compress(bytes(1000))  # The time of day is in it.
    receiver.answer_with(200, body=body, headers={"Content-Encoding": "gzip"})
    assert outbound.post(receiver.url(), b"{}", {}).body == body


def test_post_keeps_no_more_headers_than_body(outbound: Outbound, receiver: Receiver) -> None:
    receiver.answer_with(200, headers={f"X-{number}": "x" * 1000 for number in range(50)})
    headers = outbound.post(receiver.url(), b"{}", {}).headers
    assert sum(len(name) + len(value) for name, value in headers.items()) <= 4096
    assert "x-1" in headers


def test_post_ends_in_time_when_the_receiver_reads_nothing(build: Build) -> None:
    """Sending blocks once every buffer on the way is full."""
    outbound = build(allow="127.0.0.1", timeout_seconds=TIMEOUT_SECONDS)
    with RawServer(Exchange.wait) as server, in_time(), pytest.raises(AttemptTimeout):
        outbound.post(f"http://127.0.0.1:{server.port}/", bytes(20_000_000), {})


def test_post_is_answered_by_a_receiver_that_reads_no_body(build: Build) -> None:
    """It answers at once and closes, while we still send."""
    with RawServer(lambda exchange: exchange.reply(Reply(413, b"too much"))) as server:
        answer = build(allow="127.0.0.1").post(f"http://127.0.0.1:{server.port}/", b"{}", {})
    assert answer.http_status == 413


@pytest.mark.parametrize("path", ["/reset", "/short/head", "/nonsense"])
def test_post_fails_when_the_connection_breaks(path: str, outbound: Outbound, source: SourceServer) -> None:
    with pytest.raises(ConnectionFailed):
        outbound.post(source.url(path), b"{}", {})


def test_post_sends_headers_as_latin_1(outbound: Outbound, receiver: Receiver) -> None:
    """All that an endpoint's header may have; the receiver of these tests reads it as what it is."""
    value = "".join(map(chr, [*range(0x21, 0x7F), *range(0xA1, 0x100)]))
    outbound.post(receiver.url(), b"{}", {"x-a": value})
    [request] = receiver.requests
    assert request.headers["x-a"] == value


@pytest.mark.parametrize("headers", [{"x-a": "one\r\ntwo: three"}, {"x\na": "1"}, {"x-a": "\u20ac"}])
def test_post_refuses_headers_that_cannot_be_sent(
    headers: dict[str, str], outbound: Outbound, receiver: Receiver
) -> None:
    """Nothing that a header holds can become a header of its own."""
    with pytest.raises(InvalidDestination):
        outbound.post(receiver.url(), b"{}", headers)
    assert receiver.connection_count == 0
