"""The scans of a progressive JPEG that a fraction of it takes; libjpeg would read them all before the first pixel.

`scans` says which, and `pipeline` hands them to the decoder. Where anything is unusual, the end included, all are.
"""

from itertools import islice

from thumbs.imaging.geometry import Plan
from thumbs.imaging.structure import QUANTISER_TABLES, Header
from thumbs.scans import (
    END_OF_IMAGE,
    MAX_SEGMENTS,
    MIN_SCALE,
    Component,
    Selection,
    read_components,
    walk_jpeg,
)

END = bytes((0xFF, END_OF_IMAGE))
"""Nearly every file's last bytes; looking at them saves a walk through all that is not needed, 1 ms for 2.7 MB."""

SMOOTHED_COEFFICIENTS = 9
"""libjpeg guesses those of 1 to 9 that no scan brought, at twice the cost and for the worse; not where a table has a 0
among them (smoothing_ok in jdcoefct.c)."""


def select_scans(body: bytes, header: Header, plan: Plan) -> bytes | None:
    """Select the scans that the planned thumbnail needs, as a JPEG of their own; None where it needs the file.

    Also None where the file's end is missing: whether it is broken is the decoder's to say.
    """
    if plan.scale < MIN_SCALE or not header.has_scan:
        return None
    components = read_components(body, header.segments, plan.shrink)
    if components is None:
        return None
    selection = Selection(components)
    if not _select(body, header.segments[-1][1], selection):
        return None
    scans = b"".join(body[start:end] for start, end in selection.pieces)
    return _skip_smoothing(body, header, components) + scans + END


def _select(body: bytes, first_scan: int, selection: Selection) -> bool:
    """Go through the segments from the first scan on; True when the selection is complete and so is the file."""
    segments = islice(walk_jpeg(body, first_scan - 2), MAX_SEGMENTS)
    for marker, start in segments:
        if selection.is_complete:
            selection.end_piece(start - 2)
            has_more = marker != END_OF_IMAGE
            return has_more and (body.endswith(END) or any(later == END_OF_IMAGE for later, _ in segments))
        if not selection.take(body, (marker, start)):
            return False
    return False


def _skip_smoothing(body: bytes, header: Header, components: dict[int, Component]) -> bytes:
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
