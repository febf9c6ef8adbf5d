"""What a file's own structure tells before any decoder runs: scans, chunks, canvas; plain walks over the bytes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from thumbs.imaging.geometry import Size
from thumbs.imaging.sniff import JPEG, WEBP, SourceFormat

JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd8\xc8\xf0-\xfd]")
"""A marker that starts a segment, or EOI: no stuffed byte, no fill byte, no restart, none that Pillow reads without a
length, so that nothing can be hidden from this walk that Pillow finds."""

MAX_SEGMENTS = 10_000
"""Of a JPEG; 20 MB of profile and EXIF are 300, and each restarted table of each scan is one."""

START_OF_SCAN = 0xDA
END_OF_IMAGE = 0xD9
EXIF_SEGMENT = 0xE1
EXIF_MARK = b"Exif\0\0"
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
SEQUENTIAL_FRAMES = frozenset({0xC0, 0xC1})
SCALABLE_FRAMES = SEQUENTIAL_FRAMES | {0xC2, 0xC9, 0xCA}
"""Frames of DCT coefficients, which libjpeg can decode at 1/2, 1/4 and 1/8 (a lossless frame it cannot)."""


@dataclass(frozen=True, slots=True)
class Header:
    """What is known before Pillow opens the file.

    `is_scalable`: it can be decoded at a fraction of its size. `is_streamed`: that takes a few rows of memory only,
    because one scan holds all components; otherwise libjpeg keeps every coefficient of the full picture.
    `size` is set where opening itself would already take memory for the pixels. `segment_count` is of a JPEG before
    its first scan, up to one more than MAX_SEGMENTS; `exif_count` is how many of them hold EXIF.
    """

    is_scalable: bool = False
    is_streamed: bool = False
    size: Size | None = None
    segment_count: int = 0
    exif_count: int = 0


def measure(body: bytes, source_format: SourceFormat) -> Header:
    """Read what the file says of itself, without decoding."""
    if source_format == JPEG:
        return _measure_jpeg(body)
    if source_format == WEBP:
        return Header(size=_find_webp_size(body))
    return Header()


def count_jpeg_scans(body: bytes, enough: int) -> int:
    """Count the scans of a JPEG, up to a few more than `enough`; more than MAX_SEGMENTS segments count as too many."""
    upper_bound = body.count(b"\xff\xda")  # At the speed of memchr, and nearly always all that is needed.
    if upper_bound <= enough:
        return upper_bound
    count = 0
    for number, (marker, _) in enumerate(_walk_jpeg(body)):
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
    frame, frame_components, segment_count, exif_count = 0, 0, 0, 0
    for marker, start in islice(_walk_jpeg(body), MAX_SEGMENTS + 1):
        segment_count += 1
        exif_count += marker == EXIF_SEGMENT and body.startswith(EXIF_MARK, start + 2)
        if marker in START_OF_FRAME:
            frame, frame_components = marker, _byte_at(body, start + 7)
        if marker == START_OF_SCAN:
            return Header(
                is_scalable=frame in SCALABLE_FRAMES,
                is_streamed=frame in SEQUENTIAL_FRAMES and _byte_at(body, start + 2) == frame_components,
                segment_count=segment_count,
                exif_count=exif_count,
            )
    return Header(segment_count=segment_count, exif_count=exif_count)


def _walk_jpeg(body: bytes) -> Iterator[tuple[int, int]]:
    """Yield each segment's marker and where its length field stands; EOI, too: Pillow looks for a scan behind it."""
    position = 2
    while match := JPEG_MARKER.search(body, position):
        marker, start = body[match.end() - 1], match.end()
        yield marker, start
        position = start if marker == END_OF_IMAGE else start + int.from_bytes(body[start : start + 2])


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


def _byte_at(body: bytes, position: int) -> int:
    return body[position] if position < len(body) else 0
