"""The work that a HEIF asks for is added up from its boxes, for shared tiles as often as they are decoded."""

from dataclasses import replace

import pytest

from tests.support.heifs import Item, build_box, build_grid, build_heif, encode_hevc
from tests.support.images import EVERY_FORMAT, build_photo, encode
from thumbs.errors import ImageCorrupt, ImageTooComplex, ImageTooLarge
from thumbs.imaging.heif_boxes import MAX_BOXES, SPARE_BYTES, check_heif, read_items

CODED = encode_hevc()
TILE = Item(b"hvc1", CODED.data)
LARGE_TILE = Item(b"hvc1", CODED.data, (4096, 4096))
LIMITS = replace(EVERY_FORMAT, max_pixels=50_000_000)


def check(*items: Item, shared: bool = False) -> None:
    check_heif(build_heif(items, configuration=CODED.configuration, shared=shared), LIMITS)


def test_items_of_an_encoders_file_are_read() -> None:
    items = read_items(encode(build_photo(640, 480).convert("RGBA"), "HEIF"))

    assert items.sizes[items.primary] == (640, 480)
    assert len(items.auxiliaries) == 1


def test_grid_has_its_tiles_in_order() -> None:
    body = build_heif([build_grid(2, 1, (128, 64), [3, 2]), TILE, TILE], configuration=CODED.configuration)

    assert read_items(body).parts == {1: [3, 2]}


def test_picture_and_grid_of_the_size_that_is_allowed_are_let_through() -> None:
    check(Item(b"hvc1", CODED.data, (7000, 7000)))
    check(build_grid(2, 2, (7000, 7000), [2, 3, 4, 5]), *[LARGE_TILE] * 4)


def test_picture_that_is_too_large_is_told_as_that() -> None:
    with pytest.raises(ImageTooLarge):
        check(Item(b"hvc1", CODED.data, (30_000, 30_000)))


def test_tile_counts_as_often_as_it_is_decoded() -> None:
    """11 kB took 15 s."""
    with pytest.raises(ImageTooComplex):
        check(build_grid(16, 16, (7000, 7000), [2] * 256), LARGE_TILE)


def test_alpha_counts_too() -> None:
    large_alpha = Item(b"hvc1", b"", (30_000, 30_000), [1], b"auxl")

    check(TILE, replace(large_alpha, size=(7000, 7000)))
    with pytest.raises(ImageTooComplex):
        check(TILE, large_alpha)


def test_parts_that_are_told_in_two_boxes_add_up() -> None:
    """Which of them libheif takes is nothing to rely on."""
    body = build_heif([build_grid(16, 16, (7000, 7000), [2] * 256), LARGE_TILE], configuration=CODED.configuration)
    start, meta = body.index(b"iref") - 4, body.index(b"meta") - 4
    end = start + int.from_bytes(body[start : start + 4])
    second = build_box(b"dimg", b"\0\1\0\1\0\2")
    longer = int.from_bytes(body[meta : meta + 4]) + len(second)
    twice = body[:start] + build_box(b"iref", body[start + 8 : end], second) + body[end:]

    with pytest.raises(ImageTooComplex):
        check_heif(twice[:meta] + longer.to_bytes(4) + twice[meta + 4 :], LIMITS)


def test_grids_of_grids_multiply() -> None:
    with pytest.raises(ImageTooComplex):
        check(build_grid(20, 20, (7000, 7000), [2] * 400), build_grid(20, 20, (7000, 7000), [3] * 400), TILE, TILE)


def test_grid_of_itself_ends() -> None:
    with pytest.raises(ImageTooComplex):
        check(build_grid(2, 2, (128, 128), [1] * 4), TILE)


def test_items_that_share_very_many_bytes_are_refused() -> None:
    """libheif copies each: 10 MB of EXIF for 900 items took all the memory."""
    exif = Item(b"Exif", bytes(SPARE_BYTES // 8), refers_to=[1], reference=b"cdsc")

    check(TILE, *[exif] * 8, shared=True)
    with pytest.raises(ImageTooComplex):
        check(TILE, *[exif] * 10, shared=True)


@pytest.mark.parametrize("name", [b"meta", b"iprp", b"ipco", b"ipma", b"iloc", b"pitm"])
def test_box_that_is_missing_is_damage(name: bytes) -> None:
    body = build_heif([TILE], configuration=CODED.configuration)

    with pytest.raises(ImageCorrupt):
        check_heif(body.replace(name, b"free"), LIMITS)


def test_second_box_of_the_same_name_is_damage() -> None:
    """Which of them libheif takes is nothing to rely on."""
    with pytest.raises(ImageCorrupt):
        check_heif(build_heif([TILE], configuration=CODED.configuration) + build_box(b"meta", bytes(4)), LIMITS)


def test_box_that_ends_before_it_begins_is_damage() -> None:
    with pytest.raises(ImageCorrupt):
        check_heif(b"\0\0\0\4free" + build_heif([TILE], configuration=CODED.configuration), LIMITS)


def test_boxes_are_counted() -> None:
    with pytest.raises(ImageTooComplex):
        check_heif(build_box(b"free") * (MAX_BOXES + 1), LIMITS)


def test_longest_boxes_are_read() -> None:
    """A size of 0 goes on to the end, one of 1 has 64 bits."""
    body = build_heif([TILE], configuration=CODED.configuration)
    start = body.index(b"mdat") - 4

    check_heif(body[:start] + bytes(4) + body[start + 4 :], LIMITS)
    check_heif(body[:start] + b"\0\0\0\1mdat" + (16 + len(CODED.data)).to_bytes(8) + CODED.data, LIMITS)


def test_table_that_no_file_needs_is_refused() -> None:
    with pytest.raises(ImageTooComplex):
        check(build_grid(256, 256, (7000, 7000), [2] * 65_000), *[replace(TILE, refers_to=[1] * 65_000)] * 2)
