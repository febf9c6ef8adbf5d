"""Which TIFFs are decoded: known layouts in reasonable parts, each of which is counted as often as it is read."""

from typing import Any

import pytest

from tests.support.images import EVERY_FORMAT, build_photo, encode
from tests.support.tiffs import DEFLATE, GREY, JPEG, LZMA, LZW, OLD_JPEG, RGB, Values, build_tiff, write_directory
from thumbs.errors import ImageCorrupt, ImageTooComplex, ImageTooLarge, UnsupportedFormat
from thumbs.imaging.tiff import FLOAT, MAX_ENTRIES, Photometric, Tag
from thumbs.imaging.tiff_parts import MAX_PARTS, SPARE_BYTES, check_tiff

ROWS = {**GREY, Tag.ROWS_PER_STRIP: 1}


def check(size: tuple[int, int], tags: dict[int, Any], parts: tuple[bytes, ...] = (b"x",)) -> None:
    check_tiff(build_tiff(size, parts, tags), EVERY_FORMAT)


def share(count: int, size_bytes: int) -> dict[int, Values]:
    """Let this many strips share the first one's bytes."""
    return {Tag.STRIP_OFFSETS: [8] * count, Tag.STRIP_BYTES: [size_bytes] * count}


@pytest.mark.parametrize("compression", [OLD_JPEG, LZMA, 50000, 50001, 34676, 0, 65535])
def test_compression_that_is_rare_or_much_attacked_is_unsupported(compression: int) -> None:
    with pytest.raises(UnsupportedFormat):
        check((8, 8), {**RGB, Tag.COMPRESSION: compression})


@pytest.mark.parametrize(
    "tags",
    [
        {**RGB, Tag.BITS: (32, 32, 32), Tag.SAMPLE_FORMAT: (FLOAT,) * 3},
        {**RGB, Tag.BITS: (16, 16, 16), Tag.SAMPLE_FORMAT: (FLOAT,) * 3},
        {**GREY, Tag.BITS: 64, Tag.SAMPLE_FORMAT: FLOAT},
        {**GREY, Tag.BITS: 7},
        {**GREY, Tag.PHOTOMETRIC: 32803},
        {**GREY, Tag.PHOTOMETRIC: Photometric.PALETTE, Tag.BITS: 16},
    ],
    ids=["float RGB", "half float RGB", "double", "7 bits", "raw sensor", "large palette"],
)
def test_samples_that_pillow_cannot_read_are_unsupported(tags: dict[int, Any]) -> None:
    """They are no damage, and the caller is told so."""
    with pytest.raises(UnsupportedFormat):
        check((8, 8), tags)


def test_parts_are_counted_up_to_the_limit() -> None:
    count = MAX_PARTS // 2
    check((1, count), {**ROWS, Tag.PLANES: 2, Tag.SAMPLES: 2, **share(2 * count, 1)})
    with pytest.raises(ImageTooComplex):
        check((1, count + 1), {**ROWS, Tag.PLANES: 2, Tag.SAMPLES: 2, **share(2 * count + 2, 1)})


def test_tiles_are_counted_too() -> None:
    with pytest.raises(ImageTooComplex):
        check((1000, 1000), {**GREY, Tag.TILE_WIDTH: 1, Tag.TILE_LENGTH: 16})


def test_entries_are_counted() -> None:
    with pytest.raises(ImageTooComplex):
        check_tiff(write_directory(b"", dict.fromkeys(range(1, MAX_ENTRIES + 2), 1), order="<"), EVERY_FORMAT)


def test_tile_that_is_larger_than_any_picture_is_refused() -> None:
    """Its picture is 1 px, and libtiff takes the memory for the tile."""
    with pytest.raises(ImageTooLarge):
        check((1, 1), {**RGB, Tag.TILE_WIDTH: 20_000, Tag.TILE_LENGTH: 20_000})


def test_rows_of_a_strip_may_be_endless() -> None:
    """2**32 - 1 is the default: all in one."""
    check((8, 8), {**GREY, Tag.ROWS_PER_STRIP: 2**32 - 1})


@pytest.mark.parametrize("tags", [{Tag.ROWS_PER_STRIP: 0}, {Tag.TILE_WIDTH: 0, Tag.TILE_LENGTH: 16}])
def test_part_without_pixels_is_damage(tags: dict[int, Any]) -> None:
    with pytest.raises(ImageCorrupt):
        check((8, 8), {**GREY, **tags})


def test_fewer_places_than_parts_are_damage() -> None:
    with pytest.raises(ImageCorrupt):
        check((8, 8), ROWS)


def test_equal_parts_may_be_stored_once() -> None:
    check((1, 1000), {**ROWS, Tag.COMPRESSION: LZW, **share(1000, 1000)}, (bytes(1000),))


def test_parts_that_share_very_many_bytes_are_refused() -> None:
    """Each is read anew, and may take its time without a single pixel."""
    size_bytes = SPARE_BYTES // 1000
    with pytest.raises(ImageTooComplex):
        check((1, 1002), {**ROWS, Tag.COMPRESSION: DEFLATE, **share(1002, size_bytes)}, (bytes(size_bytes),))


def test_old_files_need_not_say_how_long_uncompressed_strips_are() -> None:
    own: dict[int, Values] = {Tag.WIDTH: 8, Tag.LENGTH: 8, Tag.STRIP_OFFSETS: 8}

    check_tiff(write_directory(bytes(64), own | GREY, order="<"), EVERY_FORMAT)
    with pytest.raises(ImageCorrupt):
        check_tiff(write_directory(bytes(64), own | GREY | {Tag.COMPRESSION: LZW}, order="<"), EVERY_FORMAT)


def test_scans_of_the_jpegs_inside_are_counted_for_each_part() -> None:
    """A strip of a JPEG of 50 scans at 49 MP is the bomb that it is alone; so are 49 tiles of 1 MP that share it."""
    jpeg = encode(build_photo(16, 16).convert("L"), "JPEG")
    scan = jpeg[jpeg.index(b"\xff\xda") : -2]
    body = jpeg[:-2] + scan * 49 + b"\xff\xd9"
    tags = {**GREY, Tag.COMPRESSION: JPEG}
    tiles = {Tag.TILE_WIDTH: 1008, Tag.TILE_LENGTH: 1008, Tag.TILE_OFFSETS: [8] * 49, Tag.TILE_BYTES: [len(body)] * 49}

    check((1008, 1008), tags, (body,))
    with pytest.raises(ImageTooComplex):
        check((7000, 7000), tags, (body,))
    with pytest.raises(ImageTooComplex):
        check((7000, 7000), tags | tiles, (body,))
