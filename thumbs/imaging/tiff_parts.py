"""Which TIFFs are decoded: layouts and compressions that are known, and no more work than the picture is worth.

A TIFF's strips and tiles are found by offset, so that thousands may share the same bytes: each is counted as often as
it is read. Only what `tiff` reads of the first directory is looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from thumbs.domain import DecodeLimits
from thumbs.errors import ImageCorrupt, ImageTooComplex, ImageTooLarge, UnsupportedFormat
from thumbs.imaging.geometry import Size
from thumbs.imaging.tiff import BYTE_ORDERS, MAX_ENTRIES, UNSIGNED, Directory, Photometric, Tag, read_directory

MAX_PARTS = 50_000
"""Strips and tiles of all planes: a row for each strip at the largest side, or 12.8 MP in tiles of 16 x 16."""

SPARE_BYTES = 64 * 1024 * 1024
"""How much more may be read than the file has: writers store equal tiles once. libtiff reads up to 1 MiB for a strip
of few pixels, and takes 1 ms where that is empty blocks: 0.06 s for this much, 1.1 s for 1,000 strips that share it."""

MAX_SCANNED_PIXELS = 1_000_000_000
"""Pixels times scans of the JPEGs inside, as for a JPEG alone; writers use one scan."""

MAX_SAMPLES = 6
UNCOMPRESSED, FAX_2, FAX_3, FAX_4, LZW, JPEG, DEFLATE = 1, 2, 3, 4, 5, 7, 8
PACK_BITS, OLD_DEFLATE = 32773, 32946
COMPRESSIONS = frozenset({UNCOMPRESSED, FAX_2, FAX_3, FAX_4, LZW, JPEG, DEFLATE, PACK_BITS, OLD_DEFLATE})
"""What cameras, scanners and editors write. Not the JPEG of TIFF 6.0 (6), which its successor replaced in 1995 and
whose decoder is libtiff's most attacked; not LZMA, Zstandard and WebP, which want much memory or are for maps."""

SCAN_MARK = b"\xff\xda"
"""These bytes occur no less often than there are scans."""

GREYS = frozenset({Photometric.WHITE_IS_ZERO, Photometric.BLACK_IS_ZERO})
BITS: Mapping[int, tuple[int, ...]] = {
    Photometric.WHITE_IS_ZERO: (1, 2, 4, 8, 16, 32),
    Photometric.BLACK_IS_ZERO: (1, 2, 4, 8, 12, 16, 32),
    Photometric.RGB: (8, 16),
    Photometric.PALETTE: (1, 2, 4, 8),
    Photometric.CMYK: (8, 16),
    Photometric.YCBCR: (8,),
    Photometric.LAB: (8,),
}
"""The bits of a sample that Pillow reads, for each photometric interpretation."""


@dataclass(frozen=True, slots=True)
class _Grid:
    """The strips or tiles: their size, how many there are in all planes, and the tags of their places."""

    part: Size
    count: int
    offsets: Tag
    byte_counts: Tag


def check_tiff(body: bytes, limits: DecodeLimits) -> None:
    """Raise UnsupportedFormat, ImageTooComplex, ImageTooLarge or ImageCorrupt for a TIFF that is not to be decoded."""
    directory = read_directory(body)
    if directory.entry_count > MAX_ENTRIES:
        raise ImageTooComplex(f"more than {MAX_ENTRIES} entries")
    _check_layout(directory)
    grid = _measure_grid(directory)
    if max(grid.part) > limits.max_side_px or grid.part[0] * grid.part[1] > limits.max_pixels:
        raise ImageTooLarge(f"in parts of {grid.part[0]} x {grid.part[1]}")
    if grid.count > MAX_PARTS:
        raise ImageTooComplex(f"{grid.count} strips or tiles")
    _check_bytes(directory, grid)


def _check_layout(directory: Directory) -> None:
    """Raise UnsupportedFormat for samples that Pillow does not read, or reads wrongly."""
    compression, photometric = directory.get_number(Tag.COMPRESSION), directory.get_number(Tag.PHOTOMETRIC)
    bits, sample_format = directory.get_number(Tag.BITS), directory.get_number(Tag.SAMPLE_FORMAT)
    is_grey_number = photometric in GREYS and bits in (16, 32) and directory.get_number(Tag.SAMPLES) == 1
    if compression not in COMPRESSIONS:
        raise UnsupportedFormat(f"TIFF of compression {compression}")
    if bits not in BITS.get(photometric, ()) or (bits == 12 and directory.order != BYTE_ORDERS[b"II"]):
        raise UnsupportedFormat(f"TIFF of {bits} bits, photometric {photometric}")
    if sample_format != UNSIGNED and not is_grey_number:
        raise UnsupportedFormat(f"TIFF of sample format {sample_format}")


def _measure_grid(directory: Directory) -> _Grid:
    width, height = directory.size
    planes = directory.get_number(Tag.SAMPLES) if directory.get_number(Tag.PLANES) == 2 else 1
    if planes > MAX_SAMPLES:
        raise UnsupportedFormat(f"TIFF of {planes} planes")
    if directory.is_tiled:
        part = directory.get_number(Tag.TILE_WIDTH), directory.get_number(Tag.TILE_LENGTH)
        tags = Tag.TILE_OFFSETS, Tag.TILE_BYTES
    else:
        rows = directory.get_number(Tag.ROWS_PER_STRIP) if Tag.ROWS_PER_STRIP in directory.entries else height
        part, tags = (width, min(rows, height)), (Tag.STRIP_OFFSETS, Tag.STRIP_BYTES)
    if min(part) < 1:
        raise ImageCorrupt(f"in parts of {part[0]} x {part[1]}")
    return _Grid(part, ceil(width / part[0]) * ceil(height / part[1]) * planes, *tags)


def _check_bytes(directory: Directory, grid: _Grid) -> None:
    """Raise ImageTooComplex when reading the parts one by one takes many more bytes, or scans, than are there."""
    offsets = directory.get_numbers(grid.offsets, grid.count)
    if directory.get_number(Tag.COMPRESSION) == UNCOMPRESSED and grid.byte_counts not in directory.entries:
        return  # As old writers left it: the size of the parts is known.
    byte_counts = directory.get_numbers(grid.byte_counts, grid.count)
    if sum(byte_counts) > len(directory.body) + SPARE_BYTES:
        raise ImageTooComplex("parts that share their bytes")
    if directory.get_number(Tag.COMPRESSION) != JPEG:
        return
    ranges = zip(offsets, byte_counts, strict=True)
    scans = sum(directory.body.count(SCAN_MARK, start, start + length) for start, length in ranges)
    if scans * grid.part[0] * grid.part[1] > MAX_SCANNED_PIXELS:
        raise ImageTooComplex(f"{scans} scans of {grid.part[0]} x {grid.part[1]}")
