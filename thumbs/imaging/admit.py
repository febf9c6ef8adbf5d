"""Which sources are decoded at all: their size and the number of their parts against the limits."""

from thumbs.domain import DecodeLimits
from thumbs.errors import ImageTooComplex, ImageTooLarge
from thumbs.imaging.geometry import Size
from thumbs.imaging.heif_boxes import check_heif
from thumbs.imaging.sniff import HEIF, PNG, TIFF, SourceFormat
from thumbs.imaging.structure import Header, count_jpeg_scans, count_png_chunks
from thumbs.imaging.tiff_parts import check_tiff
from thumbs.scans import MAX_SEGMENTS

MAX_JPEG_SCANS = 100
"""Real encoders write 10; a 1.1 MB JPEG of 100,000 scans decodes for ten minutes."""
MAX_SCANNED_PIXELS = 1_000_000_000
"""Pixels times scans: 100 empty scans of 49 MP decode for 5 s; real encoders write 10 at any size."""

MAX_PNG_CHUNKS = 50_000

MAX_EXIF_SEGMENTS = 100
"""Pillow joins them one by one, and copies what it has each time: 20 MiB in segments of 14 bytes took more than a
minute. Pictures from cameras have one."""


def check_parts(body: bytes, source_format: SourceFormat, header: Header, limits: DecodeLimits) -> None:
    """Raise ImageTooComplex when the file is built from more parts than an encoder writes; or of other ones."""
    if len(header.segments) > MAX_SEGMENTS:
        raise ImageTooComplex(f"more than {MAX_SEGMENTS} segments")
    if header.exif_count > MAX_EXIF_SEGMENTS:
        raise ImageTooComplex(f"more than {MAX_EXIF_SEGMENTS} segments of EXIF")
    if _has_more_scans(body, header, MAX_JPEG_SCANS):
        raise ImageTooComplex(f"more than {MAX_JPEG_SCANS} scans")
    if source_format == PNG and count_png_chunks(body, MAX_PNG_CHUNKS) > MAX_PNG_CHUNKS:
        raise ImageTooComplex(f"more than {MAX_PNG_CHUNKS} chunks")
    if source_format == TIFF:
        check_tiff(body, limits)
    if source_format == HEIF:
        check_heif(body, limits)


def check_pixels(size: Size | None, header: Header, limits: DecodeLimits) -> None:
    """Raise ImageTooLarge when the picture, as far as its size is known yet, has more pixels than the limits.

    The larger limit of baseline JPEG holds only where the decoder streams it.
    """
    width, height = size or (0, 0)
    if max(width, height) > limits.max_side_px or width * height > get_max_pixels(header, limits):
        raise ImageTooLarge(f"{width} x {height}")


def get_max_pixels(header: Header, limits: DecodeLimits) -> int:
    """Get the limit that holds for this kind of file."""
    return limits.max_pixels_baseline_jpeg if header.is_streamed else limits.max_pixels


def check_scanned_pixels(body: bytes, header: Header, size: Size) -> None:
    """Raise ImageTooComplex when the scans of a JPEG go over too many pixels in all."""
    enough = MAX_SCANNED_PIXELS // max(1, size[0] * size[1])
    if _has_more_scans(body, header, enough):
        raise ImageTooComplex(f"more than {enough} scans of {size[0]} x {size[1]}")


def check_decoded_pixels(size: Size, scale: int, limits: DecodeLimits) -> None:
    """Raise ImageTooLarge when too many pixels are left at 1/scale, as for a wide thumbnail of a tall 200 MP JPEG."""
    width, height = size
    if width * height > limits.max_pixels * scale**2:
        raise ImageTooLarge(f"{width} x {height}, decoded at 1/{scale}")


def _has_more_scans(body: bytes, header: Header, enough: int) -> bool:
    """Tell whether a JPEG has more scans; they are counted only where enough of its bytes look like one."""
    return header.scan_mark_count > enough and count_jpeg_scans(body, enough) > enough
