"""What holds for the way as a whole: the first frame, typed errors only, faithful to the full decode."""

import random
from contextlib import suppress
from io import BytesIO
from math import log10

import pytest
from PIL import Image, ImageFile

from tests.support.images import (
    BLUE,
    EVERY_FORMAT,
    RED,
    build_exif,
    build_photo,
    build_png,
    encode,
    open_result,
    png_chunk,
    render,
    render_whole,
    take_only,
)
from thumbs.domain import Fit, OutputFormat
from thumbs.errors import DecodeError, ImageCorrupt

FORMATS = ["JPEG", "PNG", "GIF", "BMP", "WEBP", "AVIF", "TIFF", "HEIF"]
MIN_FIDELITY_DB = 39.0
"""IMAGING.md's mark for every file."""


def measure_fidelity_db(body: bytes) -> float:
    """Measure how close the thumbnail is to one resize of the full picture."""
    found = open_result(render(body, EVERY_FORMAT, format=OutputFormat.PNG)).convert("RGB").tobytes()
    full = Image.open(BytesIO(body)).convert("RGB")
    side = min(full.size)
    box = ((full.width - side) / 2, (full.height - side) / 2, (full.width + side) / 2, (full.height + side) / 2)
    wanted = full.resize((100, 100), Image.Resampling.LANCZOS, box=box).tobytes()
    error = sum((a - b) ** 2 for a, b in zip(found, wanted, strict=True)) / len(wanted)
    return 10 * log10(255**2 / max(error, 1e-9))


@pytest.mark.parametrize("size", [(1001, 667), (2005, 1333), (333, 500), (1609, 1203)])
def test_fraction_of_a_jpeg_is_faithful_to_all_of_it(size: tuple[int, int]) -> None:
    """Taking the fraction's rounded size for the true one costs 18 dB."""
    assert measure_fidelity_db(encode(build_photo(*size), "JPEG", quality=92)) > MIN_FIDELITY_DB


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "WEBP", "AVIF", "TIFF", "HEIF"])
def test_other_formats_are_faithful(image_format: str) -> None:
    assert measure_fidelity_db(encode(build_photo(1001, 667), image_format)) > MIN_FIDELITY_DB


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "AVIF", "TIFF", "HEIF"])
def test_first_frame_of_an_animation_is_taken(image_format: str) -> None:
    frames = [Image.new("RGB", (200, 200), colour) for colour in (RED, BLUE, BLUE)]
    body = encode(frames[0], image_format, save_all=True, append_images=frames[1:], duration=100)

    red, _, blue = bytes.fromhex(render(body, EVERY_FORMAT).dominant_color[1:])
    assert red > 240
    assert blue < 16


@pytest.mark.parametrize("image_format", FORMATS)
def test_truncated_file_is_corrupt(image_format: str) -> None:
    body = encode(build_photo(), image_format)

    for share in (0.3, 0.6, 0.9):
        with pytest.raises(ImageCorrupt):
            render(body[: int(len(body) * share)], EVERY_FORMAT)


def test_truncated_file_is_corrupt_even_when_pillow_was_told_to_accept_it() -> None:
    body = encode(build_photo(), "JPEG")
    ImageFile.LOAD_TRUNCATED_IMAGES = True

    with pytest.raises(ImageCorrupt):
        render(body[: len(body) // 2])


def test_exif_of_a_broken_png_does_not_hide_that_it_is_broken() -> None:
    """Pillow's getexif() loads the picture; after a load that failed, a second one seems to succeed."""
    body = encode(build_photo(), "PNG", exif=build_exif(6))

    with pytest.raises(ImageCorrupt):
        render(body[: len(body) * 2 // 3])


def test_exif_behind_the_pixels_of_a_png_is_obeyed() -> None:
    exif = png_chunk(b"eXIf", build_exif(6).removeprefix(b"Exif\0\0"))
    body = build_png(64, 32, depth=8, kind=0, rows=[bytes(64)] * 32)
    rendering = render_whole(body[:-12] + exif + body[-12:], fit=Fit.INSIDE)

    picture = take_only(rendering)
    assert (picture.width, picture.height) == (rendering.source_width, rendering.source_height) == (32, 64)


@pytest.mark.parametrize("image_format", FORMATS)
def test_damaged_file_gives_a_thumbnail_or_a_typed_error(image_format: str) -> None:
    """Whatever a plugin raises on damage is translated; warnings would be errors here."""
    source = random.Random(11)
    body = encode(build_photo(64, 48), image_format)
    for _ in range(60):
        damaged = bytearray(body)
        for _ in range(source.randint(1, 8)):
            damaged[source.randrange(12, len(body))] = source.randrange(256)
        with suppress(DecodeError):
            render(bytes(damaged), EVERY_FORMAT, width=16, height=16)


@pytest.mark.parametrize("image_format", FORMATS)
def test_every_cut_gives_a_typed_error(image_format: str) -> None:
    body = encode(build_photo(64, 48), image_format)
    for length in range(0, len(body) // 2, max(1, len(body) // 60)):
        with pytest.raises(DecodeError):
            render(body[:length], EVERY_FORMAT, width=16, height=16)
