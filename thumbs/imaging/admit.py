"""Which sources are decoded at all: their size and the number of their parts against the limits."""

from thumbs.domain import DecodeLimits
from thumbs.errors import ImageTooComplex, ImageTooLarge
from thumbs.imaging.geometry import Size
from thumbs.imaging.sniff import JPEG, PNG, SourceFormat
from thumbs.imaging.structure import Header, count_jpeg_scans, count_png_chunks

MAX_SIDE_PX = 30_000
MAX_JPEG_SCANS = 100
"""Real encoders write 10; a 1.1 MB JPEG of 100,000 scans decodes for ten minutes."""
MAX_PNG_CHUNKS = 50_000


def check_parts(body: bytes, source_format: SourceFormat) -> None:
    """Raise ImageTooComplex when the file is built from more scans or chunks than an encoder writes."""
    if source_format == JPEG and count_jpeg_scans(body, MAX_JPEG_SCANS) > MAX_JPEG_SCANS:
        raise ImageTooComplex(f"more than {MAX_JPEG_SCANS} scans")
    if source_format == PNG and count_png_chunks(body, MAX_PNG_CHUNKS) > MAX_PNG_CHUNKS:
        raise ImageTooComplex(f"more than {MAX_PNG_CHUNKS} chunks")


def check_pixels(size: Size | None, header: Header, limits: DecodeLimits) -> None:
    """Raise ImageTooLarge when the picture, as far as its size is known yet, has more pixels than the limits.

    The larger limit of baseline JPEG holds only where the decoder streams it.
    """
    width, height = size or (0, 0)
    limit = limits.max_pixels_baseline_jpeg if header.is_streamed else limits.max_pixels
    if max(width, height) > MAX_SIDE_PX or width * height > limit:
        raise ImageTooLarge(f"{width} x {height}")


def check_decoded_pixels(size: Size, scale: int, limits: DecodeLimits) -> None:
    """Raise ImageTooLarge when too many pixels are left at 1/scale, as for a wide thumbnail of a tall 200 MP JPEG."""
    width, height = size
    if width * height > limits.max_pixels * scale**2:
        raise ImageTooLarge(f"{width} x {height}, decoded at 1/{scale}")
