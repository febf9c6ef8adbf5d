"""The main job, end to end: a URL in, a signed webhook with the thumbnail's location out; polling tells the same."""

import json
from io import BytesIO
from typing import Any

import pytest
from PIL import Image
from standardwebhooks import Webhook

from tests.support.images import build_photo, encode
from tests.support.servers import Receiver, SourceServer
from tests.support.stack import Stack, wait_until
from thumbs.testing import ReceivedDelivery, WebhookReceiver

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "AVIF")


def verify(stack: Stack, delivery: ReceivedDelivery) -> dict[str, Any]:
    """Verify a webhook with the independent library, too, and parse it."""
    Webhook(stack.read_secret()).verify(delivery.body.decode("ascii"), dict(delivery.headers))
    event: dict[str, Any] = json.loads(delivery.body)
    return event


@pytest.mark.parametrize("image_format", FORMATS)
def test_every_format_becomes_a_thumbnail_and_the_webhook_says_where(
    stack: Stack, source: SourceServer, webhook_receiver: WebhookReceiver, image_format: str
) -> None:
    source_url = source.serve("/image", encode(build_photo(640, 480), image_format))
    job = stack.submit(source_url=source_url, callback_url=webhook_receiver.url, metadata={"order": "4711"})
    [delivery] = webhook_receiver.wait_for(timeout_seconds=20)
    event = verify(stack, delivery)
    assert event["type"] == "job.succeeded"
    told = event["data"]["job"]
    assert (told["id"], told["metadata"], told["status"]) == (job["id"], {"order": "4711"}, "succeeded")
    answer = stack.request("GET", told["thumbnail"]["url"])
    with Image.open(BytesIO(answer.body)) as image:
        assert (image.size, image.format) == ((100, 100), "JPEG")
    assert told["thumbnail"]["bytes"] == len(answer.body)


def test_webhook_and_polling_tell_the_same(
    stack: Stack, source: SourceServer, webhook_receiver: WebhookReceiver
) -> None:
    """The event holds the job as GET answers it, all but its callback."""
    url = source.serve("/image", encode(build_photo(), "PNG"), content_type="image/png")
    job = stack.submit(source_url=url, callback_url=webhook_receiver.url)
    [delivery] = webhook_receiver.wait_for(timeout_seconds=20)
    polled = stack.wait_for_callback(job["id"], "delivered")
    callback = polled.pop("callback")
    assert delivery.event["data"]["job"] == polled
    assert callback == {"status": "delivered", "attempt_count": 1, "next_attempt_at": None}


def test_webhook_has_the_headers_of_the_contract(
    stack: Stack, source: SourceServer, webhook_receiver: WebhookReceiver
) -> None:
    job = stack.submit(source_url=source.serve("/i", encode(build_photo(), "PNG")), callback_url=webhook_receiver.url)
    [delivery] = webhook_receiver.wait_for(timeout_seconds=20)
    [recorded] = wait_until(lambda: stack.list_deliveries(job["id"]), 10)
    headers = delivery.headers
    assert headers["content-type"] == "application/json"
    assert headers["webhook-id"] == recorded["event_id"] == delivery.event["id"]
    assert (headers["thumbs-delivery"], headers["thumbs-attempt"]) == (recorded["id"], "1")
    assert headers["user-agent"].startswith("thumbs-webhooks/")
    assert delivery.body.isascii()
    assert b": " not in delivery.body


def test_options_shape_the_thumbnail(stack: Stack, source: SourceServer) -> None:
    url = source.serve("/i", encode(build_photo(400, 200), "PNG"))
    options = {"width": 60, "height": 80, "fit": "contain", "format": "png", "quality": 50, "background": "#FF0000"}
    job = stack.wait_for_job(stack.submit(source_url=url, **options)["id"])
    assert job["spec"] == options | {"background": "#ff0000"}
    body = stack.request("GET", job["thumbnail"]["url"]).body
    with Image.open(BytesIO(body)) as image:
        assert (image.size, image.format) == ((60, 80), "PNG")


BAD_SOURCES = {
    "/status/404": "source_http_error",
    "/text": "unsupported_format",
    "/cut": "image_corrupt",
    "/empty": "source_empty",
    "/huge": "source_too_large",
    "/redirect-loop": "source_too_many_redirects",
    "/drip/body": "source_timeout",
    "/hang": "source_timeout",
    "/reset": "source_unreachable",
    "/status/503": "source_http_error",
}


def test_bad_source_fails_the_job_with_its_code_and_the_webhook_says_so(
    stack: Stack, source: SourceServer, webhook_receiver: WebhookReceiver
) -> None:
    """All at once, since what may pass is tried three times, 2 and 10 s apart."""
    source.serve("/text", b"hello world")
    source.serve("/cut", encode(build_photo(), "PNG")[:2000])
    source.serve("/empty", b"")
    bad = {source.url(path): code for path, code in BAD_SOURCES.items()}
    bad[source.redirect_to("http://10.0.0.1/")] = "source_forbidden"
    bad["http://no-such-name.invalid/"] = "source_forbidden"
    for url in bad:
        stack.submit(source_url=url, callback_url=webhook_receiver.url)
    deliveries = webhook_receiver.wait_for(len(bad), timeout_seconds=60)
    assert {delivery.type for delivery in deliveries} == {"job.failed"}
    jobs = [delivery.event["data"]["job"] for delivery in deliveries]
    told = {job["source_url"]: job["error"] for job in jobs}
    assert {url: error["code"] for url, error in told.items()} == bad
    assert told[source.url("/status/404")]["source_status"] == 404
    assert source.count("/status/503") == 3
    assert source.count("/status/404") == 1


def test_failed_webhook_is_retried_with_the_same_id_and_bytes(
    stack: Stack, source: SourceServer, webhook_receiver: WebhookReceiver
) -> None:
    webhook_receiver.answer(500, body=b"oh no")
    webhook_receiver.answer(302, headers={"Location": f"{webhook_receiver.url}/elsewhere"})
    job = stack.submit(source_url=source.serve("/i", encode(build_photo(), "PNG")), callback_url=webhook_receiver.url)
    deliveries = webhook_receiver.wait_for(3, type="job.succeeded", timeout_seconds=20)
    assert len({each.body for each in deliveries}) == len({each.id for each in deliveries}) == 1
    assert [(each.attempt, each.path) for each in deliveries] == [(1, "/hooks"), (2, "/hooks"), (3, "/hooks")]
    stack.wait_for_callback(job["id"], "delivered")
    [delivery] = stack.list_deliveries(job["id"])
    told = [(each["number"], each["http_status"], each["error_code"]) for each in delivery["attempts"]]
    assert told == [(1, 500, "http_5xx"), (2, 302, "redirect"), (3, 200, None)]
    assert delivery["attempts"][0]["response_body"] == "oh no"


def test_webhook_fails_when_its_attempts_are_used_up(
    stack: Stack, source: SourceServer, webhook_receiver: WebhookReceiver
) -> None:
    """A failed webhook is a fact apart from the job's status."""
    webhook_receiver.fail(times=None)
    job = stack.submit(source_url=source.serve("/i", encode(build_photo(), "PNG")), callback_url=webhook_receiver.url)
    job = stack.wait_for_callback(job["id"], "failed")
    assert (job["status"], job["callback"]["attempt_count"]) == ("succeeded", 3)
    [delivery] = stack.list_deliveries(job["id"])
    assert (delivery["status"], delivery["reason"]) == ("failed", "attempts_exhausted")
    assert len(webhook_receiver.deliveries) == 3


def test_receiver_that_says_gone_is_not_asked_again(
    stack: Stack, source: SourceServer, webhook_receiver: WebhookReceiver
) -> None:
    webhook_receiver.gone()
    job = stack.submit(source_url=source.serve("/i", encode(build_photo(), "PNG")), callback_url=webhook_receiver.url)
    stack.wait_for_callback(job["id"], "failed")
    [delivery] = stack.list_deliveries(job["id"])
    assert (delivery["reason"], len(webhook_receiver.deliveries)) == ("gone", 1)


def test_receiver_that_hangs_is_given_up_at_the_deadline(
    stack: Stack, source: SourceServer, receiver: Receiver
) -> None:
    receiver.hang(count=1)
    receiver.drip(count=1)
    job = stack.submit(source_url=source.serve("/i", encode(build_photo(), "PNG")), callback_url=receiver.url())
    stack.wait_for_callback(job["id"], "delivered")
    [delivery] = stack.list_deliveries(job["id"])
    assert [each["error_code"] for each in delivery["attempts"]] == ["timeout", "timeout", None]
    assert all(2000 <= each["duration_ms"] < 4000 for each in delivery["attempts"][:2])


def test_job_without_callback_is_there_for_polling(stack: Stack, source: SourceServer) -> None:
    job = stack.submit(source_url=source.serve("/i", encode(build_photo(), "PNG")))
    assert job["callback"]["status"] == "none"
    assert stack.wait_for_job(job["id"])["status"] == "succeeded"
    assert stack.list_deliveries(job["id"]) == []
