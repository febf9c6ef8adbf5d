"""The scans of a progressive JPEG that a fraction of it takes; libjpeg would read them all before the first pixel.

The first scans hold the mean of each block (DC), the next ones its coarse pattern (AC), and most of the bytes refine
them. `pipeline` hands the decoder the scans that are kept. Where anything is unusual, the end included, all are.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from thumbs.imaging.geometry import DRAFT_MARGIN, Plan
from thumbs.imaging.structure import (
    ADOBE_MARK,
    ADOBE_SEGMENT,
    END_OF_IMAGE,
    MAX_SEGMENTS,
    PROGRESSIVE_FRAME,
    QUANTISER_TABLES,
    START_OF_SCAN,
    Header,
    Segment,
    byte_at,
    walk_jpeg,
)

END = bytes((0xFF, END_OF_IMAGE))
"""Nearly every file's last bytes; looking at them saves a walk through all that is not needed, 1 ms for 2.7 MB."""

BLOCK_PX = 8
SAMPLE_BITS = 8
MIN_SCALE = 4
"""At 1/2 and in full, nearly all scans count."""

COARSE_COEFFICIENTS = 5
"""The lowest AC coefficients in zigzag order; encoders begin with 1 to 5, and at 1/4 they are enough for 39 dB."""

SMOOTHED_COEFFICIENTS = 9
"""libjpeg guesses those of 1 to 9 that no scan brought, at twice the cost and for the worse; not where a table has a 0
among them (smoothing_ok in jdcoefct.c)."""

KEPT_SEGMENTS = frozenset({0xC4, 0xDD, 0xFE})
"""What may stand between scans: DHT, DRI and comments."""

RGB_NAMES = b"RGB"
ADOBE_RGB = 0
ADOBE_TRANSFORM_OFFSET = 13
"""From the segment's length field on (jdmarker.c)."""


@dataclass(slots=True)
class _Component:
    """A component of the frame: how many coefficients it needs, and how many the scans so far have brought."""

    quantiser: int
    needed: int
    found: int = -1

    @property
    def is_complete(self) -> bool:
        """Tell whether the scans so far are enough."""
        return self.found >= self.needed


@dataclass(slots=True)
class _Selection:
    """The scans of one file, gone through in their order."""

    components: dict[int, _Component]
    pieces: list[tuple[int, int]] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Tell whether no further scan is needed."""
        return all(component.is_complete for component in self.components.values())

    def take_scan(self, body: bytes, start: int) -> bool | None:
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


def select_scans(body: bytes, header: Header, plan: Plan) -> bytes | None:
    """Select the scans that the planned thumbnail needs, as a JPEG of their own; None where it needs the file.

    Also None where the file's end is missing: whether it is broken is the decoder's to say.
    """
    components = _read_components(body, header, plan.shrink)
    if plan.scale < MIN_SCALE or components is None:
        return None
    selection = _Selection(components)
    if not _select(body, header.segments[-1][1], selection):
        return None
    scans = b"".join(body[start:end] for start, end in selection.pieces)
    return _skip_smoothing(body, header, components) + scans + END


def _select(body: bytes, first_scan: int, selection: _Selection) -> bool:
    """Go through the segments from the first scan on; True when the selection is complete and so is the file."""
    segments = islice(walk_jpeg(body, first_scan - 2), MAX_SEGMENTS)
    piece_start: int | None = None
    for marker, start in segments:
        if piece_start is not None:
            selection.pieces.append((piece_start, start - 2))
        if selection.is_complete:
            return marker != END_OF_IMAGE and (body.endswith(END) or _has_end(segments))
        is_kept = selection.take_scan(body, start) if marker == START_OF_SCAN else marker in KEPT_SEGMENTS or None
        if is_kept is None:
            return False
        piece_start = start - 2 if is_kept else None
    return False


def _has_end(segments: Iterator[Segment]) -> bool:
    """Tell whether the end is somewhere among them: more may follow it in the file."""
    return any(marker == END_OF_IMAGE for marker, _ in segments)


def _read_components(body: bytes, header: Header, shrink: float) -> dict[int, _Component] | None:
    """Read the frame's components by name; None where it is not progressive, of 8 bits, and grey or YCbCr."""
    frames = [start for marker, start in header.segments if marker == PROGRESSIVE_FRAME]
    if not header.has_scan or len(frames) != 1 or _has_adobe_rgb(body, header.segments):
        return None
    frame = body[frames[0] : header.segments[-1][1]]
    count = byte_at(frame, 7)
    if byte_at(frame, 2) != SAMPLE_BITS or count not in (1, 3) or len(frame) < 8 + 3 * count:
        return None
    factors = {frame[place]: frame[place + 1] for place in range(8, 8 + 3 * count, 3)}
    tables = {frame[place]: frame[place + 2] for place in range(8, 8 + 3 * count, 3)}
    if len(factors) != count or bytes(factors) == RGB_NAMES:
        return None
    return {name: _Component(tables[name], _count_needed(name, factors, shrink)) for name in factors}


def _count_needed(name: int, factors: dict[int, int], shrink: float) -> int:
    """Count the AC coefficients needed: none where a block, which subsampling widens, is small beside a px."""
    across = max(factor >> 4 for factor in factors.values()) / max(1, factors[name] >> 4)
    down = max(factor & 15 for factor in factors.values()) / max(1, factors[name] & 15)
    return 0 if shrink > BLOCK_PX * max(across, down) * DRAFT_MARGIN else COARSE_COEFFICIENTS


def _has_adobe_rgb(body: bytes, segments: tuple[Segment, ...]) -> bool:
    return any(
        marker == ADOBE_SEGMENT
        and body.startswith(ADOBE_MARK, start + 2)
        and byte_at(body, start + ADOBE_TRANSFORM_OFFSET) == ADOBE_RGB
        for marker, start in segments
    )


def _read_scan(body: bytes, start: int) -> tuple[bytes, tuple[int, int, int]]:
    """Read the names of a scan's components, and its first and last coefficient and their bits (ITU T.81 B.2.3)."""
    end = start + 3 + 2 * byte_at(body, start + 2)
    return body[start + 3 : end : 2], (byte_at(body, end), byte_at(body, end + 1), byte_at(body, end + 2))


def _skip_smoothing(body: bytes, header: Header, components: dict[int, _Component]) -> bytes:
    """Copy what stands before the first scan, with a 0 in each quantiser table where no coefficient is left."""
    head = bytearray(body[: header.segments[-1][1] - 2])
    unused = {
        component.quantiser: 1
        + max(other.found for other in components.values() if other.quantiser == component.quantiser)
        for component in components.values()
    }
    for marker, start in header.segments:
        if marker == QUANTISER_TABLES:
            _zero_entries(head, start, unused)
    return bytes(head)


def _zero_entries(head: bytearray, start: int, unused: dict[int, int]) -> None:
    """Zero the unused entry of each table in a segment; the tables are of 64 entries, of 1 or 2 bytes."""
    end = start + int.from_bytes(head[start : start + 2])
    place = start + 2
    while place < end:
        table, entry_bytes = head[place] & 15, 1 + (head[place] >> 4)
        entry = unused.get(table, SMOOTHED_COEFFICIENTS + 1)
        entry_start = place + 1 + entry * entry_bytes
        if entry <= SMOOTHED_COEFFICIENTS and entry_start + entry_bytes <= end:
            head[entry_start : entry_start + entry_bytes] = bytes(entry_bytes)
        place += 1 + 64 * entry_bytes
