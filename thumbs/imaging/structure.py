"""What a file's own structure tells before any decoder runs: scans, chunks, canvas; plain walks over the bytes."""

import re
from dataclasses import dataclass
from itertools import islice

from thumbs.imaging.geometry import Size
from thumbs.imaging.sniff import JPEG, TIFF, WEBP, SourceFormat
from thumbs.imaging.tiff import read_directory
from thumbs.scans import (
    END_OF_IMAGE,
    MAX_SEGMENTS,
    PROGRESSIVE_FRAME,
    START_OF_SCAN,
    Segment,
    byte_at,
    walk_jpeg,
)

SCAN_MARK = re.compile(rb"\xff(?=\xda)")
"""The bytes of a scan's marker; looked for so, in 0.4-0.6 of the time that bytes.count() takes for both of them."""
ENOUGH_SCAN_MARKS = 1_000
"""Nobody asks for more."""
QUANTISER_TABLES = 0xDB
EXIF_SEGMENT = 0xE1
EXIF_MARK = b"Exif\0\0"
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
SEQUENTIAL_FRAMES = frozenset({0xC0, 0xC1})
SCALABLE_FRAMES = SEQUENTIAL_FRAMES | {PROGRESSIVE_FRAME, 0xC9, 0xCA}
"""Frames of DCT coefficients, which libjpeg can decode at 1/2, 1/4 and 1/8 (a lossless frame it cannot)."""


@dataclass(frozen=True, slots=True)
class Header:
    """What is known before Pillow opens the file.

    `is_scalable`: it can be decoded at a fraction of its size. `is_streamed`: that takes a few rows of memory only,
    because one scan holds all components; otherwise libjpeg keeps every coefficient of the full picture.
    `size` is set where opening itself would already take memory for the pixels. `segments` are a JPEG's up to and with
    its first scan, but no more than one beyond MAX_SEGMENTS; `exif_count` is how many of them hold EXIF.
    `scan_mark_count` is how often the bytes of a scan's marker occur: no less often than there are scans, but counted
    to ENOUGH_SCAN_MARKS only.
    """

    is_scalable: bool = False
    is_streamed: bool = False
    size: Size | None = None
    segments: tuple[Segment, ...] = ()
    exif_count: int = 0
    scan_mark_count: int = 0

    @property
    def has_scan(self) -> bool:
        """Tell whether the last of the segments is the first scan."""
        return bool(self.segments) and self.segments[-1][0] == START_OF_SCAN


def measure(body: bytes, source_format: SourceFormat) -> Header:
    """Read what the file says of itself, without decoding."""
    if source_format == JPEG:
        return _measure_jpeg(body)
    if source_format == WEBP:
        return Header(size=_find_webp_size(body))
    if source_format == TIFF:
        return Header(size=read_directory(body).size)
    return Header()


def count_jpeg_scans(body: bytes, enough: int) -> int:
    """Count the scans of a JPEG, up to a few more than `enough`; more than MAX_SEGMENTS segments count as too many."""
    count = 0
    for number, (marker, _) in enumerate(walk_jpeg(body)):
        count += marker == START_OF_SCAN
        if number == MAX_SEGMENTS:
            return enough + 1
        if count > enough or marker == END_OF_IMAGE:
            break
    return count


def count_png_chunks(body: bytes, enough: int) -> int:
    """Count the chunks of a PNG up to its end, and up to one more than `enough`; what follows the end is not read."""
    position, count, name = 8, 0, b""
    while position + 8 <= len(body) and count <= enough and name != b"IEND":
        name = body[position + 4 : position + 8]
        position += 12 + int.from_bytes(body[position : position + 4])
        count += 1
    return count


def _measure_jpeg(body: bytes) -> Header:
    """Read the frame's kind, and whether its first scan holds all components, as libjpeg's jdinput.c decides."""
    frame, frame_components, exif_count = 0, 0, 0
    segments: list[Segment] = []
    scan_mark_count = sum(1 for _ in islice(SCAN_MARK.finditer(body), ENOUGH_SCAN_MARKS))
    for marker, start in islice(walk_jpeg(body), MAX_SEGMENTS + 1):
        segments.append((marker, start))
        exif_count += marker == EXIF_SEGMENT and body.startswith(EXIF_MARK, start + 2)
        if marker in START_OF_FRAME:
            frame, frame_components = marker, byte_at(body, start + 7)
        if marker == START_OF_SCAN:
            return Header(
                is_scalable=frame in SCALABLE_FRAMES,
                is_streamed=frame in SEQUENTIAL_FRAMES and byte_at(body, start + 2) == frame_components,
                segments=tuple(segments),
                exif_count=exif_count,
                scan_mark_count=scan_mark_count,
            )
    return Header(segments=tuple(segments), exif_count=exif_count, scan_mark_count=scan_mark_count)


def _find_webp_size(body: bytes) -> Size | None:
    """Find the canvas's size: Pillow's WebP decoder takes the memory for it while opening (46 bytes took 2.7 GB)."""
    kind, data = body[12:16], body[20:30]
    if kind == b"VP8X":
        return int.from_bytes(data[4:7], "little") + 1, int.from_bytes(data[7:10], "little") + 1
    if kind == b"VP8 ":
        return int.from_bytes(data[6:8], "little") & 0x3FFF, int.from_bytes(data[8:10], "little") & 0x3FFF
    if kind == b"VP8L":
        bits = int.from_bytes(data[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None
