"""What a HEIF's boxes tell before libheif sees them: the work that the picture and its tiles come to.

The picture's own size is libheif's to say, from the same boxes and before it decodes: there may be a crop on top.
libheif has limits of its own, for single numbers. What it lets through is one small tile that is decoded hundreds of
times for a grid, or one block of EXIF that is copied for each of hundreds of items. A box that there are two of is
refused, so that nobody can take the other one. (ISO 14496-12 sections 4.2 and 8.11, ISO 23008-12 section 6.)
"""

import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from thumbs.domain import DecodeLimits
from thumbs.errors import ImageCorrupt, ImageTooComplex, ImageTooLarge
from thumbs.imaging.geometry import Size

MAX_CODED_SHARE = 2
"""Pixels to decode for each one that the limits allow: tiles hang over the edge, alpha and gain map come on top."""

SPARE_PX = 1_000_000
"""And so many more: the smallest picture is coded as a block of 64 x 64."""

SPARE_BYTES = 16 * 1024 * 1024
"""How much more the items may hold than the file has: they may share their bytes, and libheif copies them."""

MAX_TABLE_BYTES = 256 * 1024
"""Of references, places and links to properties; 200 tiles take about 3 kB of places."""

MAX_BOXES = 10_000
"""In one box; libheif refuses a file of 900 items."""

MAX_DEPTH = 4
"""Pictures made of pictures: a grid of tiles that is turned is 2."""

WIDE_LINKS = 1
"""The flag of an ipma whose numbers of properties have 15 bits and not 7."""


@dataclass(frozen=True, slots=True)
class Items:
    """The items of a HEIF by number: their sizes in px, their parts in order, and what belongs to the primary one."""

    primary: int
    sizes: Mapping[int, Size]
    parts: Mapping[int, Sequence[int]]
    auxiliaries: Sequence[int]


def read_items(body: bytes) -> Items:
    """Read what the boxes say of the items; raises struct.error or ImageCorrupt where they are not in order."""
    meta = _find_only(body, b"meta")[4:]
    pitm = _find_only(meta, b"pitm")
    (primary,) = struct.unpack_from(">I" if pitm[0] else ">H", pitm, 4)
    parts: dict[int, list[int]] = defaultdict(list)
    auxiliaries = []
    for kind, source, targets in _list_references(meta):
        if kind == b"dimg":
            parts[source] += targets
        if kind == b"auxl" and primary in targets:
            auxiliaries.append(source)
    return Items(primary, _read_sizes(_find_only(meta, b"iprp")), parts, auxiliaries)


def check_heif(body: bytes, limits: DecodeLimits) -> None:
    """Raise ImageTooComplex when much more is to be decoded or copied than the picture and the file are large.

    ImageTooLarge where that is no more than the picture's own size.
    """
    items = read_items(body)
    known: dict[int, int] = {}
    max_pixels = MAX_CODED_SHARE * limits.max_pixels + SPARE_PX
    width, height = items.sizes.get(items.primary, (0, 0))
    if width * height > max_pixels:
        raise ImageTooLarge(f"{width} x {height}")
    pixels = sum(_count_pixels(items, number, known) for number in (items.primary, *items.auxiliaries))
    if pixels > max_pixels:
        raise ImageTooComplex(f"{pixels} px in its parts")
    if _sum_extents(_find_only(_find_only(body, b"meta")[4:], b"iloc")) > len(body) + SPARE_BYTES:
        raise ImageTooComplex("items that share their bytes")


def _count_pixels(items: Items, number: int, known: dict[int, int], depth: int = 0) -> int:
    """Count the pixels to be decoded for an item, for the same part each time anew; `known` are those counted."""
    if depth > MAX_DEPTH:
        raise ImageTooComplex(f"pictures of pictures, more than {MAX_DEPTH} deep")
    if number not in known:
        parts, (width, height) = items.parts.get(number, ()), items.sizes.get(number, (0, 0))
        own = 0 if parts else width * height
        known[number] = own + sum(_count_pixels(items, part, known, depth + 1) for part in parts)
    return known[number]


def _read_sizes(properties: bytes) -> dict[int, Size]:
    """Read the size that each item is linked to, of several the larger sides."""
    boxes = list(_list_boxes(_find_only(properties, b"ipco")))
    sizes: dict[int, Size] = {}
    for item, number in _list_links(_find_only(properties, b"ipma")):
        name, content = boxes[number - 1] if 0 < number <= len(boxes) else (b"", b"")
        if name == b"ispe":
            (width, height), known = struct.unpack_from(">II", content, 4), sizes.get(item, (0, 0))
            sizes[item] = max(width, known[0]), max(height, known[1])
    return sizes


def _list_links(ipma: bytes) -> Iterator[tuple[int, int]]:
    """List which items have which properties, by number."""
    head = ">IB" if _check_table(ipma)[0] else ">HB"
    form, mask = ("H", 0x7FFF) if ipma[3] & WIDE_LINKS else ("B", 0x7F)  # The bit above: whether it is essential.
    (count,), position = struct.unpack_from(">I", ipma, 4), 8
    for _ in range(count):
        item, link_count = struct.unpack_from(head, ipma, position)
        links = struct.unpack_from(f">{link_count}{form}", ipma, position + struct.calcsize(head))
        yield from ((item, link & mask) for link in links)
        position += struct.calcsize(head) + link_count * struct.calcsize(form)


def _list_references(meta: bytes) -> Iterator[tuple[bytes, int, Sequence[int]]]:
    """List the kind of each reference, the item that refers, and the items that it refers to."""
    if all(name != b"iref" for name, _ in _list_boxes(meta)):
        return
    iref = _find_only(meta, b"iref")
    form = "I" if _check_table(iref)[0] else "H"
    for kind, content in _list_boxes(iref[4:]):
        source, count = struct.unpack_from(f">{form}H", content)
        yield kind, source, struct.unpack_from(f">{count}{form}", content, struct.calcsize(f">{form}H"))


def _sum_extents(iloc: bytes) -> int:
    """Sum up the bytes of all the items (section 8.11.3)."""
    version, sizes = _check_table(iloc)[0], iloc[4:6]
    offset_bytes, length_bytes, base_bytes = sizes[0] >> 4, sizes[0] & 15, sizes[1] >> 4
    index_bytes = sizes[1] & 15 if version else 0
    (item_count,) = struct.unpack_from(">I" if version == 2 else ">H", iloc, 6)
    position, total = 10 if version == 2 else 8, 0
    for _ in range(item_count):
        position += (4 if version == 2 else 2) + (2 if version else 0) + 2 + base_bytes
        (extent_count,) = struct.unpack_from(">H", iloc, position)
        position += 2
        for _ in range(extent_count):
            position += index_bytes + offset_bytes
            total += int.from_bytes(iloc[position : position + length_bytes])
            position += length_bytes
    return total


def _check_table(content: bytes) -> bytes:
    """Give the table; raises ImageTooComplex when it is longer than any file needs."""
    if len(content) > MAX_TABLE_BYTES:
        raise ImageTooComplex(f"a table of {len(content)} bytes")
    return content


def _find_only(data: bytes, name: bytes) -> bytes:
    """Find the content of the only box of this name; raises ImageCorrupt when there is none, or another one."""
    found = [content for each, content in _list_boxes(data) if each == name]
    if len(found) != 1:
        raise ImageCorrupt(f"{len(found)} boxes {name.decode()}")
    return found[0]


def _list_boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """List the boxes in order, with their content."""
    position = 0
    for _ in range(MAX_BOXES):
        if position + 8 > len(data):
            return
        size, name = struct.unpack_from(">I4s", data, position)
        head = 8
        if size == 1:
            (size,), head = struct.unpack_from(">Q", data, position + 8), 16
        end = position + size if size else len(data)
        if end < position + head:
            raise ImageCorrupt("a box that ends before it begins")
        yield name, data[position + head : end]
        position = end
    raise ImageTooComplex(f"more than {MAX_BOXES} boxes")
