"""Lossy WebP is decoded small by libwebp, as faithfully as matters; all else, and all that is damaged, by Pillow."""

from contextlib import suppress
from io import BytesIO

import pytest
from PIL import Image

from tests.imaging.fidelity import MIN_FIDELITY_DB, build_signs, measure_fidelity_db
from tests.support.corpus import CORPUS, needs_corpus
from tests.support.images import (
    RED,
    build_exif,
    build_rgb_profile,
    encode,
    open_result,
    render,
    render_whole,
    take_only,
)
from thumbs.domain import Fit, OutputFormat, ThumbnailSpec
from thumbs.errors import DecodeError
from thumbs.imaging.geometry import make_plan
from thumbs.imaging.webp import decode_smaller

SIGNS = build_signs()
LOSSY = encode(SIGNS, "WEBP", quality=75)


def decode(body: bytes, size: tuple[int, int] = SIGNS.size, side: int = 100) -> Image.Image | None:
    spec = ThumbnailSpec(width=side, height=side)
    return decode_smaller(body, size, make_plan(size, spec, is_turned=False, is_scalable=False))


def test_lossy_picture_is_decoded_at_twice_the_size() -> None:
    """This fails where the libwebp of Pillow's wheel is not found, or understands other structures than ours."""
    found = decode(LOSSY)

    assert found
    assert found.size == (260, 200)


@pytest.mark.parametrize("side", [25, 60, 100, 200, 330])
@pytest.mark.parametrize("quality", [40, 75, 95])
def test_small_decode_is_faithful_to_the_full_one(quality: int, side: int) -> None:
    assert measure_fidelity_db(encode(SIGNS, "WEBP", quality=quality), side) > MIN_FIDELITY_DB


@pytest.mark.parametrize("fit", list(Fit))
@pytest.mark.parametrize("size", [(1301, 240), (240, 1301), (999, 998)])
def test_small_decode_shows_the_same_part_in_every_fit(fit: Fit, size: tuple[int, int]) -> None:
    """As from a PNG of the same pixels, within a few levels."""
    lossy = encode(build_signs(*size), "WEBP", quality=90)
    bodies = [lossy, encode(Image.open(BytesIO(lossy)), "PNG")]

    found, wanted = (
        open_result(render(body, width=60, height=40, fit=fit, format=OutputFormat.PNG)).convert("RGB").tobytes()
        for body in bodies
    )

    assert len(found) == len(wanted)
    assert sum(abs(a - b) for a, b in zip(found, wanted, strict=True)) / len(wanted) < 3


FOR_PILLOW = {
    "lossless": encode(SIGNS, "WEBP", lossless=True),
    "alpha": encode(Image.merge("RGBA", (*SIGNS.split(), SIGNS.getchannel("R"))), "WEBP"),
    "animation": encode(SIGNS, "WEBP", save_all=True, append_images=[SIGNS.rotate(180)]),
    "cut off": LOSSY[: len(LOSSY) // 2],
    "no picture": LOSSY[:20] + bytes(len(LOSSY) - 20),
    "nothing": b"",
}


@pytest.mark.parametrize("body", FOR_PILLOW.values(), ids=FOR_PILLOW.keys())
def test_what_is_not_one_sound_opaque_lossy_picture_is_for_pillow(body: bytes) -> None:
    assert decode(body) is None


def test_picture_of_another_size_than_pillow_read_is_for_pillow() -> None:
    assert decode(LOSSY, (SIGNS.width, SIGNS.height - 1)) is None


def test_picture_that_hardly_shrinks_is_for_pillow() -> None:
    assert decode(LOSSY, side=400) is None


def test_hidden_colours_of_a_webp_do_not_bleed_into_the_edge() -> None:
    image = Image.new("RGBA", (1200, 1200), (0, 0, 0, 0))
    image.paste((*RED, 255), (0, 0, 599, 1200))

    small = open_result(render(encode(image, "WEBP", exact=True, quality=100), format=OutputFormat.PNG)).convert("RGBA")

    edge = [small.getpixel((x, 50)) for x in range(100)]
    assert all(isinstance(px, tuple) and (px[3] <= 8 or (px[0] > 225 and px[1] < 32)) for px in edge)


def test_profile_and_orientation_come_from_the_container() -> None:
    swapped = build_rgb_profile(((0.1431, 0.0606, 0.7141), (0.3851, 0.7169, 0.0971), (0.4361, 0.2225, 0.0139)))
    body = encode(Image.new("RGB", (900, 600), RED), "WEBP", exif=build_exif(6), icc_profile=swapped)

    rendering = render_whole(body, width=20, height=30)

    assert decode(body, (900, 600))
    assert (rendering.source_width, rendering.source_height) == (600, 900)
    assert open_result(take_only(rendering)).convert("RGB").getpixel((9, 9)) == pytest.approx((0, 0, 254), abs=6)


def test_damaged_webp_gives_a_thumbnail_or_a_typed_error() -> None:
    for place in range(12, len(LOSSY), len(LOSSY) // 97):
        damaged = LOSSY[:place] + bytes([LOSSY[place] ^ 0x5A]) + LOSSY[place + 1 :]
        with suppress(DecodeError):
            render(damaged, width=16, height=16)


@needs_corpus
@pytest.mark.parametrize("name", ["w02_lossy.webp", "w06_lossy.webp", "w02_lossless.webp", "w02_alpha.webp"])
def test_webp_of_the_corpus_is_faithful(name: str) -> None:
    assert measure_fidelity_db((CORPUS / "photos" / name).read_bytes()) > MIN_FIDELITY_DB
