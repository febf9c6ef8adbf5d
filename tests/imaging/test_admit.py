"""What is too large or too complex is refused before a pixel is decoded."""

from dataclasses import replace

import pytest
from PIL import Image

from tests.support.images import (
    EVERY_FORMAT,
    PNG_SIGNATURE,
    build_photo,
    build_png,
    build_webp_bomb,
    encode,
    png_chunk,
    render,
)
from thumbs.domain import DecodeLimits, Fit
from thumbs.errors import ImageTooComplex, ImageTooLarge
from thumbs.imaging.admit import MAX_JPEG_SCANS, MAX_PNG_CHUNKS

SMALL = replace(EVERY_FORMAT, max_pixels=1_000, max_pixels_baseline_jpeg=10_000)


@pytest.mark.parametrize("image_format", ["PNG", "GIF", "BMP", "WEBP", "AVIF", "TIFF", "HEIF"])
def test_pixels_beyond_the_limit_are_refused_in_each_format(image_format: str) -> None:
    at_limit, beyond = build_photo(40, 25), build_photo(40, 26)

    render(encode(at_limit, image_format), SMALL)
    with pytest.raises(ImageTooLarge):
        render(encode(beyond, image_format), SMALL)


def test_baseline_jpeg_has_a_limit_of_its_own() -> None:
    render(encode(build_photo(100, 100), "JPEG"), SMALL, width=10, height=10)
    with pytest.raises(ImageTooLarge):
        render(encode(build_photo(101, 100), "JPEG"), SMALL, width=10, height=10)


def test_progressive_jpeg_does_not_have_it() -> None:
    with pytest.raises(ImageTooLarge):
        render(encode(build_photo(100, 100), "JPEG", progressive=True), SMALL, width=10, height=10)


def test_baseline_jpeg_is_refused_when_the_thumbnail_needs_it_nearly_whole() -> None:
    """A fraction can be decoded only as far as the thumbnail is smaller; the pixels decoded keep to the limit."""
    with pytest.raises(ImageTooLarge):
        render(encode(build_photo(100, 100), "JPEG"), SMALL, width=90, height=10, fit=Fit.FILL)


def test_sides_beyond_the_limit_are_refused_however_few_the_pixels() -> None:
    render(encode(Image.new("1", (DecodeLimits().max_side_px, 1)), "PNG"))
    with pytest.raises(ImageTooLarge):
        render(encode(Image.new("1", (DecodeLimits().max_side_px + 1, 1)), "PNG"))


def test_size_is_refused_before_the_pixels_are_looked_at() -> None:
    """The bomb announces 900 MP and holds nothing; a decoder would find it damaged."""
    with pytest.raises(ImageTooLarge):
        render(build_png(30_000, 30_000, depth=8, kind=2, rows=[]))


def test_webp_bomb_is_refused_before_it_takes_memory() -> None:
    with pytest.raises(ImageTooLarge):
        render(build_webp_bomb())


def test_jpeg_of_too_many_scans_is_refused() -> None:
    body = encode(build_photo(16, 16), "JPEG")
    scan = body[body.index(b"\xff\xda") : -2]
    with pytest.raises(ImageTooComplex):
        render(body[:-2] + scan * MAX_JPEG_SCANS + b"\xff\xd9")


def test_png_of_too_many_chunks_is_refused() -> None:
    with pytest.raises(ImageTooComplex):
        render(PNG_SIGNATURE + png_chunk(b"IDAT", b"") * (MAX_PNG_CHUNKS + 1))


def test_two_hundred_megapixels_do_not_trip_pillows_own_limit() -> None:
    """Pillow raises at 179 MP, and warns at 89 MP; the limits are ours."""
    wide = DecodeLimits(max_pixels=400_000_000)
    with pytest.raises(Exception, match="image_corrupt"):
        render(build_png(20_000, 10_000, depth=1, kind=0, rows=[]), wide)
