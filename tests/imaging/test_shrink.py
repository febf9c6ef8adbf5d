"""Every mode is averaged as light would be: none is picked, clipped, or bled into by hidden colours."""

import random

import pytest
from PIL import Image

from tests.imaging.fidelity import measure_fidelity_db
from tests.support.images import (
    BLUE,
    RED,
    build_checkers,
    build_photo,
    build_png,
    encode,
    open_result,
    png_chunk,
    render,
)
from thumbs.domain import Fit, OutputFormat, ThumbnailSpec
from thumbs.imaging.geometry import make_plan
from thumbs.imaging.shrink import average, shrink

MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "I;16", "I", "F"]


def get_pixel(image: Image.Image, x: int, y: int) -> tuple[int, ...]:
    pixel = image.getpixel((x, y))
    assert isinstance(pixel, tuple)
    return pixel


def render_rgba(body: bytes) -> Image.Image:
    return open_result(render(body, format=OutputFormat.PNG)).convert("RGBA")


def is_near(found: tuple[int, ...], wanted: tuple[int, ...], tolerance: int = 4) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(found, wanted, strict=True))


WAYS = {"La": "LA", "RGBa": "RGBA", "PA": "P", "I;16": "I", "F": "L"}
"""Through which mode Pillow gets to those that it does not convert to from everywhere."""


def build_mode(mode: str) -> Image.Image:
    way = WAYS.get(mode, "RGB")
    return build_photo(333, 222).convert("L" if way in ("I", "LA") else "RGB").convert(way).convert(mode)


@pytest.mark.parametrize("mode", MODES)
def test_shrink_takes_every_mode(mode: str) -> None:
    image = build_mode(mode)
    plan = make_plan(image.size, ThumbnailSpec(), is_turned=False, is_scalable=False)

    part = average(image, plan)

    assert part.image.mode in ("L", "RGB", "CMYK", "La", "RGBa", "F")
    if part.image.mode != "CMYK":  # Those are RGB by then.
        assert shrink(part, plan.size).size == (100, 100)


def test_one_bit_pixels_are_averaged() -> None:
    """Resized as they are, they would be picked: black or white instead of grey."""
    grey = render_rgba(encode(build_checkers(), "PNG"))

    assert is_near(get_pixel(grey, 50, 50)[:3], (128, 128, 128))


def test_palette_pixels_are_averaged() -> None:
    palette = build_checkers().convert("RGB").quantize(2)

    for image_format in ("PNG", "GIF", "BMP"):
        assert is_near(get_pixel(render_rgba(encode(palette, image_format)), 50, 50)[:3], (128, 128, 128))


@pytest.mark.parametrize(("value", "grey"), [(0, 0), (1000, 4), (32_768, 128), (64_000, 249), (65_535, 255)])
def test_sixteen_bit_grey_is_scaled_not_clipped(value: int, grey: int) -> None:
    body = encode(Image.new("I;16", (200, 200), value), "PNG")

    assert is_near(get_pixel(render_rgba(body), 50, 50)[:3], (grey,) * 3, tolerance=1)


def test_sixteen_bit_colour_is_scaled() -> None:
    row = (0x8000).to_bytes(2) + (0x4000).to_bytes(2) + (0xFFFF).to_bytes(2)
    body = build_png(64, 64, depth=16, kind=2, rows=[row * 64] * 64)

    assert is_near(get_pixel(render_rgba(body), 50, 50)[:3], (128, 64, 255), tolerance=1)


def test_sixteen_bits_are_kept_until_after_the_average() -> None:
    """Px just below and just above the middle of two levels: rounded first, their mean would be half a level higher."""
    row = (100 * 257 + 120).to_bytes(2) + (100 * 257 + 130).to_bytes(2)
    body = build_png(400, 400, depth=16, kind=0, rows=[row * 200] * 400)

    assert get_pixel(render_rgba(body), 50, 50)[0] == 100


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
@pytest.mark.parametrize("side", [2, 4, 16, 50])
def test_tiny_picture_is_enlarged_without_clipping_halfway(side: int, mode: str) -> None:
    """Edges ring beyond black and white between Lanczos's two passes; rounded to bytes there, they are at 36 dB."""
    dots = random.Random(side).choices(b"\x00\xff", k=side * side)
    image = Image.frombytes("L", (side, side), bytes(dots)).convert("RGB").convert(mode)

    assert measure_fidelity_db(encode(image, "PNG")) > 55


def test_hidden_colours_do_not_bleed_into_the_edge() -> None:
    """Not premultiplied, the black behind the transparent half would make a dark fringe."""
    image = Image.new("RGBA", (400, 400), (0, 0, 0, 0))
    image.paste((*RED, 255), (0, 0, 199, 400))

    small = render_rgba(encode(image, "PNG"))

    edge = [get_pixel(small, x, 50) for x in range(100)]
    assert any(0 < pixel[3] < 255 for pixel in edge)
    assert all(is_near(pixel[:3], RED) for pixel in edge if pixel[3] > 8)


def test_grey_with_alpha_is_premultiplied_too() -> None:
    image = Image.new("LA", (400, 400), (0, 0))
    image.paste((255, 255), (0, 0, 199, 400))

    small = render_rgba(encode(image, "PNG"))

    assert all(get_pixel(small, x, 50)[0] > 250 for x in range(100) if get_pixel(small, x, 50)[3] > 8)


def test_transparent_palette_entry_stays_transparent() -> None:
    image = Image.new("P", (200, 200), 0)
    image.putpalette([*RED, *BLUE])
    image.paste(1, (100, 0, 200, 200))

    for image_format in ("PNG", "GIF"):
        small = render_rgba(encode(image, image_format, transparency=1))
        assert get_pixel(small, 20, 50) == (*RED, 255)
        assert get_pixel(small, 80, 50)[3] == 0


TRANSPARENT_COLOURS = {
    "1-bit grey": (1, 0, b"\x0f", b"\0\1"),
    "2-bit grey": (2, 0, b"\x00\xff", b"\0\3"),
    "4-bit grey": (4, 0, b"\x00\x00\xff\xff", b"\0\x0f"),
    "8-bit grey": (8, 0, b"\0" * 4 + b"\xff" * 4, b"\0\xff"),
    "16-bit grey": (16, 0, b"\0\0" * 4 + b"\xff\xff" * 4, b"\xff\xff"),
    "8-bit colour": (8, 2, b"\0" * 12 + b"\xff" * 12, b"\0\xff" * 3),
    "16-bit colour": (16, 2, b"\0" * 24 + b"\xff" * 24, b"\xff" * 6),
}


@pytest.mark.parametrize(
    ("depth", "kind", "row", "colour"), TRANSPARENT_COLOURS.values(), ids=TRANSPARENT_COLOURS.keys()
)
def test_transparent_colour_of_a_png_is_found_at_every_depth(depth: int, kind: int, row: bytes, colour: bytes) -> None:
    """Pillow scales the pixels to 8 bits, but not the colour that is to be transparent."""
    body = build_png(8, 8, depth=depth, kind=kind, rows=[row] * 8, extra=png_chunk(b"tRNS", colour))

    small = render_rgba(body)

    assert get_pixel(small, 10, 50) == (0, 0, 0, 255)
    assert get_pixel(small, 90, 50)[3] == 0


def test_transparent_colour_of_another_mode_is_dropped() -> None:
    """A PNG with two headers: the colour comes with the first one, the palette with the second."""
    body = build_png(8, 8, depth=8, kind=3, rows=[bytes(8)] * 8, extra=png_chunk(b"PLTE", bytes(RED)))
    head = build_png(8, 8, depth=8, kind=2, rows=[], extra=png_chunk(b"tRNS", bytes(6)))
    both = head[: head.index(b"IDAT") - 4] + body[8:]

    assert get_pixel(render_rgba(both), 50, 50) == (*RED, 255)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA"])
@pytest.mark.parametrize("size", [(1000, 333), (333, 1000), (101, 99), (3, 2000), (1, 1)])
@pytest.mark.parametrize("fit", list(Fit))
def test_banded_shrink_is_that_of_one_resize(mode: str, size: tuple[int, int], fit: Fit) -> None:
    """The bands are for memory; what comes out is within a few levels of converting all of it at once."""
    image = build_photo(*size).convert(mode)
    spec = ThumbnailSpec(width=60, height=40, fit=fit)
    plan = make_plan(size, spec, is_turned=False, is_scalable=False)

    small = shrink(average(image, plan), plan.size).convert("RGB")

    wanted = image.convert("RGB").resize(plan.size, Image.Resampling.LANCZOS, box=plan.box)
    pairs = zip(small.tobytes(), wanted.tobytes(), strict=True)
    assert sum(abs(a - b) for a, b in pairs) / len(wanted.tobytes()) < 2
