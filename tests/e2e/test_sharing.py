"""The same work is done once, end to end: many callers at once, a source seen before, one that keeps failing."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.e2e.conftest import serve_late
from tests.support.exchanges import Exchange, Reply
from tests.support.images import build_photo, encode
from tests.support.servers import SourceServer
from tests.support.stack import Stack
from thumbs.testing import WebhookReceiver

PNG = encode(build_photo(), "PNG")
CALLERS = 12


def finish(stack: Stack, url: str, **body: Any) -> dict[str, Any]:
    """Submit a job, and wait for its end."""
    return stack.wait_for_job(stack.submit(source_url=url, **body)["id"])


def test_many_callers_at_once_cost_one_fetch_and_each_is_told(
    stack: Stack, source: SourceServer, webhook_receiver: WebhookReceiver
) -> None:
    url = serve_late(source, "/slow.png", PNG, 1)
    with ThreadPoolExecutor(CALLERS) as pool:
        jobs = list(pool.map(lambda _: stack.submit(source_url=url, callback_url=webhook_receiver.url), range(CALLERS)))
    deliveries = webhook_receiver.wait_for(CALLERS, timeout_seconds=20)
    told = [delivery.event["data"]["job"] for delivery in deliveries]
    assert {job["id"] for job in told} == {job["id"] for job in jobs}
    assert sorted(str(job["reused"]) for job in told) == ["None"] + ["in_flight"] * (CALLERS - 1)
    assert len({job["thumbnail"]["url"] for job in told}) == CALLERS
    assert {stack.request("GET", job["thumbnail"]["url"]).status for job in told} == {200}
    assert source.count("/slow.png") == 1


def test_source_that_was_seen_before_is_asked_whether_it_has_changed(stack: Stack, source: SourceServer) -> None:
    def answer(exchange: Exchange) -> None:
        is_known = exchange.request.headers.get("if-none-match") == '"v1"'
        exchange.reply(Reply(304, b"", {"ETag": '"v1"'}) if is_known else Reply(200, PNG, {"ETag": '"v1"'}))

    url = source.script("/tagged.png", answer)
    first, second = finish(stack, url), finish(stack, url)
    assert (first["reused"], second["reused"]) == (None, "revalidated")
    assert second["thumbnail"]["sha256"] == first["thumbnail"]["sha256"]
    assert second["thumbnail"]["url"] != first["thumbnail"]["url"]
    assert "decoded" not in second["timings_ms"]


def test_source_that_is_fresh_is_not_asked_at_all(stack: Stack, source: SourceServer) -> None:
    url = source.serve("/fresh.png", PNG, headers={"Cache-Control": "max-age=600"})
    variants = [{"name": "wide", "width": 300}]
    first, second = (finish(stack, url, variants=variants) for _ in range(2))
    assert (first["reused"], second["reused"], source.count("/fresh.png")) == (None, "fresh", 1)
    told = second["variants"]["wide"]["thumbnail"]
    assert (
        stack.request("GET", told["url"]).body
        == stack.request("GET", first["variants"]["wide"]["thumbnail"]["url"]).body
    )
    assert (told["width"], told["height"]) == (300, 100)


def test_source_that_keeps_failing_is_left_alone_for_a_while(stack: Stack, source: SourceServer) -> None:
    url = source.serve("/page.png", b"<html>")
    jobs = [finish(stack, url) for _ in range(5)]
    assert [job["error"]["code"] for job in jobs] == ["unsupported_format"] * 5
    assert [job["reused"] for job in jobs] == [None, None, None, "fresh", "fresh"]
    assert source.count("/page.png") == 3
