"""Every EXIF orientation comes out upright; a broken block counts as upright and harms nothing."""

import pytest
from PIL import Image

from tests.support.images import (
    CORNER_COLOURS,
    EVERY_FORMAT,
    build_corners,
    build_exif,
    encode,
    open_result,
    render,
    render_whole,
    take_only,
)
from thumbs.domain import Fit, OutputFormat
from thumbs.imaging.orient import TURNS, read_orientation

BACK = {
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What a camera held that way stores; the others are their own inverse."""


def store(image: Image.Image, orientation: int) -> Image.Image:
    turn = BACK.get(orientation, TURNS.get(orientation))
    return image if turn is None else image.transpose(turn)


def check_corners(image: Image.Image) -> None:
    """Check that the four quarters are where they belong, as seen."""
    right, lower = image.width * 3 // 4, image.height * 3 // 4
    left, upper = image.width // 4, image.height // 4
    places = [(left, upper), (right, upper), (left, lower), (right, lower)]
    for place, colour in zip(places, CORNER_COLOURS, strict=True):
        found = image.convert("RGB").getpixel(place)
        assert isinstance(found, tuple)
        assert max(abs(a - b) for a, b in zip(found, colour, strict=True)) < 16, place


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "HEIF"])
def test_each_orientation_comes_out_upright(image_format: str, orientation: int) -> None:
    stored = store(build_corners(480, 320), orientation)
    rendering = render_whole(encode(stored, image_format, exif=build_exif(orientation)), EVERY_FORMAT)

    check_corners(open_result(take_only(rendering)))
    assert (rendering.source_width, rendering.source_height) == (480, 320)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fit", [Fit.CONTAIN, Fit.INSIDE, Fit.FILL])
def test_fit_is_meant_as_displayed(fit: Fit, orientation: int) -> None:
    """For 5 to 8 width and height change places: the asked ones are those of the upright picture."""
    body = encode(store(build_corners(480, 320), orientation), "JPEG", exif=build_exif(orientation))
    height = 120 if fit is Fit.CONTAIN else 80
    picture = render(body, width=120, height=height, fit=fit, format=OutputFormat.PNG)

    image = open_result(picture)
    assert image.size == (120, height)
    check_corners(image.crop((0, 20, 120, 100)) if fit is Fit.CONTAIN else image)


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_both_byte_orders_are_read(byte_order: str) -> None:
    image = Image.new("RGB", (1, 1))
    image.info["exif"] = build_exif(6, byte_order=byte_order)

    assert read_orientation(image) == 6


BROKEN = {
    "empty": b"",
    "no tiff": b"Exif\0\0what is this?",
    "cut short": build_exif(6)[:20],
    "directory beyond the end": b"Exif\0\0II*\0\xff\xff\xff\xff",
    "more entries than there are": b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
    "orientation 0": build_exif(0),
    "orientation 9": build_exif(9),
}


@pytest.mark.parametrize("block", BROKEN.values(), ids=BROKEN.keys())
def test_broken_exif_counts_as_upright(block: bytes) -> None:
    check_corners(open_result(render(encode(build_corners(), "JPEG", exif=block))))
