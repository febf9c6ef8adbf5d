"""Each layout of a TIFF comes out in the right grey or colour: scaled and not clipped, and in the right byte order."""

import struct
import zlib
from typing import Any

import pytest
from PIL import Image, ImageCms

from tests.support.images import (
    BLUE,
    EVERY_FORMAT,
    RED,
    build_checkers,
    build_corners,
    build_photo,
    encode,
    open_result,
    render,
)
from tests.support.tiffs import DEFLATE, GREY, RGB, UNCOMPRESSED, build_tiff
from thumbs.domain import OutputFormat
from thumbs.imaging.tiff import FLOAT, SIGNED, Photometric, Tag

SIDE = 32
COUNT = SIDE * SIDE // 2
INVERTED = {Tag.PHOTOMETRIC: Photometric.WHITE_IS_ZERO}

both_orders = pytest.mark.parametrize("order", ["<", ">"])
both_ways = pytest.mark.parametrize("compression", [UNCOMPRESSED, DEFLATE])
"""By Pillow's own decoder and by libtiff, were that for it to choose."""


def build_halves(form: str, upper: float, lower: float, tags: dict[int, Any], *, order: str, compression: int) -> bytes:
    """Build a grey TIFF of one value above and another one below."""
    data = struct.pack(f"{order}{COUNT}{form}", *[upper] * COUNT) + struct.pack(
        f"{order}{COUNT}{form}", *[lower] * COUNT
    )
    packed = zlib.compress(data) if compression == DEFLATE else data
    bits = 8 * struct.calcsize(form)
    own = {**GREY, Tag.BITS: bits, Tag.COMPRESSION: compression, **tags}
    return build_tiff((SIDE, SIDE), [packed], own, order=order)


def see(body: bytes, *places: tuple[int, int]) -> list[tuple[int, ...]]:
    """See the thumbnail's pixels at these places."""
    image = open_result(render(body, EVERY_FORMAT, format=OutputFormat.PNG)).convert("RGBA")
    pixels = [image.getpixel(place) for place in places]
    return [pixel for pixel in pixels if isinstance(pixel, tuple)]


def see_halves(body: bytes) -> tuple[int, int]:
    """See the grey of the upper and of the lower half."""
    upper, lower = see(body, (50, 20), (50, 80))
    return upper[0], lower[0]


@both_orders
@both_ways
@pytest.mark.parametrize(
    ("form", "upper", "lower", "tags", "seen"),
    [
        ("B", 0, 200, {}, (0, 200)),
        ("B", 0, 200, INVERTED, (255, 55)),
        ("H", 0x0100, 0x8080, {}, (1, 128)),
        ("H", 0x0100, 0x8080, INVERTED, (254, 127)),
        ("h", -30_000, 30_000, {Tag.SAMPLE_FORMAT: SIGNED}, (0, 255)),
        ("i", 70_000, -70_000, {Tag.SAMPLE_FORMAT: SIGNED}, (255, 0)),
        ("i", 255, 256, {Tag.SAMPLE_FORMAT: SIGNED}, (0, 255)),
        ("I", 2**32 - 1, 2**31 + 7, {}, (255, 0)),
        ("I", 255, 256, INVERTED, (255, 0)),
        ("f", 0.25, 0.75, {Tag.SAMPLE_FORMAT: FLOAT}, (64, 191)),
        ("f", 0.25, 0.75, INVERTED | {Tag.SAMPLE_FORMAT: FLOAT}, (191, 64)),
        ("f", 250.0, 3_000.0, {Tag.SAMPLE_FORMAT: FLOAT}, (0, 255)),
    ],
)
def test_grey_of_each_kind_is_scaled(
    form: str, upper: float, lower: float, tags: dict[int, Any], seen: tuple[int, int], order: str, compression: int
) -> None:
    """What has a white of its own is scaled to that; measurements are spread from their lowest to their highest."""
    body = build_halves(form, upper, lower, tags, order=order, compression=compression)

    assert see_halves(body) == pytest.approx(seen, abs=1)


def test_grey_of_12_bits_is_scaled() -> None:
    """Pillow leaves 0 to 4095 in 16 bits: nearly black."""
    row = (b"\x80\x08\x00" * (SIDE // 2)) * (SIDE // 2) + (b"\xff\xff\xff" * (SIDE // 2)) * (SIDE // 2)

    assert see_halves(build_tiff((SIDE, SIDE), [row], {**GREY, Tag.BITS: 12})) == pytest.approx((128, 255), abs=1)


def test_value_that_is_no_number_is_black_and_spoils_nothing() -> None:
    """Maps have it where nothing was measured, mostly in the first corner."""
    values = [float("nan")] * COUNT + [300.0] * (COUNT // 2) + [100.0] * (COUNT // 2)
    data = struct.pack(f"<{2 * COUNT}f", *values)
    body = build_tiff((SIDE, SIDE), [data], {**GREY, Tag.BITS: 32, Tag.SAMPLE_FORMAT: FLOAT})

    assert [pixel[0] for pixel in see(body, (50, 20), (50, 62), (50, 90))] == [0, 255, 0]


@pytest.mark.parametrize("value", [0.0, 1e30, -1e-30, float("inf")])
def test_picture_of_one_value_is_a_picture(value: float) -> None:
    body = build_halves("f", value, value, {Tag.SAMPLE_FORMAT: FLOAT}, order="<", compression=UNCOMPRESSED)

    upper, lower = see_halves(body)
    assert upper == lower


@both_orders
@both_ways
@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("bits", [8, 16])
def test_rgb_is_scaled_in_either_order_of_its_planes(bits: int, planes: int, compression: int, order: str) -> None:
    """Read by its own decoder, Pillow takes planes of 16 bits for ones of 8, and shows stripes."""
    form = {8: "B", 16: "H"}[bits]
    colour = [200 * (257 if bits == 16 else 1), 0, 100 * (257 if bits == 16 else 1)]
    count = SIDE * SIDE
    samples = [colour * count] if planes == 1 else [[value] * count for value in colour]
    parts = [struct.pack(f"{order}{len(part)}{form}", *part) for part in samples]
    packed = [zlib.compress(part) for part in parts] if compression == DEFLATE else parts
    tags = {**RGB, Tag.BITS: (bits,) * 3, Tag.PLANES: planes, Tag.COMPRESSION: compression}

    (seen,) = see(build_tiff((SIDE, SIDE), packed, tags, order=order), (50, 50))
    assert seen == pytest.approx((200, 0, 100, 255), abs=1)


@pytest.mark.parametrize(("photometric", "seen"), [(Photometric.WHITE_IS_ZERO, 0), (Photometric.BLACK_IS_ZERO, 255)])
def test_one_bit_means_what_the_file_says(photometric: int, seen: int) -> None:
    body = build_tiff((SIDE, SIDE), [b"\xff" * (SIDE * SIDE // 8)], {**GREY, Tag.BITS: 1, Tag.PHOTOMETRIC: photometric})

    assert see_halves(body) == (seen, seen)


@pytest.mark.parametrize("compression", [None, "group3", "group4", "packbits", "tiff_lzw"])
def test_one_bit_is_averaged(compression: str | None) -> None:
    """Px that are only picked are black or white."""
    upper, lower = see_halves(encode(build_checkers(), "TIFF", compression=compression))

    assert min(upper, lower) > 100
    assert max(upper, lower) < 156


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "jpeg"])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "YCbCr", "RGBA", "LA"])
def test_each_compression_is_decoded(mode: str, compression: str | None) -> None:
    body = encode(build_corners(colours=(RED, BLUE, RED, BLUE)).convert(mode), "TIFF", compression=compression)
    wanted = {
        colour: Image.new("RGB", (1, 1), colour).convert(mode).convert("RGB").getpixel((0, 0)) for colour in (RED, BLUE)
    }

    left, right = see(body, (20, 50), (80, 50))
    assert left[:3] == pytest.approx(wanted[RED], abs=6)
    assert right[:3] == pytest.approx(wanted[BLUE], abs=6)


def test_tiles_are_put_together() -> None:
    """The last ones hang over the edge."""
    tile = {True: bytes(RED) * 256, False: bytes(BLUE) * 256}
    tags = {**RGB, Tag.TILE_WIDTH: 16, Tag.TILE_LENGTH: 16}

    body = build_tiff((40, 40), [tile[place % 3 == 0] for place in range(9)], tags)

    assert see(body, (15, 50), (60, 50), (95, 95)) == [(*RED, 255), (*BLUE, 255), (*BLUE, 255)]


def test_palette_is_converted_before_the_resize() -> None:
    photo = build_photo()
    found = open_result(render(encode(photo.quantize(256), "TIFF"), EVERY_FORMAT, format=OutputFormat.PNG))
    wanted = open_result(render(encode(photo.quantize(256).convert("RGB"), "PNG"), format=OutputFormat.PNG))

    pairs = zip(found.tobytes(), wanted.tobytes(), strict=True)
    assert max(abs(a - b) for a, b in pairs) <= 4


@pytest.mark.parametrize(
    ("extra", "pixel", "seen"),
    [
        (1, (100, 0, 0, 128), (199, 0, 0, 128)),
        (2, (200, 0, 0, 128), (200, 0, 0, 128)),
        (0, (200, 0, 0, 0), (200, 0, 0, 255)),
    ],
    ids=["premultiplied", "not premultiplied", "no alpha"],
)
def test_fourth_sample_is_what_the_file_says(extra: int, pixel: tuple[int, ...], seen: tuple[int, ...]) -> None:
    tags = {**RGB, Tag.BITS: (8,) * 4, Tag.SAMPLES: 4, Tag.EXTRA_SAMPLES: extra}

    (found,) = see(build_tiff((SIDE, SIDE), [bytes(pixel) * SIDE**2], tags), (50, 50))
    assert found == pytest.approx(seen, abs=1)


@pytest.mark.parametrize("extra", [1, 2], ids=["premultiplied", "not premultiplied"])
def test_grey_has_either_alpha(extra: int) -> None:
    grey = 100 if extra == 1 else 200
    tags = {**GREY, Tag.BITS: (8, 8), Tag.SAMPLES: 2, Tag.EXTRA_SAMPLES: extra}

    (found,) = see(build_tiff((SIDE, SIDE), [bytes((grey, 128)) * SIDE**2], tags), (50, 50))
    assert found == pytest.approx((200, 200, 200, 128), abs=2)


@pytest.mark.parametrize("image_format", ["TIFF", "HEIF"])
def test_hidden_colours_do_not_bleed_out(image_format: str) -> None:
    """Green that nobody sees, beside red; without premultiplying, the edge turns dark or green."""
    image = Image.new("RGBA", (300, 300), (0, 255, 0, 0))
    image.paste((*RED, 255), (0, 0, 148, 300))

    options = {} if image_format == "TIFF" else {"quality": -1, "chroma": 444}

    seen = see(encode(image, image_format, **options), *[(across, 50) for across in range(44, 54)])

    assert all(pixel[1] < 40 for pixel in seen if pixel[3] > 40), seen


def test_lab_becomes_rgb() -> None:
    lab = ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(
        Image.new("RGB", (SIDE, SIDE), (180, 90, 60)), ImageCms.createProfile("sRGB"), lab, outputMode="LAB"
    )
    assert image is not None

    (seen,) = see(encode(image, "TIFF"), (50, 50))
    assert seen == pytest.approx((180, 90, 60, 255), abs=3)
