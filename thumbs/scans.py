"""The scans of a progressive JPEG, and which of them a thumbnail needs: of a whole file, or of its bytes as they come.

The first scans hold the mean of each block (DC), the next ones its coarse pattern (AC), and most of the bytes refine
them. Pure: markers and numbers, no pixels. `imaging` selects the scans to decode with it; `ScanWatch` tells whoever
fetches a file that all of them are there. Where anything is unusual, the whole file is needed.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

JPEG_MARKER: Final = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd8\xc8\xf0-\xfd]")
"""A marker that starts a segment, or EOI: no stuffed byte, no fill byte, no restart, none that Pillow reads without a
length, so that nothing can be hidden from this walk that Pillow finds."""

FIRST_MARKER: Final = 2
"""Where it is looked for: behind the marker that all JPEGs begin with."""
MAX_SEGMENTS: Final = 10_000
"""Of a JPEG; 20 MB of profile and EXIF are 300, and each restarted table of each scan is one."""

START_OF_IMAGE: Final = b"\xff\xd8"
START_OF_SCAN: Final = 0xDA
END_OF_IMAGE: Final = 0xD9
ADOBE_SEGMENT: Final = 0xEE
ADOBE_MARK: Final = b"Adobe"
PROGRESSIVE_FRAME: Final = 0xC2
KEPT_SEGMENTS: Final = frozenset({0xC4, 0xDD, 0xFE})
"""What may stand between scans: DHT, DRI and comments."""

DRAFT_SCALES: Final = (8, 4, 2)
"""The fractions at which libjpeg decodes."""
DRAFT_MARGIN: Final = 1.5
"""A fraction has to be larger than the thumbnail by more than this: at just 1.5, as a photo of 1600 x 1200 has at 1/8,
the result is 43 dB from the full decode's, at 1.6 it is 45, and the next fraction's 53."""
MIN_SCALE: Final = 4
"""At 1/2 and in full, nearly all scans count."""

BLOCK_PX: Final = 8
SAMPLE_BITS: Final = 8
COARSE_COEFFICIENTS: Final = 5
"""The lowest AC coefficients in zigzag order; encoders begin with 1 to 5, and at 1/4 they are enough for 39 dB."""

RGB_NAMES: Final = b"RGB"
ADOBE_RGB: Final = 0
ADOBE_TRANSFORM_OFFSET: Final = 13
"""From the segment's length field on (jdmarker.c)."""

Size = tuple[int, int]
Buffer = bytes | bytearray
Segment = tuple[int, int]
"""A segment's marker, and where its length field stands."""


@dataclass(slots=True)
class Component:
    """A component of the frame: how many coefficients it needs, and how many the scans so far have brought."""

    quantiser: int
    needed: int
    found: int = -1

    @property
    def is_complete(self) -> bool:
        """Tell whether the scans so far are enough."""
        return self.found >= self.needed


@dataclass(slots=True)
class Selection:
    """The scans of one file, gone through in their order; `pieces` are those to be kept, with what belongs to them."""

    components: dict[int, Component]
    pieces: list[tuple[int, int]] = field(default_factory=list)
    _piece_start: int | None = None

    @property
    def is_complete(self) -> bool:
        """Tell whether no further scan is needed; the last one ends where the next segment begins."""
        return all(component.is_complete for component in self.components.values())

    def take(self, body: Buffer, segment: Segment) -> bool:
        """Take the next segment; False when it is none that an encoder writes there."""
        marker, start = segment
        self.end_piece(start - 2)
        is_kept = self._take_scan(body, start) if marker == START_OF_SCAN else marker in KEPT_SEGMENTS or None
        self._piece_start = start - 2 if is_kept else None
        return is_kept is not None

    def end_piece(self, end: int) -> None:
        """End what is kept before the next segment."""
        if self._piece_start is not None:
            self.pieces.append((self._piece_start, end))
        self._piece_start = None

    def _take_scan(self, body: Buffer, start: int) -> bool | None:
        """Tell whether the scan is to be kept; None when it is none that an encoder writes."""
        names, (first, last, bits) = _read_scan(body, start)
        if not names or not set(names) <= self.components.keys() or last < first:
            return None
        found = [self.components[name] for name in names]
        if bits >> 4:
            return False  # It refines.
        if first == 0:
            is_first = last == 0 and all(component.found < 0 for component in found)
        else:
            is_first = len(found) == 1 and found[0].found >= 0
        if not is_first:
            return None
        if found[0].is_complete or first > found[0].found + 1:
            return False
        for component in found:
            component.found = last
        return True


class ScanWatch:
    """Follows one JPEG while it arrives, and tells when thumbnails of the asked sizes need no more of it.

    That many bytes and an EOI make a file of which the decoder selects the same scans as of the whole one.
    """

    def __init__(self, asked: Sequence[Size]) -> None:
        self._asked = asked
        self._position = FIRST_MARKER
        self._segments: list[Segment] = []
        self._selection: Selection | None = None
        self._needs_all = False

    def is_enough(self, body: Buffer) -> bool:
        """Tell it of all bytes so far, of which those before are not looked at again; it is not asked after a yes."""
        if self._position == FIRST_MARKER and not body.startswith(START_OF_IMAGE):
            return False
        while not self._needs_all and (segment := self._find_next(body)):
            if self._selection is None:
                self._take_head(body, segment)
            elif self._selection.is_complete:
                self._needs_all = segment[0] == END_OF_IMAGE  # It is all there.
                return not self._needs_all
            else:
                self._needs_all = not self._selection.take(body, segment)
        return False

    def _find_next(self, body: Buffer) -> Segment | None:
        """Find the next segment that has arrived as a whole."""
        segment = find_segment(body, self._position)
        if segment is None:
            self._position = max(self._position, len(body) - 1)  # The last byte may be the first half of a marker.
            return None
        (marker, start), end = segment, find_end(body, segment)
        if marker != END_OF_IMAGE and not start + 2 <= end <= len(body):
            self._position = start - 2
            return None
        self._position = end
        return segment

    def _take_head(self, body: Buffer, segment: Segment) -> None:
        """Collect what stands before the first scan, and begin the selection with that."""
        self._segments.append(segment)
        self._needs_all = len(self._segments) > MAX_SEGMENTS
        if segment[0] == START_OF_SCAN:
            shrink = _measure_least_shrink(_read_size(body, self._segments), self._asked)
            components = read_components(body, self._segments, shrink)
            self._selection = Selection(components or {})
            is_usual = components is not None and choose_scale(shrink) >= MIN_SCALE
            self._needs_all = not is_usual or not self._selection.take(body, segment)


def end_scans(body: bytes) -> bytes:
    """End a file of which only as much has come as is enough."""
    return body + bytes((0xFF, END_OF_IMAGE))


def walk_jpeg(body: Buffer, position: int = FIRST_MARKER) -> Iterator[Segment]:
    """Yield the segments from a position on, EOI, too: Pillow looks for a scan behind it."""
    while segment := find_segment(body, position):
        yield segment
        position = find_end(body, segment)


def find_segment(body: Buffer, position: int) -> Segment | None:
    """Find the first segment from a position on."""
    match = JPEG_MARKER.search(body, position)
    return (body[match.end() - 1], match.end()) if match else None


def find_end(body: Buffer, segment: Segment) -> int:
    """Find where a segment ends, by its length; EOI has none."""
    marker, start = segment
    return start if marker == END_OF_IMAGE else start + int.from_bytes(body[start : start + 2])


def choose_scale(shrink: float) -> int:
    """Choose the smallest fraction 1/scale that still leaves more than DRAFT_MARGIN px for each px of the thumbnail."""
    return next((scale for scale in DRAFT_SCALES if shrink > scale * DRAFT_MARGIN), 1)


def read_components(body: Buffer, segments: Sequence[Segment], shrink: float) -> dict[int, Component] | None:
    """Read the frame's components by name, out of the segments up to the first scan.

    None where the frame is not progressive, of 8 bits, and grey or YCbCr.
    """
    frames = [start for marker, start in segments if marker == PROGRESSIVE_FRAME]
    if len(frames) != 1 or _has_adobe_rgb(body, segments):
        return None
    frame = body[frames[0] : segments[-1][1]]
    count = byte_at(frame, 7)
    if byte_at(frame, 2) != SAMPLE_BITS or count not in (1, 3) or len(frame) < 8 + 3 * count:
        return None
    factors = {frame[place]: frame[place + 1] for place in range(8, 8 + 3 * count, 3)}
    tables = {frame[place]: frame[place + 2] for place in range(8, 8 + 3 * count, 3)}
    if len(factors) != count or bytes(factors) == RGB_NAMES:
        return None
    return {name: Component(tables[name], _count_needed(name, factors, shrink)) for name in factors}


def byte_at(body: Buffer, position: int) -> int:
    """Get the byte; 0 behind the end."""
    return body[position] if position < len(body) else 0


def _count_needed(name: int, factors: dict[int, int], shrink: float) -> int:
    """Count the AC coefficients needed: none where a block, which subsampling widens, is small beside a px."""
    across = max(factor >> 4 for factor in factors.values()) / max(1, factors[name] >> 4)
    down = max(factor & 15 for factor in factors.values()) / max(1, factors[name] & 15)
    return 0 if shrink > BLOCK_PX * max(across, down) * DRAFT_MARGIN else COARSE_COEFFICIENTS


def _has_adobe_rgb(body: Buffer, segments: Iterable[Segment]) -> bool:
    return any(
        marker == ADOBE_SEGMENT
        and body.startswith(ADOBE_MARK, start + 2)
        and byte_at(body, start + ADOBE_TRANSFORM_OFFSET) == ADOBE_RGB
        for marker, start in segments
    )


def _read_scan(body: Buffer, start: int) -> tuple[Buffer, tuple[int, int, int]]:
    """Read the names of a scan's components, and its first and last coefficient and their bits (ITU T.81 B.2.3)."""
    end = start + 3 + 2 * byte_at(body, start + 2)
    return body[start + 3 : end : 2], (byte_at(body, end), byte_at(body, end + 1), byte_at(body, end + 2))


def _read_size(body: Buffer, segments: Iterable[Segment]) -> Size:
    """Read width and height out of the progressive frame (ITU T.81 B.2.2); 0 x 0 without one."""
    start = next((start for marker, start in segments if marker == PROGRESSIVE_FRAME), len(body))
    return int.from_bytes(body[start + 5 : start + 7]), int.from_bytes(body[start + 3 : start + 5])


def _measure_least_shrink(size: Size, asked: Sequence[Size]) -> float:
    """Measure how many px there are at least for each px of the largest thumbnail, however it fits and is turned."""
    return min((min(size) / max(wanted) for wanted in asked), default=0.0)
