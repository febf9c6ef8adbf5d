"""HEIF comes out as its boxes say: turned exactly once, with its alpha, the primary picture, and from 10 bits."""

from collections.abc import Sequence

import pytest
from PIL import Image

from tests.imaging.test_orient import check_corners
from tests.support.heifs import Item, build_box, build_grid, build_heif, encode_hevc
from tests.support.images import (
    BLUE,
    EVERY_FORMAT,
    GREEN,
    RED,
    build_corners,
    build_exif,
    encode,
    open_result,
    render,
    render_whole,
    take_only,
)
from thumbs.domain import OutputFormat
from thumbs.imaging import load_decoders


def see(body: bytes, place: tuple[int, int] = (50, 50)) -> tuple[int, ...]:
    pixel = open_result(render(body, EVERY_FORMAT, format=OutputFormat.PNG)).convert("RGBA").getpixel(place)
    assert isinstance(pixel, tuple)
    return pixel


def build_file(colours: Sequence[tuple[int, int, int]], *front: Item, extra: bytes = b"") -> bytes:
    """Build a file of pictures of 64 x 64 px, behind the items in front."""
    coded = [encode_hevc(colour=colour) for colour in colours]
    items = [*front, *(Item(b"hvc1", each.data, extra=extra) for each in coded)]
    return build_heif(items, configuration=coded[0].configuration)


def test_loading_twice_changes_nothing() -> None:
    load_decoders({"heif"})
    load_decoders({"heif"})

    assert see(build_file([RED])) == pytest.approx((254, 0, 0, 255), abs=3)


def test_exif_does_not_turn_what_the_boxes_have_turned() -> None:
    """Telephones write both; the boxes count (ISO 23008-12 section 6.5.10), and who obeys both turns it twice."""
    body = encode(build_corners(480, 320).transpose(Image.Transpose.ROTATE_90), "HEIF", exif=build_exif(6))

    rendering = render_whole(body, EVERY_FORMAT)

    check_corners(open_result(take_only(rendering)))
    assert (rendering.source_width, rendering.source_height) == (480, 320)


def test_exif_does_not_turn_what_the_boxes_leave() -> None:
    body = encode(build_corners(320, 480), "HEIF", exif=build_exif(6)).replace(b"irot", b"free")

    rendering = render_whole(body, EVERY_FORMAT)

    check_corners(open_result(take_only(rendering)))
    assert (rendering.source_width, rendering.source_height) == (320, 480)


def test_picture_that_only_the_boxes_turn_is_turned() -> None:
    """By a quarter, against the clock: what was on the right is on top."""
    corners = build_corners(128, 128)
    quarters = [corners.getpixel(place) for place in ((0, 0), (127, 0), (0, 127), (127, 127))]
    coded = [encode_hevc(colour=colour) for colour in quarters if isinstance(colour, tuple)]
    grid = build_grid(2, 2, (128, 128), [2, 3, 4, 5])
    turned = Item(grid.kind, grid.data, grid.size, grid.refers_to, extra=build_box(b"irot", b"\1"))
    items = [turned, *(Item(b"hvc1", each.data) for each in coded)]

    image = open_result(render(build_heif(items, configuration=coded[0].configuration), EVERY_FORMAT))

    check_corners(image.transpose(Image.Transpose.ROTATE_270))


@pytest.mark.parametrize("major", [b"mif1", b"miaf", b"heix"])
def test_first_brand_does_not_matter(major: bytes) -> None:
    """pillow-heif looks at that alone."""
    body = build_file([RED])

    assert see(body[:8] + major + body[12:]) == pytest.approx((254, 0, 0, 255), abs=3)


def test_primary_picture_of_several_is_taken() -> None:
    assert see(build_file([GREEN, RED, BLUE]))[1] > 240


def test_tiles_of_a_grid_are_put_together() -> None:
    body = build_file([RED, GREEN, BLUE, RED], build_grid(2, 2, (128, 128), [2, 3, 4, 5]))

    assert see(body, (20, 20))[0] > 240
    assert see(body, (80, 20))[1] > 240
    assert see(body, (20, 80))[2] > 240


def test_size_is_that_after_the_crop() -> None:
    """Small pictures are coded as a whole block."""
    rendering = render_whole(encode(Image.new("RGB", (40, 25), RED), "HEIF"), EVERY_FORMAT)

    assert (rendering.source_width, rendering.source_height) == (40, 25)
    assert rendering.source_content_type == "image/heif"


def test_alpha_is_kept() -> None:
    assert see(encode(Image.new("RGBA", (200, 200), (*RED, 128)), "HEIF")) == pytest.approx((254, 0, 0, 128), abs=3)


def test_alpha_becomes_the_background_in_jpeg() -> None:
    body = encode(Image.new("RGBA", (200, 200), (*RED, 0)), "HEIF")

    assert render(body, EVERY_FORMAT, format=OutputFormat.JPEG).dominant_color == "#ffffff"


def test_grey_of_more_than_8_bits_is_scaled() -> None:
    body = encode(Image.new("I;16", (200, 200), 128 * 257), "HEIF")

    assert see(body)[:3] == pytest.approx((128, 128, 128), abs=2)
