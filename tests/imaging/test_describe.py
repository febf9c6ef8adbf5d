"""The facts beside the thumbnail are those of the bytes that are sent."""

from base64 import b64decode
from hashlib import sha256

import pytest
from PIL import Image
from thumbhash import thumb_hash_to_average_rgba  # type: ignore[import-untyped]

from tests.support.images import (
    BLUE,
    RED,
    build_corners,
    build_photo,
    encode,
    open_result,
    render,
    render_whole,
    take_only,
)
from thumbs.domain import Fit, OutputFormat


def test_hash_is_that_of_the_bytes() -> None:
    picture = render(encode(build_photo(), "PNG"))

    assert picture.sha256 == sha256(picture.body).hexdigest()


def test_size_is_that_of_the_thumbnail_and_of_the_source() -> None:
    rendering = render_whole(encode(build_photo(320, 240), "GIF"), width=50, height=40, fit=Fit.INSIDE)

    picture = take_only(rendering)
    assert (picture.width, picture.height) == open_result(picture).size == (50, 38)
    assert (rendering.source_width, rendering.source_height) == (320, 240)
    assert rendering.source_content_type == "image/gif"


def test_multi_picture_jpeg_is_a_jpeg() -> None:
    second = Image.new("RGB", (200, 200), BLUE)
    body = encode(Image.new("RGB", (200, 200), RED), "MPO", save_all=True, append_images=[second])

    rendering = render_whole(body)

    assert rendering.source_content_type == "image/jpeg"
    assert take_only(rendering).dominant_color.startswith("#fe0000")


def test_dominant_color_is_the_largest_groups_and_not_the_mean() -> None:
    body = encode(build_corners(colours=(RED, RED, RED, BLUE)), "PNG")

    assert render(body, format=OutputFormat.PNG).dominant_color == "#ff0000"


def test_dominant_color_is_not_that_of_hidden_pixels() -> None:
    image = Image.new("RGBA", (200, 200), (*BLUE, 0))
    image.paste((*RED, 255), (0, 0, 60, 200))

    assert render(encode(image, "PNG")).dominant_color == "#ff0000"


def test_dominant_color_of_nothing_visible_is_white() -> None:
    assert render(encode(Image.new("RGBA", (9, 9), (0, 0, 0, 0)), "PNG")).dominant_color == "#ffffff"


@pytest.mark.parametrize("fit", list(Fit))
def test_thumbhash_shows_the_picture(fit: Fit) -> None:
    picture = render(encode(Image.new("RGB", (300, 200), (200, 40, 90)), "PNG"), fit=fit)

    red, green, blue, alpha = thumb_hash_to_average_rgba(list(b64decode(picture.thumbhash)))
    assert alpha == 1
    if fit is not Fit.CONTAIN:
        assert (red, green, blue) == pytest.approx((200 / 255, 40 / 255, 90 / 255), abs=0.05)
