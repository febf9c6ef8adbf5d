"""Colours come out as a colour-managed display would show them, and without the profile that said so."""

from io import BytesIO

import pytest
from PIL import Image, ImageCms

from tests.imaging.fidelity import MIN_FIDELITY_DB, measure_fidelity_db
from tests.support.images import (
    EVERY_FORMAT,
    RED,
    SRGB_PRIMARIES,
    build_checkers,
    build_cmyk_profile,
    build_grey_profile,
    build_photo,
    build_rgb_profile,
    encode,
    open_result,
    render,
)
from thumbs.domain import OutputFormat
from thumbs.imaging.colour import MAX_PROFILE_BYTES

SWAPPED = build_rgb_profile(SRGB_PRIMARIES[::-1])
"""A profile in which red is blue: what ignores it gives red."""

PINK = (128, 255, 128)
"""In Lab, scaled to bytes: (255, 0, 126) in sRGB."""


def get_colour(body: bytes) -> tuple[int, ...]:
    pixel = open_result(render(body, EVERY_FORMAT, format=OutputFormat.PNG)).convert("RGBA").getpixel((50, 50))
    assert isinstance(pixel, tuple)
    return pixel


def check_near(found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    assert all(abs(a - b) <= 4 for a, b in zip(found, wanted, strict=True)), found


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "HEIF"])
def test_profile_is_converted_to_srgb(image_format: str) -> None:
    body = encode(Image.new("RGB", (200, 200), RED), image_format, icc_profile=SWAPPED)

    check_near(get_colour(body), (0, 0, 254, 255))


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "HEIF"])
def test_profile_is_converted_under_alpha(image_format: str) -> None:
    body = encode(Image.new("RGBA", (200, 200), (*RED, 128)), image_format, icc_profile=SWAPPED)

    check_near(get_colour(body), (0, 0, 254, 128))


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_profile_is_converted_for_palettes(image_format: str) -> None:
    body = encode(Image.new("RGB", (200, 200), RED).quantize(2), image_format, icc_profile=SWAPPED)

    check_near(get_colour(body), (0, 0, 254, 255))


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_grey_profile_is_converted(mode: str, image_format: str) -> None:
    """Linear light of one half is 188 in sRGB."""
    value = {"L": 128, "LA": (128, 255), "I;16": 128 * 257}[mode]
    body = encode(Image.new(mode, (200, 200), value), image_format, icc_profile=build_grey_profile(1.0))  # type: ignore[arg-type]

    check_near(get_colour(body), (188, 188, 188, 255))


def test_rgb_profile_of_a_grey_picture_is_converted() -> None:
    body = encode(Image.new("L", (200, 200), 128), "JPEG", icc_profile=build_rgb_profile(gamma=1.0))

    check_near(get_colour(body), (188, 188, 188, 255))


@pytest.mark.parametrize("image_format", ["JPEG", "TIFF"])
def test_cmyk_without_profile_is_not_inverted(image_format: str) -> None:
    """Adobe writes CMYK JPEGs inverted, and so does Pillow: full cyan must not become red."""
    body = encode(Image.new("CMYK", (200, 200), (255, 0, 0, 0)), image_format)

    check_near(get_colour(body), (0, 255, 255, 255))


@pytest.mark.parametrize("image_format", ["JPEG", "TIFF"])
def test_cmyk_profile_is_converted(image_format: str) -> None:
    body = encode(Image.new("CMYK", (200, 200), (255, 0, 0, 0)), image_format, icc_profile=build_cmyk_profile(PINK))

    check_near(get_colour(body), (255, 0, 126, 255))


LINEAR_LIGHT = {"L": build_grey_profile(1.0), "RGB": build_rgb_profile(gamma=1.0)}


@pytest.mark.parametrize("mode", LINEAR_LIGHT)
def test_colours_are_converted_before_lanczos_averages_them(mode: str) -> None:
    """Converted afterwards, what is between light and dark squares comes out too light: 25 dB."""
    squares = build_checkers(64).convert(mode).resize((448, 448), Image.Resampling.NEAREST)
    squares = squares.point(lambda level: 40 + level // 2)
    profile = LINEAR_LIGHT[mode]

    source, srgb = ImageCms.ImageCmsProfile(BytesIO(profile)), ImageCms.createProfile("sRGB")
    whole = ImageCms.profileToProfile(squares, source, srgb, outputMode="RGB")
    assert measure_fidelity_db(encode(squares, "PNG", icc_profile=profile), whole=whole) > MIN_FIDELITY_DB


def test_profile_of_srgb_changes_nothing() -> None:
    """It is what most pictures bring along."""
    image = build_photo()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

    tagged, plain = (render(encode(image, "PNG", **options)).body for options in ({"icc_profile": srgb}, {}))

    assert tagged == plain


IGNORED = {
    "broken": b"this is not a profile",
    "cut short": SWAPPED[:200],
    "for other colours": build_cmyk_profile(PINK),
    "too large": SWAPPED + bytes(MAX_PROFILE_BYTES),
}


@pytest.mark.parametrize("profile", IGNORED.values(), ids=IGNORED.keys())
def test_profile_that_cannot_be_used_is_ignored(profile: bytes) -> None:
    body = encode(Image.new("RGB", (200, 200), RED), "WEBP", icc_profile=profile, lossless=True)

    check_near(get_colour(body), (*RED, 255))
