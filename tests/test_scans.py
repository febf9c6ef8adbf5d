"""A progressive JPEG has arrived far enough when the decoder would select the same scans from it as from all of it."""

import pytest

from tests.imaging.fidelity import build_signs
from tests.support.images import encode
from thumbs.domain import ThumbnailSpec
from thumbs.imaging.geometry import make_plan
from thumbs.imaging.progressive import select_scans
from thumbs.imaging.sniff import JPEG
from thumbs.imaging.structure import measure
from thumbs.scans import ScanWatch, Size

SIGNS = build_signs()
END = b"\xff\xd9"


def encode_signs(subsampling: int = 2, mode: str = "RGB", **options: bool) -> bytes:
    return encode(SIGNS.convert(mode), "JPEG", progressive=True, quality=85, subsampling=subsampling, **options)


def find_enough(body: bytes, asked: list[Size], block_bytes: int = 256) -> int | None:
    """Find after how many bytes there is enough; None where all of it is needed."""
    watch, arrived = ScanWatch(asked), bytearray()
    for start in range(0, len(body), block_bytes):
        arrived += body[start : start + block_bytes]
        if watch.is_enough(arrived):
            return len(arrived)
    return None


def select(body: bytes, asked: Size) -> bytes | None:
    spec = ThumbnailSpec(width=asked[0], height=asked[1])
    return select_scans(body, measure(body, JPEG), make_plan(SIGNS.size, spec, is_turned=False, is_scalable=True))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("side", [30, 60, 100, 160])
def test_enough_of_a_file_gives_the_scans_of_all_of_it(side: int, subsampling: int, mode: str) -> None:
    body = encode_signs(subsampling, mode)

    enough = find_enough(body, [(side, side)])

    assert enough
    assert enough < 0.6 * len(body)
    assert select(body[:enough] + END, (side, side)) == select(body, (side, side))


@pytest.mark.parametrize("asked", [(20, 60), (60, 20), (50, 50)])
def test_enough_holds_however_the_picture_is_turned(asked: Size) -> None:
    """How it lies stands in its EXIF, which is not looked at here."""
    body = encode_signs()

    enough = find_enough(body, [asked])

    assert enough
    for way in (asked, asked[::-1]):
        assert select(body[:enough] + END, way) == select(body, way)


def test_largest_of_several_thumbnails_decides() -> None:
    body = encode_signs()

    assert find_enough(body, [(30, 30), (160, 160)]) == find_enough(body, [(160, 160)])


@pytest.mark.parametrize("block_bytes", [1, 7, 1024, 10_000_000])
def test_blocks_of_any_size_come_to_the_same(block_bytes: int) -> None:
    body = encode_signs()
    exact = find_enough(body, [(60, 60)], 1)

    found = find_enough(body, [(60, 60)], block_bytes)

    assert exact
    assert found
    assert exact <= found < exact + block_bytes


ALL_NEEDED = {
    "baseline": encode(SIGNS, "JPEG"),
    "CMYK": encode(SIGNS.convert("CMYK"), "JPEG", progressive=True),
    "RGB": encode(SIGNS, "JPEG", progressive=True, keep_rgb=True),
    "another format": encode(SIGNS, "PNG"),
    "small": encode(SIGNS.resize((300, 300)), "JPEG", progressive=True),
    "no scan": encode_signs()[:300],
    "no length": b"\xff\xd8\xff\xe0",
    "a length of nothing": b"\xff\xd8\xff\xe0\0\0" + encode_signs()[2:],
    "nothing": b"",
}


@pytest.mark.parametrize("body", ALL_NEEDED.values(), ids=ALL_NEEDED.keys())
def test_all_of_what_is_unusual_is_needed(body: bytes) -> None:
    assert find_enough(body, [(60, 60)]) is None


def test_all_is_needed_for_a_large_thumbnail_or_none() -> None:
    assert find_enough(encode_signs(), [(400, 400)]) is None
    assert find_enough(encode_signs(), []) is None


def test_file_of_the_means_alone_is_needed_to_its_end() -> None:
    """There is nothing to be saved, and its end is to be there."""
    body = encode_signs()
    first_end = body.index(b"\xff\xc4", body.index(b"\xff\xda"))

    assert find_enough(body[:first_end] + END, [(30, 30)]) is None


def test_bytes_that_were_seen_are_not_looked_at_again() -> None:
    """Otherwise a long scan in many blocks would take the square of its length: they may be others then."""
    body = encode_signs()
    seen = body.index(b"\xff\xda") + 1000
    watch = ScanWatch([(60, 60)])

    assert not watch.is_enough(body[:seen])
    assert watch.is_enough(bytes(seen - 1) + body[seen - 1 :])
