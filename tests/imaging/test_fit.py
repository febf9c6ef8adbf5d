"""Padding and background: transparent where the output can be, the asked background where not, never black."""

import pytest
from PIL import Image

from tests.support.images import BLUE, RED, WHITE, encode, open_result, render
from thumbs.domain import Fit, OutputFormat

WIDE_RED = encode(Image.new("RGB", (400, 200), RED), "PNG")
CLEAR = encode(Image.new("RGBA", (200, 200), (0, 0, 0, 0)), "PNG")


def get_pixel(image: Image.Image, x: int, y: int) -> tuple[int, ...]:
    pixel = image.convert("RGBA").getpixel((x, y))
    assert isinstance(pixel, tuple)
    return pixel


def is_near(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return all(abs(a - b) <= 6 for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("output", [OutputFormat.PNG, OutputFormat.WEBP, OutputFormat.AVIF])
def test_contain_pads_transparently_where_the_format_can(output: OutputFormat) -> None:
    image = open_result(render(WIDE_RED, fit=Fit.CONTAIN, format=output))

    assert image.size == (100, 100)
    assert get_pixel(image, 50, 5)[3] < 8
    assert is_near(get_pixel(image, 50, 50), (*RED, 255))


@pytest.mark.parametrize("output", [OutputFormat.JPEG, OutputFormat.AUTO])
def test_contain_pads_with_the_background_where_it_cannot(output: OutputFormat) -> None:
    """An opaque source stays JPEG under `auto`: the padding is no reason for a PNG."""
    picture = render(WIDE_RED, fit=Fit.CONTAIN, format=output, background="#0000ff")
    image = open_result(picture)

    assert picture.content_type == "image/jpeg"
    assert is_near(get_pixel(image, 50, 5), (*BLUE, 255))
    assert is_near(get_pixel(image, 50, 95), (*BLUE, 255))
    assert is_near(get_pixel(image, 50, 50), (*RED, 255))


def test_contain_centres_the_picture() -> None:
    image = open_result(render(WIDE_RED, fit=Fit.CONTAIN, format=OutputFormat.PNG))

    assert image.getchannel("A").getbbox() == (0, 25, 100, 75)


@pytest.mark.parametrize(("background", "colour"), [("#ffffff", WHITE), ("#0000ff", BLUE)])
def test_jpeg_is_flattened_on_the_background(background: str, colour: tuple[int, ...]) -> None:
    """The usual mistake shows the black behind the transparency."""
    image = open_result(render(CLEAR, format=OutputFormat.JPEG, background=background))

    assert is_near(get_pixel(image, 50, 50), (*colour, 255))


def test_jpeg_mixes_half_transparent_pixels_with_the_background() -> None:
    body = encode(Image.new("RGBA", (200, 200), (*RED, 128)), "PNG")
    image = open_result(render(body, format=OutputFormat.JPEG))

    assert is_near(get_pixel(image, 50, 50), (255, 127, 127, 255))


@pytest.mark.parametrize("output", [OutputFormat.PNG, OutputFormat.WEBP, OutputFormat.AVIF])
def test_alpha_is_kept_where_the_format_can(output: OutputFormat) -> None:
    body = encode(Image.new("RGBA", (200, 200), (*RED, 128)), "PNG")
    image = open_result(render(body, format=output))

    assert is_near(get_pixel(image, 50, 50), (*RED, 128))


@pytest.mark.parametrize("fit", [Fit.COVER, Fit.CONTAIN, Fit.FILL])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (1, 500), (500, 1), (99, 101), (640, 480)])
def test_size_is_exact(fit: Fit, size: tuple[int, int]) -> None:
    picture = render(encode(Image.new("RGB", size, RED), "PNG"), width=70, height=33, fit=fit, format=OutputFormat.PNG)

    assert (picture.width, picture.height) == open_result(picture).size == (70, 33)
    assert is_near(get_pixel(open_result(picture), 34, 16), (*RED, 255))


@pytest.mark.parametrize(
    ("size", "wanted"), [((1, 1), (1, 1)), ((30, 20), (30, 20)), ((640, 480), (44, 33)), ((900, 2), (70, 1))]
)
def test_inside_keeps_the_aspect_and_never_enlarges(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    picture = render(encode(Image.new("RGB", size, RED), "PNG"), width=70, height=33, fit=Fit.INSIDE)

    assert (picture.width, picture.height) == open_result(picture).size == wanted
