"""Our ThumbHash is the format's: byte for byte PyPI's where that works, and readable by it where it does not."""

import random

import pytest
from thumbhash import rgba_to_thumb_hash, thumb_hash_to_average_rgba  # type: ignore[import-untyped]

from thumbs.imaging.placeholder import encode_thumbhash

SIZES = [(16, 16), (16, 11), (9, 16), (16, 1), (1, 16), (2, 3), (100, 67)]


def build_noise(width: int, height: int) -> bytes:
    source = random.Random(width * 1000 + height)
    return b"".join(source.randbytes(3) + b"\xff" for _ in range(width * height))


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_opaque_picture_is_encoded_as_by_the_package(width: int, height: int) -> None:
    rgba = build_noise(width, height)

    assert encode_thumbhash(width, height, rgba) == bytes(rgba_to_thumb_hash(width, height, list(rgba)))


def test_alpha_is_encoded_readably() -> None:
    rgba = (bytes((200, 30, 90, 255)) * 8 + bytes((0, 0, 0, 0)) * 8) * 16

    found = thumb_hash_to_average_rgba(list(encode_thumbhash(16, 16, rgba)))

    assert found == pytest.approx((200 / 255, 30 / 255, 90 / 255, 0.5), abs=0.05)


def test_nothing_visible_is_encoded() -> None:
    assert thumb_hash_to_average_rgba(list(encode_thumbhash(4, 4, bytes(64))))[3] == 0


def test_flat_picture_has_no_noise_in_its_hash() -> None:
    """What is left of a flat channel is rounding, which differs between Python versions."""
    placeholder = encode_thumbhash(16, 16, bytes((200, 30, 90, 255)) * 256)

    assert set(placeholder[5:-1]) == {0x88}
