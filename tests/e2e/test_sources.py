"""Sources that come along with their jobs, several thumbnails of one source, and those that their event holds."""

from base64 import b64decode, b64encode
from io import BytesIO
from typing import Any

import pytest
from PIL import Image
from urllib3 import encode_multipart_formdata

from tests.support.exchanges import Exchange
from tests.support.images import build_photo, encode
from tests.support.servers import SourceServer
from tests.support.stack import Stack
from thumbs.testing import WebhookReceiver

PNG = encode(build_photo(640, 480), "PNG")


def open_image(stack: Stack, thumbnail: dict[str, Any]) -> Image.Image:
    return Image.open(BytesIO(stack.request("GET", thumbnail["url"]).body))


@pytest.mark.parametrize("way", ["base64", "form"])
def test_source_that_comes_along_becomes_a_thumbnail(stack: Stack, webhook_receiver: WebhookReceiver, way: str) -> None:
    if way == "base64":
        body = {"source_data": b64encode(PNG).decode(), "callback_url": webhook_receiver.url}
        answer = stack.request("POST", "/v1/jobs", json=body)
    else:
        form, content_type = encode_multipart_formdata({"file": ("a.png", PNG), "callback_url": webhook_receiver.url})
        answer = stack.request("POST", "/v1/jobs", data=form, headers={"Content-Type": content_type})
    assert answer.status == 202
    [delivery] = webhook_receiver.wait_for(timeout_seconds=20)
    job = delivery.event["data"]["job"]
    assert (job["source_url"], job["source"]["bytes"]) == (None, len(PNG))
    assert open_image(stack, job["thumbnail"]).size == (100, 100)


def test_variants_come_from_one_fetch(stack: Stack, source: SourceServer) -> None:
    url = source.serve("/photo.png", PNG)
    variants = [
        {"name": "wide", "width": 320, "height": 180, "format": "webp"},
        {"name": "whole", "width": 64, "height": 64, "fit": "inside", "format": "png"},
    ]
    job = stack.wait_for_job(stack.submit(source_url=url, variants=variants)["id"])
    wide, whole = (job["variants"][name]["thumbnail"] for name in ("wide", "whole"))
    images = [open_image(stack, each) for each in (job["thumbnail"], wide, whole)]
    assert [(image.format, image.size) for image in images] == [
        ("JPEG", (100, 100)),
        ("WEBP", (320, 180)),
        ("PNG", (64, 48)),
    ]
    assert source.count("/photo.png") == 1


def test_progressive_jpeg_is_fetched_as_far_as_it_is_needed(stack: Stack, source: SourceServer) -> None:
    """The rest of it never comes, and the thumbnail is that of the whole file."""
    photo = Image.effect_noise((1600, 1300), 30).convert("RGB")
    body = encode(photo, "JPEG", quality=75, progressive=True)

    def answer(exchange: Exchange) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
        exchange.send(head.encode() + body[: len(body) // 2])
        exchange.wait(10)

    half = stack.wait_for_job(stack.submit(source_url=source.script("/half.jpg", answer))["id"])
    whole = stack.wait_for_job(stack.submit(source_url=source.serve("/whole.jpg", body))["id"])
    assert (half["error"], whole["error"]) == (None, None)
    assert half["thumbnail"]["sha256"] == whole["thumbnail"]["sha256"]
    assert (
        half["source"]
        == whole["source"]
        == {
            "content_type": "image/jpeg",
            "width": 1600,
            "height": 1300,
            "bytes": len(body),
        }
    )


def test_event_holds_the_thumbnail_that_is_where_it_says(
    stack: Stack, source: SourceServer, webhook_receiver: WebhookReceiver
) -> None:
    url = source.serve("/photo.png", PNG)
    job = stack.submit(source_url=url, callback_url=webhook_receiver.url, inline=True)
    [delivery] = webhook_receiver.wait_for(timeout_seconds=20)
    thumbnail = delivery.event["data"]["job"]["thumbnail"]
    head, _, text = thumbnail["data_url"].partition(",")
    assert head == "data:image/jpeg;base64"
    assert b64decode(text) == stack.request("GET", thumbnail["url"]).body
    assert "data_url" not in stack.get_job(job["id"])["thumbnail"]
