"""A TIFF's first directory is read as it stands, and what Pillow gets to see has only what decoding needs."""

from io import BytesIO

import pytest
from PIL import Image

from tests.support.images import EVERY_FORMAT, RED, build_exif, encode, open_result, render, render_whole, take_only
from tests.support.tiffs import EXIF, GREY, ORIENTATION, RGB, XMP, Values, build_tiff, write_directory
from thumbs.domain import Fit, OutputFormat
from thumbs.errors import ImageCorrupt
from thumbs.imaging.tiff import MAX_ENTRIES, Tag, read_directory, trim_tiff

SIZE = (64, 32)
PIXELS = bytes(RED) * (64 * 32)
ORDERS = ["<", ">"]


@pytest.mark.parametrize("order", ORDERS)
def test_numbers_are_read_in_both_byte_orders(order: str) -> None:
    directory = read_directory(build_tiff(SIZE, [PIXELS], RGB, order=order))

    assert directory.size == SIZE
    assert directory.get_numbers(Tag.BITS, 3) == (8, 8, 8)


def test_tag_that_is_missing_has_its_default_or_is_damage() -> None:
    directory = read_directory(write_directory(b"", {Tag.WIDTH: 1}, order="<"))

    assert directory.get_number(Tag.COMPRESSION) == 1
    with pytest.raises(ImageCorrupt):
        directory.get_number(Tag.LENGTH)


def test_number_that_is_none_is_damage() -> None:
    directory = read_directory(write_directory(b"", {Tag.WIDTH: b"wide"}, order="<"))

    with pytest.raises(ImageCorrupt):
        directory.get_number(Tag.WIDTH)


def test_first_of_two_entries_counts() -> None:
    """For Pillow, too; libtiff would take the other one."""
    body = write_directory(b"", {Tag.WIDTH: 1, Tag.LENGTH: 2}, order="<")
    twice = body.replace(bytes((1, 1, 3, 0)), bytes((0, 1, 3, 0)))

    assert read_directory(twice).get_number(Tag.WIDTH) == 1


def test_reading_ends_soon_after_enough_entries() -> None:
    body = write_directory(b"", dict.fromkeys(range(1, 3 * MAX_ENTRIES), 1), order="<")

    assert len(read_directory(body).entries) == MAX_ENTRIES + 1


@pytest.mark.parametrize("order", ORDERS)
def test_trimmed_tiff_has_one_page_and_nothing_but_pixels(order: str) -> None:
    """A next page, here itself, is an endless walk; EXIF and XMP would be read, and obeyed, by Pillow."""
    extra: dict[int, Values] = {ORIENTATION: 6, XMP: b"<x tiff:Orientation='3'/>", EXIF: 8, 330: 8, 305: b"secret"}
    body = build_tiff(SIZE, [PIXELS], {**RGB, **extra}, order=order, next_directory=8 + len(PIXELS))

    image = Image.open(BytesIO(trim_tiff(body)))

    assert set(image.tag_v2) <= set(Tag)  # type: ignore[attr-defined]
    assert image.size == SIZE
    assert image.n_frames == 1  # type: ignore[attr-defined]


def test_trimmed_tiff_is_in_strips_or_in_tiles() -> None:
    """Of a file that says both, the other ones were not looked at."""
    both = build_tiff((16, 16), [bytes(256)], {**GREY, Tag.TILE_WIDTH: 16, Tag.TILE_LENGTH: 16, Tag.STRIP_OFFSETS: 8})

    assert Tag.STRIP_OFFSETS not in read_directory(trim_tiff(both)).entries


@pytest.mark.parametrize("orientation", range(1, 9))
def test_size_is_told_as_displayed(orientation: int) -> None:
    """Pillow changes the sides while it opens, and turns the pixels while it loads: once would be twice."""
    rendering = render_whole(build_tiff(SIZE, [PIXELS], {**RGB, ORIENTATION: orientation}), EVERY_FORMAT)

    turned = orientation >= 5
    assert (rendering.source_width, rendering.source_height) == ((32, 64) if turned else (64, 32))


def test_orientation_in_xmp_is_not_obeyed() -> None:
    """Pillow obeys it, browsers do not."""
    packet = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'

    rendering = render_whole(build_tiff(SIZE, [PIXELS], {**RGB, XMP: packet}), EVERY_FORMAT, fit=Fit.INSIDE)

    picture = take_only(rendering)
    assert (rendering.source_width, rendering.source_height) == (picture.width, picture.height) == SIZE


def test_orientation_of_the_exif_inside_is_not_obeyed() -> None:
    """It is the directory's own tag that counts; EXIF inside a TIFF holds the camera's settings."""
    block = build_exif(6).removeprefix(b"Exif\0\0")[8:]
    body = build_tiff(SIZE, [PIXELS + block], {**RGB, EXIF: 8 + len(PIXELS)})

    assert render_whole(body, EVERY_FORMAT).source_width == 64


def test_pages_after_the_first_are_not_looked_at() -> None:
    """Even where there are none: the next directory is beyond the end."""
    body = build_tiff(SIZE, [PIXELS], RGB, next_directory=0xFFFFFFF0)

    assert render(body, EVERY_FORMAT).dominant_color.startswith("#f")


def test_camera_data_does_not_reach_the_thumbnail() -> None:
    body = build_tiff(SIZE, [PIXELS], {**RGB, 305: b"secret program", 270: b"secret place", XMP: b"secret xmp"})

    picture = render(body, EVERY_FORMAT, format=OutputFormat.PNG)

    assert b"secret" not in picture.body
    assert not open_result(picture).info.get("exif")


def test_pillows_own_tiffs_survive_trimming() -> None:
    body = encode(Image.new("RGB", SIZE, RED), "TIFF", compression="tiff_lzw")

    assert Image.open(BytesIO(trim_tiff(body))).convert("RGB").getpixel((3, 3)) == RED
