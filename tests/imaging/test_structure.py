"""Scans, chunks and canvases are counted from the bytes, as the decoders would see them."""

import struct

import pytest
from PIL import Image

from tests.support.images import PNG_SIGNATURE, build_photo, build_webp_bomb, encode, png_chunk
from thumbs.imaging.sniff import JPEG, PNG, WEBP
from thumbs.imaging.structure import Header, count_jpeg_scans, count_png_chunks, measure
from thumbs.scans import MAX_SEGMENTS

SCAN = b"\xff\xda\x00\x02"
COMMENT_OF_SCANS = b"\xff\xfe" + struct.pack(">H", 2 + 400) + b"\xff\xda" * 200


def tell_kind(body: bytes) -> tuple[bool, bool]:
    """Tell whether a JPEG is scalable, and whether it is streamed."""
    header = measure(body, JPEG)
    return header.is_scalable, header.is_streamed


def test_baseline_jpeg_has_one_scan_and_is_streamed() -> None:
    body = encode(build_photo(), "JPEG")

    assert count_jpeg_scans(body, 0) == 1
    assert tell_kind(body) == (True, True)


def test_progressive_jpeg_is_scalable_but_not_streamed() -> None:
    """libjpeg keeps all its coefficients, so that the larger limit of baseline JPEG must not hold."""
    body = encode(build_photo(), "JPEG", progressive=True)

    assert count_jpeg_scans(body, 1) > 1
    assert tell_kind(body) == (True, False)


def test_baseline_jpeg_of_several_scans_is_not_streamed() -> None:
    """One component a scan is baseline too, and libjpeg buffers the whole picture for it."""
    body = encode(build_photo(), "JPEG")
    start = body.index(b"\xff\xda")
    body = body[: start + 4] + b"\x01" + body[start + 5 :]

    assert tell_kind(body) == (True, False)


def test_lossless_jpeg_is_not_scalable() -> None:
    """libjpeg ignores the fraction there, and Pillow would be told the wrong size."""
    body = encode(build_photo(), "JPEG").replace(b"\xff\xc0", b"\xff\xc3", 1)

    assert tell_kind(body) == (False, False)


def test_scans_inside_a_comment_do_not_count() -> None:
    assert count_jpeg_scans(b"\xff\xd8" + COMMENT_OF_SCANS + SCAN * 3 + b"\xff\xd9", 100) == 3


def test_scans_after_the_end_of_the_image_do_not_count() -> None:
    assert count_jpeg_scans(b"\xff\xd8" + SCAN + b"\xff\xd9" + SCAN * 200, 100) == 1


def test_segments_are_counted_up_to_the_first_scan_and_those_with_exif_among_them() -> None:
    exif = b"\xff\xe1\0\x0aExif\0\0AB"

    header = measure(b"\xff\xd8" + exif * 3 + b"\xff\xe1\0\4AB" + SCAN + exif * 5, JPEG)

    assert (len(header.segments), header.exif_count) == (5, 3)


@pytest.mark.parametrize("marker", [b"\xff\xf0", b"\xff\xc8", b"\xff\xd9", b"\xff\xd0", b"\xff\x01"])
def test_nothing_hides_behind_a_marker_that_pillow_reads_without_a_length(marker: bytes) -> None:
    """As if it had one, and a long one."""
    exif = b"\xff\xe1\0\x0aExif\0\0AB"

    assert measure(b"\xff\xd8" + marker + exif * 3 + SCAN, JPEG).exif_count == 3


def test_measuring_ends_soon_after_enough_segments() -> None:
    assert len(measure(b"\xff\xd8" + b"\xff\xfe\0\2" * 2 * MAX_SEGMENTS, JPEG).segments) == MAX_SEGMENTS + 1


def test_more_segments_than_any_file_has_count_as_too_many_scans() -> None:
    """The walk to count them ends somewhere, too."""
    body = b"\xff\xd8" + COMMENT_OF_SCANS + b"\xff\xfe\0\2" * MAX_SEGMENTS

    assert count_jpeg_scans(body, 100) == 101


def test_counting_scans_ends_soon_after_enough() -> None:
    assert count_jpeg_scans(b"\xff\xd8" + SCAN * 5_000, 100) == 101


def test_counting_chunks_ends_soon_after_enough() -> None:
    assert count_png_chunks(PNG_SIGNATURE + png_chunk(b"tEXt", b"") * 500, 100) == 101
    assert count_png_chunks(PNG_SIGNATURE + png_chunk(b"tEXt", b"") * 50, 100) == 50


def test_what_follows_the_end_of_a_png_does_not_count() -> None:
    """A file padded with 600 kB of zeros would have 50,000 chunks, of no length."""
    assert count_png_chunks(encode(build_photo(), "PNG") + bytes(10_000), 100) < 10


def test_canvas_of_a_webp_is_read_before_pillow_opens_it() -> None:
    assert measure(build_webp_bomb(), WEBP).size == (16_384, 16_384)


def test_canvas_is_right_for_each_kind_of_webp() -> None:
    photo = build_photo(201, 99)
    alpha = Image.new("RGBA", (201, 99), (1, 2, 3, 4))

    assert measure(encode(photo, "WEBP"), WEBP).size == (201, 99)
    assert measure(encode(photo, "WEBP", lossless=True), WEBP).size == (201, 99)
    assert measure(encode(alpha, "WEBP"), WEBP).size == (201, 99)


def test_cut_off_headers_measure_as_nothing_special() -> None:
    """What is broken is the decoder's to say; counting must not raise on it."""
    for body in (b"\xff\xd8\xff", b"\xff\xd8\xff\xc0", b"\xff\xd8\xff\xc0\x00\x11\xff\xda"):
        measure(body, JPEG)
    assert measure(b"RIFF\0\0\0\0WEBP", WEBP) == Header()
    assert measure(PNG_SIGNATURE, PNG) == Header()
